//! From table to logits, for inference.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;

use super::bags::pool_input;
use super::block::activate;
use super::linear::stacked_matmul;
use super::{float, primitive};
use crate::backend::{Indices, InferenceLayer, InputBags};

pub(super) fn infer<B: Backend>(
    table: FloatTensor<B>,
    bags: InputBags<FloatTensor<B>, Indices<B>>,
    layers: Vec<InferenceLayer<FloatTensor<B>>>,
) -> FloatTensor<B> {
    let logits = layers.into_iter().fold(pool_input::<B>(float(table), bags), apply);
    primitive(logits.squeeze_dim::<2>(2).transpose())
}

fn apply<B: Backend>(input: Tensor<B, 3>, layer: InferenceLayer<FloatTensor<B>>) -> Tensor<B, 3> {
    let hidden = stacked_matmul(input, float(layer.weight));
    let scaled = match layer.scale {
        Some(scale) => hidden * float::<B, 2>(scale).unsqueeze_dim(1),
        None => hidden,
    };
    let shifted = scaled + float::<B, 2>(layer.shift).unsqueeze_dim(1);
    activate(shifted, layer.slope.map(float), layer.activation)
}
