//! The first layer on rows of the table, with features that groups of rows share: kernels against the reference bodies,
//! finite differences, and whole models with groups against the same columns written out.
#![cfg(feature = "ndarray")]
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use common::differences::{Leaf, backward, differences};
use common::random::{flat, near, near_above, on_cpu_backends, random, spec};
use common::{Auto, assert_near, float, ints, primitive, uniform};
use esmm_core::backend::{
    BagPlan, GroupPlan, InferenceLayer, InputPlan, LayerSaved, LayerSpec, PooledGrads, PooledInput,
    PooledSaved, SharedFeatures, reference,
};
use esmm_core::{Activation, EsmmBackend};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

on_cpu_backends!(layers, inference, thread_counts);

/// The same on GPUs, against the reference bodies on burn-ndarray: fewer and smaller, for the software ones.
#[cfg(feature = "wgpu")]
mod wgpu {
    #[test]
    fn layers() {
        super::compare_layers::<burn_wgpu::Wgpu, burn_ndarray::NdArray>(&super::FEW_ROWS, 16);
    }

    #[test]
    fn inference() {
        super::compare_inference::<burn_wgpu::Wgpu, burn_ndarray::NdArray>(&super::FEW_ROWS, 8);
    }
}

#[cfg(feature = "cuda")]
mod cuda {
    #[test]
    fn layers() {
        super::compare_layers::<burn_cuda::Cuda, burn_ndarray::NdArray>(&super::FEW_ROWS, 16);
    }

    #[test]
    fn inference() {
        super::compare_inference::<burn_cuda::Cuda, burn_ndarray::NdArray>(&super::FEW_ROWS, 8);
    }
}

/// Rows of a batch: one, few, around the size of a task (512).
const ROWS: [usize; 6] = [1, 3, 40, 511, 513, 1100];
/// One, few, around the size of a chunk (128).
#[cfg(any(feature = "wgpu", feature = "cuda"))]
const FEW_ROWS: [usize; 4] = [1, 3, 40, 129];

/// Copies of the table, rows of a copy, width of a row.
type Table = [usize; 3];

/// Bags of `features` features for `rows` rows. Half of the features are single ids among few rows of the table, so
/// that kernels which look for such features find some.
fn bags<B: Backend>(
    rng: &mut ChaCha8Rng,
    [tables, num_rows, _]: Table,
    [rows, num_sparse, num_dense]: [usize; 3],
    with_bags: bool,
) -> BagPlan<B> {
    let of_feature = (0..num_sparse).map(|_| {
        let is_narrow = rng.random();
        let start = rng.random_range(0..num_rows);
        let end = if is_narrow { num_rows.min(start + rng.random_range(1..9)) } else { num_rows };
        (is_narrow, if is_narrow { start..end } else { 0..num_rows })
    });
    let of_feature: Vec<_> = of_feature.collect();
    let (mut slots, mut segments, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    for bag in 0..rows * num_sparse {
        let (is_single, range) = &of_feature[bag % num_sparse];
        let is_single = *is_single || !with_bags;
        for _ in 0..if is_single { 1 } else { rng.random_range(0..4) } {
            slots.push(rng.random_range(range.clone()));
            segments.push(bag);
            weights.push(if is_single { 1.0 } else { rng.random_range(-1.0..1.0) });
        }
    }
    if slots.is_empty() {
        (slots, segments, weights) = (vec![0], vec![0], vec![0.0]);
    }
    let len = weights.len();
    let dense = (num_dense > 0).then(|| random::<B, 2>(rng.random(), [rows, num_dense]));
    let bags = with_bags.then(|| (ints::<B>(&segments), primitive(common::tensor::<B, 1>(&weights, [len]))));
    BagPlan { tables, rows, num_sparse, slots: ints::<B>(&slots), order: None, bags, dense }
}

/// A plan and the width of the input that it gives. Groups and rows keep a feature each.
fn plan<B: Backend>(rng: &mut ChaCha8Rng, table: Table, rows: usize) -> (InputPlan<B>, usize) {
    let mut sparse = vec![false; rng.random_range(1..6)];
    let mut dense = vec![false; rng.random_range(0..3)];
    let width = sparse.len() * table[2] + dense.len();
    let with_bags = [rng.random(), rng.random()];
    if sparse.len() == 1 || rng.random() {
        let own = bags(rng, table, [rows, sparse.len(), dense.len()], with_bags[0]);
        return (InputPlan { own, groups: None }, width);
    }
    let shared = rng.random_range(1..sparse.len());
    sparse[..shared].fill(true);
    sparse.shuffle(rng);
    dense.iter_mut().for_each(|shared| *shared = rng.random());
    let shared_dense = dense.iter().filter(|shared| **shared).count();
    let own_sizes = [rows, sparse.len() - shared, dense.len() - shared_dense];
    let groups = rng.random_range(1..=rows.div_ceil(3));
    let of_rows: Vec<usize> = (0..rows).map(|_| rng.random_range(0..groups)).collect();
    let groups = GroupPlan {
        bags: bags(rng, table, [groups, shared, shared_dense], with_bags[1]),
        of_rows: ints::<B>(&of_rows),
        rows_by_group: None,
        features: Arc::new(SharedFeatures { sparse, dense }),
    };
    (InputPlan { own: bags(rng, table, own_sizes, with_bags[0]), groups: Some(groups) }, width)
}

/// A layer and the gradient of its output.
fn layer<B: Backend>(rng: &mut ChaCha8Rng, rows: usize) -> (PooledInput<B>, LayerSpec, FloatTensor<B>) {
    let towers = rng.random_range(1..4);
    let table = [if rng.random() { 1 } else { towers }, rng.random_range(1..900), rng.random_range(1..40)];
    let outputs = rng.random_range(1..150);
    let (plan, inputs) = plan::<B>(rng, table, rows);
    let input = PooledInput {
        table: random::<B, 2>(rng.random(), [table[0] * table[1], table[2]]),
        plan,
        weight: random::<B, 3>(rng.random(), [towers, inputs, outputs]),
        bias: random::<B, 2>(rng.random(), [towers, outputs]),
        gamma: random::<B, 2>(rng.random(), [towers, outputs]),
        beta: random::<B, 2>(rng.random(), [towers, outputs]),
        slope: random::<B, 1>(rng.random(), [towers]),
    };
    (input, spec(rng), random::<B, 3>(rng.random(), [towers, rows, outputs]))
}

fn parts<B: Backend>(grads: &PooledGrads<B>) -> [Vec<f64>; 6] {
    let PooledGrads { table, weight, bias, gamma, beta, slope } = grads;
    [table, weight, bias, gamma, beta, slope].map(flat::<B>)
}

fn layers<B: EsmmBackend>() {
    compare_layers::<B, B>(&ROWS, 60);
}

/// The kernels of B against the reference bodies on E.
fn compare_layers<B: EsmmBackend, E: EsmmBackend>(rows: &[usize], count: usize) {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    for &rows in rows.iter().cycle().take(count) {
        let (input, _, grad) = layer::<B>(&mut rng.clone(), rows);
        let (same, spec, same_grad) = layer::<E>(&mut rng, rows);
        let groups = input.plan.groups.as_ref().map(|groups| (groups.bags.rows, groups.features.clone()));
        let what = |name: &str| format!("{name}, {rows} rows, groups {groups:?}, {spec:?}");
        let found = B::pooled_layer(input.clone(), spec);
        let expected = reference::pooled_layer::<E>(same.clone(), spec);
        near(&what("output"), &flat::<B>(&found.output), &flat::<E>(&expected.output));
        let LayerSaved { hidden, mean, variance } = expected.saved.layer.clone();
        near(&what("hidden"), &flat::<B>(&found.saved.layer.hidden), &flat::<E>(&hidden));
        // Both ways back from the same point: near a kink of the activation rounding decides the slope.
        let layer = LayerSaved {
            hidden: moved::<E, B, 3>(hidden),
            mean: moved::<E, B, 2>(mean),
            variance: moved::<E, B, 2>(variance),
        };
        let saved = PooledSaved { pooled: found.saved.pooled, layer };
        let found = B::pooled_layer_backward(input, saved, grad, spec);
        let expected = reference::pooled_layer_backward::<E>(same, expected.saved, same_grad, spec);
        let names = ["table", "weight", "bias", "gamma", "beta", "slope"];
        for ((name, found), expected) in names.into_iter().zip(parts(&found)).zip(parts(&expected)) {
            let means_something = match name {
                // 0 or the rounding of 0 in front of a batch norm, see kernels.rs.
                "bias" => !spec.batch_norm,
                "gamma" | "beta" => spec.batch_norm,
                "slope" => spec.activation == Activation::Prelu,
                _ => true,
            };
            if !means_something {
                continue;
            }
            // A batch norm over few rows leaves nothing but cancellation.
            let floor = if rows <= 3 || name == "slope" { 1.0 } else { 0.01 };
            near_above(floor, &what(name), &found, &expected);
        }
    }
}

fn inference<B: EsmmBackend>() {
    compare_inference::<B, B>(&ROWS, 24);
}

fn compare_inference<B: EsmmBackend, E: EsmmBackend>(rows: &[usize], count: usize) {
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    for &rows in rows.iter().cycle().take(count) {
        let (input, layers) = scorer::<B>(&mut rng.clone(), rows);
        let found = B::infer_pooled_logits(input.table, input.plan, layers);
        let (input, layers) = scorer::<E>(&mut rng, rows);
        let expected = reference::infer_pooled_logits::<E>(input.table, input.plan, layers);
        near(&format!("{rows} rows"), &flat::<B>(&found), &flat::<E>(&expected));
    }
}

/// Towers of one hidden layer.
fn scorer<B: Backend>(rng: &mut ChaCha8Rng, rows: usize) -> (PooledInput<B>, Vec<InferenceLayer<B>>) {
    let (input, ..) = layer::<B>(rng, rows);
    let [towers, _, outputs] = float::<B, 3>(input.weight.clone()).dims();
    let layer = |weight: &FloatTensor<B>, scale: Option<&FloatTensor<B>>, shift: FloatTensor<B>| {
        let (weight, slope) = (weight.clone(), input.slope.clone());
        InferenceLayer { weight, scale: scale.cloned(), shift, activation: Activation::Prelu, slope }
    };
    let last = random::<B, 3>(rng.random(), [towers, outputs, 1]);
    let last = layer(&last, None, random::<B, 2>(7, [towers, 1]));
    let first = layer(&input.weight, Some(&input.gamma), input.beta.clone());
    (input, vec![first, last])
}

fn moved<E: Backend, B: Backend, const D: usize>(from: FloatTensor<E>) -> FloatTensor<B> {
    primitive(Tensor::<B, D>::from_data(float::<E, D>(from).into_data(), &Default::default()))
}

fn thread_counts<B: EsmmBackend>() {
    let run = || {
        let mut rng = ChaCha8Rng::seed_from_u64(13);
        let mut results = Vec::new();
        for rows in [700, 1100, 1600] {
            let (input, spec, grad) = layer::<B>(&mut rng, rows);
            let output = B::pooled_layer(input.clone(), spec);
            results.push(flat::<B>(&output.output));
            results.extend(parts(&B::pooled_layer_backward(input, output.saved, grad, spec)));
        }
        results
    };
    let at = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run);
    let bits = |values: Vec<f64>| values.into_iter().map(f64::to_bits).collect::<Vec<_>>();
    for (index, (one, five)) in at(1).into_iter().zip(at(5)).enumerate() {
        assert!(bits(one) == bits(five), "result {index} depends on the number of threads");
    }
}

/// Rows of the table, by row or group and feature, of a plan of 5 rows in 2 groups: feature 1 belongs to groups.
const OWN: [[usize; 2]; 5] = [[0, 2], [1, 2], [0, 3], [3, 2], [0, 2]];
const SHARED: [usize; 2] = [3, 0];
const GROUP: [usize; 5] = [1, 0, 0, 1, 1];

/// Table `[4, 3]` and weights `[2, 9, 2]` to `[2, 5, 2]`.
fn definition(table: &[f64], weight: &[f64]) -> Vec<f64> {
    let mut output = Vec::new();
    for (tower, row) in (0..2).flat_map(|tower| (0..5).map(move |row| (tower, row))) {
        let rows = [OWN[row][0], SHARED[GROUP[row]], OWN[row][1]];
        let input: Vec<f64> = rows.iter().flat_map(|&row| table[row * 3..][..3].to_vec()).collect();
        for o in 0..2 {
            output.push(input.iter().enumerate().map(|(i, x)| x * weight[(tower * 9 + i) * 2 + o]).sum());
        }
    }
    output
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let (table, weight, grad) = (uniform(21, 12), uniform(22, 36), uniform(23, 20));
    let plan = |rows, slots: &[usize]| BagPlan::<Auto> {
        tables: 1,
        rows,
        num_sparse: slots.len() / rows,
        slots: ints::<Auto>(slots),
        order: None,
        bags: None,
        dense: None,
    };
    let groups = GroupPlan {
        bags: plan(2, &SHARED),
        of_rows: ints::<Auto>(&GROUP),
        rows_by_group: None,
        features: Arc::new(SharedFeatures { sparse: vec![false, true, false], dense: vec![] }),
    };
    let zeros = |shape| primitive(common::tensor::<Auto, 2>(&[0.0; 4][..shape], [2, shape / 2]));
    for swapped in [false, true] {
        let leaves = (Leaf::new(&table, [4, 3], swapped), Leaf::new(&weight, [2, 9, 2], swapped));
        let input = PooledInput::<Auto> {
            table: primitive(leaves.0.view()),
            plan: InputPlan { own: plan(5, OWN.as_flattened()), groups: Some(groups.clone()) },
            weight: primitive(leaves.1.view()),
            bias: zeros(4),
            gamma: zeros(2),
            beta: zeros(2),
            slope: primitive(common::tensor::<Auto, 1>(&[0.0], [1])),
        };
        let output = float::<Auto, 3>(Auto::pooled_layer(input, LayerSpec::LINEAR).output);
        let grads = backward("pooled layer", output, &definition(&table, &weight), &grad);
        let expected = differences(|table| definition(table, &weight), &table, &grad);
        assert_near("table", &leaves.0.grad(&grads), &expected, 2e-6, 2e-6);
        let expected = differences(|weight| definition(&table, weight), &weight, &grad);
        assert_near("weight", &leaves.1.grad(&grads), &expected, 2e-6, 2e-6);
    }
}
