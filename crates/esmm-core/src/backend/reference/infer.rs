//! The way from table to logits, for inference.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;

use super::block::activate;
use super::linear::stacked_product;
use super::{bag_pool, float, primitive};
use crate::backend::{BagPlan, InferenceLayer};

/// See [`EsmmBackend::infer_logits`](crate::EsmmBackend::infer_logits).
pub fn infer_logits<B: Backend>(
    table: FloatTensor<B>,
    plan: BagPlan<B>,
    layers: Vec<InferenceLayer<B>>,
) -> FloatTensor<B> {
    apply_layers::<B>(bag_pool::<B>(table, plan), layers)
}

/// All layers on the pooled input, `[1 or K, B, I]` to `[B, K]`.
pub(super) fn apply_layers<B: Backend>(
    input: FloatTensor<B>,
    layers: Vec<InferenceLayer<B>>,
) -> FloatTensor<B> {
    let logits = layers.into_iter().fold(float::<B, 3>(input), apply);
    primitive(logits.squeeze_dim::<2>(2).transpose())
}

fn apply<B: Backend>(input: Tensor<B, 3>, layer: InferenceLayer<B>) -> Tensor<B, 3> {
    let product = stacked_product(input, float(layer.weight));
    let scaled = match layer.scale {
        Some(scale) => product * float::<B, 2>(scale).unsqueeze_dim(1),
        None => product,
    };
    activate(scaled + float::<B, 2>(layer.shift).unsqueeze_dim(1), float(layer.slope), layer.activation)
}
