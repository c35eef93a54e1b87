//! Gradients of the differentiable operations by finite differences: see `common/differences.rs`.

mod layer;

use crate::common::differences::{ABSOLUTE, Leaf, RELATIVE, backward, differences};
use crate::common::{Auto, assert_near, float, ints, primitive, tensor, uniform};
use burn::tensor::Tensor;
use esmm_core::EsmmBackend;
use esmm_core::backend::{
    Bags, FirstLayer, GroupBags, InputBags, Kernels, LayerSpec, LayerWeights, SharedFeatures,
};

type AutoKernels = <Auto as EsmmBackend>::Kernels;

/// Bag, slot and weight.
type Entry = (usize, usize, f64);

/// Tables, touched rows, width of an embedding, rows of the batch, sparse features.
type Sizes = [usize; 5];

/// Entries, touched rows and dense values to `[tables, rows, features * dim + dense]`.
fn pool(touched: &[f64], entries: &[Entry], dense: &[f64], sizes: Sizes) -> Vec<f64> {
    let [tables, num_touched, dim, rows, features] = sizes;
    let num_dense = dense.len() / rows;
    let width = features * dim + num_dense;
    let mut output = vec![0.0; tables * rows * width];
    for table in 0..tables {
        for &(bag, slot, weight) in entries {
            let start = (table * rows + bag / features) * width + bag % features * dim;
            for d in 0..dim {
                output[start + d] += weight * touched[(table * num_touched + slot) * dim + d];
            }
        }
        for (row, dense) in dense.chunks_exact(num_dense.max(1)).enumerate() {
            let end = (table * rows + row + 1) * width;
            output[end - num_dense..end].copy_from_slice(dense);
        }
    }
    output
}

#[test]
fn pooling() {
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
        for (tables, dim, num_dense, swapped) in
            [(1, 5, 0, false), (3, 5, 2, false), (3, 5, 1, true), (2, 1, 0, true)]
        {
            let what = &format!("{what}, {tables} tables, {num_dense} dense, transposed {swapped}");
            let sizes = [tables, num_touched, dim, rows, num_sparse];
            let width = num_sparse * dim + num_dense;
            let x = uniform(2, tables * num_touched * dim);
            let weights = uniform(3, tables * rows * width);
            let dense = uniform(4, rows * num_dense);
            let segments: Vec<_> = entries.iter().map(|entry| entry.0).collect();
            let slots: Vec<_> = entries.iter().map(|entry| entry.1).collect();
            let scales: Vec<_> = entries.iter().map(|entry| entry.2).collect();
            let scales = tensor::<Auto, 1>(&scales, [scales.len()]);
            let bags = Bags {
                tables,
                rows,
                num_sparse,
                slots: ints::<Auto>(&slots),
                weighted: has_bags.then(|| (ints::<Auto>(&segments), primitive(scales))),
                dense: (num_dense > 0).then(|| primitive(tensor::<Auto, 2>(&dense, [rows, num_dense]))),
                bins: None,
            };
            let leaf = Leaf::new(&x, [tables * num_touched, dim], swapped);
            // The identity: the layer returns its pooled input.
            let eye = (0..width * width).map(|index| f64::from(index / width == index % width));
            let eye = tensor::<Auto, 2>(&eye.collect::<Vec<_>>(), [width, width]).unsqueeze_dim::<3>(0);
            let identity = LayerWeights {
                weight: primitive(eye.repeat_dim(0, tables)),
                bias: primitive(Tensor::<Auto, 2>::zeros([tables, width], &Default::default())),
                norm: None,
                slope: None,
            };
            let table = primitive(leaf.view());
            let layer = FirstLayer { table, bags: InputBags::of_rows(bags), weights: identity };
            let (output, _) = <AutoKernels as Kernels<Auto>>::first_layer(layer, LayerSpec::LINEAR);
            let output = float::<Auto, 3>(output.output);
            assert_eq!(output.dims(), [tables, rows, width], "{what}");
            let grads = backward(what, output, &pool(&x, &entries, &dense, sizes), &weights);
            let expected = differences(|x| pool(x, &entries, &dense, sizes), &x, &weights);
            assert_near(what, &leaf.grad(&grads), &expected, ABSOLUTE, RELATIVE);
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
            let output = float::<Auto, 1>(<AutoKernels as Kernels<Auto>>::funnel_loss(
                primitive(leaf.view()),
                primitive(labels),
            ));
            let grads = backward(&what, output, &losses(&logits, &reached, stages), &weights);
            let expected = differences(|x| losses(x, &reached, stages), &logits, &weights);
            assert_near(&what, &leaf.grad(&grads), &expected, ABSOLUTE, RELATIVE);
        }
    }
}

/// Rows of the table, by row or group and feature, of a batch of 5 rows in 2 groups: feature 1 belongs to groups.
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
fn first_layer_with_groups() {
    let table = uniform(21, 12);
    let weight = uniform(22, 36);
    let grad = uniform(23, 20);
    let bags = |rows, slots: &[usize]| Bags {
        tables: 1,
        rows,
        num_sparse: slots.len() / rows,
        slots: ints::<Auto>(slots),
        weighted: None,
        dense: None,
        bins: None,
    };
    let groups = GroupBags {
        bags: bags(2, &SHARED),
        of_rows: ints::<Auto>(&GROUP),
        features: std::sync::Arc::new(SharedFeatures { sparse: vec![false, true, false], dense: vec![] }),
    };
    for swapped in [false, true] {
        let leaves = (Leaf::new(&table, [4, 3], swapped), Leaf::new(&weight, [2, 9, 2], swapped));
        let weights = LayerWeights {
            weight: primitive(leaves.1.view()),
            bias: primitive(Tensor::<Auto, 2>::zeros([2, 2], &Default::default())),
            norm: None,
            slope: None,
        };
        let bags = InputBags { own: bags(5, OWN.as_flattened()), groups: Some(groups.clone()) };
        let layer = FirstLayer { table: primitive(leaves.0.view()), bags, weights };
        let (output, _) = <AutoKernels as Kernels<Auto>>::first_layer(layer, LayerSpec::LINEAR);
        let output = float::<Auto, 3>(output.output);
        let grads = backward("first layer", output, &definition(&table, &weight), &grad);
        let expected = differences(|table| definition(table, &weight), &table, &grad);
        assert_near("table", &leaves.0.grad(&grads), &expected, 2e-6, 2e-6);
        let expected = differences(|weight| definition(&table, weight), &weight, &grad);
        assert_near("weight", &leaves.1.grad(&grads), &expected, 2e-6, 2e-6);
    }
}
