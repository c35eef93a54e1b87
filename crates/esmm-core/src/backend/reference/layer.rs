//! A layer of all towers in training: the product and what follows it.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;

use super::block::{Block, block, block_backward, statistics};
use super::linear::{stacked_product, stacked_product_backward};
use super::{float, primitive};
use crate::backend::{LayerGrads, LayerInput, LayerOutput, LayerSaved, LayerSpec};

/// See [`EsmmBackend::tower_layer`](crate::EsmmBackend::tower_layer).
pub fn tower_layer<B: Backend>(input: LayerInput<B>, spec: LayerSpec) -> LayerOutput<B> {
    let bias: Tensor<B, 2> = float(input.bias);
    let hidden = stacked_product(float(input.input), float(input.weight)) + bias.unsqueeze_dim(1);
    let statistics = statistics(&hidden, spec);
    let (gamma, beta, slope) = (float(input.gamma), float(input.beta), float(input.slope));
    let output = block(Block { hidden: hidden.clone(), gamma, beta, slope }, &statistics, spec);
    let [mean, variance] = statistics.map(primitive);
    LayerOutput { output: primitive(output), saved: LayerSaved { hidden: primitive(hidden), mean, variance } }
}

/// See [`EsmmBackend::tower_layer_backward`](crate::EsmmBackend::tower_layer_backward).
pub fn tower_layer_backward<B: Backend>(
    input: LayerInput<B>,
    saved: LayerSaved<B>,
    grad: FloatTensor<B>,
    spec: LayerSpec,
) -> LayerGrads<B> {
    let statistics = [saved.mean, saved.variance].map(float);
    let (gamma, beta, slope) = (float(input.gamma), float(input.beta), float(input.slope));
    let parts = Block { hidden: float(saved.hidden), gamma, beta, slope };
    let block = block_backward(parts, &statistics, float(grad), spec);
    let bias: Tensor<B, 2> = block.hidden.clone().sum_dim(1).squeeze_dim(1);
    let [input, weight] = stacked_product_backward(float(input.input), float(input.weight), block.hidden);
    LayerGrads {
        input: primitive(input),
        weight: primitive(weight),
        bias: primitive(bias),
        gamma: primitive(block.gamma),
        beta: primitive(block.beta),
        slope: primitive(block.slope),
    }
}
