//! Batch norm, activation and dropout, forward and backward.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorData};

use super::{float, primitive};
use crate::backend::random::Dropout;
use crate::backend::{Blend, LayerSpec, LayerWeights, Moments, Norm};
use crate::tower::Activation;

/// What follows a matmul, with its input.
#[derive(Debug, Clone)]
pub(super) struct Block<B: Backend> {
    /// The matmul with its bias, `[K, B, O]`.
    hidden: Tensor<B, 3>,
    norm: Option<BatchNorm<B>>,
    /// Slope of a PReLU, `[K]`.
    slope: Option<Tensor<B, 1>>,
}

/// A batch norm and the moments that it normalizes with.
#[derive(Debug, Clone)]
struct BatchNorm<B: Backend> {
    learned: Norm<Tensor<B, 2>>,
    moments: Moments<Tensor<B, 2>>,
}

/// Gradients with respect to a [`Block`].
pub(super) struct BlockGrads<B: Backend> {
    pub(super) hidden: Tensor<B, 3>,
    pub(super) norm: Option<Norm<Tensor<B, 2>>>,
    pub(super) slope: Option<Tensor<B, 1>>,
}

impl<B: Backend> Block<B> {
    pub(super) fn new(
        hidden: Tensor<B, 3>,
        moments: Option<Moments<Tensor<B, 2>>>,
        weights: &LayerWeights<FloatTensor<B>>,
    ) -> Self {
        let learned = weights.norm.clone().map(|norm| norm.map(float));
        let norm = learned.zip(moments).map(|(learned, moments)| BatchNorm { learned, moments });
        Self { hidden, norm, slope: weights.slope.clone().map(float) }
    }
}

/// Mean and biased variance over the batch.
pub(super) fn moments<B: Backend>(hidden: &Tensor<B, 3>) -> Moments<Tensor<B, 2>> {
    let mean = hidden.clone().mean_dim(1);
    let variance = (hidden.clone() - mean.clone()).powi_scalar(2).mean_dim(1);
    Moments { mean: mean.squeeze_dim(1), variance: variance.squeeze_dim(1) }
}

/// Batch norm, activation, dropout.
pub(super) fn block<B: Backend>(block: Block<B>, spec: LayerSpec) -> Tensor<B, 3> {
    let (_, normalized) = normalize(&block, spec);
    let activated = activate(normalized, block.slope, spec.activation);
    match spec.dropout {
        Some(dropout) => activated.clone() * dropout_factors(&activated, dropout),
        None => activated,
    }
}

/// Gradients of [`block()`], through the moments too.
pub(super) fn block_backward<B: Backend>(
    block: Block<B>,
    grad: Tensor<B, 3>,
    spec: LayerSpec,
) -> BlockGrads<B> {
    let (centred, normalized) = normalize(&block, spec);
    let grad = match spec.dropout {
        Some(dropout) => grad.clone() * dropout_factors(&grad, dropout),
        None => grad,
    };
    let (grad, slope) = activate_backward(normalized, block.slope, grad, spec.activation);
    let Some(BatchNorm { learned: Norm { gamma, .. }, moments: Moments { variance, .. } }) = block.norm
    else {
        return BlockGrads { hidden: grad, norm: None, slope };
    };
    // Divisions: `recip` of burn-ndarray 0.21 is an estimate of 12 to 14 bits where it uses SIMD.
    let std = (variance + spec.epsilon).sqrt().unsqueeze_dim::<3>(1);
    let standard = centred / std.clone();
    let beta_grad = grad.clone().sum_dim(1);
    let gamma_grad = (grad.clone() * standard.clone()).sum_dim(1);
    let rows = block.hidden.dims()[1] as f64;
    let centred_grad = grad - beta_grad.clone() / rows - standard * (gamma_grad.clone() / rows);
    BlockGrads {
        hidden: centred_grad * (gamma.unsqueeze_dim::<3>(1) / std),
        norm: Some(Norm { gamma: gamma_grad.squeeze_dim(1), beta: beta_grad.squeeze_dim(1) }),
        slope,
    }
}

/// The activation function, `slope [K]` for PReLU. By comparisons: `clamp` of some backends takes NaN for the bound, and
/// a training that has diverged would look healthy.
///
/// # Shapes
/// `[K, B, H]` to the same.
///
/// # Panics
/// A PReLU without a slope.
pub(super) fn activate<B: Backend>(
    x: Tensor<B, 3>,
    slope: Option<Tensor<B, 1>>,
    activation: Activation,
) -> Tensor<B, 3> {
    let negative = x.clone().lower_equal_elem(0.0);
    match activation {
        Activation::None => x,
        Activation::Relu => x.mask_fill(negative, 0.0),
        Activation::LeakyRelu { negative_slope } => x.clone().mask_where(negative, x * negative_slope),
        Activation::Prelu => x.clone().mask_where(negative, x * per_tower(slope)),
    }
}

pub(super) fn fold_norm<B: Backend>(
    bias: FloatTensor<B>,
    norm: Norm<FloatTensor<B>>,
    running: Moments<FloatTensor<B>>,
    epsilon: f64,
) -> [FloatTensor<B>; 2] {
    let scale = float::<B, 2>(norm.gamma) / (float::<B, 2>(running.variance) + epsilon).sqrt();
    let shift =
        (float::<B, 2>(bias) - float::<B, 2>(running.mean)) * scale.clone() + float::<B, 2>(norm.beta);
    [primitive(scale), primitive(shift)]
}

pub(super) fn blend<B: Backend>(blend: Blend<FloatTensor<B>>) -> FloatTensor<B> {
    let Blend { old, new, keep, take } = blend;
    primitive(float::<B, 2>(old) * keep + float::<B, 2>(new) * take)
}

fn activate_backward<B: Backend>(
    x: Tensor<B, 3>,
    slope: Option<Tensor<B, 1>>,
    grad: Tensor<B, 3>,
    activation: Activation,
) -> (Tensor<B, 3>, Option<Tensor<B, 1>>) {
    let negative = x.clone().lower_equal_elem(0.0);
    match activation {
        Activation::None => (grad, None),
        Activation::Relu => (grad.mask_fill(negative, 0.0), None),
        Activation::LeakyRelu { negative_slope } => {
            let below = grad.clone() * negative_slope;
            (grad.mask_where(negative, below), None)
        }
        Activation::Prelu => {
            let below_zero = x.clone().mask_fill(x.greater_elem(0.0), 0.0);
            let slope_grad = (grad.clone() * below_zero).sum_dim(2).sum_dim(1).reshape([-1]);
            let below = grad.clone() * per_tower(slope);
            (grad.mask_where(negative, below), Some(slope_grad))
        }
    }
}

/// `(x - mean, gamma * (x - mean) / sqrt(variance + epsilon) + beta)`, or x twice without batch norm.
fn normalize<B: Backend>(block: &Block<B>, spec: LayerSpec) -> (Tensor<B, 3>, Tensor<B, 3>) {
    let hidden = block.hidden.clone();
    let Some(BatchNorm { learned, moments }) = block.norm.clone() else {
        return (hidden.clone(), hidden);
    };
    let Norm { gamma, beta } = learned;
    let Moments { mean, variance } = moments;
    let centred = hidden - mean.unsqueeze_dim(1);
    let scale = gamma / (variance + spec.epsilon).sqrt();
    (centred.clone(), centred * scale.unsqueeze_dim(1) + beta.unsqueeze_dim(1))
}

fn dropout_factors<B: Backend>(like: &Tensor<B, 3>, dropout: Dropout) -> Tensor<B, 3> {
    let shape = like.dims();
    let mask = TensorData::new(dropout.mask(shape.iter().product()), shape);
    Tensor::<B, 3>::from_data(mask, &like.device()).cast(like.dtype())
}

fn per_tower<B: Backend>(slope: Option<Tensor<B, 1>>) -> Tensor<B, 3> {
    match slope {
        Some(slope) => slope.reshape([-1, 1, 1]),
        None => panic!("a PReLU without a slope"),
    }
}
