//! Kernels that know f32 alone, and the definitions for everything else.

use std::marker::PhantomData;

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, TensorMetadata};

use super::operands::Operands;
use super::{
    Bags, Blend, FirstLayer, FirstLayerGrads, Indices, InferenceLayer, InputBags, Kernels, Layer,
    LayerOutput, LayerSaved, LayerSpec, Moments, Norm, Reference, RowUpdate, WeightUpdate, WithGrad,
    WithMoments,
};

/// The kernels K where all operands are f32, else the [`Reference`]: the one place that asks.
#[derive(Debug)]
pub struct F32Or<K>(PhantomData<K>);

/// What the first layer kept, and whose it is.
#[derive(Debug, Clone)]
pub enum FallbackSaved<K, R> {
    /// The kernels'.
    Kernels(K),
    /// The reference's.
    Reference(R),
}

fn are_f32<B: Backend>(operands: &[&dyn Operands<FloatTensor<B>>]) -> bool {
    let mut all = true;
    for operands in operands {
        Operands::<FloatTensor<B>>::each(*operands, &mut |tensor| all &= tensor.dtype() == DType::F32);
    }
    all
}

impl<B: Backend, K: Kernels<B>> Kernels<B> for F32Or<K> {
    type Saved = FallbackSaved<K::Saved, <Reference as Kernels<B>>::Saved>;

    fn gather_rows(table: FloatTensor<B>, rows: Indices<B>) -> FloatTensor<B> {
        match are_f32::<B>(&[&table]) {
            true => K::gather_rows(table, rows),
            false => <Reference as Kernels<B>>::gather_rows(table, rows),
        }
    }

    fn first_layer(
        layer: FirstLayer<FloatTensor<B>, Indices<B>>,
        spec: LayerSpec,
    ) -> (LayerOutput<FloatTensor<B>>, Self::Saved) {
        if are_f32::<B>(&[&layer]) {
            let (output, own) = K::first_layer(layer, spec);
            (output, FallbackSaved::Kernels(own))
        } else {
            let (output, own) = <Reference as Kernels<B>>::first_layer(layer, spec);
            (output, FallbackSaved::Reference(own))
        }
    }

    fn first_layer_backward(
        layer: FirstLayer<FloatTensor<B>, Indices<B>>,
        saved: LayerSaved<FloatTensor<B>>,
        own: Self::Saved,
        grad: FloatTensor<B>,
        spec: LayerSpec,
    ) -> FirstLayerGrads<FloatTensor<B>> {
        match own {
            FallbackSaved::Kernels(own) => K::first_layer_backward(layer, saved, own, grad, spec),
            FallbackSaved::Reference(own) => {
                <Reference as Kernels<B>>::first_layer_backward(layer, saved, own, grad, spec)
            }
        }
    }

    fn layer(layer: Layer<FloatTensor<B>>, spec: LayerSpec) -> LayerOutput<FloatTensor<B>> {
        match are_f32::<B>(&[&layer]) {
            true => K::layer(layer, spec),
            false => <Reference as Kernels<B>>::layer(layer, spec),
        }
    }

    fn layer_backward(
        layer: Layer<FloatTensor<B>>,
        saved: LayerSaved<FloatTensor<B>>,
        grad: FloatTensor<B>,
        spec: LayerSpec,
    ) -> Layer<FloatTensor<B>> {
        match are_f32::<B>(&[&layer, &saved, &grad]) {
            true => K::layer_backward(layer, saved, grad, spec),
            false => <Reference as Kernels<B>>::layer_backward(layer, saved, grad, spec),
        }
    }

    fn blend(blends: Vec<Blend<FloatTensor<B>>>) -> Vec<FloatTensor<B>> {
        match are_f32::<B>(&[&blends]) {
            true => K::blend(blends),
            false => <Reference as Kernels<B>>::blend(blends),
        }
    }

    fn fold_norm(
        bias: FloatTensor<B>,
        norm: Norm<FloatTensor<B>>,
        running: Moments<FloatTensor<B>>,
        epsilon: f64,
    ) -> [FloatTensor<B>; 2] {
        match are_f32::<B>(&[&bias, &norm, &running]) {
            true => K::fold_norm(bias, norm, running, epsilon),
            false => <Reference as Kernels<B>>::fold_norm(bias, norm, running, epsilon),
        }
    }

    fn infer(
        table: FloatTensor<B>,
        bags: InputBags<FloatTensor<B>, Indices<B>>,
        layers: Vec<InferenceLayer<FloatTensor<B>>>,
    ) -> FloatTensor<B> {
        match are_f32::<B>(&[&table, &bags, &layers]) {
            true => K::infer(table, bags, layers),
            false => <Reference as Kernels<B>>::infer(table, bags, layers),
        }
    }

    fn funnel_logs(logits: FloatTensor<B>) -> [FloatTensor<B>; 2] {
        match are_f32::<B>(&[&logits]) {
            true => K::funnel_logs(logits),
            false => <Reference as Kernels<B>>::funnel_logs(logits),
        }
    }

    fn funnel_probs(logits: FloatTensor<B>) -> [FloatTensor<B>; 3] {
        match are_f32::<B>(&[&logits]) {
            true => K::funnel_probs(logits),
            false => <Reference as Kernels<B>>::funnel_probs(logits),
        }
    }

    fn funnel_loss(logits: FloatTensor<B>, reached: FloatTensor<B>) -> FloatTensor<B> {
        match are_f32::<B>(&[&logits, &reached]) {
            true => K::funnel_loss(logits, reached),
            false => <Reference as Kernels<B>>::funnel_loss(logits, reached),
        }
    }

    fn funnel_loss_backward(
        logits: FloatTensor<B>,
        reached: FloatTensor<B>,
        grad: FloatTensor<B>,
    ) -> FloatTensor<B> {
        match are_f32::<B>(&[&logits, &reached, &grad]) {
            true => K::funnel_loss_backward(logits, reached, grad),
            false => <Reference as Kernels<B>>::funnel_loss_backward(logits, reached, grad),
        }
    }

    fn update_rows(
        table: WithMoments<FloatTensor<B>>,
        rows: Indices<B>,
        grads: FloatTensor<B>,
        update: RowUpdate,
    ) -> WithMoments<FloatTensor<B>> {
        match are_f32::<B>(&[&table, &grads]) {
            true => K::update_rows(table, rows, grads, update),
            false => <Reference as Kernels<B>>::update_rows(table, rows, grads, update),
        }
    }

    fn pool(table: FloatTensor<B>, bags: Bags<FloatTensor<B>, Indices<B>>) -> FloatTensor<B> {
        match are_f32::<B>(&[&table, &bags]) {
            true => K::pool(table, bags),
            false => <Reference as Kernels<B>>::pool(table, bags),
        }
    }

    fn row_grads(
        bags: Bags<FloatTensor<B>, Indices<B>>,
        grad: FloatTensor<B>,
        num_rows: usize,
    ) -> FloatTensor<B> {
        match are_f32::<B>(&[&bags, &grad]) {
            true => K::row_grads(bags, grad, num_rows),
            false => <Reference as Kernels<B>>::row_grads(bags, grad, num_rows),
        }
    }

    fn update_pooled(
        table: WithMoments<FloatTensor<B>>,
        bags: Bags<FloatTensor<B>, Indices<B>>,
        grad: FloatTensor<B>,
        update: RowUpdate,
    ) -> WithMoments<FloatTensor<B>> {
        match are_f32::<B>(&[&table, &bags, &grad]) {
            true => K::update_pooled(table, bags, grad, update),
            false => <Reference as Kernels<B>>::update_pooled(table, bags, grad, update),
        }
    }

    fn update_weights(
        weights: Vec<WithGrad<FloatTensor<B>>>,
        update: WeightUpdate,
    ) -> Vec<WithMoments<FloatTensor<B>>> {
        match are_f32::<B>(&[&weights]) {
            true => K::update_weights(weights, update),
            false => <Reference as Kernels<B>>::update_weights(weights, update),
        }
    }
}
