//! A layer of all towers in training: the matmul and what follows it.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;

use super::block::{Block, block, block_backward, moments};
use super::linear::{stacked_matmul, stacked_matmul_backward};
use super::{float, primitive};
use crate::backend::{Layer, LayerOutput, LayerSaved, LayerSpec, LayerWeights, Norm};

pub(super) fn forward<B: Backend>(
    operands: Layer<FloatTensor<B>>,
    spec: LayerSpec,
) -> LayerOutput<FloatTensor<B>> {
    let Layer { input, weights } = operands;
    let bias: Tensor<B, 2> = float(weights.bias.clone());
    let hidden = stacked_matmul(float(input), float(weights.weight.clone())) + bias.unsqueeze_dim(1);
    let moments = weights.norm.is_some().then(|| moments(&hidden));
    let output = block(Block::new(hidden.clone(), moments.clone(), &weights), spec);
    LayerOutput {
        output: primitive(output),
        saved: LayerSaved {
            hidden: primitive(hidden),
            moments: moments.map(|moments| moments.map(primitive)),
        },
    }
}

pub(super) fn backward<B: Backend>(
    operands: Layer<FloatTensor<B>>,
    saved: LayerSaved<FloatTensor<B>>,
    grad: FloatTensor<B>,
    spec: LayerSpec,
) -> Layer<FloatTensor<B>> {
    let Layer { input, weights } = operands;
    let moments = saved.moments.map(|moments| moments.map(float));
    let parts = Block::new(float(saved.hidden), moments, &weights);
    let block = block_backward(parts, float(grad), spec);
    let bias: Tensor<B, 2> = block.hidden.clone().sum_dim(1).squeeze_dim(1);
    let [input, weight] = stacked_matmul_backward(float(input), float(weights.weight), block.hidden);
    Layer {
        input: primitive(input),
        weights: LayerWeights {
            weight: primitive(weight),
            bias: primitive(bias),
            norm: block
                .norm
                .map(|Norm { gamma, beta }| Norm { gamma: primitive(gamma), beta: primitive(beta) }),
            slope: block.slope.map(primitive),
        },
    }
}
