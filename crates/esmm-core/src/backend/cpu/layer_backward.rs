//! A layer of all towers in training, backward.

use std::mem::MaybeUninit;

use super::block::{self, Block, BlockSums, Correction};
use super::layer::HostLayer;
use super::matmul::{Matrix, add_matmul, matmul, tile_matmul, tiles};
use super::tasks;
use super::work::{Piece, pieces, task_rows, written};
use crate::backend::{Layer, LayerSaved, LayerWeights, Norm};
use crate::tower::Activation;

/// Tiles that the weight gradients of a layer are cut into where they are large enough: two for each of 16 cores, for those
/// at the edges are smaller.
const TILES: usize = 32;
/// Rows of transposed weights in one task: a cache line of the weights.
const TRANSPOSED_ROWS: usize = 16;

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
        let blocks: Vec<_> = (0..self.towers).map(|tower| self.block(tower, saved.moments)).collect();
        let tasks = pieces(grad, self.towers, self.outputs, self.task_rows());
        let of_tower = tasks.len() / self.towers;
        let sums = tasks::map("activation backward", tasks, |Piece { tower, rows, values }| {
            let first = self.first(tower, rows.start);
            block::backward(&blocks[tower], &saved.hidden[first..][..values.len()], first, values)
        });
        let mut sums = sums.into_iter();
        let towers = blocks.into_iter().map(|block| {
            let sums = BlockSums::join(sums.by_ref().take(of_tower).collect());
            let (correction, gamma_grad) = block.correction(&sums, self.rows);
            Tower { block, correction, gamma_grad, sums }
        });
        towers.collect()
    }

    /// Finishes the gradient of the matmul, piece by piece, and takes it through the weights of the first `columns` columns
    /// of the input at once.
    fn input_grad(
        &self,
        columns: usize,
        saved: &LayerSaved<&[f32]>,
        towers: &[Tower],
        grad: &mut [f32],
    ) -> Vec<f32> {
        if columns == 0 {
            let tasks = pieces(grad, self.towers, self.outputs, self.task_rows());
            tasks::each("norm backward", tasks, |mut piece| self.finish(saved, towers, &mut piece));
            return Vec::new();
        }
        let weights = self.transposed_weights(columns);
        let fill = |out: &mut [MaybeUninit<f32>]| {
            // Towers of one input run one after the other, for their gradients are summed.
            let task = task_rows(self.groups, self.rows);
            let members = self.towers / self.groups;
            let mut grads = pieces(grad, self.towers, self.outputs, task).into_iter();
            let mut outs = pieces(out, self.groups, columns, task).into_iter();
            let chunks = outs.len() / self.groups;
            let mut tasks = Vec::with_capacity(outs.len());
            for _ in 0..self.groups {
                let first = tasks.len();
                tasks.extend(outs.by_ref().take(chunks).map(|out| (out.values, Vec::with_capacity(members))));
                for _ in 0..members {
                    for ((_, of_task), grad) in tasks[first..].iter_mut().zip(grads.by_ref()) {
                        of_task.push(grad);
                    }
                }
            }
            tasks::each("input gradient", tasks, |(out, grads)| {
                for (member, mut piece) in grads.into_iter().enumerate() {
                    self.finish(saved, towers, &mut piece);
                    let grad = Matrix::new(piece.values, piece.rows.len(), self.outputs);
                    let weight = Matrix::new(
                        &weights[piece.tower * self.outputs * columns..][..self.outputs * columns],
                        self.outputs,
                        columns,
                    );
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

    fn finish(&self, saved: &LayerSaved<&[f32]>, towers: &[Tower], piece: &mut Piece<'_, f32>) {
        if self.weights.norm.is_some() {
            let tower = &towers[piece.tower];
            let hidden = &saved.hidden[self.first(piece.tower, piece.rows.start)..][..piece.values.len()];
            block::correct(&tower.block, &tower.correction, hidden, piece.values);
        }
    }

    /// The weights of the first `columns` columns of the input, `[K, O, columns]`: `gemm` need not turn them in each task.
    fn transposed_weights(&self, columns: usize) -> Vec<f32> {
        let fill = |out: &mut [MaybeUninit<f32>]| {
            let tasks = pieces(out, self.towers, columns, TRANSPOSED_ROWS);
            tasks::each("transposed weights", tasks, |Piece { tower, rows, values }| {
                let weight = &self.weights.weight[tower * self.inputs * self.outputs..];
                for (column, weight) in weight.chunks_exact(self.outputs).take(columns).enumerate() {
                    for (out, value) in
                        values[column..].iter_mut().step_by(columns).zip(&weight[rows.clone()])
                    {
                        out.write(*value);
                    }
                }
            });
        };
        // SAFETY: the pieces are all of `out`, and each is written column by column.
        unsafe { written(self.towers * self.outputs * columns, fill) }.0
    }

    fn weight_grad(&self, grad: &[f32]) -> Vec<f32> {
        let fill = |out: &mut [MaybeUninit<f32>]| {
            let tiles = tiles(out, self.towers, self.inputs, self.outputs, TILES);
            tasks::each("weight gradient", tiles, |tile| {
                let grads = self.rows * self.outputs;
                let grad = Matrix::new(&grad[tile.matrix() * grads..][..grads], self.rows, self.outputs);
                let input = self.tower_input(tile.matrix()).columns(tile.rows());
                tile_matmul(input.transposed(), grad.columns(tile.columns()), tile);
            });
        };
        // SAFETY: the tiles are all of `out`, and `tile_matmul` writes all of each.
        unsafe { written(self.towers * self.inputs * self.outputs, fill) }.0
    }
}
