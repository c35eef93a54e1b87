//! A layer of all towers.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{bf16, f16};
use esmm_core::backend::{Kernels, Layer, LayerSpec, LayerWeights, Norm, Reference};
use esmm_core::{Activation, EsmmBackend, Precision};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    Expected, batch_rows, blocks, moved_saved, near, near_above, near_saved, near_weights, on_all_backends,
    tolerance,
};
use crate::common::{assert_near, flat, float, primitive, random, tensor, uniform};

on_all_backends!(
    layers,
    wide_layers,
    tall_layers,
    logit_layers,
    same_bits_twice,
    precisions,
    large_gradients,
    moments
);

/// A random layer; its input is one of all towers, or one for each.
#[derive(Debug, Clone, Copy)]
pub(super) struct LayerCase {
    pub(super) own_input: bool,
    pub(super) towers: usize,
    pub(super) rows: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) batch_norm: bool,
    pub(super) spec: LayerSpec,
    pub(super) seed: u64,
}

impl LayerCase {
    pub(super) fn operands<B: Backend>(&self) -> Layer<FloatTensor<B>> {
        let Self { towers, rows, inputs, seed, .. } = *self;
        Layer {
            input: random::<B, 3>(seed, [if self.own_input { towers } else { 1 }, rows, inputs]),
            weights: weights::<B>(
                seed,
                [towers, inputs, self.outputs],
                self.batch_norm,
                self.spec.activation,
            ),
        }
    }

    pub(super) fn grad<B: Backend>(&self) -> FloatTensor<B> {
        random::<B, 3>(self.seed + 6, [self.towers, self.rows, self.outputs])
    }

    /// The kernels of B against the definition.
    fn check<B: EsmmBackend>(&self) {
        let what = |name: &str| format!("{name}, {self:?}");
        let found = B::Kernels::layer(self.operands::<B>(), self.spec);
        let expected = <Reference as Kernels<Expected>>::layer(self.operands::<Expected>(), self.spec);
        near::<B>(&what("output"), &found.output, &expected.output);
        near_saved::<B>(&what, &found.saved, &expected.saved);
        // Both backward passes from the same point: near a kink of the activation rounding decides the slope.
        let saved = moved_saved::<B>(&expected.saved);
        let found = B::Kernels::layer_backward(self.operands::<B>(), saved, self.grad::<B>(), self.spec);
        let expected = <Reference as Kernels<Expected>>::layer_backward(
            self.operands::<Expected>(),
            expected.saved,
            self.grad::<Expected>(),
            self.spec,
        );
        let floor = if self.rows == 2 { 1.0 } else { 0.01 };
        near_above::<B>(floor, &what("input"), &found.input, &expected.input);
        near_weights::<B>(&what, floor, &found.weights, &expected.weights);
    }
}

/// Random weights `[K, I, O]`.
pub(super) fn weights<B: Backend>(
    seed: u64,
    [towers, inputs, outputs]: [usize; 3],
    batch_norm: bool,
    activation: Activation,
) -> LayerWeights<FloatTensor<B>> {
    let columns = |seed| random::<B, 2>(seed, [towers, outputs]);
    LayerWeights {
        weight: random::<B, 3>(seed + 1, [towers, inputs, outputs]),
        bias: columns(seed + 2),
        norm: batch_norm.then(|| Norm { gamma: columns(seed + 3), beta: columns(seed + 4) }),
        slope: (activation == Activation::Prelu).then(|| random::<B, 1>(seed + 5, [towers])),
    }
}

/// Cases of every kind of block.
pub(super) fn cases(rows: &[usize]) -> Vec<LayerCase> {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut cases = Vec::new();
    let blocks = blocks();
    // Two rounds: rows and blocks meet in other pairs.
    for (index, &(activation, batch_norm, dropout)) in blocks.iter().chain(&blocks).enumerate() {
        cases.push(LayerCase {
            own_input: index % 3 == 0,
            towers: rng.random_range(1..4),
            rows: rows[index % rows.len()],
            inputs: rng.random_range(1..150),
            outputs: [1, 24, 6, 33, 140][index % 5],
            batch_norm,
            spec: LayerSpec { epsilon: 1e-5, activation, dropout, ..LayerSpec::LINEAR },
            seed: rng.random::<u32>().into(),
        });
    }
    cases
}

pub(super) fn layers<B: EsmmBackend>() {
    for case in cases(batch_rows::<B>()) {
        case.check::<B>();
    }
}

/// A layer without activation of these sizes.
fn case(own_input: bool, rows: usize, inputs: usize, outputs: usize, batch_norm: bool) -> LayerCase {
    let spec = LayerSpec { epsilon: 1e-5, ..LayerSpec::LINEAR };
    LayerCase { own_input, towers: 2, rows, inputs, outputs, batch_norm, spec, seed: 7 }
}

/// Rows, inputs and outputs of a layer whose matmuls have so many results that GPUs take the largest tiles.
const MANY_ROWS: (usize, usize, usize) = (16900, 72, 80);

/// Rows, inputs and outputs of a layer for which GPUs take tiles of 64 x 96 and 96 x 64 results. Those of 96 x 128 and 128 x 96
/// are taken for `MANY_ROWS`.
const FITTING: (usize, usize, usize) = (5000, 200, 80);

/// Layers of several tiles each way, whose batch is cut into pieces with rows left over; odd, even and whole vectors.
fn wide_layers<B: EsmmBackend>() {
    let sizes = [(1100, 130, 140), (1101, 134, 66), (1102, 201, 129), (1103, 80, 1), FITTING, MANY_ROWS];
    for (rows, inputs, outputs) in sizes {
        for own_input in [false, true] {
            case(own_input, rows, inputs, outputs, outputs > 1).check::<B>();
        }
    }
}

/// Batches of which GPUs take several rows at once, with rows left over; the largest has so many chunks, and so many towers
/// that would join them, that their moments are joined beforehand.
fn tall_layers<B: EsmmBackend>() {
    let activation = Activation::LeakyRelu { negative_slope: 0.1 };
    let spec = LayerSpec { epsilon: 1e-5, activation, ..LayerSpec::LINEAR };
    for (towers, rows, outputs) in [(2, 4500, 6), (1, 4500, 60), (1, 4101, 132), (16, 16_401, 4)] {
        for batch_norm in [false, true] {
            let own_input = batch_norm;
            LayerCase { own_input, towers, rows, inputs: 3, outputs, batch_norm, spec, seed: 9 }.check::<B>();
        }
    }
}

/// Layers with one output a tower and nothing after it, as the last one.
fn logit_layers<B: EsmmBackend>() {
    for (own_input, outputs) in [(true, 1), (false, 1), (false, 12)] {
        for &rows in batch_rows::<B>() {
            case(own_input, rows, 20, outputs, false).check::<B>();
        }
    }
}

/// The same gradients twice, to the bit, in every precision.
fn same_bits_twice<B: EsmmBackend>() {
    for precision in B::precisions(&Default::default()) {
        for outputs in [1, 33] {
            let mut case = case(true, 2000, 70, outputs, outputs > 1);
            case.spec.precision = precision;
            let step = || {
                let forward = B::Kernels::layer(case.operands::<B>(), case.spec);
                let grad = case.grad::<B>();
                let grads = B::Kernels::layer_backward(case.operands::<B>(), forward.saved, grad, case.spec);
                [forward.output, grads.input, grads.weights.weight].map(|tensor| flat::<B>(&tensor))
            };
            assert_eq!(step(), step(), "{precision}, {case:?}");
        }
    }
}

/// Moments in every precision, against f64 of the matmul that the layer keeps, which is far from 0: sums of squares would
/// lose four digits there.
fn moments<B: EsmmBackend>() {
    for precision in B::precisions(&Default::default()) {
        for (rows, inputs, outputs) in ROUNDED {
            let mut case = case(false, rows, inputs, outputs, true);
            case.spec.precision = precision;
            let mut operands = case.operands::<B>();
            let far = uniform(8, case.towers * outputs).into_iter().map(|value| value + 300.0);
            let far: Vec<f64> = far.collect();
            operands.weights.bias = primitive(tensor::<B, 2>(&far, [case.towers, outputs]));
            let saved = B::Kernels::layer(operands, case.spec).saved;
            let hidden = flat::<B>(&saved.hidden);
            let found = saved.moments.unwrap();
            let column = |tower: usize, column: usize| {
                let of_row = move |row: usize| (tower * rows + row) * outputs + column;
                let values: Vec<f64> = (0..rows).map(|row| hidden[of_row(row)]).collect();
                let mean = values.iter().sum::<f64>() / rows as f64;
                let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
                (mean, squares / rows as f64)
            };
            let expected = (0..case.towers).flat_map(|tower| (0..outputs).map(move |at| (tower, at)));
            let (means, variances): (Vec<f64>, Vec<f64>) =
                expected.map(|(tower, at)| column(tower, at)).unzip();
            let what = |name: &str| format!("{name}, {precision}, {rows} x {inputs} x {outputs}");
            assert_near(&what("mean"), &flat::<B>(&found.mean), &means, 0.0, 1e-6);
            assert_near(&what("variance"), &flat::<B>(&found.variance), &variances, 1e-8, 1e-4);
        }
    }
}

/// Matmuls in every precision of the device, against matmuls of factors that were rounded on the host. Gradients are
/// tiny, as those of rare events are: they must not vanish in f16.
fn precisions<B: EsmmBackend>() {
    let found = B::precisions(&Default::default());
    assert_eq!(found[0], Precision::F32);
    eprintln!("matmuls in {found:?}");
    for precision in found {
        for (rows, inputs, outputs) in ROUNDED {
            for own_input in [false, true] {
                let spec = LayerSpec { precision, ..LayerSpec::LINEAR };
                let (towers, batch_norm, seed) = (2, false, 50);
                let case = LayerCase { own_input, towers, rows, inputs, outputs, batch_norm, spec, seed };
                rounded_layer::<B>(&case, 1.0);
            }
        }
    }
}

/// The same with a gradient whose last value is far larger than all others: in f16 it decides by what all are multiplied.
fn large_gradients<B: EsmmBackend>() {
    for precision in B::precisions(&Default::default()) {
        for own_input in [false, true] {
            let mut case = case(own_input, 1101, 130, 140, false);
            case.spec.precision = precision;
            rounded_layer::<B>(&case, 8192.0);
        }
    }
}

/// Rows, inputs and outputs of layers in every precision: one row; parts of tiles; whole tiles; several tiles each way
/// with vectors of one, two and four, the batch cut into pieces with rows left over; the largest tiles.
const ROUNDED: [(usize, usize, usize); 7] = [
    (1, 20, 6),
    (150, 41, 24),
    (256, 128, 64),
    (1100, 130, 140),
    (1101, 201, 129),
    (2100, 132, 260),
    MANY_ROWS,
];

/// A layer in one precision; `last` is the last value of the gradient, where the others are up to 1.
fn rounded_layer<B: EsmmBackend>(case: &LayerCase, last: f64) {
    let LayerCase { towers, inputs, outputs, spec, .. } = *case;
    let precision = spec.precision;
    let found = B::Kernels::layer(case.operands::<B>(), spec);
    let rounded = |values: Vec<f64>, shape: [usize; 3], factor: f64| {
        let values: Vec<f64> =
            values.iter().map(|value| round((value * factor) as f32, precision).into()).collect();
        primitive(tensor::<Expected, 3>(&values, shape))
    };
    let random = |seed: u64, shape: [usize; 3]| rounded(uniform(seed, shape.iter().product()), shape, 1.0);
    let mut operands = case.operands::<Expected>();
    operands.input = random(case.seed, float::<Expected, 3>(operands.input).dims());
    operands.weights.weight = random(case.seed + 1, [towers, inputs, outputs]);
    let expected = <Reference as Kernels<Expected>>::layer(operands.clone(), LayerSpec::LINEAR);
    let what = |name: &str| format!("{name}, {precision}, {case:?}");
    let close = |name: &str, found: &[f64], expected: &[f64]| {
        let scale = expected.iter().fold(0.0, |scale: f64, value| scale.max(value.abs()));
        let largest = found
            .iter()
            .zip(expected)
            .fold(0.0f64, |largest, (found, expected)| largest.max((found - expected).abs()));
        eprintln!("{}: off by {:.1e} of the largest", what(name), largest / scale);
        assert_near(&what(name), found, expected, tolerance::<B>() * scale, 0.0);
    };
    close("output", &flat::<B>(&found.output), &flat::<Expected>(&expected.output));
    let tiny = 1e-9;
    let shape = [case.towers, case.rows, case.outputs];
    let mut values = uniform(case.seed + 6, shape.iter().product());
    if let Some(value) = values.last_mut() {
        *value *= last;
    }
    let grad: Vec<f64> = values.iter().map(|value| value * tiny).collect();
    let grad = primitive(tensor::<B, 3>(&grad, shape));
    let found = B::Kernels::layer_backward(case.operands::<B>(), found.saved, grad, spec);
    // A power of two in front changes no digit of a rounded number.
    let host_factor = if precision == Precision::F16 { tiny * 2f64.powi(40) / last } else { tiny };
    let grad = rounded(values, shape, host_factor);
    let expected =
        <Reference as Kernels<Expected>>::layer_backward(operands, expected.saved, grad, LayerSpec::LINEAR);
    let undone =
        |values: Vec<f64>| -> Vec<f64> { values.iter().map(|value| value * (tiny / host_factor)).collect() };
    close("input grad", &flat::<B>(&found.input), &undone(flat::<Expected>(&expected.input)));
    let expected = undone(flat::<Expected>(&expected.weights.weight));
    close("weight grad", &flat::<B>(&found.weights.weight), &expected);
}

/// A number with as many bits as a precision keeps.
fn round(value: f32, precision: Precision) -> f32 {
    match precision {
        Precision::F32 => value,
        Precision::Tf32 => f32::from_bits((value.to_bits() + 0x1000) & !0x1fff),
        Precision::Bf16 => bf16::from_f32(value).to_f32(),
        Precision::F16 => f16::from_f32(value).to_f32(),
    }
}
