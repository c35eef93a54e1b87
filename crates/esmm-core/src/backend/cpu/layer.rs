//! A layer of all towers in training, forward.

use std::mem::MaybeUninit;

use super::block::{self, Block};
use super::matmul::{Matrix, matmul};
use super::moments::{self, ChunkMoments};
use super::shared::{Addends, add_to_rows};
use super::tasks;
use super::work::{Piece, pieces, task_rows, written};
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

    /// `x * W + b`, and its moments by tower and task, taken while the rows are in the cache.
    fn matmuls(&self) -> (Vec<f32>, Vec<ChunkMoments>) {
        let fill = |out: &mut [MaybeUninit<f32>]| {
            let tasks = pieces(out, self.towers, self.outputs, self.task_rows());
            let chunks = tasks::map("matmul", tasks, |piece| self.matmul_piece(piece));
            chunks.into_iter().flatten().collect()
        };
        // SAFETY: the pieces are all of `out`, and `matmul_piece` writes all of each.
        unsafe { written(self.towers * self.rows * self.outputs, fill) }
    }

    /// Writes every element of the piece. No moments without batch norm.
    fn matmul_piece(&self, piece: Piece<'_, MaybeUninit<f32>>) -> Option<ChunkMoments> {
        let Piece { tower, rows, values: out } = piece;
        matmul(self.tower_input(tower).rows(rows.clone()), self.tower_weight(tower), out);
        // SAFETY: `matmul` wrote every element.
        let out = unsafe { out.assume_init_mut() };
        let bias = &self.weights.bias[tower * self.outputs..][..self.outputs];
        add_to_rows(out, bias, &self.addends.of(tower, self.towers, rows));
        self.weights.norm.is_some().then(|| moments::of_columns(out, self.outputs))
    }

    /// `chunks` are those of one tower after the other.
    fn join(&self, chunks: &[ChunkMoments]) -> Moments<Vec<f32>> {
        let mut mean = vec![0.0; self.towers * self.outputs];
        let mut variance = mean.clone();
        let towers = mean.chunks_exact_mut(self.outputs).zip(variance.chunks_exact_mut(self.outputs));
        for (chunks, (mean, variance)) in chunks.chunks(chunks.len() / self.towers).zip(towers) {
            moments::join(chunks, mean, variance);
        }
        Moments { mean, variance }
    }

    fn blocks_forward(&self, hidden: &[f32], moments: Option<Moments<&[f32]>>) -> Vec<f32> {
        let blocks: Vec<_> = (0..self.towers).map(|tower| self.block(tower, moments)).collect();
        let fill = |out: &mut [MaybeUninit<f32>]| {
            let tasks = pieces(out, self.towers, self.outputs, self.task_rows());
            tasks::each("norm and activation", tasks, |Piece { tower, rows, values }| {
                let first = self.first(tower, rows.start);
                block::forward(&blocks[tower], &hidden[first..][..values.len()], first, values);
            });
        };
        // SAFETY: the pieces are all of `out`, and `block::forward` writes all of each.
        unsafe { written(hidden.len(), fill) }.0
    }

    /// Rows of a task of one tower.
    pub(super) fn task_rows(&self) -> usize {
        task_rows(self.towers, self.rows)
    }

    pub(super) fn block(&self, tower: usize, moments: Option<Moments<&[f32]>>) -> Block {
        Block::new(self.spec, tower, self.outputs, moments, &self.weights)
    }

    /// Place in `[K, B, O]` of the first element of a row.
    pub(super) fn first(&self, tower: usize, row: usize) -> usize {
        (tower * self.rows + row) * self.outputs
    }

    /// All rows of a tower's input.
    pub(super) fn tower_input(&self, tower: usize) -> Matrix<'a> {
        let group = if self.groups == 1 { 0 } else { tower };
        let len = self.rows * self.inputs;
        Matrix::new(&self.input[group * len..][..len], self.rows, self.inputs)
    }

    pub(super) fn tower_weight(&self, tower: usize) -> Matrix<'a> {
        let len = self.inputs * self.outputs;
        Matrix::new(&self.weights.weight[tower * len..][..len], self.inputs, self.outputs)
    }
}
