//! Pooling by group, and the first layer on what was pooled: features that groups of rows share are multiplied once a group.

use burn::tensor::ops::FloatTensor;
use esmm_core::backend::{
    GroupedInput, GroupedLayer, GroupedLayerGrads, Kernels, LayerSpec, LayerWeights, Pooled, Reference,
};
use esmm_core::{Activation, EsmmBackend, Indices};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::first_layer::{DRAWS, Entries, FirstLayerCase, Groups};
use super::layer::weights;
use super::{
    Expected, batch_rows, blocks, moved_saved, near, near_above, near_saved, near_weights, on_all_backends,
    on_gpu_backends,
};
use crate::common::{assert_near, flat};

on_all_backends!(pooling, same_bits_twice);

mod kernels {
    use super::{far_tables, layers, many_rows, on_gpu_backends};

    on_gpu_backends!(layers, many_rows, far_tables);
}

/// Both parts that are pooled, with every kind of entries and of groups.
pub(super) fn pooling<B: EsmmBackend>() {
    let mut rng = ChaCha8Rng::seed_from_u64(31);
    let rows = batch_rows::<B>();
    let mut index = 0;
    for entries in Entries::ALL {
        for groups in [None].into_iter().chain(Groups::ALL.map(Some)) {
            let rows = rows[index % rows.len()];
            let case = FirstLayerCase::with_groups(&mut rng, rows, entries, groups);
            let what = format!("{rows} rows, {entries:?}, groups {groups:?}");
            let found = B::Kernels::pool(case.table::<B>(), case.bags::<B>());
            let expected =
                <Reference as Kernels<Expected>>::pool(case.table::<Expected>(), case.bags::<Expected>());
            near_pooled::<B>(&what, &found, &expected);
            index += 1;
        }
    }
}

pub(super) fn near_pooled<B: EsmmBackend>(
    what: &str,
    found: &Pooled<FloatTensor<B>>,
    expected: &Pooled<FloatTensor<Expected>>,
) {
    near::<B>(&format!("{what}, own"), &found.own, &expected.own);
    assert_eq!(found.shared.is_some(), expected.shared.is_some(), "{what}");
    if let Some((found, expected)) = found.shared.as_ref().zip(expected.shared.as_ref()) {
        near::<B>(&format!("{what}, shared"), found, expected);
    }
}

fn operands<B: EsmmBackend>(
    case: &FirstLayerCase,
    input: GroupedInput<FloatTensor<B>, Indices<B>>,
) -> GroupedLayer<FloatTensor<B>, Indices<B>> {
    GroupedLayer { input, weights: case.operands::<B>().weights }
}

fn check<B: EsmmBackend>(
    case: &FirstLayerCase,
    input: GroupedInput<FloatTensor<B>, Indices<B>>,
    expected_input: GroupedInput<FloatTensor<Expected>, Indices<Expected>>,
    name: &str,
) {
    let spec = case.spec();
    let what = |part: &str| format!("{part}, {name}, {spec:?}");
    let on_b = operands::<B>(case, input);
    let on_expected = operands::<Expected>(case, expected_input);
    let found = B::Kernels::grouped_layer(on_b.clone(), spec);
    let expected = <Reference as Kernels<Expected>>::grouped_layer(on_expected.clone(), spec);
    near::<B>(&what("output"), &found.output, &expected.output);
    near_saved::<B>(&what, &found.saved, &expected.saved);
    // Both backward passes from the same point: near a kink of the activation rounding decides the slope.
    let saved = moved_saved::<B>(&expected.saved);
    let grad = case.grad::<B>(case.outputs());
    let found = B::Kernels::grouped_layer_backward(on_b, saved, grad, spec);
    let grad = case.grad::<Expected>(case.outputs());
    let expected =
        <Reference as Kernels<Expected>>::grouped_layer_backward(on_expected, expected.saved, grad, spec);
    near_above::<B>(case.floor(), &what("own input"), &found.own, &expected.own);
    // A batch norm takes the sum over all rows away, and one group has no other: rounding is left of sums that are of the
    // size of 200 without it.
    let floor = if case.num_groups() == 1 { 50.0 } else { case.floor() };
    near_above::<B>(floor, &what("shared input"), &found.shared, &expected.shared);
    near_weights::<B>(&what, case.floor(), &found.weights, &expected.weights);
}

/// Every kind of block, entries and groups.
pub(super) fn layers<B: EsmmBackend>() {
    let mut rng = ChaCha8Rng::seed_from_u64(32);
    let rows = batch_rows::<B>();
    let mut entries = Entries::ALL.into_iter().cycle();
    for (index, (activation, batch_norm, dropout)) in blocks().into_iter().enumerate() {
        for groups in Groups::ALL {
            // A batch norm over rows that are alike, as two may be, divides their rounding by the root of epsilon.
            let entries = match entries.next().unwrap() {
                Entries::OneRow | Entries::OneRowInBags | Entries::Empty if batch_norm => Entries::Bags,
                entries => entries,
            };
            let rows = match rows[index % rows.len()] {
                1 | 2 if batch_norm => 3,
                rows => rows,
            };
            let spec = LayerSpec { epsilon: 1e-5, activation, dropout, ..LayerSpec::LINEAR };
            let mut drawn = || {
                let case = FirstLayerCase::with_groups(&mut rng, rows, entries, Some(groups));
                case.with_block(batch_norm, spec)
            };
            let mut case = drawn();
            for _ in 0..DRAWS {
                if !case.is_decided_by_rounding() {
                    break;
                }
                case = drawn();
            }
            let name = format!("{rows} rows, {entries:?}, {groups:?}, batch norm {batch_norm}");
            check::<B>(&case, case.grouped::<B>(), case.grouped::<Expected>(), &name);
        }
    }
}

/// More rows than a tile of a device's sort has (4096), in groups of one row, of some and of all.
fn many_rows<B: EsmmBackend>() {
    let mut rng = ChaCha8Rng::seed_from_u64(33);
    for groups in Groups::ALL {
        for entries in [Entries::Single, Entries::Bags] {
            let case = FirstLayerCase::with_groups(&mut rng, 4300, entries, Some(groups)).narrow();
            let name = format!("4300 rows, {entries:?}, {groups:?}");
            check::<B>(&case, case.grouped::<B>(), case.grouped::<Expected>(), &name);
        }
    }
}

/// Groups stand after the last row of the table, wherever that is.
fn far_tables<B: EsmmBackend>() {
    let mut rng = ChaCha8Rng::seed_from_u64(34);
    for num_rows in [4095, 1 << 24, i32::MAX as usize - 3, 1 << 31] {
        let case = FirstLayerCase::with_groups(&mut rng, 150, Entries::Bags, Some(Groups::Several));
        let input = GroupedInput { num_rows, ..case.grouped::<B>() };
        check::<B>(&case, input, case.grouped::<Expected>(), &format!("{num_rows} rows of the table"));
    }
}

/// The definition is that of the first layer, from what that pools.
#[test]
fn the_definition_is_that_of_the_first_layer() {
    let mut rng = ChaCha8Rng::seed_from_u64(36);
    for groups in Groups::ALL {
        let case = FirstLayerCase::with_groups(&mut rng, 40, Entries::Bags, Some(groups));
        let spec = LayerSpec { activation: Activation::Relu, ..case.spec() };
        let first = case.operands::<Expected>();
        let grouped = operands::<Expected>(&case, case.grouped::<Expected>());
        let (expected, own) = <Reference as Kernels<Expected>>::first_layer(first.clone(), spec);
        let found = <Reference as Kernels<Expected>>::grouped_layer(grouped.clone(), spec);
        near::<Expected>("output", &found.output, &expected.output);
        let grad = || case.grad::<Expected>(case.outputs());
        let found =
            <Reference as Kernels<Expected>>::grouped_layer_backward(grouped, found.saved, grad(), spec);
        let expected =
            <Reference as Kernels<Expected>>::first_layer_backward(first, expected.saved, own, grad(), spec);
        near::<Expected>("weight", &found.weights.weight, &expected.weights.weight);
        // The rows of the table get the same gradients from what was pooled.
        let [tables, table_rows, dim] = case.table_sizes();
        let bags = case.bags::<Expected>();
        let grads = Pooled { own: found.own, shared: Some(found.shared) };
        let rows = <Reference as Kernels<Expected>>::row_grads(bags.clone(), grads, table_rows);
        let rows = flat::<Expected>(&rows);
        let mut sorted: Vec<u32> = bags.parts().flat_map(|part| part.slots.host()).copied().collect();
        sorted.sort_unstable();
        let mut of_table = vec![0.0; tables * table_rows * dim];
        for (place, values) in rows.chunks_exact(dim).enumerate() {
            let row = place / sorted.len() * table_rows + sorted[place % sorted.len()] as usize;
            for (sum, value) in of_table[row * dim..][..dim].iter_mut().zip(values) {
                *sum += value;
            }
        }
        let expected = flat::<Expected>(&expected.table);
        let scale = expected.iter().fold(0.01_f64, |scale, value| scale.max(value.abs()));
        assert_near("rows of the table", &of_table, &expected, 1e-5 * scale, 0.0);
    }
}

/// A step from the table to the gradients of all of it, twice, to the bit.
fn same_bits_twice<B: EsmmBackend>() {
    let step = |groups| {
        let mut rng = ChaCha8Rng::seed_from_u64(35);
        let case = FirstLayerCase::with_groups(&mut rng, 300, Entries::Bags, Some(groups));
        let spec = LayerSpec { activation: Activation::Relu, ..case.spec() };
        let bags = case.bags::<B>();
        let Pooled { own, shared } = B::Kernels::pool(case.table::<B>(), bags.clone());
        let [_, num_rows, _] = case.table_sizes();
        let input = GroupedInput { own, shared: shared.unwrap(), bags: bags.clone(), num_rows };
        let [towers, _, inputs] = case.sizes();
        let weights = weights::<B>(3, [towers, inputs, 33], true, spec.activation);
        let layer = GroupedLayer { input, weights };
        let output = B::Kernels::grouped_layer(layer.clone(), spec);
        let grad = case.grad::<B>(33);
        let GroupedLayerGrads { own, shared, weights } =
            B::Kernels::grouped_layer_backward(layer, output.saved, grad, spec);
        let LayerWeights { weight, bias, .. } = weights;
        let grads = Pooled { own: own.clone(), shared: Some(shared.clone()) };
        let rows = B::Kernels::row_grads(bags, grads, num_rows);
        [output.output, own, shared, weight, bias, rows].map(|tensor| flat::<B>(&tensor))
    };
    for groups in Groups::ALL {
        assert_eq!(step(groups), step(groups), "{groups:?}");
    }
}
