//! A layer of all towers in training, forward.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::block::{self, Block};
use super::matmul::{Matrix, matmul};
use super::moments::{self, ChunkMoments};
use super::shared::{Addends, add_to_rows};
use super::work::{chunk_rows, pieces, written};
use crate::backend::{LayerSpec, LayerWeights, Moments};

/// A layer: see [`Layer`](crate::backend::Layer).
#[derive(Debug, Clone, Copy)]
pub(super) struct HostLayer<'a> {
    pub(super) spec: LayerSpec,
    /// Towers, K.
    pub(super) towers: usize,
    /// Towers that have an input of their own: 1 when all share one, else K.
    pub(super) groups: usize,
    /// Rows of the batch, B.
    pub(super) rows: usize,
    /// Width of the input, I.
    pub(super) inputs: usize,
    /// Width of the output, O.
    pub(super) outputs: usize,
    pub(super) input: &'a [f32],
    pub(super) weights: LayerWeights<&'a [f32]>,
    /// What rows add to their matmul.
    pub(super) addends: Addends<'a>,
}

/// What forward returns.
pub(super) struct LayerResult {
    pub(super) hidden: Vec<f32>,
    pub(super) moments: Option<Moments<Vec<f32>>>,
    /// `None` when it is `hidden`.
    pub(super) output: Option<Vec<f32>>,
}

impl<'a> HostLayer<'a> {
    pub(super) fn forward(&self) -> LayerResult {
        let (hidden, chunks) = self.matmuls();
        let moments = self.weights.norm.is_some().then(|| self.join(&chunks));
        let is_linear = self.spec.is_linear(&self.weights);
        let slices = moments.as_ref().map(|moments| moments.as_ref().map(Vec::as_slice));
        let output = (!is_linear).then(|| self.blocks_forward(&hidden, slices));
        LayerResult { hidden, moments, output }
    }

    /// `x * W + b`, and its moments by tower and chunk, taken while the chunk is in the cache.
    fn matmuls(&self) -> (Vec<f32>, Vec<Vec<ChunkMoments>>) {
        let fill = |out: &mut [MaybeUninit<f32>]| {
            let tasks = pieces(out, self.towers, self.outputs).into_par_iter().enumerate();
            let chunks = tasks.map(|(tower, chunks)| {
                let chunks = chunks.into_par_iter().enumerate();
                let chunks = chunks.map(|(chunk, out)| self.matmul_chunk(tower, chunk, out));
                chunks.collect::<Vec<_>>().into_iter().flatten().collect()
            });
            chunks.collect()
        };
        // SAFETY: the pieces are all of `out`, and `matmul_chunk` writes all of each.
        unsafe { written(self.towers * self.rows * self.outputs, fill) }
    }

    /// Writes every element of `out`. No moments without batch norm.
    fn matmul_chunk(&self, tower: usize, chunk: usize, out: &mut [MaybeUninit<f32>]) -> Option<ChunkMoments> {
        matmul(self.input_chunk(tower, chunk), self.tower_weight(tower), out);
        // SAFETY: `matmul` wrote every element.
        let out = unsafe { out.assume_init_mut() };
        let bias = &self.weights.bias[tower * self.outputs..][..self.outputs];
        let rows = chunk_rows(chunk, self.rows);
        add_to_rows(out, bias, &self.addends.of(tower, self.towers, rows));
        self.weights.norm.is_some().then(|| moments::of_columns(out, self.outputs))
    }

    fn join(&self, chunks: &[Vec<ChunkMoments>]) -> Moments<Vec<f32>> {
        let mut mean = vec![0.0; self.towers * self.outputs];
        let mut variance = mean.clone();
        let towers = mean.chunks_exact_mut(self.outputs).zip(variance.chunks_exact_mut(self.outputs));
        for (chunks, (mean, variance)) in chunks.iter().zip(towers) {
            ChunkMoments::join(chunks, mean, variance);
        }
        Moments { mean, variance }
    }

    fn blocks_forward(&self, hidden: &[f32], moments: Option<Moments<&[f32]>>) -> Vec<f32> {
        let fill = |out: &mut [MaybeUninit<f32>]| {
            let tasks = pieces(out, self.towers, self.outputs).into_par_iter().enumerate();
            tasks.for_each(|(tower, chunks)| {
                let block = self.block(tower, moments);
                chunks.into_par_iter().enumerate().for_each(|(chunk, out)| {
                    let first = self.first(tower, chunk);
                    block::forward(&block, &hidden[first..][..out.len()], first, out);
                });
            });
        };
        // SAFETY: the pieces are all of `out`, and `Block::forward` writes all of each.
        unsafe { written(hidden.len(), fill) }.0
    }

    pub(super) fn block(&self, tower: usize, moments: Option<Moments<&[f32]>>) -> Block {
        Block::new(self.spec, tower, self.outputs, moments, &self.weights)
    }

    /// Place in `[K, B, O]` of the first element of a chunk.
    pub(super) fn first(&self, tower: usize, chunk: usize) -> usize {
        (tower * self.rows + chunk_rows(chunk, self.rows).start) * self.outputs
    }

    /// All rows of a tower's input.
    pub(super) fn tower_input(&self, tower: usize) -> Matrix<'a> {
        let group = if self.groups == 1 { 0 } else { tower };
        let len = self.rows * self.inputs;
        Matrix::new(&self.input[group * len..][..len], self.rows, self.inputs)
    }

    fn input_chunk(&self, tower: usize, chunk: usize) -> Matrix<'a> {
        let group = if self.groups == 1 { 0 } else { tower };
        let rows = chunk_rows(chunk, self.rows);
        let start = (group * self.rows + rows.start) * self.inputs;
        Matrix::new(&self.input[start..][..rows.len() * self.inputs], rows.len(), self.inputs)
    }

    pub(super) fn tower_weight(&self, tower: usize) -> Matrix<'a> {
        let len = self.inputs * self.outputs;
        Matrix::new(&self.weights.weight[tower * len..][..len], self.inputs, self.outputs)
    }
}
