//! The operations in terms of Burn's own: their definition, on every backend.

mod bags;
mod block;
mod first_layer;
mod funnel;
mod grouped_layer;
mod infer;
mod layer;
mod linear;
mod rows;
mod weights;

use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{Int, Tensor, TensorPrimitive};

use super::{
    Blend, FirstLayer, FirstLayerGrads, GroupedLayer, GroupedLayerGrads, Indices, InferenceLayer, InputBags,
    Kernels, Layer, LayerOutput, LayerSaved, LayerSpec, Moments, Norm, Pooled, RowUpdate, WeightUpdate,
    WithGrad, WithMoments,
};

/// The definition of every operation, in Burn's operations. Works on every backend; kernels must compute the same.
#[derive(Debug)]
pub struct Reference;

impl<B: Backend> Kernels<B> for Reference {
    /// The pooled input.
    type Saved = FloatTensor<B>;

    fn gather_rows(table: FloatTensor<B>, rows: Indices<B>) -> FloatTensor<B> {
        bags::gather_rows::<B>(table, &rows)
    }

    fn first_layer(
        layer: FirstLayer<FloatTensor<B>, Indices<B>>,
        spec: LayerSpec,
    ) -> (LayerOutput<FloatTensor<B>>, Self::Saved) {
        first_layer::forward::<B>(layer, spec)
    }

    fn first_layer_backward(
        layer: FirstLayer<FloatTensor<B>, Indices<B>>,
        saved: LayerSaved<FloatTensor<B>>,
        own: Self::Saved,
        grad: FloatTensor<B>,
        spec: LayerSpec,
    ) -> FirstLayerGrads<FloatTensor<B>> {
        first_layer::backward::<B>(layer, saved, own, grad, spec)
    }

    fn layer(layer: Layer<FloatTensor<B>>, spec: LayerSpec) -> LayerOutput<FloatTensor<B>> {
        layer::forward::<B>(layer, spec)
    }

    fn layer_backward(
        layer: Layer<FloatTensor<B>>,
        saved: LayerSaved<FloatTensor<B>>,
        grad: FloatTensor<B>,
        spec: LayerSpec,
    ) -> Layer<FloatTensor<B>> {
        layer::backward::<B>(layer, saved, grad, spec)
    }

    fn grouped_layer(
        layer: GroupedLayer<FloatTensor<B>, Indices<B>>,
        spec: LayerSpec,
    ) -> LayerOutput<FloatTensor<B>> {
        grouped_layer::forward::<B>(layer, spec)
    }

    fn grouped_layer_backward(
        layer: GroupedLayer<FloatTensor<B>, Indices<B>>,
        saved: LayerSaved<FloatTensor<B>>,
        grad: FloatTensor<B>,
        spec: LayerSpec,
    ) -> GroupedLayerGrads<FloatTensor<B>> {
        grouped_layer::backward::<B>(layer, saved, grad, spec)
    }

    fn blend(blends: Vec<Blend<FloatTensor<B>>>) -> Vec<FloatTensor<B>> {
        blends.into_iter().map(block::blend::<B>).collect()
    }

    fn fold_norm(
        bias: FloatTensor<B>,
        norm: Norm<FloatTensor<B>>,
        running: Moments<FloatTensor<B>>,
        epsilon: f64,
    ) -> [FloatTensor<B>; 2] {
        block::fold_norm::<B>(bias, norm, running, epsilon)
    }

    fn infer(
        table: FloatTensor<B>,
        bags: InputBags<FloatTensor<B>, Indices<B>>,
        layers: Vec<InferenceLayer<FloatTensor<B>>>,
    ) -> FloatTensor<B> {
        infer::infer::<B>(table, bags, layers)
    }

    fn funnel_logs(logits: FloatTensor<B>) -> [FloatTensor<B>; 2] {
        funnel::logs::<B>(logits)
    }

    fn funnel_probs(logits: FloatTensor<B>) -> [FloatTensor<B>; 3] {
        funnel::probs::<B>(logits)
    }

    fn funnel_loss(logits: FloatTensor<B>, reached: FloatTensor<B>) -> FloatTensor<B> {
        funnel::loss::<B>(logits, reached)
    }

    fn funnel_loss_backward(
        logits: FloatTensor<B>,
        reached: FloatTensor<B>,
        grad: FloatTensor<B>,
    ) -> FloatTensor<B> {
        funnel::loss_backward::<B>(logits, reached, grad)
    }

    fn update_rows(
        table: WithMoments<FloatTensor<B>>,
        rows: Indices<B>,
        grads: FloatTensor<B>,
        update: RowUpdate,
    ) -> WithMoments<FloatTensor<B>> {
        rows::update::<B>(table, &rows, grads, update)
    }

    fn pool(table: FloatTensor<B>, bags: InputBags<FloatTensor<B>, Indices<B>>) -> Pooled<FloatTensor<B>> {
        bags::pool_parts::<B>(float(table), bags)
    }

    fn row_grads(
        bags: InputBags<FloatTensor<B>, Indices<B>>,
        grads: Pooled<FloatTensor<B>>,
        num_rows: usize,
    ) -> FloatTensor<B> {
        let _ = num_rows;
        bags::row_grads::<B>(bags, grads)
    }

    fn update_pooled(
        table: WithMoments<FloatTensor<B>>,
        bags: InputBags<FloatTensor<B>, Indices<B>>,
        grads: Pooled<FloatTensor<B>>,
        update: RowUpdate,
    ) -> WithMoments<FloatTensor<B>> {
        bags::update_pooled::<B>(table, bags, grads, update)
    }

    fn update_weights(
        weights: Vec<WithGrad<FloatTensor<B>>>,
        update: WeightUpdate,
    ) -> Vec<WithMoments<FloatTensor<B>>> {
        weights.into_iter().map(|weight| weights::update::<B>(weight, update)).collect()
    }
}

pub(super) fn float<B: Backend, const D: usize>(tensor: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(tensor))
}

pub(super) fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}

fn ints<B: Backend>(tensor: IntTensor<B>) -> Tensor<B, 1, Int> {
    Tensor::from_primitive(tensor)
}
