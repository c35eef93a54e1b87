//! The first layer of the towers on what was pooled, where groups of rows share features: these are written out for every
//! row.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;

use super::bags::{dim_of, join_input, join_input_backward};
use super::{float, layer, primitive};
use crate::backend::{
    GroupedInput, GroupedLayer, GroupedLayerGrads, Indices, Layer, LayerOutput, LayerSaved, LayerSpec,
};

pub(super) fn forward<B: Backend>(
    operands: GroupedLayer<FloatTensor<B>, Indices<B>>,
    spec: LayerSpec,
) -> LayerOutput<FloatTensor<B>> {
    let GroupedLayer { input, weights } = operands;
    layer::forward::<B>(Layer { input: written_out(&input), weights }, spec)
}

pub(super) fn backward<B: Backend>(
    operands: GroupedLayer<FloatTensor<B>, Indices<B>>,
    saved: LayerSaved<FloatTensor<B>>,
    grad: FloatTensor<B>,
    spec: LayerSpec,
) -> GroupedLayerGrads<FloatTensor<B>> {
    let GroupedLayer { input, weights } = operands;
    let grads = layer::backward::<B>(Layer { input: written_out(&input), weights }, saved, grad, spec);
    let parts = join_input_backward::<B>(float(grads.input), input.groups(), dim(&input));
    let [own, shared] = parts.map(primitive);
    GroupedLayerGrads { own, shared, weights: grads.weights }
}

/// `[1 or K, B, F * D + V]`.
fn written_out<B: Backend>(input: &GroupedInput<FloatTensor<B>, Indices<B>>) -> FloatTensor<B> {
    let own: Tensor<B, 3> = float(input.own.clone());
    primitive(join_input(own, float(input.shared.clone()), input.groups(), dim(input)))
}

/// Width of an embedding.
fn dim<B: Backend>(input: &GroupedInput<FloatTensor<B>, Indices<B>>) -> usize {
    dim_of::<B>(&float(input.own.clone()), &input.bags.own)
}
