//! Every differentiated operation of `EsmmBackend` against central differences of its definition in f64.
//!
//! The definitions below are plain loops on slices, so neither Burn nor f32 is on that side: with a step of 1e-5 the
//! differences are off by some 1e-10 (truncation) and 1e-11 (rounding). What is compared is the rounding of f32, for
//! which `ABSOLUTE` and `RELATIVE` leave about 20 units in the last place. Each case runs with its inputs as they are
//! and as transposed views, because backends have kernels that differ between the two.
#![cfg(feature = "ndarray")]
#![allow(clippy::unwrap_used)]

mod common;

use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use common::{Auto, assert_near, float, ints, primitive, tensor, uniform, values};
use esmm_core::backend::random::Dropout;
use esmm_core::backend::{BagPlan, BlockInput, BlockSpec};
use esmm_core::{Activation, DropoutKey, EsmmBackend};

const STEP: f64 = 1e-5;
const ABSOLUTE: f64 = 2e-6;
const RELATIVE: f64 = 2e-6;

/// A leaf of the graph, and the view of it that an operation reads: itself, or transposed twice.
struct Leaf<const D: usize> {
    tensor: Tensor<Auto, D>,
    swapped: bool,
}

impl<const D: usize> Leaf<D> {
    fn new(values: &[f64], shape: [usize; D], swapped: bool) -> Self {
        let plain = tensor::<Auto, D>(values, shape);
        let tensor = if swapped && D > 1 {
            Tensor::from_data(plain.swap_dims(0, 1).into_data(), &Default::default())
        } else {
            plain
        };
        Self {
            tensor: tensor.require_grad(),
            swapped: swapped && D > 1,
        }
    }

    fn view(&self) -> Tensor<Auto, D> {
        if self.swapped {
            self.tensor.clone().swap_dims(0, 1)
        } else {
            self.tensor.clone()
        }
    }

    fn grad(&self, grads: &<Auto as AutodiffBackend>::Gradients) -> Vec<f64> {
        let grad = self.tensor.grad(grads).unwrap();
        values(if self.swapped { grad.swap_dims(0, 1) } else { grad })
    }
}

/// Gradient of `sum(weights * f(x))` by central differences.
fn differences(f: impl Fn(&[f64]) -> Vec<f64>, at: &[f64], weights: &[f64]) -> Vec<f64> {
    let sum = |x: &[f64]| {
        f(x).iter()
            .zip(weights)
            .map(|(y, weight)| y * weight)
            .sum::<f64>()
    };
    let mut x = at.to_vec();
    let slope = |index: usize| {
        x[index] = at[index] + STEP;
        let above = sum(&x);
        x[index] = at[index] - STEP;
        let below = sum(&x);
        x[index] = at[index];
        (above - below) / (2.0 * STEP)
    };
    (0..at.len()).map(slope).collect()
}

/// Checks the output and gives the gradients of `sum(weights * output)`.
fn backward<const D: usize>(
    what: &str,
    output: Tensor<Auto, D>,
    expected: &[f64],
    weights: &[f64],
) -> <Auto as AutodiffBackend>::Gradients {
    assert_near(
        &format!("{what}: output"),
        &values(output.clone()),
        expected,
        ABSOLUTE,
        RELATIVE,
    );
    let weights = tensor::<Auto, D>(weights, output.dims());
    (output * weights).sum().backward()
}

/// `(bag, slot, weight)` of every entry to `[tables, bags * dim]`.
fn pool(touched: &[f64], entries: &[(usize, usize, f64)], sizes: [usize; 4]) -> Vec<f64> {
    let [tables, num_touched, dim, bags] = sizes;
    let mut output = vec![0.0; tables * bags * dim];
    for table in 0..tables {
        for &(bag, slot, weight) in entries {
            for d in 0..dim {
                output[(table * bags + bag) * dim + d] +=
                    weight * touched[(table * num_touched + slot) * dim + d];
            }
        }
    }
    output
}

#[test]
fn bag_pool() {
    let single = |slots: &[usize]| {
        slots
            .iter()
            .enumerate()
            .map(|(bag, &slot)| (bag, slot, 1.0))
            .collect()
    };
    let w = uniform(1, 7);
    // Bags 1 and 4 are empty, bag 3 has one row twice; a weight may be negative or 0.
    let bags = [(0, 2), (0, 0), (2, 1), (3, 0), (3, 0), (3, 3), (5, 4)];
    let bags: Vec<_> = bags
        .iter()
        .zip(&w)
        .map(|(&(bag, slot), &weight)| (bag, slot, weight))
        .collect();
    let cases: [(&str, usize, usize, usize, bool, Vec<(usize, usize, f64)>); 6] = [
        (
            "singles",
            4,
            3,
            6,
            false,
            single(&[0, 1, 2, 0, 3, 2, 0, 4, 5, 1, 1, 1]),
        ),
        ("weighted bags with empty ones", 2, 3, 5, true, bags),
        ("singles given as bags", 4, 1, 3, true, single(&[2, 0, 1, 1])),
        ("one row in the whole batch", 9, 2, 1, false, single(&[0; 18])),
        ("one row, one feature", 1, 1, 1, false, single(&[0])),
        ("one empty bag", 1, 1, 1, true, vec![(0, 0, 0.0)]),
    ];
    for (what, rows, num_sparse, num_touched, has_bags, entries) in cases {
        for (tables, dim, swapped) in [(1, 5, false), (3, 5, false), (3, 5, true), (2, 1, true)] {
            let what = &format!("{what}, {tables} tables, transposed {swapped}");
            let bags = rows * num_sparse;
            let sizes = [tables, num_touched, dim, bags];
            let (x, weights) = (
                uniform(2, tables * num_touched * dim),
                uniform(3, tables * bags * dim),
            );
            let segments: Vec<_> = entries.iter().map(|entry| entry.0).collect();
            let slots: Vec<_> = entries.iter().map(|entry| entry.1).collect();
            let scales: Vec<_> = entries.iter().map(|entry| entry.2).collect();
            let scales = tensor::<Auto, 1>(&scales, [scales.len()]);
            let plan = BagPlan::<Auto> {
                rows,
                num_sparse,
                slots: ints::<Auto>(&slots),
                bags: has_bags.then(|| (ints::<Auto>(&segments), primitive(scales))),
            };
            let leaf = Leaf::new(&x, [tables, num_touched, dim], swapped);
            let output = float::<Auto, 3>(Auto::bag_pool(primitive(leaf.view()), plan));
            assert_eq!(output.dims(), [tables, rows, num_sparse * dim], "{what}");
            let grads = backward(what, output, &pool(&x, &entries, sizes), &weights);
            let expected = differences(|x| pool(x, &entries, sizes), &x, &weights);
            assert_near(what, &leaf.grad(&grads), &expected, ABSOLUTE, RELATIVE);
        }
    }
}

/// `[inputs of one tower or all, rows, width]` times `[towers, width, outputs]` plus `[towers, outputs]`.
fn products(x: &[f64], w: &[f64], b: &[f64], sizes: [usize; 5]) -> Vec<f64> {
    let [own, towers, rows, width, outputs] = sizes;
    let mut output = Vec::with_capacity(towers * rows * outputs);
    for tower in 0..towers {
        let x = &x[if own == 1 { 0 } else { tower * rows * width }..];
        for (row, o) in (0..rows).flat_map(|row| (0..outputs).map(move |o| (row, o))) {
            let terms = (0..width).map(|i| x[row * width + i] * w[(tower * width + i) * outputs + o]);
            output.push(terms.sum::<f64>() + b[tower * outputs + o]);
        }
    }
    output
}

#[test]
fn stacked_linear() {
    for (own, towers, rows, width, outputs) in [
        (1, 3, 7, 5, 9),
        (3, 3, 7, 5, 9),
        (1, 2, 1, 3, 1),
        (2, 2, 1, 1, 1),
        (1, 1, 4, 3, 2),
        (1, 4, 2, 17, 1),
    ] {
        for swapped in [false, true] {
            let what = |name| format!("{name}, {own} x {rows} x {width} to {outputs}, transposed {swapped}");
            let sizes = [own, towers, rows, width, outputs];
            let x = uniform(4, own * rows * width);
            let w = uniform(5, towers * width * outputs);
            let b = uniform(6, towers * outputs);
            let weights = uniform(7, towers * rows * outputs);
            let input = Leaf::new(&x, [own, rows, width], swapped);
            let weight = Leaf::new(&w, [towers, width, outputs], swapped);
            let bias = Leaf::new(&b, [towers, outputs], swapped);
            let [x_view, w_view] = [&input, &weight].map(|leaf| primitive(leaf.view()));
            let output = float::<Auto, 3>(Auto::stacked_linear(x_view, w_view, primitive(bias.view())));
            let grads = backward(&what("linear"), output, &products(&x, &w, &b, sizes), &weights);
            let expected = differences(|x| products(x, &w, &b, sizes), &x, &weights);
            assert_near(&what("input"), &input.grad(&grads), &expected, ABSOLUTE, RELATIVE);
            let expected = differences(|w| products(&x, w, &b, sizes), &w, &weights);
            assert_near(
                &what("weight"),
                &weight.grad(&grads),
                &expected,
                ABSOLUTE,
                RELATIVE,
            );
            let expected = differences(|b| products(&x, &w, b, sizes), &b, &weights);
            assert_near(&what("bias"), &bias.grad(&grads), &expected, ABSOLUTE, RELATIVE);
        }
    }
}

/// Mean and biased variance over the rows of `[towers, rows, width]`, each `[towers, width]`.
fn statistics(x: &[f64], [towers, rows, width]: [usize; 3]) -> (Vec<f64>, Vec<f64>) {
    let of = |tower: usize, h: usize| (0..rows).map(move |row| x[(tower * rows + row) * width + h]);
    let columns = (0..towers).flat_map(|tower| (0..width).map(move |h| (tower, h)));
    let moments = columns.map(|(tower, h)| {
        let mean = of(tower, h).sum::<f64>() / rows as f64;
        (
            mean,
            of(tower, h).map(|x| (x - mean).powi(2)).sum::<f64>() / rows as f64,
        )
    });
    moments.unzip()
}

/// `[hidden, gamma, beta, slope]` to the output, and the smallest distance of an activation's input from its kink.
fn block(inputs: [&[f64]; 4], spec: BlockSpec, mask: &[f32], sizes: [usize; 3]) -> (Vec<f64>, f64) {
    let [x, gamma, beta, slope] = inputs;
    let [_, rows, width] = sizes;
    let (mean, variance) = statistics(x, sizes);
    let mut kink = f64::INFINITY;
    let output = x.iter().zip(mask).enumerate().map(|(index, (&x, &factor))| {
        let (tower, h) = (index / (rows * width), index % width);
        let at = tower * width + h;
        let z = if spec.batch_norm {
            (x - mean[at]) / (variance[at] + spec.epsilon).sqrt() * gamma[at] + beta[at]
        } else {
            x
        };
        kink = kink.min(z.abs());
        let below = match spec.activation {
            Activation::None => z,
            Activation::Relu => 0.0,
            Activation::LeakyRelu { negative_slope } => z * negative_slope,
            Activation::Prelu => z * slope[tower],
        };
        f64::from(factor) * if z > 0.0 { z } else { below }
    });
    (output.collect(), kink)
}

#[test]
fn tower_block() {
    let leaky = Activation::LeakyRelu { negative_slope: 0.01 };
    let dropout = DropoutKey { seed: 5, step: 2 }.layer(1, 0.3);
    for sizes in [[3, 7, 11], [2, 1, 5], [4, 2, 1], [1, 32, 3]] {
        for activation in [Activation::None, Activation::Relu, leaky, Activation::Prelu] {
            for (batch_norm, dropout) in [(true, None), (true, dropout), (false, None), (false, dropout)] {
                let spec = BlockSpec {
                    batch_norm,
                    epsilon: 1e-5,
                    activation,
                    dropout,
                };
                [false, true].map(|swapped| tower_block_of(spec, sizes, swapped));
            }
        }
    }
}

fn tower_block_of(spec: BlockSpec, sizes: [usize; 3], swapped: bool) {
    let [towers, rows, width] = sizes;
    let what = |name| format!("{name}, {sizes:?}, {spec:?}, transposed {swapped}");
    let len = towers * rows * width;
    let mask = spec
        .dropout
        .map_or_else(|| vec![1.0; len], |dropout: Dropout| dropout.mask(len));
    let [x, weights] = [8, 9].map(|seed| uniform(seed, len));
    let [gamma, beta] = [10, 11].map(|seed| uniform(seed, towers * width));
    let slope = uniform(12, towers);
    let (expected, kink) = block([&x, &gamma, &beta, &slope], spec, &mask, sizes);
    let far = spec.activation == Activation::None || kink > 10.0 * STEP;
    assert!(far, "{}: an input {kink} from the kink", what("seed"));

    let hidden = Leaf::new(&x, sizes, swapped);
    let scale = Leaf::new(&gamma, [towers, width], swapped);
    let shift = Leaf::new(&beta, [towers, width], swapped);
    let slopes = Leaf::new(&slope, [towers], swapped);
    let input = BlockInput::<Auto> {
        hidden: primitive(hidden.view()),
        gamma: primitive(scale.view()),
        beta: primitive(shift.view()),
        slope: primitive(slopes.view()),
    };
    let found = Auto::tower_block(input, spec);
    let grads = backward(
        &what("output"),
        float::<Auto, 3>(found.output),
        &expected,
        &weights,
    );
    let near =
        |name, found: &[f64], expected: &[f64]| assert_near(&what(name), found, expected, ABSOLUTE, RELATIVE);
    let output = |inputs: [&[f64]; 4]| block(inputs, spec, &mask, sizes).0;
    near(
        "hidden",
        &hidden.grad(&grads),
        &differences(|x| output([x, &gamma, &beta, &slope]), &x, &weights),
    );
    if spec.batch_norm {
        let (mean, variance) = statistics(&x, sizes);
        near("mean", &values(float::<Auto, 2>(found.mean)), &mean);
        near("variance", &values(float::<Auto, 2>(found.variance)), &variance);
        near(
            "gamma",
            &scale.grad(&grads),
            &differences(|g| output([&x, g, &beta, &slope]), &gamma, &weights),
        );
        near(
            "beta",
            &shift.grad(&grads),
            &differences(|b| output([&x, &gamma, b, &slope]), &beta, &weights),
        );
    }
    if spec.activation == Activation::Prelu {
        near(
            "slope",
            &slopes.grad(&grads),
            &differences(|s| output([&x, &gamma, &beta, s]), &slope, &weights),
        );
    }
}

/// Mean cross-entropy of each stage from its definition, a product of sigmoids: f64 is enough at small logits.
fn losses(logits: &[f64], reached: &[f64], stages: usize) -> Vec<f64> {
    let mut losses = vec![0.0; stages];
    let rows = logits.len() / stages;
    for (logits, reached) in logits.chunks_exact(stages).zip(reached.chunks_exact(stages)) {
        let mut reach = 1.0;
        for ((loss, logit), label) in losses.iter_mut().zip(logits).zip(reached) {
            reach /= 1.0 + (-logit).exp();
            *loss -= (label * reach.ln() + (1.0 - label) * (1.0 - reach).ln()) / rows as f64;
        }
    }
    losses
}

#[test]
fn funnel_loss() {
    for (rows, stages) in [(1, 2), (37, 2), (1, 4), (37, 4), (5, 3)] {
        for swapped in [false, true] {
            let what = format!("{rows} rows, {stages} stages, transposed {swapped}");
            let logits: Vec<f64> = uniform(13, rows * stages).iter().map(|x| 3.0 * x).collect();
            // Row i reached i mod (K + 1) stages.
            let label = |index: usize| f64::from(index % stages < index / stages % (stages + 1));
            let reached: Vec<f64> = (0..rows * stages).map(label).collect();
            let weights = uniform(14, stages);
            let leaf = Leaf::new(&logits, [rows, stages], swapped);
            let labels = Leaf::new(&reached, [rows, stages], swapped).view().detach();
            let output = float::<Auto, 1>(Auto::funnel_loss(primitive(leaf.view()), primitive(labels)));
            let grads = backward(&what, output, &losses(&logits, &reached, stages), &weights);
            let expected = differences(|x| losses(x, &reached, stages), &logits, &weights);
            assert_near(&what, &leaf.grad(&grads), &expected, ABSOLUTE, RELATIVE);
        }
    }
}
