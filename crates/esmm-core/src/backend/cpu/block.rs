//! What follows the matmul in a layer, on a few rows of one tower: batch norm, activation, dropout.

use std::mem::MaybeUninit;

use multiversion::multiversion;

use super::dropout::DropoutRow;
use crate::backend::{LayerSpec, LayerWeights, Moments};
use crate::tower::Activation;

/// The constants of one tower's block.
#[derive(Debug, Clone)]
pub(super) struct Block {
    spec: LayerSpec,
    width: usize,
    mean: Vec<f32>,
    /// `gamma / sqrt(variance + epsilon)`.
    scale: Vec<f32>,
    shift: Vec<f32>,
    slope: f32,
    /// `1 / sqrt(variance + epsilon)`.
    inverse_std: Vec<f32>,
}

/// Sums over the rows of one chunk, for the backward pass.
#[derive(Debug, Clone)]
pub(super) struct BlockSums {
    /// Of the gradient before the activation.
    pub(super) grad: Vec<f32>,
    /// Of the same times `x - mean`.
    pub(super) centred: Vec<f32>,
    /// Of the gradient after the activation times `min(z, 0)`: that of a PReLU's slope.
    pub(super) slope: Vec<f32>,
}

/// Factor and terms of the gradient with respect to the matmul: `scale * (grad - mean - centred * (x - mean of x))`.
#[derive(Debug, Clone)]
pub(super) struct Correction {
    mean: Vec<f32>,
    centred: Vec<f32>,
}

/// The slope below zero of an activation in a tower; `learned` holds those of a PReLU.
///
/// # Panics
/// A PReLU without slopes.
pub(super) fn slope_of(activation: Activation, learned: Option<&[f32]>, tower: usize) -> f32 {
    match (activation, learned) {
        (Activation::None, _) => 1.0,
        (Activation::Relu, _) => 0.0,
        (Activation::LeakyRelu { negative_slope }, _) => negative_slope as f32,
        (Activation::Prelu, Some(learned)) => learned[tower],
        (Activation::Prelu, None) => panic!("a PReLU without a slope"),
    }
}

impl Block {
    /// The block of tower `tower`; all slices hold the columns of all towers.
    pub(super) fn new(
        spec: LayerSpec,
        tower: usize,
        width: usize,
        moments: Option<Moments<&[f32]>>,
        weights: &LayerWeights<&[f32]>,
    ) -> Self {
        let slope = slope_of(spec.activation, weights.slope, tower);
        let Some((moments, norm)) = moments.zip(weights.norm) else {
            let zeros = vec![0.0; width];
            let ones = vec![1.0; width];
            let inverse_std = ones.clone();
            return Self { spec, width, mean: zeros.clone(), scale: ones, shift: zeros, slope, inverse_std };
        };
        let own = |all: &[f32]| all[tower * width..][..width].to_vec();
        let roots = own(moments.variance).into_iter().map(|variance| (variance + spec.epsilon as f32).sqrt());
        let inverse_std: Vec<f32> = roots.map(f32::recip).collect();
        let scale =
            own(norm.gamma).iter().zip(&inverse_std).map(|(gamma, inverse)| gamma * inverse).collect();
        let mean = own(moments.mean);
        let shift = own(norm.beta);
        Self { spec, width, mean, scale, shift, slope, inverse_std }
    }

    #[inline(always)]
    fn forward_rows(&self, hidden: &[f32], first: usize, out: &mut [MaybeUninit<f32>]) {
        let mut dropout = self.spec.dropout.map(|dropout| DropoutRow::new(dropout, self.width));
        let rows = hidden.chunks_exact(self.width).zip(out.chunks_exact_mut(self.width));
        for (row, (hidden, out)) in rows.enumerate() {
            match &mut dropout {
                None => self.forward_row(hidden, out, |_| 1.0),
                Some(dropout) => {
                    let factors = &dropout.draw(first + row * self.width)[..self.width];
                    self.forward_row(hidden, out, |h| factors[h]);
                }
            }
        }
    }

    #[inline(always)]
    fn forward_row(&self, hidden: &[f32], out: &mut [MaybeUninit<f32>], factor: impl Fn(usize) -> f32) {
        let width = self.width;
        let hidden = &hidden[..width];
        let out = &mut out[..width];
        let mean = &self.mean[..width];
        let scale = &self.scale[..width];
        let shift = &self.shift[..width];
        for h in 0..width {
            let z = (hidden[h] - mean[h]) * scale[h] + shift[h];
            let activated = if z > 0.0 { z } else { z * self.slope };
            out[h].write(activated * factor(h));
        }
    }

    #[inline(always)]
    fn backward_rows(&self, hidden: &[f32], first: usize, grad: &mut [f32]) -> BlockSums {
        let mut dropout = self.spec.dropout.map(|dropout| DropoutRow::new(dropout, self.width));
        let zeros = vec![0.0; self.width];
        let mut sums = BlockSums { grad: zeros.clone(), centred: zeros.clone(), slope: zeros };
        let rows = hidden.chunks_exact(self.width).zip(grad.chunks_exact_mut(self.width));
        for (row, (hidden, grad)) in rows.enumerate() {
            match &mut dropout {
                None => self.backward_row(hidden, grad, &mut sums, |_| 1.0),
                Some(dropout) => {
                    let factors = &dropout.draw(first + row * self.width)[..self.width];
                    self.backward_row(hidden, grad, &mut sums, |h| factors[h]);
                }
            }
        }
        sums
    }

    #[inline(always)]
    fn backward_row(
        &self,
        hidden: &[f32],
        grad: &mut [f32],
        sums: &mut BlockSums,
        factor: impl Fn(usize) -> f32,
    ) {
        let width = self.width;
        let hidden = &hidden[..width];
        let grad = &mut grad[..width];
        let mean = &self.mean[..width];
        let scale = &self.scale[..width];
        let shift = &self.shift[..width];
        let sum = &mut sums.grad[..width];
        let centred_sum = &mut sums.centred[..width];
        let slope_sum = &mut sums.slope[..width];
        let learns_slope = self.spec.activation == Activation::Prelu;
        for h in 0..width {
            let centred = hidden[h] - mean[h];
            let z = centred * scale[h] + shift[h];
            let after = grad[h] * factor(h);
            let before = if z > 0.0 { after } else { after * self.slope };
            grad[h] = before;
            sum[h] += before;
            centred_sum[h] += before * centred;
            if learns_slope {
                // Not `min`, which takes NaN for 0.
                slope_sum[h] += after * if z > 0.0 { 0.0 } else { z };
            }
        }
    }

    /// Gradients of gamma and beta, and what the gradient of the matmul needs, out of the sums over all rows.
    pub(super) fn correction(&self, sums: &BlockSums, rows: usize) -> (Correction, Vec<f32>) {
        let columns = sums.centred.iter().zip(&self.inverse_std);
        let gamma_grad: Vec<f32> = columns.map(|(sum, inverse)| sum * inverse).collect();
        let per_row = |sum: &f32| sum / rows as f32;
        let mean = sums.grad.iter().map(per_row).collect();
        let centred = gamma_grad.iter().zip(&self.inverse_std).map(|(grad, inverse)| per_row(grad) * inverse);
        let correction = Correction { mean, centred: centred.collect() };
        (correction, gamma_grad)
    }

    #[inline(always)]
    fn correct_rows(&self, correction: &Correction, hidden: &[f32], grad: &mut [f32]) {
        let width = self.width;
        let mean = &self.mean[..width];
        let scale = &self.scale[..width];
        let grad_mean = &correction.mean[..width];
        let centred = &correction.centred[..width];
        for (hidden, grad) in hidden.chunks_exact(width).zip(grad.chunks_exact_mut(width)) {
            for h in 0..width {
                grad[h] = scale[h] * (grad[h] - grad_mean[h] - (hidden[h] - mean[h]) * centred[h]);
            }
        }
    }
}

/// Writes every element of `out`; `first` is the number of the first element in the layer.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+bmi2+fma", "x86_64+avx2+bmi2+fma"))]
pub(super) fn forward(block: &Block, hidden: &[f32], first: usize, out: &mut [MaybeUninit<f32>]) {
    block.forward_rows(hidden, first, out);
}

/// Turns the gradient of the output into that before the activation, in place, and sums it.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+bmi2+fma", "x86_64+avx2+bmi2+fma"))]
pub(super) fn backward(block: &Block, hidden: &[f32], first: usize, grad: &mut [f32]) -> BlockSums {
    block.backward_rows(hidden, first, grad)
}

/// Turns the gradient before the activation into that of the matmul, in place, through the statistics too.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+bmi2+fma", "x86_64+avx2+bmi2+fma"))]
pub(super) fn correct(block: &Block, correction: &Correction, hidden: &[f32], grad: &mut [f32]) {
    block.correct_rows(correction, hidden, grad);
}

impl BlockSums {
    /// The sums of all chunks, added in order.
    pub(super) fn join(chunks: Vec<Self>) -> Self {
        let add = |to: &mut [f32], from: &[f32]| to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        let joined = chunks.into_iter().reduce(|mut all, chunk| {
            add(&mut all.grad, &chunk.grad);
            add(&mut all.centred, &chunk.centred);
            add(&mut all.slope, &chunk.slope);
            all
        });
        joined.unwrap_or(Self { grad: Vec::new(), centred: Vec::new(), slope: Vec::new() })
    }
}
