//! The GPU kernels against the reference bodies on burn-ndarray, at odd shapes.
//!
//! Tolerance: 2e-5 of the largest expected value, for sums in other orders and for the exponentials, roots and quotients of
//! shaders, which Vulkan lets be off by a few units in the last place. Where even the largest expected value is below
//! 0.01, it is what cancellation left of inputs of size 1, and 0.01 takes its place; where nothing but cancellation is
//! seen (a batch norm over two rows, the one sum that is the gradient of a slope), 1 does.
//!
//! `cargo test --workspace --features flex,wgpu --test cube`; with Mesa's software Vulkan (`mesa-vulkan-drivers`) no GPU is needed.
#![cfg(all(feature = "ndarray", any(feature = "wgpu", feature = "cuda")))]
#![allow(clippy::unwrap_used)]

mod common;

use burn::backend::Autodiff;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Tensor, bf16, f16};
use burn_ndarray::NdArray;
use common::{assert_near, float, ints, primitive, tensor, uniform, values};
use esmm_core::backend::{
    BagPlan, InferenceLayer, LayerInput, LayerSaved, LayerSpec, RowRule, RowState, RowUpdate, WeightRule,
    WeightState, WeightUpdate, reference,
};
use esmm_core::{
    Activation, BatchBuilder, BatchInput, DropoutKey, EsmmBackend, EsmmConfig, Feature, FeatureSchema,
    HostBatch, Pooling, Precision, RowGroups, Side, SlotOrder, SparseInput, TowersConfig,
};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Runs a generic test on every GPU backend that is compiled in.
macro_rules! on_gpu_backends {
    ($($name:ident),*) => {
        #[cfg(feature = "wgpu")]
        mod wgpu { $(#[test] fn $name() { super::$name::<burn_wgpu::Wgpu>(); })* }
        #[cfg(feature = "cuda")]
        mod cuda { $(#[test] fn $name() { super::$name::<burn_cuda::Cuda>(); })* }
    };
}

on_gpu_backends!(
    groups,
    bags,
    popular_rows,
    layers,
    wide_layers,
    same_bits_twice,
    precisions,
    inference,
    losses,
    row_updates,
    weight_updates,
    blends,
    other_types
);

/// One row, fewer than a chunk (128), its edges, and several.
const ROWS: [usize; 6] = [1, 2, 37, 128, 129, 300];

const TOLERANCE: f64 = 2e-5;

fn near(what: &str, found: &[f64], expected: &[f64]) {
    near_above(0.01, what, found, expected);
}

fn near_above(floor: f64, what: &str, found: &[f64], expected: &[f64]) {
    let scale = expected.iter().fold(floor, |scale, value| scale.max(value.abs()));
    assert_near(what, found, expected, TOLERANCE * scale, 0.0);
}

fn flat<B: Backend, const D: usize>(primitive: &FloatTensor<B>) -> Vec<f64> {
    values(float::<B, D>(primitive.clone()))
}

fn random<B: Backend, const D: usize>(seed: u64, shape: [usize; D]) -> FloatTensor<B> {
    primitive(tensor::<B, D>(&uniform(seed, shape.iter().product()), shape))
}

/// Bags in host memory.
#[derive(Debug, Clone)]
struct HostPlan {
    tables: usize,
    rows: usize,
    num_sparse: usize,
    table_rows: usize,
    dim: usize,
    num_dense: usize,
    bagged: bool,
    slots: Vec<usize>,
    segments: Vec<usize>,
    seed: u64,
}

impl HostPlan {
    /// Single ids, or bags of which some are empty; all entries on one row if `repeated`.
    fn new(rng: &mut ChaCha8Rng, rows: usize, dim: usize, bagged: bool, repeated: bool) -> Self {
        let (tables, num_sparse, num_dense) =
            (rng.random_range(1..4), rng.random_range(1..5), rng.random_range(0..3));
        let table_rows = rng.random_range(1..200);
        let segments: Vec<usize> = (0..rows * num_sparse)
            .flat_map(|bag| vec![bag; if bagged { rng.random_range(0..4) } else { 1 }])
            .collect();
        let segments = if segments.is_empty() { vec![0] } else { segments };
        let mut row = || if repeated { table_rows - 1 } else { rng.random_range(0..table_rows) };
        let slots = segments.iter().map(|_| row()).collect();
        let seed = rng.random();
        Self { tables, rows, num_sparse, table_rows, dim, num_dense, bagged, slots, segments, seed }
    }

    fn plan<B: Backend>(&self, ordered: bool) -> BagPlan<B> {
        let slots: Vec<i32> = self.slots.iter().map(|&slot| slot as i32).collect();
        let weights = || random::<B, 1>(self.seed, [self.segments.len()]);
        BagPlan {
            tables: self.tables,
            rows: self.rows,
            num_sparse: self.num_sparse,
            slots: ints::<B>(&self.slots),
            order: ordered.then(|| SlotOrder::new(&slots, self.table_rows, &Default::default())),
            bags: self.bagged.then(|| (ints::<B>(&self.segments), weights())),
            dense: (self.num_dense > 0).then(|| random::<B, 2>(self.seed + 1, [self.rows, self.num_dense])),
        }
    }

    fn table<B: Backend>(&self) -> FloatTensor<B> {
        random::<B, 2>(self.seed + 2, [self.tables * self.table_rows, self.dim])
    }

    fn check<B: EsmmBackend>(&self, ordered: bool) {
        let shape = (self.tables, self.rows, self.num_sparse, self.table_rows, self.dim, self.num_dense);
        let what = format!("T, B, F, U, D, V {shape:?}, bags {}, ordered {ordered}", self.bagged);
        let found = B::gather_rows(self.table::<B>(), ints::<B>(&self.slots));
        let expected =
            reference::gather_rows::<NdArray>(self.table::<NdArray>(), ints::<NdArray>(&self.slots));
        assert_eq!(flat::<B, 2>(&found), flat::<NdArray, 2>(&expected), "{what}");
        let found = B::bag_pool(self.table::<B>(), self.plan::<B>(ordered));
        let expected = reference::bag_pool::<NdArray>(self.table::<NdArray>(), self.plan(false));
        let shape = float::<NdArray, 3>(expected.clone()).dims();
        assert_eq!(float::<B, 3>(found.clone()).dims(), shape, "{what}");
        near(&what, &flat::<B, 3>(&found), &flat::<NdArray, 3>(&expected));
        let grad = self.seed + 3;
        let found =
            B::bag_pool_backward(random::<B, 3>(grad, shape), self.plan::<B>(ordered), self.table_rows);
        let grad = random::<NdArray, 3>(grad, shape);
        let expected = reference::bag_pool_backward::<NdArray>(grad, self.plan(false), self.table_rows);
        near(&format!("{what}, backward"), &flat::<B, 2>(&found), &flat::<NdArray, 2>(&expected));
    }
}

fn bags<B: EsmmBackend>() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for rows in ROWS {
        for (dim, bagged, repeated) in
            [(1, false, false), (18, true, false), (8, false, true), (7, true, true)]
        {
            HostPlan::new(&mut rng, rows, dim, bagged, repeated).check::<B>(rows != 37);
        }
    }
}

/// A slot with more entries than a piece holds: 5000 need 40 pieces.
fn popular_rows<B: EsmmBackend>() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for bagged in [false, true] {
        let mut plan = HostPlan::new(&mut rng, 5000, 4, bagged, false);
        let last = plan.table_rows - 1;
        for slot in plan.slots.iter_mut().step_by(2) {
            *slot = last;
        }
        plan.check::<B>(true);
    }
}

/// A random layer in host memory; its input is one of all towers, or one for each.
struct HostLayer {
    own_input: bool,
    towers: usize,
    rows: usize,
    inputs: usize,
    outputs: usize,
    seed: u64,
}

impl HostLayer {
    fn input<B: Backend>(&self) -> LayerInput<B> {
        let Self { towers, rows, inputs, outputs, seed, .. } = *self;
        let columns = [towers, outputs];
        LayerInput {
            input: random::<B, 3>(seed, [if self.own_input { towers } else { 1 }, rows, inputs]),
            weight: random::<B, 3>(seed + 1, [towers, inputs, outputs]),
            bias: random::<B, 2>(seed + 2, columns),
            gamma: random::<B, 2>(seed + 3, columns),
            beta: random::<B, 2>(seed + 4, columns),
            slope: random::<B, 1>(seed + 5, [towers]),
        }
    }

    fn check<B: EsmmBackend>(&self, spec: LayerSpec) {
        let Self { own_input, towers, rows, inputs, outputs, seed } = *self;
        let shape = (towers, rows, inputs, outputs);
        let what = |name: &str| format!("{name}, K, B, I, O {shape:?}, own input {own_input}, {spec:?}");
        let found = B::tower_layer(self.input::<B>(), spec);
        let expected = reference::tower_layer::<NdArray>(self.input::<NdArray>(), spec);
        near(&what("output"), &flat::<B, 3>(&found.output), &flat::<NdArray, 3>(&expected.output));
        near(
            &what("hidden"),
            &flat::<B, 3>(&found.saved.hidden),
            &flat::<NdArray, 3>(&expected.saved.hidden),
        );
        if spec.batch_norm {
            let [mean, variance] = [&expected.saved.mean, &expected.saved.variance].map(flat::<NdArray, 2>);
            near(&what("mean"), &flat::<B, 2>(&found.saved.mean), &mean);
            near(&what("variance"), &flat::<B, 2>(&found.saved.variance), &variance);
        }
        // Both ways back from the same point: near a kink of the activation rounding decides the slope.
        let saved = LayerSaved::<B> {
            hidden: upload::<B, 3>(&expected.saved.hidden),
            mean: upload::<B, 2>(&expected.saved.mean),
            variance: upload::<B, 2>(&expected.saved.variance),
        };
        let grad = [towers, rows, outputs];
        let found = B::tower_layer_backward(self.input::<B>(), saved, random::<B, 3>(seed + 6, grad), spec);
        let grad = random::<NdArray, 3>(seed + 6, grad);
        let expected = reference::tower_layer_backward::<NdArray>(self.input(), expected.saved, grad, spec);
        let floor = if rows == 2 { 1.0 } else { 0.01 };
        let mut pairs = vec![
            ("input", flat::<B, 3>(&found.input), flat::<NdArray, 3>(&expected.input), floor),
            ("weight", flat::<B, 3>(&found.weight), flat::<NdArray, 3>(&expected.weight), floor),
        ];
        if spec.batch_norm {
            pairs.push(("gamma", flat::<B, 2>(&found.gamma), flat::<NdArray, 2>(&expected.gamma), floor));
            pairs.push(("beta", flat::<B, 2>(&found.beta), flat::<NdArray, 2>(&expected.beta), floor));
        }
        if spec.activation == Activation::Prelu {
            pairs.push(("slope", flat::<B, 1>(&found.slope), flat::<NdArray, 1>(&expected.slope), 1.0));
        }
        for (name, found, expected, floor) in pairs {
            near_above(floor, &what(name), &found, &expected);
        }
        let bias = flat::<B, 2>(&found.bias);
        if spec.batch_norm {
            assert!(bias.iter().all(|&grad| grad == 0.0) && bias.len() == towers * outputs);
        } else {
            near_above(floor, &what("bias"), &bias, &flat::<NdArray, 2>(&expected.bias));
        }
    }
}

fn upload<B: Backend, const D: usize>(from: &FloatTensor<NdArray>) -> FloatTensor<B> {
    let data = float::<NdArray, D>(from.clone()).into_data();
    primitive(Tensor::<B, D>::from_data(data, &Default::default()))
}

fn layers<B: EsmmBackend>() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let curves = [
        Activation::None,
        Activation::Relu,
        Activation::LeakyRelu { negative_slope: 0.1 },
        Activation::Prelu,
    ];
    for index in 0..24 {
        let layer = HostLayer {
            own_input: index % 3 == 0,
            towers: rng.random_range(1..4),
            rows: ROWS[index % ROWS.len()],
            inputs: rng.random_range(1..70),
            outputs: [1, 24, 6, 33, 140][index % 5],
            seed: rng.random::<u32>().into(),
        };
        let dropout =
            DropoutKey { seed: rng.random(), step: rng.random() }.layer(2, [0.0, 0.3, 0.9][index % 3]);
        let (batch_norm, activation) = (index % 8 >= 4, curves[index % 4]);
        layer.check::<B>(LayerSpec { batch_norm, epsilon: 1e-5, activation, dropout, ..LayerSpec::LINEAR });
    }
    for (own_input, outputs) in [(true, 1), (false, 1), (false, 12)] {
        let layer = HostLayer { own_input, towers: 2, rows: 37, inputs: 20, outputs, seed: 99 };
        layer.check::<B>(LayerSpec::LINEAR);
    }
}

/// Layers of several tiles each way, whose batch is cut into pieces with rows left over; odd, even and whole vectors.
fn wide_layers<B: EsmmBackend>() {
    for (index, (inputs, outputs)) in [(130, 140), (134, 66), (201, 129), (80, 1)].into_iter().enumerate() {
        for own_input in [false, true] {
            let layer = HostLayer { own_input, towers: 2, rows: 1100 + index, inputs, outputs, seed: 7 };
            let linear = outputs == 1;
            let spec = LayerSpec { batch_norm: !linear, epsilon: 1e-5, ..LayerSpec::LINEAR };
            layer.check::<B>(spec);
        }
    }
}

/// The same gradients twice, to the bit.
fn same_bits_twice<B: EsmmBackend>() {
    for outputs in [1, 33] {
        let layer = HostLayer { own_input: true, towers: 2, rows: 2000, inputs: 70, outputs, seed: 11 };
        let step = || {
            let spec = LayerSpec { batch_norm: outputs > 1, epsilon: 1e-5, ..LayerSpec::LINEAR };
            let forward = B::tower_layer(layer.input::<B>(), spec);
            let grad = random::<B, 3>(12, [2, 2000, outputs]);
            let grads = B::tower_layer_backward(layer.input::<B>(), forward.saved, grad, spec);
            [forward.output, grads.input, grads.weight].map(|tensor| flat::<B, 3>(&tensor))
        };
        assert_eq!(step(), step());
    }
}

/// Products in every precision of the device, against products of factors that were rounded on the host. Gradients are
/// tiny, as those of rare events are: they must not vanish in f16.
fn precisions<B: EsmmBackend>() {
    let device = Default::default();
    let found = B::precisions(&device);
    assert_eq!(found[0], Precision::F32);
    eprintln!("products in {found:?}");
    for (precision, own_input) in found.into_iter().flat_map(|found| [(found, false), (found, true)]) {
        let layer = HostLayer { own_input, towers: 2, rows: 150, inputs: 41, outputs: 24, seed: 50 };
        let spec = LayerSpec { precision, ..LayerSpec::LINEAR };
        let saved = B::tower_layer(layer.input::<B>(), spec);
        let rounded = |seed: u64, shape: [usize; 3], factor: f64| {
            let values = uniform(seed, shape.iter().product());
            let values: Vec<f64> =
                values.iter().map(|value| round((value * factor) as f32, precision).into()).collect();
            primitive(tensor::<NdArray, 3>(&values, shape))
        };
        let mut input = layer.input::<NdArray>();
        input.input = rounded(layer.seed, float::<NdArray, 3>(input.input).dims(), 1.0);
        input.weight = rounded(layer.seed + 1, float::<NdArray, 3>(input.weight).dims(), 1.0);
        let expected = reference::tower_layer::<NdArray>(input.clone(), LayerSpec::LINEAR);
        let what = |name: &str| format!("{name}, {precision}, own input {own_input}");
        let close = |name: &str, found: &[f64], expected: &[f64]| {
            let scale = expected.iter().fold(0.0, |scale: f64, value| scale.max(value.abs()));
            // Units of tf32 may cut where the host rounds.
            let tolerance = if precision == Precision::Tf32 { 2e-3 } else { TOLERANCE };
            assert_near(&what(name), found, expected, tolerance * scale, 0.0);
        };
        close("output", &flat::<B, 3>(&saved.output), &flat::<NdArray, 3>(&expected.output));
        let (tiny, shape) = (1e-9, [layer.towers, layer.rows, layer.outputs]);
        let grad = uniform(layer.seed + 6, shape.iter().product());
        let grad: Vec<f64> = grad.iter().map(|value| value * tiny).collect();
        let grad = primitive(tensor::<B, 3>(&grad, shape));
        let found = B::tower_layer_backward(layer.input::<B>(), saved.saved, grad, spec);
        // A power of two in front changes no digit of a rounded number.
        let host_factor = if precision == Precision::F16 { tiny * 2f64.powi(40) } else { tiny };
        let grad = rounded(layer.seed + 6, shape, host_factor);
        let expected =
            reference::tower_layer_backward::<NdArray>(input, expected.saved, grad, LayerSpec::LINEAR);
        let undone = |values: Vec<f64>| -> Vec<f64> {
            values.iter().map(|value| value * (tiny / host_factor)).collect()
        };
        close("input grad", &flat::<B, 3>(&found.input), &undone(flat::<NdArray, 3>(&expected.input)));
        close("weight grad", &flat::<B, 3>(&found.weight), &undone(flat::<NdArray, 3>(&expected.weight)));
    }
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

/// Random layers of `towers` towers, ending in one logit.
fn inference_layers<B: Backend>(seed: u64, towers: usize, widths: &[usize]) -> Vec<InferenceLayer<B>> {
    let curves = [Activation::Relu, Activation::Prelu, Activation::LeakyRelu { negative_slope: 0.2 }];
    let layers = widths.windows(2).zip(seed..).map(|(pair, seed)| InferenceLayer {
        weight: random::<B, 3>(seed, [towers, pair[0], pair[1]]),
        scale: (seed % 2 == 0).then(|| random::<B, 2>(seed + 100, [towers, pair[1]])),
        shift: random::<B, 2>(seed + 200, [towers, pair[1]]),
        activation: if pair[1] == 1 { Activation::None } else { curves[seed as usize % 3] },
        slope: random::<B, 1>(seed + 300, [towers]),
    });
    layers.collect()
}

fn inference<B: EsmmBackend>() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for (index, rows) in ROWS.into_iter().enumerate() {
        let mut plan = HostPlan::new(&mut rng, rows, 8, index % 2 == 0, false);
        let towers = rng.random_range(2..4);
        plan.tables = if index % 3 == 0 { towers } else { 1 };
        let width = plan.num_sparse * plan.dim + plan.num_dense;
        let widths = &[width, 20, 9, 1][3 * usize::from(index == 5)..];
        let widths = if index == 5 { &[width, 1] } else { widths };
        let found =
            B::infer_logits(plan.table::<B>(), plan.plan(false), inference_layers(40, towers, widths));
        let expected = reference::infer_logits::<NdArray>(
            plan.table::<NdArray>(),
            plan.plan(false),
            inference_layers(40, towers, widths),
        );
        assert_eq!(float::<B, 2>(found.clone()).dims(), [rows, towers]);
        near(&format!("{rows} rows, {towers} towers"), &flat::<B, 2>(&found), &flat::<NdArray, 2>(&expected));
    }
}

fn losses<B: EsmmBackend>() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for rows in ROWS {
        for (stages, scale) in [(2, 1.0), (2, 20.0), (3, 4.0), (5, 90.0)] {
            let logits: Vec<f64> = uniform(rng.random(), rows * stages)
                .iter()
                .map(|logit| (logit * scale) as f32 as f64)
                .collect();
            let depth: Vec<usize> = (0..rows).map(|_| rng.random_range(0..=stages)).collect();
            let reached: Vec<f64> = depth
                .iter()
                .flat_map(|&depth| (0..stages).map(move |k| f64::from(u8::from(k < depth))))
                .collect();
            let what = format!("{rows} rows, {stages} stages, logits to {scale}");
            // As the towers give them: transposed.
            let on = |logits: &[f64]| {
                let stacked: Vec<f64> =
                    (0..stages).flat_map(|k| (0..rows).map(move |row| logits[row * stages + k])).collect();
                primitive(tensor::<B, 2>(&stacked, [stages, rows]).transpose())
            };
            let matrix = |values: &[f64]| primitive(tensor::<NdArray, 2>(values, [rows, stages]));
            let labels = || primitive(tensor::<B, 2>(&reached, [rows, stages]));
            let found = B::funnel_loss(on(&logits), labels());
            let expected = reference::funnel_loss::<NdArray>(matrix(&logits), matrix(&reached));
            assert_near(&what, &flat::<B, 1>(&found), &flat::<NdArray, 1>(&expected), 0.0, TOLERANCE);
            for (found, expected) in
                B::funnel_logs(on(&logits)).iter().zip(reference::funnel_logs::<NdArray>(matrix(&logits)))
            {
                let expected = flat::<NdArray, 2>(&expected);
                assert_near(&format!("{what}, logs"), &flat::<B, 2>(found), &expected, 1e-6, TOLERANCE);
            }
            for (found, expected) in
                B::funnel_probs(on(&logits)).iter().zip(reference::funnel_probs::<NdArray>(matrix(&logits)))
            {
                let expected = flat::<NdArray, 1>(&expected);
                assert_near(&format!("{what}, probs"), &flat::<B, 1>(found), &expected, 1e-30, 1e-4);
            }
            let grad = rng.random();
            let found = B::funnel_loss_backward(on(&logits), labels(), random::<B, 1>(grad, [stages]));
            let grad = random::<NdArray, 1>(grad, [stages]);
            let expected =
                reference::funnel_loss_backward::<NdArray>(matrix(&logits), matrix(&reached), grad);
            near(&format!("{what}, backward"), &flat::<B, 2>(&found), &flat::<NdArray, 2>(&expected));
        }
    }
}

/// A table with its moments.
fn row_state<B: Backend>(seed: u64, height: usize, dim: usize, moments: &[usize]) -> RowState<B> {
    let positive = |seed: u64, width: usize| {
        let values: Vec<f64> = uniform(seed, height * width).iter().map(|x| x.abs()).collect();
        primitive(tensor::<B, 2>(&values, [height, width]))
    };
    RowState {
        table: random::<B, 2>(seed, [height, dim]),
        moments: moments.iter().zip(seed + 1..).map(|(&width, seed)| positive(seed, width)).collect(),
    }
}

fn row_updates<B: EsmmBackend>() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for index in 0..18 {
        let (height, dim) = (rng.random_range(1..600), [1, 16, 18, 35, 128][index % 5]);
        let (rule, moments) = match index % 3 {
            0 => (RowRule::Sgd, vec![]),
            1 => (RowRule::RowWiseAdagrad { epsilon: 1e-8 }, vec![1]),
            _ => (RowRule::LazyAdam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, step: 3 }, vec![dim; 2]),
        };
        let mut rows: Vec<usize> = (0..height).collect();
        rows.shuffle(&mut rng);
        rows.truncate(rng.random_range(1..=height));
        let (seed, shape) = (u64::from(rng.random::<u32>()), [rows.len(), dim]);
        let update = RowUpdate { rule, learning_rate: 0.01, l2: [0.0, 0.1][index % 2] };
        let state = row_state::<B>(seed, height, dim, &moments);
        // Half of the time someone else holds the table: it must keep its values.
        let held = (index % 2 == 0).then(|| (state.table.clone(), flat::<B, 2>(&state.table)));
        let found = B::update_rows(state, ints::<B>(&rows), random::<B, 2>(seed + 9, shape), update);
        let expected = reference::update_rows::<NdArray>(
            row_state(seed, height, dim, &moments),
            ints::<NdArray>(&rows),
            random::<NdArray, 2>(seed + 9, shape),
            update,
        );
        let what = format!("{} of {height} rows, D = {dim}, {update:?}", rows.len());
        near(&what, &flat::<B, 2>(&found.table), &flat::<NdArray, 2>(&expected.table));
        assert_eq!(found.moments.len(), expected.moments.len());
        for (found, expected) in found.moments.iter().zip(&expected.moments) {
            near(&what, &flat::<B, 2>(found), &flat::<NdArray, 2>(expected));
        }
        if let Some((table, values)) = held {
            assert_eq!(flat::<B, 2>(&table), values, "{what}: a table that someone holds changed");
        }
    }
}

fn weight_updates<B: EsmmBackend>() {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let adam = |step| WeightRule::Adam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, step };
    let rules = [WeightRule::Sgd { momentum: 0.0 }, WeightRule::Sgd { momentum: 0.9 }, adam(1), adam(20)];
    for (index, shape) in
        [[1, 1, 1], [2, 7, 12], [3, 5, 9], [1, 40, 128]].into_iter().cycle().take(12).enumerate()
    {
        let rule = rules[index / 3];
        let update = WeightUpdate { rule, learning_rate: 0.01, l2: [0.0, 0.1][index % 2], decay: 0.02 };
        let seed = u64::from(rng.random::<u32>());
        // Gradients of products come with their last dimensions swapped.
        let swapped = index % 3 == 0;
        let found = B::update_weights(
            weight_state(seed, shape, rule),
            weight_grad::<B>(seed, shape, swapped),
            update,
        );
        let state = weight_state::<NdArray>(seed, shape, rule);
        let expected =
            reference::update_weights::<NdArray>(state, weight_grad::<NdArray>(seed, shape, swapped), update);
        let what = format!("{shape:?}, {update:?}");
        near(&what, &flat::<B, 3>(&found.weight), &flat::<NdArray, 3>(&expected.weight));
        assert_eq!(found.moments.len(), rule.num_moments());
        for (found, expected) in found.moments.iter().zip(&expected.moments) {
            near(&what, &flat::<B, 3>(found), &flat::<NdArray, 3>(expected));
        }
    }
}

fn weight_state<B: Backend>(seed: u64, shape: [usize; 3], rule: WeightRule) -> WeightState<B> {
    let moments = (1..=rule.num_moments() as u64).map(|number| {
        let values: Vec<f64> =
            uniform(seed + number, shape.iter().product()).iter().map(|value| value.abs()).collect();
        primitive(tensor::<B, 3>(&values, shape))
    });
    WeightState { weight: random::<B, 3>(seed, shape), moments: moments.collect() }
}

fn weight_grad<B: Backend>(seed: u64, [first, rows, columns]: [usize; 3], swapped: bool) -> FloatTensor<B> {
    if swapped {
        let tensor = float::<B, 3>(random::<B, 3>(seed + 5, [first, columns, rows]));
        primitive(tensor.swap_dims(1, 2))
    } else {
        random::<B, 3>(seed + 5, [first, rows, columns])
    }
}

/// Running statistics: in place, unless someone else holds the old ones.
fn blends<B: EsmmBackend>() {
    for (shape, held) in [([1, 1], false), ([2, 33], true), ([3, 128], false)] {
        let old = random::<B, 2>(60, shape);
        let kept = held.then(|| old.clone());
        let found = B::blend(old, random::<B, 2>(61, shape), [0.9, 0.1003]);
        let (old, new) = (random::<NdArray, 2>(60, shape), random::<NdArray, 2>(61, shape));
        let expected = reference::blend::<NdArray>(old.clone(), new, [0.9, 0.1003]);
        near(&format!("{shape:?}"), &flat::<B, 2>(&found), &flat::<NdArray, 2>(&expected));
        if let Some(kept) = kept {
            assert_eq!(
                flat::<B, 2>(&kept),
                flat::<NdArray, 2>(&old),
                "statistics that someone holds changed"
            );
        }
    }
}

/// A model whose user features come once a group: logits, losses and gradients of the touched rows.
fn groups<B: EsmmBackend>() {
    let schema = FeatureSchema::new(vec![
        Feature::sparse("user", Side::User, 7),
        Feature::sparse("item", Side::Item, 5),
        Feature::bag("history", Side::User, 0, Pooling::Mean).sharing("item"),
        Feature::dense("age", Side::User),
        Feature::dense("price", Side::Item),
    ])
    .unwrap();
    let mut config = EsmmConfig::new(schema.clone());
    config.embedding_dim = 4;
    config.towers = TowersConfig { hidden: vec![8], batch_norm: true, dropout: vec![0.2], ..config.towers };
    let (rows, of_rows) = (40, (0..40).map(|row| row * row % 3).collect::<Vec<u32>>());
    let items: Vec<u32> = (0..rows).map(|row| row * 7 % 5).collect();
    let history = SparseInput::Bag { offsets: &[0, 2, 2, 5], ids: &[1, 4, 0, 0, 3], weights: None };
    let sparse = [SparseInput::Single(&[6, 0, 2]), SparseInput::Single(&items), history];
    let price: Vec<f32> = (0..rows).map(|row| row as f32 / 40.0).collect();
    let dense = [&[0.5, -1.0, 0.25], price.as_slice()];
    let groups = Some(RowGroups { count: 3, of_rows: &of_rows });
    let input = BatchInput { rows: rows as usize, sparse: &sparse, dense: &dense, groups };
    let host = BatchBuilder::new(&schema).build(input).unwrap();
    assert_eq!(host.num_groups(), Some(3));
    let reached: Vec<f64> =
        (0..rows).flat_map(|row| [row % 2, u32::from(row % 4 == 1)].map(f64::from)).collect();
    let found = grouped_step::<B>(&config, &host, &reached);
    let expected = grouped_step::<NdArray>(&config, &host, &reached);
    for (what, (found, expected)) in ["logits", "losses", "rows"].into_iter().zip(found.iter().zip(&expected))
    {
        near(what, found, expected);
    }
}

/// Logits for inference, losses of a training step and its gradient of the touched rows.
fn grouped_step<B: EsmmBackend>(config: &EsmmConfig, host: &HostBatch, reached: &[f64]) -> [Vec<f64>; 3] {
    let device = Default::default();
    let logits = config.init::<B>(&device).unwrap().forward(&host.to_device(&device)).conditional;
    let model = config.init::<Autodiff<B>>(&device).unwrap();
    let forward = model.forward_train(&host.to_device(&device), DropoutKey { seed: 1, step: 2 });
    let losses = forward.logits.losses(tensor(reached, [host.rows(), 2]));
    let mut grads = losses.clone().sum().backward();
    let rows = forward.touched.take_grads(&mut grads).unwrap();
    [values(logits), values(losses), values(rows.grads)]
}

/// Tensors that are not f32 go to the reference bodies.
fn other_types<B: EsmmBackend>() {
    let plan = HostPlan::new(&mut ChaCha8Rng::seed_from_u64(8), 5, 4, false, false);
    if !B::supports_dtype(&Default::default(), DType::F16) {
        eprintln!("this device has no f16: the fallback was not run");
        return;
    }
    let half = |tensor: FloatTensor<B>| B::float_cast(tensor, DType::F16.into());
    let found = B::gather_rows(half(plan.table::<B>()), ints::<B>(&plan.slots));
    let expected = reference::gather_rows::<NdArray>(plan.table::<NdArray>(), ints::<NdArray>(&plan.slots));
    // f16 keeps 11 bits.
    assert_near("f16", &flat::<B, 2>(&found), &flat::<NdArray, 2>(&expected), 1e-3, 0.0);
}
