//! Updates of whole weights.

use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorMetadata, backend::Backend};

use super::{float, primitive};
use crate::backend::{WeightRule, WeightUpdate, WithGrad, WithMoments};

pub(super) fn update<B: Backend>(
    WithGrad { weight: state, grad }: WithGrad<FloatTensor<B>>,
    update: WeightUpdate,
) -> WithMoments<FloatTensor<B>> {
    let shape = state.tensor.shape();
    let line = |tensor: FloatTensor<B>| -> Tensor<B, 1> {
        let len = tensor.shape().num_elements();
        float(B::float_reshape(tensor, [len].into()))
    };
    let weight = line(state.tensor);
    let mut grad = line(grad);
    let mut moments: Vec<Tensor<B, 1>> = state.moments.into_iter().map(line).collect();
    let found = moments.len();
    let kept = update.rule.num_moments();
    assert_eq!(found, kept, "{:?} found {found} moments instead of {kept}", update.rule);
    if update.l2 != 0.0 {
        grad = weight.clone() * update.l2 + grad;
    }
    let direction = match update.rule {
        WeightRule::Sgd { momentum } => match moments.first_mut() {
            None => grad,
            Some(velocity) => {
                *velocity = velocity.clone() * momentum + grad;
                velocity.clone()
            }
        },
        WeightRule::Adam { beta_1, beta_2, epsilon } => {
            let steps = update.step as f64;
            let root = (1.0 - beta_2.powf(steps)).sqrt();
            let first = moments[0].clone() * beta_1 + grad.clone() * (1.0 - beta_1);
            let second = moments[1].clone() * beta_2 + grad.powi_scalar(2) * (1.0 - beta_2);
            let factor = root / (1.0 - beta_1.powf(steps));
            moments = vec![first.clone(), second.clone()];
            first * factor / (second.sqrt() + epsilon * root)
        }
    };
    let kept =
        if update.decay == 0.0 { weight } else { weight * (1.0 - update.learning_rate * update.decay) };
    let weight = kept - direction * update.learning_rate;
    let back = |tensor: Tensor<B, 1>| B::float_reshape(primitive(tensor), shape.clone());
    WithMoments { tensor: back(weight), moments: moments.into_iter().map(back).collect() }
}
