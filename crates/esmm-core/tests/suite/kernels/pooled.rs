//! Gradients of table rows from that of what was pooled, and updates by them: where a device finds the distinct rows.

use std::sync::Arc;

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorPrimitive};
use esmm_core::backend::{
    Bags, GroupBags, InputBags, Kernels, Pooled, Reference, RowUpdate, SharedFeatures, TableRule, WithMoments,
};
use esmm_core::{EsmmBackend, Indices, PooledGrads, RowGrads, TableGrads};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::first_layer::{Entries, FirstLayerCase, Groups};
use super::{Expected, batch_rows, near, on_all_backends};
use crate::common::{flat, ints, primitive, random, tensor, uniform};

on_all_backends!(pooled_rows, many_entries, far_rows);

/// All rules, kinds of bags, groups and sizes of a batch; tables of one copy and of several.
pub(super) fn pooled_rows<B: EsmmBackend>() {
    let mut rng = ChaCha8Rng::seed_from_u64(21);
    let rows = batch_rows::<B>();
    let mut index = 0;
    for entries in Entries::ALL {
        for rule in TableRule::ALL {
            for l2 in [0.0, 0.1] {
                let groups = [None].into_iter().chain(Groups::ALL.map(Some)).cycle().nth(index).unwrap();
                let rows = rows[index % rows.len()];
                let case = FirstLayerCase::with_groups(&mut rng, rows, entries, groups);
                one_case::<B>(&case, rule, l2, rng.random::<u32>().into());
                index += 1;
            }
        }
    }
}

fn one_case<B: EsmmBackend>(case: &FirstLayerCase, rule: TableRule, l2: f64, seed: u64) {
    let [_, rows, _] = case.sizes();
    let [tables, table_rows, dim] = case.table_sizes();
    let what = format!("{rule:?}, l2 {l2}, {tables} x {table_rows} x {dim}, {rows} rows");
    let grads = case.pooled_grads::<B>(seed);
    let expected_grads = case.pooled_grads::<Expected>(seed);
    let found = B::Kernels::row_grads(case.bags::<B>(), grads.clone(), table_rows);
    let expected = <Reference as Kernels<Expected>>::row_grads(
        case.bags::<Expected>(),
        expected_grads.clone(),
        table_rows,
    );
    near::<B>(&format!("{what}, gradients"), &found, &expected);

    let update = RowUpdate { rule, step: 3, learning_rate: 0.05, l2 };
    let found =
        B::Kernels::update_pooled(state::<B>(case, rule, seed), case.bags::<B>(), grads.clone(), update);
    let expected = <Reference as Kernels<Expected>>::update_pooled(
        state::<Expected>(case, rule, seed),
        case.bags::<Expected>(),
        expected_grads,
        update,
    );
    near::<B>(&format!("{what}, table"), &found.tensor, &expected.tensor);
    assert_eq!(found.moments.len(), expected.moments.len());
    for (found, expected) in found.moments.iter().zip(&expected.moments) {
        near::<B>(&format!("{what}, moments"), found, expected);
    }
    // Gradients by row, as a sum over several steps needs them, update to the same.
    let grads = grads.map(|grads| Tensor::from_primitive(TensorPrimitive::Float(grads)));
    let pooled = PooledGrads { bags: Box::new(case.bags::<B>()), grads, num_rows: table_rows };
    let RowGrads { rows, grads } = TableGrads::Pooled(pooled).into_rows();
    let grads = grads.into_primitive().tensor();
    let by_row = B::Kernels::update_rows(state::<B>(case, rule, seed), rows, grads, update);
    near::<B>(&format!("{what}, table by row"), &by_row.tensor, &expected.tensor);
    // Rows that no entry reads keep their bits.
    let bags = case.bags::<B>();
    let touched: std::collections::BTreeSet<usize> =
        bags.parts().flat_map(|part| part.slots.host()).map(|&row| row as usize).collect();
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

/// The first rows with these entries of their own, and with groups that the rest of the entries are those of.
fn with_groups<B: Backend>(
    slots: &[usize],
    num_sparse: usize,
    groups: usize,
) -> InputBags<FloatTensor<B>, Indices<B>> {
    let (own, shared) = slots.split_at(slots.len() - groups * num_sparse);
    let own = bags::<B>(own, num_sparse);
    let groups = (groups > 0).then(|| GroupBags {
        bags: bags::<B>(shared, num_sparse),
        of_rows: ints::<B>(&(0..own.rows).map(|row| row * 7 % groups).collect::<Vec<_>>()),
        features: Arc::new(SharedFeatures {
            sparse: [vec![false; num_sparse], vec![true; num_sparse]].concat(),
            dense: Vec::new(),
        }),
    });
    InputBags { own, groups }
}

/// Gradients of rows, twice: the same bits; without groups, and with the last entries as those of groups.
fn grads_of_rows<B: EsmmBackend>(slots: &[usize], num_sparse: usize, dim: usize, num_rows: usize) {
    for groups in [0, slots.len() / num_sparse / 3] {
        grads_with_groups::<B>(slots, num_sparse, dim, num_rows, groups);
    }
}

fn grads_with_groups<B: EsmmBackend>(
    slots: &[usize],
    num_sparse: usize,
    dim: usize,
    num_rows: usize,
    groups: usize,
) {
    fn of_parts<B: Backend>(
        bags: &InputBags<FloatTensor<B>, Indices<B>>,
        width: usize,
    ) -> Pooled<FloatTensor<B>> {
        let mut parts = bags.parts().zip(5..).map(|(part, seed)| random::<B, 3>(seed, [1, part.rows, width]));
        Pooled { own: parts.next().unwrap(), shared: parts.next() }
    }
    let width = num_sparse * dim;
    let grads = || {
        let bags = with_groups::<B>(slots, num_sparse, groups);
        let grads = of_parts::<B>(&bags, width);
        B::Kernels::row_grads(bags, grads, num_rows)
    };
    let found = grads();
    let bags = with_groups::<Expected>(slots, num_sparse, groups);
    let expected_grads = of_parts::<Expected>(&bags, width);
    let expected = <Reference as Kernels<Expected>>::row_grads(bags, expected_grads, num_rows);
    near::<B>(&format!("{} entries of {num_rows} rows, {groups} groups", slots.len()), &found, &expected);
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
