//! What both passes over the rows of a batch backward read: what forward kept, and the gradient from above.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::block::{ColumnNorm, Steps};
use super::from_above::{AboveAt, FromAbove};
use super::layer::Columns;
use super::tensor::{Rows, plain, vector_size};
use crate::backend::{LayerSaved, LayerSpec, Moments, Norm};

/// What both passes of backward read.
pub(super) struct Saved<R: CubeRuntime> {
    pub(super) above: FromAbove<R>,
    pub(super) hidden: Rows<R>,
    /// Batch norm with its moments; anything without one.
    pub(super) norm: Norm<CubeTensor<R>>,
    pub(super) moments: Moments<CubeTensor<R>>,
    pub(super) slope: CubeTensor<R>,
    pub(super) spec: LayerSpec,
    pub(super) steps: Steps,
}

impl<R: CubeRuntime> Saved<R> {
    /// Of a layer that has these columns.
    pub(super) fn new(
        above: FromAbove<R>,
        saved: LayerSaved<CubeTensor<R>>,
        columns: Columns<R>,
        spec: LayerSpec,
    ) -> Self {
        let LayerSaved { hidden, moments } = saved;
        let bias = plain(columns.bias);
        let found = columns.norm.zip(moments);
        let below_logits = matches!(above, FromAbove::Logits(_));
        let steps = Steps { below_logits, ..Steps::new(&spec, found.is_some()) };
        let (norm, moments) = match found {
            Some((norm, moments)) => (norm.map(plain), moments.map(plain)),
            // Something must stand for what a layer does not have.
            None => (
                Norm { gamma: bias.clone(), beta: bias.clone() },
                Moments { mean: bias.clone(), variance: bias.clone() },
            ),
        };
        Self {
            above: above.in_rows(),
            hidden: Rows::new(hidden),
            norm,
            moments,
            slope: columns.slope.map_or(bias, plain),
            spec,
            steps,
        }
    }

    /// Towers, rows, outputs.
    pub(super) fn dims(&self) -> [usize; 3] {
        let shape = self.hidden.tensor.meta.shape();
        [shape[0], shape[1], shape[2]]
    }

    /// Largest vector for what is read, and for a tensor that is written.
    pub(super) fn vector(&self, out_stride: usize) -> usize {
        let grad_stride = self.above.stride().unwrap_or(self.hidden.width);
        vector_size(&[self.hidden.width, self.hidden.stride, grad_stride, out_stride])
    }
}

/// What the rows of a column have in common backward.
#[derive(CubeType, Clone, Copy)]
pub(super) struct BackwardAt<N: Size> {
    pub(super) above: AboveAt<N>,
    pub(super) norm: ColumnNorm<N>,
    pub(super) slope: f32,
    /// The first row of the tower among those of all.
    pub(super) first_row: usize,
    pub(super) column: usize,
    pub(super) columns: usize,
    pub(super) hidden_stride: usize,
}

/// The matmul of a row of the tower.
#[cube]
pub(super) fn hidden_of<N: Size>(
    hidden: &Array<Vector<f32, N>>,
    at: &BackwardAt<N>,
    row: usize,
) -> Vector<f32, N> {
    hidden[(at.first_row + row) * at.hidden_stride + at.column]
}

/// The number of the first element of a row of the tower, for its dropout.
#[cube]
pub(super) fn element_of<N: Size>(at: &BackwardAt<N>, row: usize) -> usize {
    ((at.first_row + row) * at.columns + at.column) * N::value()
}
