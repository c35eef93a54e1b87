//! What follows a matmul in a layer, element by element: batch norm, activation, dropout.

use burn_cubecl::cubecl::{self, prelude::*};

use super::dropout::{DropoutBits, factors};
use crate::backend::LayerSpec;
use crate::tower::Activation;

/// What is compiled into a kernel about a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Steps {
    pub(super) batch_norm: bool,
    pub(super) curve: Curve,
    pub(super) dropout: bool,
    /// Backward, whether the gradient is computed from that of the logits: see
    /// [`FromAbove`](super::from_above::FromAbove).
    pub(super) below_logits: bool,
}

/// The form of an activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Curve {
    Identity,
    Relu,
    /// One slope below zero for all towers.
    Leaky,
    /// A slope of each tower.
    Prelu,
}

impl Steps {
    pub(super) fn new(spec: &LayerSpec, batch_norm: bool) -> Self {
        let curve = Curve::new(spec.activation);
        Self { batch_norm, curve, dropout: spec.dropout.is_some(), below_logits: false }
    }
}

impl Curve {
    pub(super) fn new(activation: Activation) -> Self {
        match activation {
            Activation::None => Self::Identity,
            Activation::Relu => Self::Relu,
            Activation::LeakyRelu { .. } => Self::Leaky,
            Activation::Prelu => Self::Prelu,
        }
    }
}

/// The slope of a leaky ReLU.
pub(super) fn leak(activation: Activation) -> f32 {
    match activation {
        Activation::LeakyRelu { negative_slope } => negative_slope as f32,
        Activation::None | Activation::Relu | Activation::Prelu => 0.0,
    }
}

/// The slope below zero of a tower.
#[cube]
pub(super) fn slope_of(slopes: &Array<f32>, tower: usize, leak: f32, #[comptime] curve: Curve) -> f32 {
    if comptime!(curve == Curve::Prelu) { slopes[tower] } else { leak }
}

/// The activation function. By comparisons: `max` of CUDA and WGSL turns NaN into the other operand, and a training that
/// has diverged would look healthy.
#[cube]
pub(super) fn activate<N: Size>(x: Vector<f32, N>, slope: f32, #[comptime] curve: Curve) -> Vector<f32, N> {
    let zero = Vector::<f32, N>::new(0.0f32);
    if comptime!(curve == Curve::Identity) {
        x
    } else if comptime!(curve == Curve::Relu) {
        select_many(x.less_equal(zero), zero, x)
    } else {
        select_many(x.less_equal(zero), x * Vector::new(slope), x)
    }
}

/// `grad` through the activation at `x`.
#[cube]
pub(super) fn activate_backward<N: Size>(
    x: Vector<f32, N>,
    grad: Vector<f32, N>,
    slope: f32,
    #[comptime] curve: Curve,
) -> Vector<f32, N> {
    let zero = Vector::<f32, N>::new(0.0f32);
    if comptime!(curve == Curve::Identity) {
        grad
    } else if comptime!(curve == Curve::Relu) {
        select_many(x.less_equal(zero), zero, grad)
    } else {
        select_many(x.less_equal(zero), grad * Vector::new(slope), grad)
    }
}

/// What batch norm does to a column.
#[derive(CubeType, Clone, Copy)]
pub(super) struct ColumnNorm<N: Size> {
    pub(super) mean: Vector<f32, N>,
    /// 1 / standard deviation.
    pub(super) inverse: Vector<f32, N>,
    pub(super) scale: Vector<f32, N>,
    pub(super) shift: Vector<f32, N>,
}

/// The batch norm of a column, from its moments.
#[cube]
pub(super) fn column_norm<N: Size>(
    mean: Vector<f32, N>,
    variance: Vector<f32, N>,
    scale: Vector<f32, N>,
    shift: Vector<f32, N>,
    epsilon: f32,
) -> ColumnNorm<N> {
    let inverse = Vector::<f32, N>::new(1.0f32) / (variance + Vector::<f32, N>::new(epsilon)).sqrt();
    ColumnNorm::<N> { mean, inverse, scale, shift }
}

/// The same, read from `[K, O]` each; anything without batch norm.
#[cube]
pub(super) fn read_norm<N: Size>(
    means: &Array<Vector<f32, N>>,
    variances: &Array<Vector<f32, N>>,
    gamma: &Array<Vector<f32, N>>,
    beta: &Array<Vector<f32, N>>,
    column: usize,
    epsilon: f32,
    #[comptime] batch_norm: bool,
) -> ColumnNorm<N> {
    let mut mean = Vector::<f32, N>::new(0.0f32);
    let mut variance = Vector::<f32, N>::new(1.0f32);
    let mut scale = Vector::<f32, N>::new(1.0f32);
    let mut shift = Vector::<f32, N>::new(0.0f32);
    if comptime!(batch_norm) {
        mean = means[column];
        variance = variances[column];
        scale = gamma[column];
        shift = beta[column];
    }
    column_norm::<N>(mean, variance, scale, shift, epsilon)
}

/// `(standard, x)`: the matmul in units of its standard deviation, and after scale and shift; both the matmul itself
/// without batch norm.
#[cube]
pub(super) fn normalize<N: Size>(
    hidden: Vector<f32, N>,
    norm: &ColumnNorm<N>,
    #[comptime] batch_norm: bool,
) -> (Vector<f32, N>, Vector<f32, N>) {
    if comptime!(batch_norm) {
        let standard = (hidden - norm.mean) * norm.inverse;
        (standard, standard * norm.scale + norm.shift)
    } else {
        (hidden, hidden)
    }
}

/// Values, or gradients of them, after the dropout; `first` is the number of the first element.
#[cube]
pub(super) fn drop_some<N: Size>(
    values: Vector<f32, N>,
    bits: &DropoutBits,
    first: usize,
    #[comptime] dropout: bool,
) -> Vector<f32, N> {
    if comptime!(dropout) { values * factors::<N>(bits, first) } else { values }
}
