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
        Self { batch_norm, curve: Curve::new(spec.activation), dropout: spec.dropout.is_some() }
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

/// `(standard, x)`: the matmul in units of its standard deviation, and after scale and shift; both the matmul itself
/// without batch norm. `moments` holds mean, 1 / standard deviation, scale and shift, `[4, K, O]`; `column` is the place
/// in `[K, O]`, `columns` their number.
#[cube]
pub(super) fn normalize<N: Size>(
    hidden: Vector<f32, N>,
    moments: &Array<Vector<f32, N>>,
    column: usize,
    columns: usize,
    #[comptime] batch_norm: bool,
) -> (Vector<f32, N>, Vector<f32, N>) {
    if comptime!(batch_norm) {
        let standard = (hidden - moments[column]) * moments[columns + column];
        (standard, standard * moments[2 * columns + column] + moments[3 * columns + column])
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
