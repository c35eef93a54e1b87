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
    Expected, activations, near, near_above, near_saved, near_weights, on_all_backends, on_cpu_backends,
    on_gpu_backends,
};
use crate::common::{flat, float, moved, primitive, random};

on_all_backends!(on_values, below_the_logits, statistics_that_someone_holds, same_bits_twice);

mod first_layers {
    use super::{on_cpu_backends, on_gpu_backends, on_groups, on_rows};

    on_cpu_backends!(on_rows);
    on_gpu_backends!(on_groups);
}

const TOWERS: usize = 2;

/// Hidden layers of these widths, then that of the logits.
#[derive(Debug, Clone, Copy)]
struct Case {
    own_input: bool,
    rows: usize,
    widths: &'static [usize],
    activation: Activation,
    batch_norm: bool,
    dropout: f64,
    seed: u64,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            own_input: false,
            rows: 150,
            widths: &[30, 17],
            activation: Activation::None,
            batch_norm: true,
            // Without it the batch norm of the next layer would take the gradient of the shift away.
            dropout: 0.3,
            seed: 6,
        }
    }
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
            let batch_norm = hidden && self.batch_norm;
            weights::<B>(self.seed + 10 * index as u64, [towers, inputs, outputs], batch_norm, activation)
        });
        layers.collect()
    }

    fn specs(&self) -> Vec<LayerSpec> {
        let key = DropoutKey { seed: 5, step: 1 };
        let hidden = (0..self.widths.len()).map(|index| LayerSpec {
            epsilon: 1e-5,
            activation: self.activation,
            dropout: key.layer(index, self.dropout),
            ..LayerSpec::LINEAR
        });
        hidden.chain([LayerSpec::LINEAR]).collect()
    }

    /// Of each hidden layer with a batch norm.
    fn running<B: Backend>(&self, towers: usize) -> Statistics<B> {
        let of_layer = |(index, &width): (usize, &usize)| {
            let seed = self.seed + 100 + index as u64;
            let mean = random::<B, 2>(seed, [towers, width]);
            let variance = primitive(float::<B, 2>(random::<B, 2>(seed + 1, [towers, width])).powi_scalar(2));
            let old = Moments { mean, variance };
            let running = Running { old, keep: 0.9, take_mean: 0.1, take_variance: 0.1003 };
            self.batch_norm.then_some(running)
        };
        self.widths.iter().enumerate().map(of_layer).chain([None]).collect()
    }

    fn on_values<B: Backend>(&self) -> Operands<B> {
        let width = 21;
        let input = [if self.own_input { TOWERS } else { 1 }, self.rows, width];
        let input = TowersInput::Values(random::<B, 3>(self.seed + 90, input));
        TowersOperands { input, layers: self.layers::<B>(TOWERS, width) }
    }

    /// Gradient of the logits, `[K, B, 1]`, the towers side by side, as the loss leaves it.
    fn grad<B: Backend>(&self, towers: usize) -> FloatTensor<B> {
        B::float_swap_dims(random::<B, 3>(self.seed + 91, [1, self.rows, towers]), 0, 2)
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
        let found = B::Kernels::towers_backward(on_b, saved, self.grad::<B>(towers), &specs);
        let grad = self.grad::<Expected>(towers);
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

/// Towers of some depths, without a hidden layer as well.
fn cases() -> [Case; 6] {
    let with = Case::default();
    [
        Case {
            own_input: true,
            rows: 300,
            widths: &[33, 24],
            activation: Activation::Prelu,
            seed: 1,
            ..with
        },
        Case { rows: 129, widths: &[140, 6, 12], seed: 2, ..with },
        Case { rows: 37, widths: &[128], seed: 3, ..with },
        Case { rows: 1100, widths: &[64, 30], seed: 4, ..with },
        Case { own_input: true, rows: 64, widths: &[], seed: 5, ..with },
        Case { rows: 64, widths: &[], seed: 8, ..with },
    ]
}

pub(super) fn on_values<B: EsmmBackend>() {
    for case in cases() {
        case.check::<B>(TOWERS, case.on_values::<B>(), case.on_values::<Expected>());
    }
}

/// What a hidden layer below the logits may do, with an input of all towers and one for each.
pub(super) fn below_the_logits<B: EsmmBackend>() {
    let mut index = 0;
    for activation in activations() {
        for batch_norm in [false, true] {
            for dropout in [0.0, 0.3, 0.9] {
                let case = Case {
                    own_input: index % 7 < 3,
                    rows: [37, 129, 300, 64][index % 4],
                    widths: [&[1], &[24], &[6], &[33], &[140]][index % 5],
                    activation,
                    batch_norm,
                    dropout,
                    seed: 1000 * index as u64,
                };
                case.check::<B>(TOWERS, case.on_values::<B>(), case.on_values::<Expected>());
                index += 1;
            }
        }
    }
}

/// The first layer pools, with groups and without.
fn on_rows<B: EsmmBackend>() {
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    for (with_groups, entries) in [(false, Entries::Single), (false, Entries::Bags), (true, Entries::Single)]
    {
        let pooled = FirstLayerCase::new(&mut rng, 150, entries, with_groups);
        let case = Case::default();
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

/// The first layer reads what was pooled for rows and for groups; it may be the one below the logits.
fn on_groups<B: EsmmBackend>() {
    let mut rng = ChaCha8Rng::seed_from_u64(14);
    let widths: [&[usize]; 3] = [&[30, 17], &[17], &[]];
    for (groups, widths) in Groups::ALL.into_iter().flat_map(|groups| widths.map(|widths| (groups, widths))) {
        let pooled = FirstLayerCase::with_groups(&mut rng, 150, Entries::Single, Some(groups));
        let case = Case { widths, seed: 7, ..Case::default() };
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
    let [case, ..] = cases();
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
    let [.., case, _, _] = cases();
    assert_eq!(case.rows, 1100, "several chunks of rows");
    let step = || {
        let specs = case.specs();
        let found = B::Kernels::towers(case.on_values::<B>(), case.running::<B>(TOWERS), &specs);
        let statistics = found.running.iter().flatten().flat_map(|moved| [&moved.mean, &moved.variance]);
        let mut values: Vec<Vec<f64>> = statistics.map(|moved| flat::<B>(moved)).collect();
        let grad = case.grad::<B>(TOWERS);
        let grads = B::Kernels::towers_backward(case.on_values::<B>(), found, grad, &specs);
        values.push(flat::<B>(&grads.input));
        for weights in &grads.layers {
            values.extend([&weights.weight, &weights.bias].map(|grad| flat::<B>(grad)));
        }
        values
    };
    assert_eq!(step(), step());
}
