//! Batch norm, activation and dropout, forward and backward.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorData};

use super::{float, primitive};
use crate::backend::random::Dropout;
use crate::backend::{LayerSpec, NormInput};
use crate::tower::Activation;

/// The tensors of what follows a product. Unused ones are as in [`LayerInput`](crate::backend::LayerInput).
#[derive(Debug, Clone)]
pub(super) struct Block<B: Backend> {
    /// `[K, B, O]`.
    pub(super) hidden: Tensor<B, 3>,
    /// Scale of the batch norm, `[K, O]`.
    pub(super) gamma: Tensor<B, 2>,
    /// Shift of the batch norm, `[K, O]`.
    pub(super) beta: Tensor<B, 2>,
    /// Slope of a PReLU, `[K]`.
    pub(super) slope: Tensor<B, 1>,
}

/// Gradients with respect to a [`Block`].
pub(super) type BlockGrads<B> = Block<B>;

/// Mean and biased variance over the batch, `[K, O]` each; zeros `[1, 1]` without batch norm.
pub(super) fn statistics<B: Backend>(hidden: &Tensor<B, 3>, spec: LayerSpec) -> [Tensor<B, 2>; 2] {
    if !spec.batch_norm {
        return [placeholder(hidden), placeholder(hidden)];
    }
    let mean = hidden.clone().mean_dim(1);
    let variance = (hidden.clone() - mean.clone()).powi_scalar(2).mean_dim(1);
    [mean.squeeze_dim(1), variance.squeeze_dim(1)]
}

/// Batch norm with these statistics, activation, dropout.
pub(super) fn block<B: Backend>(
    block: Block<B>,
    [mean, variance]: &[Tensor<B, 2>; 2],
    spec: LayerSpec,
) -> Tensor<B, 3> {
    let (_, normalized) = normalize(block.hidden, mean, variance, block.gamma, block.beta, spec);
    let activated = activate(normalized, block.slope, spec.activation);
    match spec.dropout {
        Some(dropout) => activated.clone() * dropout_factors(&activated, dropout),
        None => activated,
    }
}

/// Gradients of [`block()`], through the statistics too.
pub(super) fn block_backward<B: Backend>(
    block: Block<B>,
    [mean, variance]: &[Tensor<B, 2>; 2],
    grad: Tensor<B, 3>,
    spec: LayerSpec,
) -> BlockGrads<B> {
    let Block { hidden, gamma, beta, slope } = block;
    let (centred, normalized) = normalize(hidden.clone(), mean, variance, gamma.clone(), beta, spec);
    let grad = match spec.dropout {
        Some(dropout) => grad.clone() * dropout_factors(&grad, dropout),
        None => grad,
    };
    let (grad, slope) = activate_backward(normalized, slope, grad, spec.activation);
    if !spec.batch_norm {
        let zero = placeholder(&hidden);
        return Block { hidden: grad, gamma: zero.clone(), beta: zero, slope };
    }
    // Divisions: `recip` of burn-ndarray 0.21 is an estimate of 12 to 14 bits where it uses SIMD.
    let std = (variance.clone() + spec.epsilon).sqrt().unsqueeze_dim::<3>(1);
    let standard = centred / std.clone();
    let beta_grad = grad.clone().sum_dim(1);
    let gamma_grad = (grad.clone() * standard.clone()).sum_dim(1);
    let rows = hidden.dims()[1] as f64;
    let centred_grad = grad - beta_grad.clone() / rows - standard * (gamma_grad.clone() / rows);
    let hidden_grad = centred_grad * (gamma.unsqueeze_dim::<3>(1) / std);
    Block { hidden: hidden_grad, gamma: gamma_grad.squeeze_dim(1), beta: beta_grad.squeeze_dim(1), slope }
}

/// The activation function, `slope [K]` for PReLU.
///
/// # Shapes
/// `[K, B, H]` to the same.
pub fn activate<B: Backend>(x: Tensor<B, 3>, slope: Tensor<B, 1>, activation: Activation) -> Tensor<B, 3> {
    match activation {
        Activation::None => x,
        Activation::Relu => x.clamp_min(0.0),
        Activation::LeakyRelu { negative_slope } => {
            x.clone().clamp_min(0.0) + x.clamp_max(0.0) * negative_slope
        }
        Activation::Prelu => x.clone().clamp_min(0.0) + x.clamp_max(0.0) * per_tower(slope),
    }
}

/// See [`EsmmBackend::fold_norm`](crate::EsmmBackend::fold_norm).
pub fn fold_norm<B: Backend>(norm: NormInput<B>, epsilon: f64) -> [FloatTensor<B>; 2] {
    let NormInput { bias, gamma, beta, mean, variance } = norm;
    let scale = float::<B, 2>(gamma) / (float::<B, 2>(variance) + epsilon).sqrt();
    let shift = (float::<B, 2>(bias) - float::<B, 2>(mean)) * scale.clone() + float::<B, 2>(beta);
    [primitive(scale), primitive(shift)]
}

/// See [`EsmmBackend::blend`](crate::EsmmBackend::blend).
pub fn blend<B: Backend>(old: FloatTensor<B>, new: FloatTensor<B>, [keep, take]: [f64; 2]) -> FloatTensor<B> {
    primitive(float::<B, 2>(old) * keep + float::<B, 2>(new) * take)
}

fn activate_backward<B: Backend>(
    x: Tensor<B, 3>,
    slope: Tensor<B, 1>,
    grad: Tensor<B, 3>,
    activation: Activation,
) -> (Tensor<B, 3>, Tensor<B, 1>) {
    let no_slope = Tensor::zeros([1], &x.device());
    let negative = x.clone().lower_equal_elem(0.0);
    match activation {
        Activation::None => (grad, no_slope),
        Activation::Relu => (grad.mask_fill(negative, 0.0), no_slope),
        Activation::LeakyRelu { negative_slope } => {
            let below = grad.clone() * negative_slope;
            (grad.mask_where(negative, below), no_slope)
        }
        Activation::Prelu => {
            let slope_grad = (grad.clone() * x.clamp_max(0.0)).sum_dim(2).sum_dim(1).reshape([-1]);
            let below = grad.clone() * per_tower(slope);
            (grad.mask_where(negative, below), slope_grad)
        }
    }
}

/// `(x - mean, gamma * (x - mean) / sqrt(variance + epsilon) + beta)`, or x twice without batch norm.
fn normalize<B: Backend>(
    hidden: Tensor<B, 3>,
    mean: &Tensor<B, 2>,
    variance: &Tensor<B, 2>,
    gamma: Tensor<B, 2>,
    beta: Tensor<B, 2>,
    spec: LayerSpec,
) -> (Tensor<B, 3>, Tensor<B, 3>) {
    if !spec.batch_norm {
        return (hidden.clone(), hidden);
    }
    let centred = hidden - mean.clone().unsqueeze_dim(1);
    let scale = gamma / (variance.clone() + spec.epsilon).sqrt();
    (centred.clone(), centred * scale.unsqueeze_dim(1) + beta.unsqueeze_dim(1))
}

fn dropout_factors<B: Backend>(like: &Tensor<B, 3>, dropout: Dropout) -> Tensor<B, 3> {
    let shape = like.dims();
    Tensor::from_data(TensorData::new(dropout.mask(shape.iter().product()), shape), &like.device())
}

fn per_tower<B: Backend>(slope: Tensor<B, 1>) -> Tensor<B, 3> {
    slope.reshape([-1, 1, 1])
}

/// Stands for a tensor that is not used.
fn placeholder<B: Backend>(like: &Tensor<B, 3>) -> Tensor<B, 2> {
    Tensor::zeros([1, 1], &like.device())
}
