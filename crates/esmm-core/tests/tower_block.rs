//! `EsmmBackend::tower_block` by finite differences: see `common/differences.rs`.
#![cfg(feature = "ndarray")]
#![allow(clippy::unwrap_used)]

mod common;

use common::differences::{ABSOLUTE, Leaf, RELATIVE, STEP, backward, differences};
use common::{Auto, assert_near, float, primitive, uniform, values};
use esmm_core::backend::random::Dropout;
use esmm_core::backend::{BlockInput, BlockSpec};
use esmm_core::{Activation, DropoutKey, EsmmBackend};

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
                let spec = BlockSpec { batch_norm, epsilon: 1e-5, activation, dropout };
                for swapped in [false, true] {
                    tower_block_of(spec, sizes, swapped);
                }
            }
        }
    }
}

fn tower_block_of(spec: BlockSpec, sizes: [usize; 3], swapped: bool) {
    let [towers, rows, width] = sizes;
    let what = |name| format!("{name}, {sizes:?}, {spec:?}, transposed {swapped}");
    let len = towers * rows * width;
    let mask = spec.dropout.map_or_else(|| vec![1.0; len], |dropout: Dropout| dropout.mask(len));
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
    let grads = backward(&what("output"), float::<Auto, 3>(found.output), &expected, &weights);
    let near =
        |name, found: &[f64], expected: &[f64]| assert_near(&what(name), found, expected, ABSOLUTE, RELATIVE);
    let output = |inputs: [&[f64]; 4]| block(inputs, spec, &mask, sizes).0;
    near("hidden", &hidden.grad(&grads), &differences(|x| output([x, &gamma, &beta, &slope]), &x, &weights));
    if spec.batch_norm {
        let (mean, variance) = statistics(&x, sizes);
        near("mean", &values(float::<Auto, 2>(found.mean)), &mean);
        near("variance", &values(float::<Auto, 2>(found.variance)), &variance);
        near(
            "gamma",
            &scale.grad(&grads),
            &differences(|g| output([&x, g, &beta, &slope]), &gamma, &weights),
        );
        near("beta", &shift.grad(&grads), &differences(|b| output([&x, &gamma, b, &slope]), &beta, &weights));
    }
    if spec.activation == Activation::Prelu {
        near(
            "slope",
            &slopes.grad(&grads),
            &differences(|s| output([&x, &gamma, &beta, s]), &slope, &weights),
        );
    }
}
