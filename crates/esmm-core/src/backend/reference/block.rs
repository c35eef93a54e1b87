//! Batch norm, activation and dropout, forward and backward.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorData};

use super::{float, primitive};
use crate::backend::random::Dropout;
use crate::backend::{BlockGrads, BlockInput, BlockOutput, BlockSpec};
use crate::tower::Activation;

/// See [`EsmmBackend::tower_block`](crate::EsmmBackend::tower_block).
pub fn tower_block<B: Backend>(input: BlockInput<B>, spec: BlockSpec) -> BlockOutput<B> {
    let hidden = float::<B, 3>(input.hidden);
    let (mean, variance) = match spec.batch_norm {
        true => statistics(hidden.clone()),
        false => (placeholder(&hidden), placeholder(&hidden)),
    };
    let (gamma, beta) = (float(input.gamma), float(input.beta));
    let (_, normalized) = normalize(hidden, &mean, &variance, gamma, beta, spec);
    let activated = activate(normalized, float(input.slope), spec.activation);
    let output = match spec.dropout {
        Some(dropout) => activated.clone() * dropout_factors(&activated, dropout),
        None => activated,
    };
    BlockOutput { output: primitive(output), mean: primitive(mean), variance: primitive(variance) }
}

/// See [`EsmmBackend::tower_block_backward`](crate::EsmmBackend::tower_block_backward).
pub fn tower_block_backward<B: Backend>(
    input: BlockInput<B>,
    mean: FloatTensor<B>,
    variance: FloatTensor<B>,
    grad: FloatTensor<B>,
    spec: BlockSpec,
) -> BlockGrads<B> {
    let hidden = float::<B, 3>(input.hidden);
    let (mean, variance) = (float::<B, 2>(mean), float::<B, 2>(variance));
    let (gamma, slope) = (float::<B, 2>(input.gamma), float::<B, 1>(input.slope));
    let (centred, normalized) =
        normalize(hidden.clone(), &mean, &variance, gamma.clone(), float(input.beta), spec);
    let grad = float::<B, 3>(grad);
    let grad = match spec.dropout {
        Some(dropout) => grad.clone() * dropout_factors(&grad, dropout),
        None => grad,
    };
    let (grad, slope_grad) = activate_backward(normalized, slope, grad, spec.activation);
    if !spec.batch_norm {
        let zero = primitive(placeholder(&hidden));
        return BlockGrads { hidden: primitive(grad), gamma: zero.clone(), beta: zero, slope: slope_grad };
    }
    // Divisions: `recip` of burn-ndarray 0.21 is an estimate of 12 to 14 bits where it uses SIMD.
    let std = (variance + spec.epsilon).sqrt().unsqueeze_dim::<3>(1);
    let standard = centred / std.clone();
    let beta_grad = grad.clone().sum_dim(1);
    let gamma_grad = (grad.clone() * standard.clone()).sum_dim(1);
    let rows = hidden.dims()[1] as f64;
    let centred_grad = grad - beta_grad.clone() / rows - standard * (gamma_grad.clone() / rows);
    let hidden_grad = centred_grad * (gamma.unsqueeze_dim::<3>(1) / std);
    BlockGrads {
        hidden: primitive(hidden_grad),
        gamma: primitive(gamma_grad.squeeze_dim::<2>(1)),
        beta: primitive(beta_grad.squeeze_dim::<2>(1)),
        slope: slope_grad,
    }
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

fn activate_backward<B: Backend>(
    x: Tensor<B, 3>,
    slope: Tensor<B, 1>,
    grad: Tensor<B, 3>,
    activation: Activation,
) -> (Tensor<B, 3>, FloatTensor<B>) {
    let no_slope = primitive(placeholder(&x));
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
            (grad.mask_where(negative, below), primitive(slope_grad))
        }
    }
}

fn statistics<B: Backend>(hidden: Tensor<B, 3>) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let mean = hidden.clone().mean_dim(1);
    let variance = (hidden - mean.clone()).powi_scalar(2).mean_dim(1);
    (mean.squeeze_dim(1), variance.squeeze_dim(1))
}

/// `(x - mean, gamma * (x - mean) / sqrt(variance + epsilon) + beta)`, or x twice without batch norm.
fn normalize<B: Backend>(
    hidden: Tensor<B, 3>,
    mean: &Tensor<B, 2>,
    variance: &Tensor<B, 2>,
    gamma: Tensor<B, 2>,
    beta: Tensor<B, 2>,
    spec: BlockSpec,
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
