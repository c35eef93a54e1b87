//! The CPU kernels against the reference bodies, at random shapes, and at 1 and 3 threads.
//!
//! Tolerance: see `common/random.rs`; where nothing but cancellation is seen (a batch norm over two rows, the one sum
//! that is the gradient of a slope) the scale is 1.
#![cfg(any(feature = "ndarray", feature = "flex"))]
#![allow(clippy::unwrap_used)]

mod common;

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use common::random::{TOLERANCE, flat, near, near_above, on_cpu_backends, random, spec};
use common::{assert_near, float, ints, primitive, tensor, uniform};
use esmm_core::EsmmBackend;
use esmm_core::backend::{
    BagPlan, InferenceLayer, LayerGrads, LayerInput, LayerOutput, LayerSpec, NormInput, RowRule, RowState,
    RowUpdate, reference,
};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

on_cpu_backends!(bags, layers, inference, folding, losses, row_updates, thread_counts);

/// Rows around the size of a task (256), and 1.
const ROWS: [usize; 7] = [1, 2, 37, 255, 256, 257, 600];

/// A random plan: single ids, or bags of which some are empty; all entries on one row if `repeated`.
fn plan<B: Backend>(
    rng: &mut ChaCha8Rng,
    [tables, rows, num_sparse, num_rows]: [usize; 4],
    bags: bool,
    repeated: bool,
) -> BagPlan<B> {
    let segments: Vec<usize> = (0..rows * num_sparse)
        .flat_map(|bag| vec![bag; if bags { rng.random_range(0..4) } else { 1 }])
        .collect();
    let segments = if segments.is_empty() { vec![0] } else { segments };
    let row = |rng: &mut ChaCha8Rng| if repeated { num_rows - 1 } else { rng.random_range(0..num_rows) };
    let slots: Vec<usize> = segments.iter().map(|_| row(rng)).collect();
    let num_dense = rng.random_range(0..3);
    BagPlan {
        tables,
        rows,
        num_sparse,
        slots: ints::<B>(&slots),
        order: None,
        bags: bags.then(|| (ints::<B>(&segments), random::<B, 1>(rng.random(), [segments.len()]))),
        dense: (num_dense > 0).then(|| random::<B, 2>(rng.random(), [rows, num_dense])),
    }
}

fn bags<B: EsmmBackend>() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for rows in ROWS {
        for (with_bags, repeated) in [(false, false), (true, false), (false, true), (true, true)] {
            let tables = rng.random_range(1..4);
            let (num_sparse, dim, num_rows) =
                (rng.random_range(1..6), rng.random_range(1..40), rng.random_range(1..900));
            let plan = plan::<B>(&mut rng, [tables, rows, num_sparse, num_rows], with_bags, repeated);
            let what =
                format!("{tables} x {num_rows} x {dim}, {rows} rows, bags {with_bags}, repeated {repeated}");
            let table = random::<B, 2>(rng.random(), [tables * num_rows, dim]);
            let rows_of = plan.slots.clone();
            let found = B::gather_rows(table.clone(), rows_of.clone());
            assert_eq!(flat::<B>(&found), flat::<B>(&reference::gather_rows::<B>(table.clone(), rows_of)));
            let found = B::bag_pool(table.clone(), plan.clone());
            let expected = reference::bag_pool::<B>(table, plan.clone());
            assert_eq!(float::<B, 3>(found.clone()).dims(), float::<B, 3>(expected.clone()).dims(), "{what}");
            near(&what, &flat::<B>(&found), &flat::<B>(&expected));
            let shape = float::<B, 3>(found).dims();
            let grad = random::<B, 3>(rng.random(), shape);
            let found = B::bag_pool_backward(grad.clone(), plan.clone(), num_rows);
            let expected = reference::bag_pool_backward::<B>(grad, plan, num_rows);
            near(&format!("{what}, backward"), &flat::<B>(&found), &flat::<B>(&expected));
        }
    }
}

/// A random layer and the gradient of its output.
fn layer<B: Backend>(rng: &mut ChaCha8Rng, rows: usize) -> (LayerInput<B>, LayerSpec, FloatTensor<B>) {
    let towers = rng.random_range(1..4);
    let own = if rng.random() { 1 } else { towers };
    let (inputs, outputs) = (rng.random_range(1..300), rng.random_range(1..70));
    let input = LayerInput::<B> {
        input: random::<B, 3>(rng.random(), [own, rows, inputs]),
        weight: random::<B, 3>(rng.random(), [towers, inputs, outputs]),
        bias: random::<B, 2>(rng.random(), [towers, outputs]),
        gamma: random::<B, 2>(rng.random(), [towers, outputs]),
        beta: random::<B, 2>(rng.random(), [towers, outputs]),
        slope: random::<B, 1>(rng.random(), [towers]),
    };
    (input, spec(rng), random::<B, 3>(rng.random(), [towers, rows, outputs]))
}

fn layer_parts<B: Backend>(grads: &LayerGrads<B>) -> [Vec<f64>; 6] {
    let LayerGrads { input, weight, bias, gamma, beta, slope } = grads;
    [input, weight, bias, gamma, beta, slope].map(flat::<B>)
}

fn layers<B: EsmmBackend>() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for rows in ROWS.into_iter().cycle().take(56) {
        let (input, spec, grad) = layer::<B>(&mut rng, rows);
        let (shape, weight) =
            (float::<B, 3>(input.input.clone()).dims(), float::<B, 3>(input.weight.clone()).dims());
        let what = |name: &str| format!("{name}, {shape:?} to {weight:?}, {spec:?}");
        let LayerOutput { output, saved } = B::tower_layer(input.clone(), spec);
        let expected = reference::tower_layer::<B>(input.clone(), spec);
        near(&what("output"), &flat::<B>(&output), &flat::<B>(&expected.output));
        near(&what("hidden"), &flat::<B>(&saved.hidden), &flat::<B>(&expected.saved.hidden));
        near(&what("mean"), &flat::<B>(&saved.mean), &flat::<B>(&expected.saved.mean));
        near(&what("variance"), &flat::<B>(&saved.variance), &flat::<B>(&expected.saved.variance));
        // Both ways back from the same point: near a kink of the activation rounding decides the slope.
        let found = B::tower_layer_backward(input.clone(), expected.saved.clone(), grad.clone(), spec);
        let expected = reference::tower_layer_backward::<B>(input, expected.saved, grad, spec);
        let (found, expected) = (layer_parts(&found), layer_parts(&expected));
        for ((name, found), expected) in
            ["input", "weight", "bias", "gamma", "beta", "slope"].into_iter().zip(found).zip(expected)
        {
            // With batch norm the bias has a gradient of 0, of which the reference has the rounding.
            if name == "bias" && spec.batch_norm {
                assert_near(&what(name), &found, &expected, 1e-3, 0.0);
                assert!(found.iter().all(|&grad| grad == 0.0));
            } else {
                let floor = if rows == 2 || name == "slope" { 1.0 } else { 0.01 };
                near_above(floor, &what(name), &found, &expected);
            }
        }
    }
}

/// Random layers of `towers` towers on an input of `width`, ending in one logit.
fn inference_layers<B: Backend>(
    rng: &mut ChaCha8Rng,
    towers: usize,
    mut width: usize,
) -> Vec<InferenceLayer<B>> {
    let hidden = [rng.random_range(1..60), rng.random_range(1..30)];
    let depth = rng.random_range(0..3);
    let mut layers = Vec::new();
    for &outputs in hidden[..depth].iter().chain(&[1]) {
        let scale = rng.random::<bool>().then(|| random::<B, 2>(rng.random(), [towers, outputs]));
        layers.push(InferenceLayer {
            weight: random::<B, 3>(rng.random(), [towers, width, outputs]),
            scale,
            shift: random::<B, 2>(rng.random(), [towers, outputs]),
            activation: spec(rng).activation,
            slope: random::<B, 1>(rng.random(), [towers]),
        });
        width = outputs;
    }
    layers
}

fn inference<B: EsmmBackend>() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for rows in ROWS.into_iter().cycle().take(28) {
        let towers = rng.random_range(1..4);
        let tables = if rng.random() { 1 } else { towers };
        let (num_sparse, dim, num_rows) =
            (rng.random_range(1..6), rng.random_range(1..40), rng.random_range(1..900));
        let with_bags = rng.random();
        let plan = plan::<B>(&mut rng, [tables, rows, num_sparse, num_rows], with_bags, false);
        let num_dense = plan.dense.as_ref().map_or(0, |dense| float::<B, 2>(dense.clone()).dims()[1]);
        let layers = inference_layers::<B>(&mut rng, towers, num_sparse * dim + num_dense);
        let table = random::<B, 2>(rng.random(), [tables * num_rows, dim]);
        let found = B::infer_logits(table.clone(), plan.clone(), layers.clone());
        let expected = reference::infer_logits::<B>(table, plan, layers);
        assert_eq!(float::<B, 2>(found.clone()).dims(), [rows, towers]);
        near(&format!("{rows} rows, {towers} towers"), &flat::<B>(&found), &flat::<B>(&expected));
    }
}

fn folding<B: EsmmBackend>() {
    for shape in [[1, 1], [2, 37], [3, 130]] {
        let line = |seed: u64| random::<B, 2>(seed, shape);
        let variance = float::<B, 2>(line(5)).powi_scalar(2);
        let norm = NormInput::<B> {
            bias: line(1),
            gamma: line(2),
            beta: line(3),
            mean: line(4),
            variance: primitive(variance),
        };
        let found = B::fold_norm(norm.clone(), 1e-2);
        for (found, expected) in found.iter().zip(reference::fold_norm::<B>(norm, 1e-2)) {
            near(&format!("{shape:?}"), &flat::<B>(found), &flat::<B>(&expected));
        }
    }
}

fn losses<B: EsmmBackend>() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for rows in ROWS.into_iter().chain([513, 1100]) {
        for (stages, scale) in [(2, 1.0), (2, 20.0), (3, 4.0), (5, 90.0)] {
            let logits: Vec<f64> = uniform(rng.random(), rows * stages)
                .iter()
                .map(|logit| (logit * scale) as f32 as f64)
                .collect();
            let depth: Vec<usize> = (0..rows).map(|_| rng.random_range(0..=stages)).collect();
            let reached =
                depth.iter().flat_map(|&depth| (0..stages).map(move |k| f64::from(u8::from(k < depth))));
            let reached = primitive(tensor::<B, 2>(&reached.collect::<Vec<_>>(), [rows, stages]));
            let logits = primitive(tensor::<B, 2>(&logits, [rows, stages]));
            let grad = random::<B, 1>(rng.random(), [stages]);
            let what = format!("{rows} rows, {stages} stages, logits to {scale}");
            let found = B::funnel_logs(logits.clone());
            for (found, expected) in found.iter().zip(reference::funnel_logs::<B>(logits.clone())) {
                assert_near(&what, &flat::<B>(found), &flat::<B>(&expected), 1e-9, TOLERANCE);
            }
            let found = B::funnel_probs(logits.clone());
            for (found, expected) in found.iter().zip(reference::funnel_probs::<B>(logits.clone())) {
                // At 90 the logarithm that the definition takes back has no more than five digits behind the point;
                // below 1e-38 the steps of f32 are 1.4e-45.
                assert_near(&what, &flat::<B>(found), &flat::<B>(&expected), 1e-44, 2e-5);
            }
            let found = B::funnel_loss(logits.clone(), reached.clone());
            let expected = reference::funnel_loss::<B>(logits.clone(), reached.clone());
            assert_near(&what, &flat::<B>(&found), &flat::<B>(&expected), 0.0, TOLERANCE);
            let found = B::funnel_loss_backward(logits.clone(), reached.clone(), grad.clone());
            let expected = reference::funnel_loss_backward::<B>(logits, reached, grad);
            near(&format!("{what}, backward"), &flat::<B>(&found), &flat::<B>(&expected));
        }
    }
}

fn rule(index: usize) -> (RowRule, Vec<usize>) {
    match index % 4 {
        0 => (RowRule::Sgd, vec![]),
        1 => (RowRule::RowWiseAdagrad { epsilon: 1e-8 }, vec![1]),
        _ => {
            let (beta_1, beta_2, epsilon) = (0.9, 0.999, 1e-8);
            let rule = match index % 4 {
                2 => RowRule::LazyAdam { beta_1, beta_2, epsilon, step: 3 },
                _ => RowRule::RowWiseAdam { beta_1, beta_2, epsilon, step: 3 },
            };
            (rule, vec![0, if index % 4 == 2 { 0 } else { 1 }])
        }
    }
}

/// A table with its moments, and rows of it with their gradients.
fn row_state<B: Backend>(
    rng: &mut ChaCha8Rng,
    moments: &[usize],
) -> (RowState<B>, Vec<usize>, FloatTensor<B>) {
    let (height, dim) = (rng.random_range(1..4000), rng.random_range(1..40));
    let mut rows: Vec<usize> = (0..height).collect();
    rows.shuffle(rng);
    rows.truncate(rng.random_range(1..=height));
    let positive = |rng: &mut ChaCha8Rng, width: usize| {
        let values: Vec<f64> = uniform(rng.random(), height * width).iter().map(|x| x.abs()).collect();
        primitive(tensor::<B, 2>(&values, [height, width]))
    };
    let state = RowState {
        table: random::<B, 2>(rng.random(), [height, dim]),
        moments: moments.iter().map(|&width| positive(rng, if width == 0 { dim } else { width })).collect(),
    };
    let grads = random::<B, 2>(rng.random(), [rows.len(), dim]);
    (state, rows, grads)
}

fn row_updates<B: EsmmBackend>() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for index in 0..24 {
        let (rule, moments) = rule(index);
        let (state, rows, grads) = row_state::<B>(&mut rng, &moments);
        let update = RowUpdate { rule, learning_rate: 0.01, l2: [0.0, 0.1][index / 4 % 2] };
        let expected = reference::update_rows::<B>(state.clone(), ints::<B>(&rows), grads.clone(), update);
        let found = B::update_rows(state, ints::<B>(&rows), grads, update);
        let what = format!("{} rows, {update:?}", rows.len());
        near(&what, &flat::<B>(&found.table), &flat::<B>(&expected.table));
        assert_eq!(found.moments.len(), expected.moments.len());
        for (found, expected) in found.moments.iter().zip(&expected.moments) {
            near(&what, &flat::<B>(found), &flat::<B>(expected));
        }
    }
}

/// Every operation once; the same bits at any number of threads.
fn thread_counts<B: EsmmBackend>() {
    let run = || {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let mut results = Vec::new();
        for rows in [600, 1300] {
            let plan = plan::<B>(&mut rng, [1, rows, 5, 700], true, false);
            let table = random::<B, 2>(rng.random(), [700, 24]);
            let pooled = B::bag_pool(table.clone(), plan.clone());
            results.push(B::bag_pool_backward(pooled.clone(), plan.clone(), 700));
            let layers = inference_layers::<B>(&mut rng, 2, float::<B, 3>(pooled.clone()).dims()[2]);
            results.push(B::infer_logits(table, plan, layers));
            let (input, spec, grad) = layer::<B>(&mut rng, rows);
            let LayerOutput { output, saved } = B::tower_layer(input.clone(), spec);
            let LayerGrads { input, weight, bias, gamma, beta, slope } =
                B::tower_layer_backward(input, saved, grad, spec);
            results.extend([pooled, output, input, weight, bias, gamma, beta, slope]);
            let logits = random::<B, 2>(rng.random(), [rows, 2]);
            let reached = primitive(tensor::<B, 2>(&vec![0.0; rows * 2], [rows, 2]));
            results.push(B::funnel_loss(logits.clone(), reached.clone()));
            results.push(B::funnel_loss_backward(logits, reached, random::<B, 1>(7, [2])));
            let (rule, moments) = rule(2);
            let (state, rows, grads) = row_state::<B>(&mut rng, &moments);
            let update = RowUpdate { rule, learning_rate: 0.01, l2: 0.0 };
            let state = B::update_rows(state, ints::<B>(&rows), grads, update);
            results.push(state.table);
            results.extend(state.moments);
        }
        results.iter().map(flat::<B>).collect::<Vec<_>>()
    };
    let at =
        |threads: usize| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run);
    let (one, three) = (at(1), at(3));
    for (index, (one, three)) in one.iter().zip(&three).enumerate() {
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert!(bits(one) == bits(three), "result {index} depends on the number of threads");
    }
}
