//! Gradients of table rows from that of what was pooled, and updates by them: where a device finds the distinct rows.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorPrimitive};
use esmm_core::backend::{Bags, Kernels, Reference, RowUpdate, TableRule, WithMoments};
use esmm_core::{EsmmBackend, Indices, PooledGrads, RowGrads, TableGrads};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::first_layer::{Entries, FirstLayerCase};
use super::{Expected, batch_rows, near, on_all_backends};
use crate::common::{flat, ints, primitive, random, tensor, uniform};

on_all_backends!(pooled_rows, many_entries, far_rows);

/// All rules, kinds of bags and sizes of a batch; tables of one copy and of several.
pub(super) fn pooled_rows<B: EsmmBackend>() {
    let mut rng = ChaCha8Rng::seed_from_u64(21);
    let rows = batch_rows::<B>();
    let mut index = 0;
    for entries in Entries::ALL {
        for rule in TableRule::ALL {
            for l2 in [0.0, 0.1] {
                let case = FirstLayerCase::new(&mut rng, rows[index % rows.len()], entries, false);
                one_case::<B>(&case, rule, l2, rng.random::<u32>().into());
                index += 1;
            }
        }
    }
}

fn one_case<B: EsmmBackend>(case: &FirstLayerCase, rule: TableRule, l2: f64, seed: u64) {
    let [_, rows, width] = case.sizes();
    let [tables, table_rows, dim] = case.table_sizes();
    let what = format!("{rule:?}, l2 {l2}, {tables} x {table_rows} x {dim}, {rows} rows");
    let found = B::Kernels::pool(case.table::<B>(), case.bags::<B>().own);
    let expected =
        <Reference as Kernels<Expected>>::pool(case.table::<Expected>(), case.bags::<Expected>().own);
    near::<B>(&format!("{what}, pooled"), &found, &expected);

    let shape = [tables, rows, width];
    let found = B::Kernels::row_grads(case.bags::<B>().own, random::<B, 3>(seed, shape), table_rows);
    let expected = <Reference as Kernels<Expected>>::row_grads(
        case.bags::<Expected>().own,
        random::<Expected, 3>(seed, shape),
        table_rows,
    );
    near::<B>(&format!("{what}, gradients"), &found, &expected);

    let update = RowUpdate { rule, step: 3, learning_rate: 0.05, l2 };
    let state = state::<B>(case, rule, seed);
    let found = B::Kernels::update_pooled(state, case.bags::<B>().own, random::<B, 3>(seed, shape), update);
    let expected = <Reference as Kernels<Expected>>::update_pooled(
        self::state::<Expected>(case, rule, seed),
        case.bags::<Expected>().own,
        random::<Expected, 3>(seed, shape),
        update,
    );
    near::<B>(&format!("{what}, table"), &found.tensor, &expected.tensor);
    assert_eq!(found.moments.len(), expected.moments.len());
    for (found, expected) in found.moments.iter().zip(&expected.moments) {
        near::<B>(&format!("{what}, moments"), found, expected);
    }
    // Gradients by row, as a sum over several steps needs them, update to the same.
    let grads = Tensor::from_primitive(TensorPrimitive::Float(random::<B, 3>(seed, shape)));
    let pooled = PooledGrads { bags: case.bags::<B>().own, grads, num_rows: table_rows };
    let RowGrads { rows, grads } = TableGrads::Pooled(pooled).into_rows();
    let grads = grads.into_primitive().tensor();
    let by_row = B::Kernels::update_rows(self::state::<B>(case, rule, seed), rows, grads, update);
    near::<B>(&format!("{what}, table by row"), &by_row.tensor, &expected.tensor);
    // Rows that no entry reads keep their bits.
    let touched: std::collections::BTreeSet<usize> =
        case.bags::<B>().own.slots.host().iter().map(|&row| row as usize).collect();
    let before = flat::<B>(&case.table::<B>());
    let after = flat::<B>(&found.tensor);
    for (row, (before, after)) in before.chunks_exact(dim).zip(after.chunks_exact(dim)).enumerate() {
        if !touched.contains(&(row % table_rows)) {
            assert_eq!(before, after, "{what}: row {row} is touched by none");
        }
    }
}

fn state<B: Backend>(case: &FirstLayerCase, rule: TableRule, seed: u64) -> WithMoments<FloatTensor<B>> {
    let [tables, table_rows, dim] = case.table_sizes();
    let moments = rule.widths(dim).into_iter().zip(seed + 10..).map(|(width, seed)| {
        let len = tables * table_rows * width;
        let values: Vec<f64> = uniform(seed, len).iter().map(|value| value.abs()).collect();
        primitive(tensor::<B, 2>(&values, [tables * table_rows, width]))
    });
    WithMoments { tensor: case.table::<B>(), moments: moments.collect() }
}

fn bags<B: Backend>(slots: &[usize], num_sparse: usize) -> Bags<FloatTensor<B>, Indices<B>> {
    let rows = slots.len() / num_sparse;
    Bags { tables: 1, rows, num_sparse, slots: ints::<B>(slots), weighted: None, dense: None, bins: None }
}

/// Gradients of rows, twice: the same bits.
fn grads_of_rows<B: EsmmBackend>(slots: &[usize], num_sparse: usize, dim: usize, num_rows: usize) {
    let shape = [1, slots.len() / num_sparse, num_sparse * dim];
    let grads = || B::Kernels::row_grads(bags::<B>(slots, num_sparse), random::<B, 3>(5, shape), num_rows);
    let found = grads();
    let expected = <Reference as Kernels<Expected>>::row_grads(
        bags::<Expected>(slots, num_sparse),
        random::<Expected, 3>(5, shape),
        num_rows,
    );
    near::<B>(&format!("{} entries of {num_rows} rows", slots.len()), &found, &expected);
    assert_eq!(flat::<B>(&found), flat::<B>(&grads()), "other bits the second time");
}

/// More entries than a tile of the sort has (2048), and rows that thousands of entries read: many pieces.
fn many_entries<B: EsmmBackend>() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    for (entries, dim) in [(4096, 1), (9001, 6), (12_300, 4)] {
        let slots: Vec<usize> =
            (0..entries)
                .map(|_| {
                    if rng.random_range(0..10) < 8 {
                        rng.random_range(0..3)
                    } else {
                        rng.random_range(0..5000)
                    }
                })
                .collect();
        grads_of_rows::<B>(&slots, 1, dim, 5000);
    }
    let slots = vec![17; 8200];
    grads_of_rows::<B>(&slots, 2, 3, 18);
}

/// Tables of which the sort needs one digit, two and three; the first row and the last.
fn far_rows<B: EsmmBackend>() {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    for num_rows in [1, 2, 256, 4096, 4097, 1 << 24, (1 << 24) + 1, 1 << 31] {
        let mut slots: Vec<usize> = (0..700).map(|_| rng.random_range(0..num_rows)).collect();
        slots.extend_from_within(..100);
        slots.extend([0, num_rows - 1]);
        grads_of_rows::<B>(&slots, 2, 4, num_rows);
    }
}
