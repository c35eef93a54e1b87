//! Gradients of an operation against central differences of its definition in f64.
//!
//! A definition is a plain loop on slices, so neither Burn nor f32 is on that side: with a step of 1e-5 the differences
//! are off by some 1e-10 (truncation) and 1e-11 (rounding). What is compared is the rounding of f32, for which
//! `ABSOLUTE` and `RELATIVE` leave about 20 units in the last place. Inputs come as they are and as transposed views,
//! because backends have kernels that differ between the two.

use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;

use super::{Auto, assert_near, tensor, values};

pub(crate) const STEP: f64 = 1e-5;
pub(crate) const ABSOLUTE: f64 = 2e-6;
pub(crate) const RELATIVE: f64 = 2e-6;

/// A leaf of the graph, and the view of it that an operation reads: itself, or transposed twice.
pub(crate) struct Leaf<const D: usize> {
    tensor: Tensor<Auto, D>,
    swapped: bool,
}

impl<const D: usize> Leaf<D> {
    pub(crate) fn new(values: &[f64], shape: [usize; D], swapped: bool) -> Self {
        let plain = tensor::<Auto, D>(values, shape);
        let tensor = if swapped && D > 1 {
            Tensor::from_data(plain.swap_dims(0, 1).into_data(), &Default::default())
        } else {
            plain
        };
        Self { tensor: tensor.require_grad(), swapped: swapped && D > 1 }
    }

    pub(crate) fn view(&self) -> Tensor<Auto, D> {
        if self.swapped { self.tensor.clone().swap_dims(0, 1) } else { self.tensor.clone() }
    }

    pub(crate) fn grad(&self, grads: &<Auto as AutodiffBackend>::Gradients) -> Vec<f64> {
        let grad = self.tensor.grad(grads).unwrap();
        values(if self.swapped { grad.swap_dims(0, 1) } else { grad })
    }
}

/// Gradient of `sum(weights * f(x))` by central differences.
pub(crate) fn differences(f: impl Fn(&[f64]) -> Vec<f64>, at: &[f64], weights: &[f64]) -> Vec<f64> {
    let sum = |x: &[f64]| f(x).iter().zip(weights).map(|(y, weight)| y * weight).sum::<f64>();
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
pub(crate) fn backward<const D: usize>(
    what: &str,
    output: Tensor<Auto, D>,
    expected: &[f64],
    weights: &[f64],
) -> <Auto as AutodiffBackend>::Gradients {
    assert_near(&format!("{what}: output"), &values(output.clone()), expected, ABSOLUTE, RELATIVE);
    let weights = tensor::<Auto, D>(weights, output.dims());
    (output * weights).sum().backward()
}
