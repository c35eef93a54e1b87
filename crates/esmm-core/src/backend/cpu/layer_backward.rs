//! A layer of all towers in training, backward.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::block::{self, Block, BlockSums, Correction};
use super::layer::HostLayer;
use super::matmul::{Matrix, add_matmul, matmul};
use super::work::{chunk_rows, pieces, written};
use crate::backend::{Layer, LayerSaved, LayerWeights, Norm};
use crate::tower::Activation;

/// Rows of a weight's gradient in one task.
const WEIGHT_ROWS: usize = 128;

/// A tower in its backward pass.
struct Tower {
    block: Block,
    correction: Correction,
    gamma_grad: Vec<f32>,
    sums: BlockSums,
}

impl HostLayer<'_> {
    /// The gradients; `grad` is overwritten.
    pub(super) fn backward(&self, saved: &LayerSaved<&[f32]>, grad: &mut [f32]) -> Layer<Vec<f32>> {
        self.backward_to(self.inputs, saved, grad)
    }

    /// The gradients, of the input those of its first `columns` columns only; `grad` becomes that of the matmul.
    pub(super) fn backward_to(
        &self,
        columns: usize,
        saved: &LayerSaved<&[f32]>,
        grad: &mut [f32],
    ) -> Layer<Vec<f32>> {
        let towers = self.blocks_backward(saved, grad);
        let input = self.input_grad(columns, saved, &towers, grad);
        let weight = self.weight_grad(grad);
        let all = |part: fn(&Tower) -> &[f32]| towers.iter().flat_map(part).copied().collect::<Vec<f32>>();
        let sums = all(|tower| &tower.sums.grad);
        // A batch norm takes any bias out again: its gradient is 0, of which sums would leave rounding errors.
        let (bias, norm) = if self.weights.norm.is_some() {
            let gamma = all(|tower| &tower.gamma_grad);
            (vec![0.0; sums.len()], Some(Norm { gamma, beta: sums }))
        } else {
            (sums, None)
        };
        let slope = match self.spec.activation {
            Activation::Prelu => Some(towers.iter().map(|tower| tower.sums.slope.iter().sum()).collect()),
            Activation::None | Activation::Relu | Activation::LeakyRelu { .. } => None,
        };
        Layer { input, weights: LayerWeights { weight, bias, norm, slope } }
    }

    /// Takes the gradient back through dropout and activation, and sums what the batch norm needs.
    fn blocks_backward(&self, saved: &LayerSaved<&[f32]>, grad: &mut [f32]) -> Vec<Tower> {
        let tasks = pieces(grad, self.towers, self.outputs).into_par_iter().enumerate();
        let towers = tasks.map(|(tower, chunks)| {
            let block = self.block(tower, saved.moments);
            let chunks = chunks.into_par_iter().enumerate().map(|(chunk, grad)| {
                let first = self.first(tower, chunk);
                block::backward(&block, &saved.hidden[first..][..grad.len()], first, grad)
            });
            let sums = BlockSums::join(chunks.collect());
            let (correction, gamma_grad) = block.correction(&sums, self.rows);
            Tower { block, correction, gamma_grad, sums }
        });
        towers.collect()
    }

    /// Finishes the gradient of the matmul, chunk by chunk, and takes it through the weights of the first `columns` columns
    /// of the input at once.
    fn input_grad(
        &self,
        columns: usize,
        saved: &LayerSaved<&[f32]>,
        towers: &[Tower],
        grad: &mut [f32],
    ) -> Vec<f32> {
        if columns == 0 {
            let tasks = pieces(grad, self.towers, self.outputs).into_par_iter().enumerate();
            tasks.for_each(|(tower, chunks)| {
                chunks.into_par_iter().enumerate().for_each(|(chunk, grad)| {
                    self.finish_chunk(saved, &towers[tower], tower, chunk, grad);
                });
            });
            return Vec::new();
        }
        let fill = |out: &mut [MaybeUninit<f32>]| {
            let members = self.towers / self.groups;
            let mut grads = pieces(grad, self.towers, self.outputs).into_iter();
            let mut tasks = Vec::new();
            for (group, chunks) in pieces(out, self.groups, columns).into_iter().enumerate() {
                let mut chunks_of: Vec<_> = grads.by_ref().take(members).map(Vec::into_iter).collect();
                for (chunk, out) in chunks.into_iter().enumerate() {
                    let grads: Vec<_> = chunks_of.iter_mut().filter_map(Iterator::next).collect();
                    tasks.push((group * members, chunk, grads, out));
                }
            }
            tasks.into_par_iter().for_each(|(first_tower, chunk, grads, out)| {
                for (member, grad) in grads.into_iter().enumerate() {
                    let tower = first_tower + member;
                    self.finish_chunk(saved, &towers[tower], tower, chunk, grad);
                    let grad = Matrix::new(grad, chunk_rows(chunk, self.rows).len(), self.outputs);
                    let weight = self.tower_weight(tower).rows(0..columns).transposed();
                    if member == 0 {
                        matmul(grad, weight, out);
                    } else {
                        // SAFETY: the matmul of the first member wrote every element.
                        add_matmul(grad, weight, unsafe { out.assume_init_mut() });
                    }
                }
            });
        };
        // SAFETY: the pieces are all of `out`, and the matmul of the first tower of each writes all of it.
        unsafe { written(self.groups * self.rows * columns, fill) }.0
    }

    fn finish_chunk(
        &self,
        saved: &LayerSaved<&[f32]>,
        tower: &Tower,
        index: usize,
        chunk: usize,
        grad: &mut [f32],
    ) {
        if self.weights.norm.is_some() {
            let hidden = &saved.hidden[self.first(index, chunk)..][..grad.len()];
            block::correct(&tower.block, &tower.correction, hidden, grad);
        }
    }

    fn weight_grad(&self, grad: &[f32]) -> Vec<f32> {
        let len = self.inputs * self.outputs;
        let fill = |out: &mut [MaybeUninit<f32>]| {
            out.par_chunks_mut(len.max(1)).enumerate().for_each(|(tower, out)| {
                let grads = self.rows * self.outputs;
                let grad = Matrix::new(&grad[tower * grads..][..grads], self.rows, self.outputs);
                let parts = out.par_chunks_mut(WEIGHT_ROWS * self.outputs).enumerate();
                parts.for_each(|(part, out)| {
                    let start = part * WEIGHT_ROWS;
                    let columns = start..self.inputs.min(start + WEIGHT_ROWS);
                    matmul(self.tower_input(tower).columns(columns).transposed(), grad, out);
                });
            });
        };
        // SAFETY: the parts are all of `out`, and `matmul` writes all of each.
        unsafe { written(self.towers * len, fill) }.0
    }
}
