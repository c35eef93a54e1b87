//! The first layer of the towers, on rows of the table: pooling and a layer.

use burn::tensor::TensorMetadata;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;

use super::bags::{pool_input, pool_input_backward};
use super::{float, layer, primitive};
use crate::backend::{FirstLayer, FirstLayerGrads, Indices, Layer, LayerOutput, LayerSaved, LayerSpec};

/// The output, and the pooled input.
pub(super) fn forward<B: Backend>(
    operands: FirstLayer<FloatTensor<B>, Indices<B>>,
    spec: LayerSpec,
) -> (LayerOutput<FloatTensor<B>>, FloatTensor<B>) {
    let FirstLayer { table, bags, weights } = operands;
    let pooled = primitive(pool_input::<B>(float(table), bags));
    let output = layer::forward::<B>(Layer { input: pooled.clone(), weights }, spec);
    (output, pooled)
}

pub(super) fn backward<B: Backend>(
    operands: FirstLayer<FloatTensor<B>, Indices<B>>,
    saved: LayerSaved<FloatTensor<B>>,
    pooled: FloatTensor<B>,
    grad: FloatTensor<B>,
    spec: LayerSpec,
) -> FirstLayerGrads<FloatTensor<B>> {
    let FirstLayer { table, bags, weights } = operands;
    let shape = table.shape();
    let num_rows = shape[0] / bags.own.tables;
    let dim = shape[1];
    let grads = layer::backward::<B>(Layer { input: pooled, weights }, saved, grad, spec);
    let table = pool_input_backward::<B>(float(grads.input), bags, num_rows, dim);
    FirstLayerGrads { table: primitive(table), weights: grads.weights }
}
