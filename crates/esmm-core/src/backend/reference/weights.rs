//! Updates of whole weights.

use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorMetadata, backend::Backend};

use super::{float, primitive};
use crate::backend::{WeightRule, WeightState, WeightUpdate};

/// See [`EsmmBackend::update_weights`](crate::EsmmBackend::update_weights).
pub fn update_weights<B: Backend>(
    state: WeightState<B>,
    grad: FloatTensor<B>,
    update: WeightUpdate,
) -> WeightState<B> {
    let shape = state.weight.shape();
    let line = |tensor: FloatTensor<B>| -> Tensor<B, 1> {
        let len = tensor.shape().num_elements();
        float(B::float_reshape(tensor, [len].into()))
    };
    let (weight, mut grad) = (line(state.weight), line(grad));
    let mut moments: Vec<Tensor<B, 1>> = state.moments.into_iter().map(line).collect();
    if update.l2 != 0.0 {
        grad = weight.clone() * update.l2 + grad;
    }
    let direction = match (update.rule, moments.as_mut_slice()) {
        (WeightRule::Sgd { .. }, []) => grad,
        (WeightRule::Sgd { momentum }, [velocity]) => {
            *velocity = velocity.clone() * momentum + grad;
            velocity.clone()
        }
        (WeightRule::Adam { beta_1, beta_2, epsilon, step }, [first, second]) => {
            let root = (1.0 - beta_2.powf(step as f64)).sqrt();
            *first = first.clone() * beta_1 + grad.clone() * (1.0 - beta_1);
            *second = second.clone() * beta_2 + grad.powi_scalar(2) * (1.0 - beta_2);
            let factor = root / (1.0 - beta_1.powf(step as f64));
            first.clone() * factor / (second.clone().sqrt() + epsilon * root)
        }
        (rule, moments) => panic!("{rule:?} found {} moments", moments.len()),
    };
    let kept =
        if update.decay == 0.0 { weight } else { weight * (1.0 - update.learning_rate * update.decay) };
    let weight = kept - direction * update.learning_rate;
    let back = |tensor: Tensor<B, 1>| B::float_reshape(primitive(tensor), shape.clone());
    WeightState { weight: back(weight), moments: moments.into_iter().map(back).collect() }
}
