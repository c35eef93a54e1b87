//! NaN goes through every operation: a training that has diverged must not look healthy.

use std::sync::Arc;

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use esmm_core::backend::{
    Bags, FirstLayer, GroupBags, GroupedInput, GroupedLayer, InferenceLayer, InputBags, Kernels, Layer,
    LayerSpec, LayerWeights, RowUpdate, SharedFeatures, TableRule, TowersInput, TowersOperands, WithMoments,
};
use esmm_core::{Activation, DropoutKey, EsmmBackend, Indices, Precision};

use super::layer::weights;
use super::{activations, on_all_backends, on_cpu_backends, on_gpu_backends};
use crate::common::{float, ints, primitive, random, tensor, uniform, values};

on_all_backends!(layers, gradients, all_layers, inference, losses, updates);

mod kernels {
    use super::{first_layers, grouped_layers, on_cpu_backends, on_gpu_backends};

    on_cpu_backends!(first_layers);
    on_gpu_backends!(grouped_layers);
}

const TOWERS: usize = 2;
const ROWS: usize = 5;
const INPUTS: usize = 6;
const OUTPUTS: usize = 8;
/// The row of the batch that holds a NaN.
const BAD: usize = 3;

fn with_nan<B: Backend, const D: usize>(seed: u64, shape: [usize; D], at: usize) -> FloatTensor<B> {
    let mut values = uniform(seed, shape.iter().product());
    values[at] = f64::NAN;
    primitive(tensor::<B, D>(&values, shape))
}

fn nans<B: Backend, const D: usize>(primitive: FloatTensor<B>) -> Vec<bool> {
    values(float::<B, D>(primitive)).iter().map(|value| value.is_nan()).collect()
}

fn layers<B: EsmmBackend>() {
    for precision in B::precisions(&Default::default()) {
        for activation in activations() {
            for batch_norm in [false, true] {
                layer::<B>(precision, activation, batch_norm);
            }
        }
    }
}

fn layer<B: EsmmBackend>(precision: Precision, activation: Activation, batch_norm: bool) {
    let spec = LayerSpec { epsilon: 1e-5, activation, precision, ..LayerSpec::LINEAR };
    let operands = Layer {
        input: with_nan::<B, 3>(1, [1, ROWS, INPUTS], BAD * INPUTS),
        weights: weights::<B>(2, [TOWERS, INPUTS, OUTPUTS], batch_norm, activation),
    };
    let found = B::Kernels::layer(operands.clone(), spec);
    let what = format!("{precision}, {activation:?}, batch norm {batch_norm}");
    bad_output::<B>(&what, batch_norm, found.output);
    if let Some(moments) = &found.saved.moments {
        let moments = [moments.mean.clone(), moments.variance.clone()].map(nans::<B, 2>);
        assert!(moments.iter().flatten().all(|&is_nan| is_nan), "{what}: moments");
    }
    let grad = random::<B, 3>(5, [TOWERS, ROWS, OUTPUTS]);
    let grads = B::Kernels::layer_backward(operands, found.saved, grad, spec);
    bad_weights::<B>(&what, grads.weights);
}

/// A NaN in one row of the gradient leaves that of the other rows as it is, in every precision.
fn gradients<B: EsmmBackend>() {
    for precision in B::precisions(&Default::default()) {
        for inputs in [1, TOWERS] {
            let spec = LayerSpec { precision, ..LayerSpec::LINEAR };
            let operands = Layer {
                input: random::<B, 3>(1, [inputs, ROWS, INPUTS]),
                weights: weights::<B>(2, [TOWERS, INPUTS, OUTPUTS], false, Activation::None),
            };
            let shape = [TOWERS, ROWS, OUTPUTS];
            let of_input = |grad| {
                let saved = B::Kernels::layer(operands.clone(), spec).saved;
                let grads = B::Kernels::layer_backward(operands.clone(), saved, grad, spec);
                values(float::<B, 3>(grads.input))
            };
            let good = of_input(random::<B, 3>(5, shape));
            let bad = of_input(with_nan::<B, 3>(5, shape, BAD * OUTPUTS));
            for (index, (good, bad)) in good.into_iter().zip(bad).enumerate() {
                let what = format!("{precision}, {inputs} inputs: {index}");
                let reads_nan = index / INPUTS == BAD;
                assert_eq!(bad.is_nan(), reads_nan, "{what}");
                assert!(reads_nan || bad == good, "{what}: {bad} and {good}");
            }
        }
    }
}

/// A NaN in the gradient of one logit reaches all weights of its tower, and none of the others.
fn all_layers<B: EsmmBackend>() {
    for batch_norm in [false, true] {
        for dropout in [0.0, 0.3] {
            let dropout = DropoutKey { seed: 5, step: 1 }.layer(0, dropout);
            let specs = [LayerSpec { epsilon: 1e-5, dropout, ..LayerSpec::LINEAR }, LayerSpec::LINEAR];
            let hidden = weights::<B>(2, [TOWERS, INPUTS, OUTPUTS], batch_norm, Activation::None);
            let logits = weights::<B>(12, [TOWERS, OUTPUTS, 1], false, Activation::None);
            let input = TowersInput::Values(random::<B, 3>(1, [1, ROWS, INPUTS]));
            let towers = TowersOperands { input, layers: vec![hidden, logits] };
            let found = B::Kernels::towers(towers.clone(), Vec::new(), &specs);
            let grad = with_nan::<B, 3>(5, [TOWERS, ROWS, 1], BAD);
            let grads = B::Kernels::towers_backward(towers, found, grad, &specs);
            for (layer, weights) in grads.layers.into_iter().enumerate() {
                let reached = nans::<B, 3>(weights.weight);
                let (bad, good) = reached.split_at(reached.len() / TOWERS);
                let what = format!("layer {layer}, batch norm {batch_norm}, {dropout:?}");
                assert!(bad.iter().all(|&is_nan| is_nan), "{what}: {reached:?}");
                assert!(good.iter().all(|&is_nan| !is_nan), "{what}: {reached:?}");
            }
        }
    }
}

/// The NaN comes from the table.
fn first_layers<B: EsmmBackend>() {
    for activation in activations() {
        for batch_norm in [false, true] {
            let spec = LayerSpec { epsilon: 1e-5, activation, ..LayerSpec::LINEAR };
            let operands = FirstLayer {
                table: with_nan::<B, 2>(6, [ROWS, INPUTS], BAD * INPUTS),
                bags: bags::<B>(),
                weights: weights::<B>(2, [TOWERS, INPUTS, OUTPUTS], batch_norm, activation),
            };
            let (found, own) = B::Kernels::first_layer(operands.clone(), spec);
            let what = format!("first layer, {activation:?}, batch norm {batch_norm}");
            bad_output::<B>(&what, batch_norm, found.output);
            let grad = random::<B, 3>(5, [TOWERS, ROWS, OUTPUTS]);
            let grads = B::Kernels::first_layer_backward(operands, found.saved, own, grad, spec);
            bad_weights::<B>(&what, grads.weights);
        }
    }
}

/// The NaN comes from what a row has of its own, or from what its group shares: here each row is a group.
fn grouped_layers<B: EsmmBackend>() {
    const HALF: usize = INPUTS / 2;
    let part = |seed, is_bad: bool| match is_bad {
        true => with_nan::<B, 3>(seed, [1, ROWS, HALF], BAD * HALF),
        false => random::<B, 3>(seed, [1, ROWS, HALF]),
    };
    let InputBags { own, .. } = bags::<B>();
    let of_rows = own.slots.clone();
    let features = Arc::new(SharedFeatures { sparse: vec![false, true], dense: vec![] });
    let groups = Some(GroupBags { bags: own.clone(), of_rows, features });
    let bags = InputBags { own, groups };
    for activation in activations() {
        for batch_norm in [false, true] {
            for is_shared in [false, true] {
                let spec = LayerSpec { epsilon: 1e-5, activation, ..LayerSpec::LINEAR };
                let [own, shared] = [part(6, !is_shared), part(7, is_shared)];
                let input = GroupedInput { own, shared, bags: bags.clone(), num_rows: ROWS };
                let weights = weights::<B>(2, [TOWERS, INPUTS, OUTPUTS], batch_norm, activation);
                let layer = GroupedLayer { input, weights };
                let found = B::Kernels::grouped_layer(layer.clone(), spec);
                let what = format!("shared {is_shared}, {activation:?}, batch norm {batch_norm}");
                bad_output::<B>(&what, batch_norm, found.output);
                let grad = random::<B, 3>(5, [TOWERS, ROWS, OUTPUTS]);
                let grads = B::Kernels::grouped_layer_backward(layer, found.saved, grad, spec);
                bad_weights_from::<B>(&what, grads.weights, if is_shared { HALF } else { 0 });
            }
        }
    }
}

/// A batch norm takes the NaN to all rows.
fn bad_output<B: EsmmBackend>(what: &str, batch_norm: bool, output: FloatTensor<B>) {
    for (index, is_nan) in nans::<B, 3>(output).into_iter().enumerate() {
        assert_eq!(is_nan, batch_norm || index / OUTPUTS % ROWS == BAD, "{what}: output {index}");
    }
}

fn bad_weights<B: EsmmBackend>(what: &str, grads: LayerWeights<FloatTensor<B>>) {
    bad_weights_from::<B>(what, grads, 0);
}

/// `column` of the input has the NaN.
fn bad_weights_from<B: EsmmBackend>(what: &str, grads: LayerWeights<FloatTensor<B>>, column: usize) {
    let weight = nans::<B, 3>(grads.weight);
    match grads.norm {
        Some(norm) => {
            assert!(weight.iter().all(|&is_nan| is_nan), "{what}: weights");
            assert!(nans::<B, 2>(norm.gamma).iter().all(|&is_nan| is_nan), "{what}: gamma");
        }
        None => {
            // The row of the weights that meets the NaN.
            let meets = |index: usize| index / OUTPUTS % INPUTS == column;
            assert!((0..weight.len()).all(|index| weight[index] == meets(index)), "{what}: {weight:?}");
        }
    }
    if let Some(slope) = grads.slope {
        assert!(nans::<B, 1>(slope).iter().all(|&is_nan| is_nan), "{what}: slope");
    }
}

/// Row i of the batch reads row i of the table.
fn bags<B: Backend>() -> InputBags<FloatTensor<B>, Indices<B>> {
    InputBags::of_rows(Bags {
        tables: 1,
        rows: ROWS,
        num_sparse: 1,
        slots: ints::<B>(&[0, 1, 2, 3, 4]),
        weighted: None,
        dense: None,
        bins: None,
    })
}

fn inference<B: EsmmBackend>() {
    for activation in activations() {
        let table = with_nan::<B, 2>(6, [ROWS, INPUTS], BAD * INPUTS);
        let layer = |seed, inputs, outputs, activation| InferenceLayer {
            weight: random::<B, 3>(seed, [TOWERS, inputs, outputs]),
            scale: Some(random::<B, 2>(seed + 1, [TOWERS, outputs])),
            shift: random::<B, 2>(seed + 2, [TOWERS, outputs]),
            activation,
            slope: (activation == Activation::Prelu).then(|| random::<B, 1>(seed + 3, [TOWERS])),
        };
        let layers = vec![layer(10, INPUTS, OUTPUTS, activation), layer(20, OUTPUTS, 1, Activation::None)];
        let logits = B::Kernels::infer(table, bags::<B>(), layers);
        for (index, is_nan) in nans::<B, 2>(logits).into_iter().enumerate() {
            assert_eq!(is_nan, index / TOWERS == BAD, "{activation:?}: logit {index}");
        }
    }
}

fn losses<B: EsmmBackend>() {
    for bad in 0..2 {
        let logits = || with_nan::<B, 2>(7, [ROWS, 2], BAD * 2 + bad);
        let reached = || primitive(tensor::<B, 2>(&[1.0, 0.0].repeat(ROWS), [ROWS, 2]));
        // The loss of a stage knows the logits of all stages up to it.
        let found = nans::<B, 1>(B::Kernels::funnel_loss(logits(), reached()));
        assert_eq!(found, [bad == 0, true], "losses with a NaN in logit {bad}");
        let grad = random::<B, 1>(8, [2]);
        let found = nans::<B, 2>(B::Kernels::funnel_loss_backward(logits(), reached(), grad));
        assert!(found[BAD * 2 + bad], "gradients with a NaN in logit {bad}: {found:?}");
        let [log_reach, log_not_reach] = B::Kernels::funnel_logs(logits()).map(nans::<B, 2>);
        assert!(log_reach[BAD * 2 + 1] && log_not_reach[BAD * 2 + 1], "logs with a NaN in logit {bad}");
        let [ctr, cvr, ctcvr] = B::Kernels::funnel_probs(logits()).map(nans::<B, 1>);
        assert_eq!([ctr[BAD], cvr[BAD], ctcvr[BAD]], [bad == 0, bad == 1, true]);
    }
}

fn updates<B: EsmmBackend>() {
    for rule in TableRule::ALL {
        let zeros = |width| random::<B, 2>(11, [ROWS, width]);
        let moments = rule.widths(INPUTS).into_iter().map(zeros).map(|moment| B::float_abs(moment)).collect();
        let state = WithMoments { tensor: random::<B, 2>(9, [ROWS, INPUTS]), moments };
        let update = RowUpdate { rule, step: 1, learning_rate: 0.1, l2: 0.0 };
        let grads = with_nan::<B, 2>(10, [1, INPUTS], 0);
        let state = B::Kernels::update_rows(state, ints::<B>(&[BAD]), grads, update);
        let found = nans::<B, 2>(state.tensor);
        assert!(found[BAD * INPUTS], "{rule:?}");
        let other_rows = (0..found.len()).filter(|index| index / INPUTS != BAD);
        assert!(other_rows.into_iter().all(|index| !found[index]), "{rule:?}: {found:?}");
    }
}
