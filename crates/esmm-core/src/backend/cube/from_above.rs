//! The gradient of what a layer returned: whole, or as the layer of the logits leaves it, which never stores it.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::hidden_grad::hidden_grad;
use super::layer::Columns;
use super::logits::LogitsGrad;
use super::saved::Saved;
use super::sums::chunk_sums;
use super::tensor::Rows;
use crate::backend::{LayerSaved, LayerSpec};

/// The gradient of what a layer returned, from the layer above it.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and none is kept")]
pub(super) enum FromAbove<R: CubeRuntime> {
    /// `[K, B, O]`.
    Whole(CubeTensor<R>),
    /// That of the logits: the passes over the rows of the layer below compute the gradient from it where they need it. The
    /// first of them has to be made, for the gradients of the logits' weights are summed in it.
    Logits(LogitsGrad<R>),
}

impl<R: CubeRuntime> From<CubeTensor<R>> for FromAbove<R> {
    fn from(grad: CubeTensor<R>) -> Self {
        Self::Whole(grad)
    }
}

impl<R: CubeRuntime> From<FromAbove<R>> for CubeTensor<R> {
    /// The whole gradient. Where it is that of the logits, both passes are made over their input, as over a layer that does
    /// nothing.
    fn from(grad: FromAbove<R>) -> Self {
        match grad {
            FromAbove::Whole(grad) => grad,
            FromAbove::Logits(logits) => {
                let input = LayerSaved { hidden: logits.input.clone(), moments: None };
                let nothing = Columns { bias: logits.weight.clone(), norm: None, slope: None };
                let saved = Saved::new(FromAbove::Logits(logits), input, nothing, LayerSpec::LINEAR);
                let (grad, _) = hidden_grad(&saved, &chunk_sums(&saved), false);
                grad.tensor
            }
        }
    }
}

/// What of a [`FromAbove`] a kernel is launched with. Anything stands for what it does not have.
pub(super) struct AboveArguments<R: CubeRuntime> {
    /// `[K, B, O]`.
    pub(super) whole: CubeTensor<R>,
    /// `[K, B, 1]`.
    pub(super) logits: CubeTensor<R>,
    /// `[K, O]`, of the layer of the logits.
    pub(super) weight: CubeTensor<R>,
    /// From one tower to the next, and from one row: in vectors of the whole gradient, or in values of that of the logits.
    pub(super) tower_distance: usize,
    pub(super) row_distance: usize,
}

impl<R: CubeRuntime> FromAbove<R> {
    /// The same at distances that kernels can read.
    pub(super) fn in_rows(self) -> Self {
        match self {
            Self::Whole(grad) => Self::Whole(Rows::new(grad).tensor),
            Self::Logits(logits) => Self::Logits(logits),
        }
    }

    /// Values from one row of a whole gradient to the next.
    pub(super) fn stride(&self) -> Option<usize> {
        match self {
            Self::Whole(grad) => Some(Rows::new(grad.clone()).stride),
            Self::Logits(_) => None,
        }
    }

    pub(super) fn arguments(&self, rows: usize, vector: usize) -> AboveArguments<R> {
        match self {
            Self::Whole(grad) => {
                let row_distance = Rows::new(grad.clone()).stride / vector;
                AboveArguments {
                    whole: grad.clone(),
                    logits: grad.clone(),
                    weight: grad.clone(),
                    tower_distance: rows * row_distance,
                    row_distance,
                }
            }
            Self::Logits(logits) => {
                let strides = logits.grad.meta.strides();
                AboveArguments {
                    whole: logits.weight.clone(),
                    logits: logits.grad.clone(),
                    weight: logits.weight.clone(),
                    tower_distance: strides[0],
                    row_distance: strides[1],
                }
            }
        }
    }
}

/// Where a unit finds the gradient of its column, in vectors or values as in [`AboveArguments`].
#[derive(CubeType, Clone, Copy)]
pub(super) struct AboveAt<N: Size> {
    /// Of the layer of the logits.
    weight: Vector<f32, N>,
    /// Of the first row of the tower.
    first: usize,
    row_distance: usize,
}

/// Where a unit finds it; `first_of_tower` is the place of the tower's first row.
#[cube]
pub(super) fn above_at<N: Size>(
    weight: &Array<Vector<f32, N>>,
    tower_column: usize,
    column: usize,
    first_of_tower: usize,
    row_distance: usize,
    #[comptime] from_logits: bool,
) -> AboveAt<N> {
    let mut factor = Vector::<f32, N>::new(0.0f32);
    let mut first = first_of_tower;
    if comptime!(from_logits) {
        factor = weight[tower_column];
    } else {
        first += column;
    }
    AboveAt::<N> { weight: factor, first, row_distance }
}

/// The gradient of a row of the tower in the unit's column.
#[cube]
pub(super) fn grad_above<N: Size>(
    whole: &Array<Vector<f32, N>>,
    logits: &Array<f32>,
    at: &AboveAt<N>,
    row: usize,
    #[comptime] from_logits: bool,
) -> Vector<f32, N> {
    if comptime!(from_logits) {
        at.weight * Vector::new(logit_grad::<N>(logits, at, row))
    } else {
        whole[at.first + row * at.row_distance]
    }
}

/// The gradient of the logit of a row of the tower.
#[cube]
pub(super) fn logit_grad<N: Size>(logits: &Array<f32>, at: &AboveAt<N>, row: usize) -> f32 {
    logits[at.first + row * at.row_distance]
}
