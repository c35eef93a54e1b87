//! All layers of the towers in one operation, against the definition, which goes layer by layer.

use burn::tensor::TensorMetadata;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use esmm_core::backend::{
    Indices, Kernels, LayerSpec, LayerWeights, Moments, Reference, Running, TowersInput, TowersOperands,
    TowersOutput,
};
use esmm_core::{Activation, DropoutKey, EsmmBackend};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::first_layer::{Entries, FirstLayerCase, Groups};
use super::layer::weights;
use super::{
    Expected, near, near_above, near_saved, near_weights, on_all_backends, on_cpu_backends, on_gpu_backends,
};
use crate::common::{flat, float, moved, primitive, random};

on_all_backends!(on_values, statistics_that_someone_holds, same_bits_twice);

mod first_layers {
    use super::{on_cpu_backends, on_gpu_backends, on_groups, on_rows};

    on_cpu_backends!(on_rows);
    on_gpu_backends!(on_groups);
}

const TOWERS: usize = 2;

/// Layers of these widths, the last of them to the logits; hidden ones have a batch norm.
#[derive(Debug, Clone, Copy)]
struct Case {
    own_input: bool,
    rows: usize,
    widths: &'static [usize],
    activation: Activation,
    seed: u64,
}

type Operands<B> = TowersOperands<FloatTensor<B>, Indices<B>>;
type Statistics<B> = Vec<Option<Running<FloatTensor<B>>>>;

impl Case {
    /// Layers and what they do, from a width on.
    fn layers<B: Backend>(&self, towers: usize, inputs: usize) -> Vec<LayerWeights<FloatTensor<B>>> {
        let inputs = std::iter::once(inputs).chain(self.widths.iter().copied());
        let sizes = inputs.zip(self.widths.iter().copied().chain([1]));
        let layers = sizes.enumerate().map(|(index, (inputs, outputs))| {
            let hidden = index < self.widths.len();
            let activation = if hidden { self.activation } else { Activation::None };
            weights::<B>(self.seed + 10 * index as u64, [towers, inputs, outputs], hidden, activation)
        });
        layers.collect()
    }

    fn specs(&self) -> Vec<LayerSpec> {
        let key = DropoutKey { seed: 5, step: 1 };
        let hidden = (0..self.widths.len()).map(|index| LayerSpec {
            epsilon: 1e-5,
            activation: self.activation,
            // Without it the batch norm of the next layer would take the gradient of the shift away.
            dropout: key.layer(index, 0.3),
            ..LayerSpec::LINEAR
        });
        hidden.chain([LayerSpec::LINEAR]).collect()
    }

    /// Of each hidden layer.
    fn running<B: Backend>(&self, towers: usize) -> Statistics<B> {
        let of_layer = |(index, &width): (usize, &usize)| {
            let seed = self.seed + 100 + index as u64;
            let mean = random::<B, 2>(seed, [towers, width]);
            let variance = primitive(float::<B, 2>(random::<B, 2>(seed + 1, [towers, width])).powi_scalar(2));
            let old = Moments { mean, variance };
            Some(Running { old, keep: 0.9, take_mean: 0.1, take_variance: 0.1003 })
        };
        self.widths.iter().enumerate().map(of_layer).chain([None]).collect()
    }

    fn on_values<B: Backend>(&self) -> Operands<B> {
        let width = 21;
        let input = [if self.own_input { TOWERS } else { 1 }, self.rows, width];
        let input = TowersInput::Values(random::<B, 3>(self.seed + 90, input));
        TowersOperands { input, layers: self.layers::<B>(TOWERS, width) }
    }

    fn check<B: EsmmBackend>(&self, towers: usize, on_b: Operands<B>, on_expected: Operands<Expected>) {
        let what = |layer: usize| move |name: &str| format!("{name} of layer {layer}, {self:?}");
        let specs = self.specs();
        let found = B::Kernels::towers(on_b.clone(), self.running::<B>(towers), &specs);
        let expected = <Reference as Kernels<Expected>>::towers(
            on_expected.clone(),
            self.running::<Expected>(towers),
            &specs,
        );
        assert_eq!(found.layers.len(), expected.layers.len());
        assert_eq!(found.running.len(), expected.running.len());
        for (index, (layer, expected)) in found.layers.iter().zip(&expected.layers).enumerate() {
            near::<B>(&what(index)("output"), &layer.output, &expected.output);
            near_saved::<B>(&what(index), &layer.saved, &expected.saved);
        }
        for (index, (moved, expected)) in found.running.iter().zip(&expected.running).enumerate() {
            assert_eq!(moved.is_some(), expected.is_some(), "{}", what(index)("running statistics"));
            if let Some((moved, expected)) = moved.as_ref().zip(expected.as_ref()) {
                near::<B>(&what(index)("running mean"), &moved.mean, &expected.mean);
                near::<B>(&what(index)("running variance"), &moved.variance, &expected.variance);
            }
        }
        // Both backward passes from the same point: near a kink of the activation rounding decides the slope.
        let layers = expected.layers.iter().map(|layer| layer.clone().map(moved::<Expected, B>)).collect();
        let saved = TowersOutput { layers, first: found.first, running: Vec::new() };
        let shape = [towers, self.rows, 1];
        let grad = random::<B, 3>(self.seed + 91, shape);
        let found = B::Kernels::towers_backward(on_b, saved, grad, &specs);
        let grad = random::<Expected, 3>(self.seed + 91, shape);
        let expected = <Reference as Kernels<Expected>>::towers_backward(on_expected, expected, grad, &specs);
        near_above::<B>(0.01, &what(0)("input"), &found.input, &expected.input);
        assert_eq!(found.shared.is_some(), expected.shared.is_some());
        if let Some((found, expected)) = found.shared.as_ref().zip(expected.shared.as_ref()) {
            // A batch norm takes the sum over all rows away, and one group has no other.
            let floor = if expected.shape()[1] == 1 { 1.0 } else { 0.01 };
            near_above::<B>(floor, &what(0)("shared input"), found, expected);
        }
        assert_eq!(found.layers.len(), expected.layers.len());
        for (index, (found, expected)) in found.layers.iter().zip(&expected.layers).enumerate() {
            near_weights::<B>(&what(index), 0.01, found, expected);
        }
    }
}

const CASES: [Case; 5] = [
    Case { own_input: true, rows: 300, widths: &[33, 24], activation: Activation::Prelu, seed: 1 },
    Case { own_input: false, rows: 129, widths: &[140, 6, 12], activation: Activation::None, seed: 2 },
    Case { own_input: false, rows: 37, widths: &[128], activation: Activation::None, seed: 3 },
    Case { own_input: false, rows: 1100, widths: &[64, 30], activation: Activation::None, seed: 4 },
    Case { own_input: true, rows: 64, widths: &[], activation: Activation::None, seed: 5 },
];

fn on_values<B: EsmmBackend>() {
    for case in CASES {
        case.check::<B>(TOWERS, case.on_values::<B>(), case.on_values::<Expected>());
    }
}

/// The first layer pools, with groups and without.
fn on_rows<B: EsmmBackend>() {
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    for (with_groups, entries) in [(false, Entries::Single), (false, Entries::Bags), (true, Entries::Single)]
    {
        let pooled = FirstLayerCase::new(&mut rng, 150, entries, with_groups);
        let case =
            Case { own_input: false, rows: 150, widths: &[30, 17], activation: Activation::None, seed: 6 };
        let [towers, _, inputs] = pooled.sizes();
        let on_b = TowersOperands {
            input: TowersInput::Rows(pooled.table::<B>(), Box::new(pooled.bags::<B>())),
            layers: case.layers::<B>(towers, inputs),
        };
        let on_expected = TowersOperands {
            input: TowersInput::Rows(pooled.table::<Expected>(), Box::new(pooled.bags::<Expected>())),
            layers: case.layers::<Expected>(towers, inputs),
        };
        case.check::<B>(towers, on_b, on_expected);
    }
}

/// The first layer reads what was pooled for rows and for groups.
fn on_groups<B: EsmmBackend>() {
    let mut rng = ChaCha8Rng::seed_from_u64(14);
    for groups in Groups::ALL {
        let pooled = FirstLayerCase::with_groups(&mut rng, 150, Entries::Single, Some(groups));
        let case =
            Case { own_input: false, rows: 150, widths: &[30, 17], activation: Activation::None, seed: 7 };
        let [towers, _, inputs] = pooled.sizes();
        let on_b = TowersOperands {
            input: TowersInput::Grouped(Box::new(pooled.grouped::<B>())),
            layers: case.layers::<B>(towers, inputs),
        };
        let on_expected = TowersOperands {
            input: TowersInput::Grouped(Box::new(pooled.grouped::<Expected>())),
            layers: case.layers::<Expected>(towers, inputs),
        };
        case.check::<B>(towers, on_b, on_expected);
    }
}

/// Running statistics move in place, but for those that someone else holds.
fn statistics_that_someone_holds<B: EsmmBackend>() {
    let case = CASES[0];
    let running = case.running::<B>(TOWERS);
    let kept: Vec<_> = running.iter().flatten().map(|running| running.old.clone()).collect();
    B::Kernels::towers(case.on_values::<B>(), running, &case.specs());
    let values =
        |moments: Moments<FloatTensor<B>>| [moments.mean, moments.variance].map(|part| flat::<B>(&part));
    let before = case.running::<B>(TOWERS).into_iter().flatten().map(|running| values(running.old));
    assert_eq!(kept.into_iter().map(values).collect::<Vec<_>>(), before.collect::<Vec<_>>());
}

/// The same outputs, statistics and gradients twice, to the bit.
fn same_bits_twice<B: EsmmBackend>() {
    let case = CASES[3];
    let step = || {
        let specs = case.specs();
        let found = B::Kernels::towers(case.on_values::<B>(), case.running::<B>(TOWERS), &specs);
        let statistics = found.running.iter().flatten().flat_map(|moved| [&moved.mean, &moved.variance]);
        let mut values: Vec<Vec<f64>> = statistics.map(|moved| flat::<B>(moved)).collect();
        let grad = random::<B, 3>(9, [TOWERS, case.rows, 1]);
        let grads = B::Kernels::towers_backward(case.on_values::<B>(), found, grad, &specs);
        values.push(flat::<B>(&grads.input));
        for weights in &grads.layers {
            values.extend([&weights.weight, &weights.bias].map(|grad| flat::<B>(grad)));
        }
        values
    };
    assert_eq!(step(), step());
}
