//! Bags, products and the funnel's loss of `EsmmBackend` by finite differences: see `common/differences.rs`.
#![cfg(feature = "ndarray")]
#![allow(clippy::unwrap_used)]

mod common;

use common::differences::{ABSOLUTE, Leaf, RELATIVE, backward, differences};
use common::{Auto, assert_near, float, ints, primitive, tensor, uniform};
use esmm_core::EsmmBackend;
use esmm_core::backend::BagPlan;

/// Bag, slot and weight.
type Entry = (usize, usize, f64);

/// Entries and touched rows to `[tables, bags * dim]`.
fn pool(touched: &[f64], entries: &[Entry], sizes: [usize; 4]) -> Vec<f64> {
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
    let single = |slots: &[usize]| -> Vec<Entry> {
        let bags = slots.iter().enumerate();
        bags.map(|(bag, &slot)| (bag, slot, 1.0)).collect()
    };
    let w = uniform(1, 7);
    // Bags 1 and 4 are empty, bag 3 has one row twice; a weight may be negative or 0.
    let bags = [(0, 2), (0, 0), (2, 1), (3, 0), (3, 0), (3, 3), (5, 4)];
    let bags: Vec<_> = bags.iter().zip(&w).map(|(&(bag, slot), &weight)| (bag, slot, weight)).collect();
    let cases = [
        ("singles", 4, 3, 6, false, single(&[0, 1, 2, 0, 3, 2, 0, 4, 5, 1, 1, 1])),
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
            let (x, weights) = (uniform(2, tables * num_touched * dim), uniform(3, tables * bags * dim));
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
            assert_near(&what("weight"), &weight.grad(&grads), &expected, ABSOLUTE, RELATIVE);
            let expected = differences(|b| products(&x, &w, b, sizes), &b, &weights);
            assert_near(&what("bias"), &bias.grad(&grads), &expected, ABSOLUTE, RELATIVE);
        }
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
