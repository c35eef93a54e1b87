//! What is done to the results of a matmul before they are written.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::block::Curve;
use super::tile::QUAD;
use crate::tower::Activation;

/// What is done to a result before it is written: `activation(result * scale + shift)`.
pub(super) struct Epilogue<R: CubeRuntime> {
    /// `[batches, columns]`.
    pub(super) scale: Option<CubeTensor<R>>,
    /// `[batches, columns]`: a bias, or what stands for one and a batch norm.
    pub(super) shift: Option<CubeTensor<R>>,
    pub(super) activation: Activation,
    /// Slope of a PReLU of each batch, `[batches]`.
    pub(super) slope: Option<CubeTensor<R>>,
    /// Whether the moments of the results over the rows are wanted as well.
    pub(super) with_moments: bool,
}

/// What of an [`Epilogue`] is compiled into a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Steps {
    pub(super) scale: bool,
    pub(super) shift: bool,
    pub(super) curve: Curve,
    pub(super) moments: bool,
}

impl Steps {
    /// The results as they are.
    pub(super) const NONE: Self = Self { scale: false, shift: false, curve: Curve::Identity, moments: false };
}

impl<R: CubeRuntime> Epilogue<R> {
    /// The results as they are.
    pub(super) fn nothing() -> Self {
        Self { scale: None, shift: None, activation: Activation::None, slope: None, with_moments: false }
    }

    /// A bias `[batches, columns]`.
    pub(super) fn bias(bias: CubeTensor<R>) -> Self {
        Self { shift: Some(bias), ..Self::nothing() }
    }

    pub(super) fn steps(&self) -> Steps {
        Steps {
            scale: self.scale.is_some(),
            shift: self.shift.is_some(),
            curve: Curve::new(self.activation),
            moments: self.with_moments,
        }
    }
}

/// Four columns of `[batches, columns]`, 0 beyond the last.
#[cube]
pub(super) fn of_columns(
    values: &Array<f32>,
    first: usize,
    column: usize,
    columns: usize,
) -> Vector<f32, Const<4>> {
    let mut found = Vector::<f32, Const<4>>::new(0.0f32);
    #[unroll]
    for lane in 0..QUAD {
        if column + lane < columns {
            found[lane] = values[first + column + lane];
        }
    }
    found
}
