//! A layer of all towers by finite differences: see `common/differences.rs`.

use crate::common::differences::{ABSOLUTE, Leaf, RELATIVE, STEP, backward, differences};
use crate::common::{Auto, assert_near, float, primitive, uniform, values};
use esmm_core::backend::random::Dropout;
use esmm_core::backend::{Kernels, Layer, LayerSpec, LayerWeights, Norm};
use esmm_core::{Activation, DropoutKey, EsmmBackend};

/// Towers with an input of their own (1 or all), towers, rows, width of input and output.
type Sizes = [usize; 5];

/// Input, weight, bias, gamma, beta, slope.
const NAMES: [&str; 6] = ["input", "weight", "bias", "gamma", "beta", "slope"];

/// `[inputs of one tower or all, rows, width]` times `[towers, width, outputs]` plus `[towers, outputs]`.
fn matmul(x: &[f64], w: &[f64], b: &[f64], [own, towers, rows, width, outputs]: Sizes) -> Vec<f64> {
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

/// Mean and biased variance over the rows of `[towers, rows, width]`, each `[towers, width]`.
fn statistics(x: &[f64], [towers, rows, width]: [usize; 3]) -> (Vec<f64>, Vec<f64>) {
    let of = |tower: usize, h: usize| (0..rows).map(move |row| x[(tower * rows + row) * width + h]);
    let columns = (0..towers).flat_map(|tower| (0..width).map(move |h| (tower, h)));
    let moments = columns.map(|(tower, h)| {
        let mean = of(tower, h).sum::<f64>() / rows as f64;
        (mean, of(tower, h).map(|x| (x - mean).powi(2)).sum::<f64>() / rows as f64)
    });
    moments.unzip()
}

/// The six tensors to the output, and the smallest distance of an activation's input from its kink.
fn layer(
    inputs: &[Vec<f64>; 6],
    batch_norm: bool,
    spec: LayerSpec,
    mask: &[f32],
    sizes: Sizes,
) -> (Vec<f64>, f64) {
    let [x, w, b, gamma, beta, slope] = inputs;
    let [_, towers, rows, _, width] = sizes;
    let hidden = matmul(x, w, b, sizes);
    let (mean, variance) = statistics(&hidden, [towers, rows, width]);
    let mut kink = f64::INFINITY;
    let output = hidden.iter().zip(mask).enumerate().map(|(index, (&x, &factor))| {
        let tower = index / (rows * width);
        let h = index % width;
        let at = tower * width + h;
        let z = if batch_norm {
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
fn tower_layer() {
    let leaky = Activation::LeakyRelu { negative_slope: 0.01 };
    let dropout = DropoutKey { seed: 5, step: 2 }.layer(1, 0.3);
    for sizes in [[1, 3, 7, 5, 11], [3, 3, 7, 4, 5], [2, 2, 1, 3, 5], [1, 4, 3, 2, 1], [1, 1, 32, 6, 3]] {
        for activation in [Activation::None, Activation::Relu, leaky, Activation::Prelu] {
            for (batch_norm, dropout) in [(true, None), (true, dropout), (false, None), (false, dropout)] {
                let spec = LayerSpec { epsilon: 1e-2, activation, dropout, ..LayerSpec::LINEAR };
                for swapped in [false, true] {
                    tower_layer_of(batch_norm, spec, sizes, swapped);
                }
            }
        }
    }
}

fn tower_layer_of(batch_norm: bool, spec: LayerSpec, sizes: Sizes, swapped: bool) {
    let [own, towers, rows, width, outputs] = sizes;
    let what = |name| format!("{name}, {sizes:?}, batch norm {batch_norm}, {spec:?}, transposed {swapped}");
    let len = towers * rows * outputs;
    let mask = spec.dropout.map_or_else(|| vec![1.0; len], |dropout: Dropout| dropout.mask(len));
    let lens = [
        own * rows * width,
        towers * width * outputs,
        towers * outputs,
        towers * outputs,
        towers * outputs,
        towers,
    ];
    let weights = uniform(9, len);
    // The first inputs that stay away from the kink of the activation.
    let mut seeds = (20..).step_by(10);
    let (inputs, expected) = loop {
        let seed = seeds.next().unwrap();
        let inputs: [Vec<f64>; 6] = std::array::from_fn(|index| uniform(seed + index as u64, lens[index]));
        let (expected, kink) = layer(&inputs, batch_norm, spec, &mask, sizes);
        if spec.activation == Activation::None || kink > 10.0 * STEP {
            break (inputs, expected);
        }
    };

    let input = Leaf::new(&inputs[0], [own, rows, width], swapped);
    let weight = Leaf::new(&inputs[1], [towers, width, outputs], swapped);
    let columns: [_; 3] =
        std::array::from_fn(|index| Leaf::new(&inputs[index + 2], [towers, outputs], swapped));
    let slope = Leaf::new(&inputs[5], [towers], swapped);
    let [bias, gamma, beta] = columns.each_ref().map(|leaf| primitive(leaf.view()));
    let layer_weights = LayerWeights {
        weight: primitive(weight.view()),
        bias,
        norm: batch_norm.then_some(Norm { gamma, beta }),
        slope: (spec.activation == Activation::Prelu).then(|| primitive(slope.view())),
    };
    let found = <<Auto as EsmmBackend>::Kernels as Kernels<Auto>>::layer(
        Layer { input: primitive(input.view()), weights: layer_weights },
        spec,
    );
    let near = |name, found: &[f64], expected: &[f64]| {
        assert_near(&what(name), found, expected, 4.0 * ABSOLUTE, 4.0 * RELATIVE);
    };
    assert_eq!(found.saved.moments.is_some(), batch_norm);
    if let Some(moments) = &found.saved.moments {
        let hidden = matmul(&inputs[0], &inputs[1], &inputs[2], sizes);
        let (mean, variance) = statistics(&hidden, [towers, rows, outputs]);
        near("mean", &values(float::<Auto, 2>(moments.mean.clone())), &mean);
        near("variance", &values(float::<Auto, 2>(moments.variance.clone())), &variance);
    }
    let grads = backward(&what("output"), float::<Auto, 3>(found.output), &expected, &weights);
    let difference = |index: usize| {
        let output = |x: &[f64]| {
            let mut inputs = inputs.clone();
            inputs[index] = x.to_vec();
            layer(&inputs, batch_norm, spec, &mask, sizes).0
        };
        differences(output, &inputs[index], &weights)
    };
    near(NAMES[0], &input.grad(&grads), &difference(0));
    near(NAMES[1], &weight.grad(&grads), &difference(1));
    near(NAMES[2], &columns[0].grad(&grads), &difference(2));
    if batch_norm {
        near(NAMES[3], &columns[1].grad(&grads), &difference(3));
        near(NAMES[4], &columns[2].grad(&grads), &difference(4));
    }
    if spec.activation == Activation::Prelu {
        near(NAMES[5], &slope.grad(&grads), &difference(5));
    }
}
