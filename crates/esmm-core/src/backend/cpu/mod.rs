//! Kernels on slices, for the backends whose tensors lie in host memory.
//!
//! * `tensor.rs`, `ndarray.rs`, `flex.rs`: from tensors to slices and back; `ops.rs`: what surrounds the layers.
//! * `bags.rs`, `first_layer.rs`, `layer.rs`, `layer_backward.rs`, `infer.rs`, `funnel.rs`, `rows.rs`, `weights.rs`: the
//!   kernels.
//! * `parts.rs`, `shared.rs`, `sums.rs`: what many rows of a batch have in common, multiplied once; `stairs.rs`: positions
//!   among bins.
//! * `block.rs`, `moments.rs`, `dropout.rs`, `matmul.rs`: their inner loops; `work.rs`: how work and memory are cut; `tasks.rs`:
//!   how tasks are run and timed.
//!
//! Work is cut into tasks by the shapes alone and partial sums are joined in a fixed order: results do not depend on
//! the number of threads. Matmuls go through the `gemm` crate; the loops are plain Rust that the compiler vectorizes
//! once for each instruction set, chosen when the program runs ([`mod@multiversion`]).

mod bags;
mod block;
mod dropout;
mod first_layer;
#[cfg(feature = "flex")]
mod flex;
mod funnel;
mod infer;
mod layer;
mod layer_backward;
mod matmul;
mod moments;
#[cfg(feature = "ndarray")]
mod ndarray;
mod ops;
mod parts;
mod rows;
mod shared;
mod stairs;
mod sums;
mod tasks;
mod tensor;
mod weights;
mod work;

use std::sync::Arc;

use burn::tensor::ops::FloatTensor;

pub use self::tasks::{Region, record_regions};

use self::bags::HostBags;
use self::first_layer::PooledParts;
use self::tensor::{Host, HostBackend};
use super::{
    Blend, FirstLayer, FirstLayerGrads, GroupedLayer, GroupedLayerGrads, Indices, InferenceLayer, InputBags,
    Kernels, Layer, LayerOutput, LayerSaved, LayerSpec, Moments, Norm, Pooled, Reference, RowUpdate,
    WeightUpdate, WithGrad, WithMoments,
};

/// The kernels for tensors in host memory: NdArray's and Flex's, in f32.
#[derive(Debug)]
pub struct Cpu;

/// What the first layer keeps on a CPU: which features many rows have in common, and the pooled input in parts.
#[derive(Debug, Clone)]
pub struct CpuSaved(Arc<PooledParts>);

#[allow(private_bounds, reason = "which backends lie in host memory is decided in this folder")]
impl<B: HostBackend> Kernels<B> for Cpu {
    type Saved = CpuSaved;

    fn gather_rows(table: FloatTensor<B>, rows: Indices<B>) -> FloatTensor<B> {
        let table = Host::<B>::new(table);
        let count = rows.len();
        let dim = table.dim(1);
        let slots = rows.host();
        let bags = HostBags {
            tables: 1,
            rows: count,
            num_sparse: 1,
            slots,
            weighted: None,
            dense: None,
            bins: None,
        };
        B::tensor(bags.pool(table.values(), dim), &[count, dim])
    }

    fn first_layer(
        layer: FirstLayer<FloatTensor<B>, Indices<B>>,
        spec: LayerSpec,
    ) -> (LayerOutput<FloatTensor<B>>, Self::Saved) {
        let (output, pooled) = ops::first_layer::<B>(layer, spec);
        (output, CpuSaved(Arc::new(pooled)))
    }

    fn first_layer_backward(
        layer: FirstLayer<FloatTensor<B>, Indices<B>>,
        saved: LayerSaved<FloatTensor<B>>,
        own: Self::Saved,
        grad: FloatTensor<B>,
        spec: LayerSpec,
    ) -> FirstLayerGrads<FloatTensor<B>> {
        ops::first_layer_backward::<B>(layer, saved, &own.0, grad, spec)
    }

    fn layer(layer: Layer<FloatTensor<B>>, spec: LayerSpec) -> LayerOutput<FloatTensor<B>> {
        ops::layer::<B>(layer, spec)
    }

    fn layer_backward(
        layer: Layer<FloatTensor<B>>,
        saved: LayerSaved<FloatTensor<B>>,
        grad: FloatTensor<B>,
        spec: LayerSpec,
    ) -> Layer<FloatTensor<B>> {
        ops::layer_backward::<B>(layer, saved, grad, spec)
    }

    fn grouped_layer(
        layer: GroupedLayer<FloatTensor<B>, Indices<B>>,
        spec: LayerSpec,
    ) -> LayerOutput<FloatTensor<B>> {
        <Reference as Kernels<B>>::grouped_layer(layer, spec)
    }

    fn grouped_layer_backward(
        layer: GroupedLayer<FloatTensor<B>, Indices<B>>,
        saved: LayerSaved<FloatTensor<B>>,
        grad: FloatTensor<B>,
        spec: LayerSpec,
    ) -> GroupedLayerGrads<FloatTensor<B>> {
        <Reference as Kernels<B>>::grouped_layer_backward(layer, saved, grad, spec)
    }

    fn blend(blends: Vec<Blend<FloatTensor<B>>>) -> Vec<FloatTensor<B>> {
        <Reference as Kernels<B>>::blend(blends)
    }

    fn fold_norm(
        bias: FloatTensor<B>,
        norm: Norm<FloatTensor<B>>,
        running: Moments<FloatTensor<B>>,
        epsilon: f64,
    ) -> [FloatTensor<B>; 2] {
        let bias = Host::<B>::new(bias);
        let norm = norm.map(Host::<B>::new);
        let running = running.map(Host::<B>::new);
        let roots = running.variance.values().iter().map(|variance| (variance + epsilon as f32).sqrt());
        let scale = norm.gamma.values().iter().zip(roots).map(|(gamma, root)| gamma / root);
        let scale: Vec<f32> = scale.collect();
        let centred = bias.values().iter().zip(running.mean.values()).map(|(bias, mean)| bias - mean);
        let scaled = centred.zip(&scale).map(|(x, scale)| x * scale);
        let shift: Vec<f32> = scaled.zip(norm.beta.values()).map(|(x, beta)| x + beta).collect();
        [scale, shift].map(|values| B::tensor(values, &bias.shape))
    }

    fn infer(
        table: FloatTensor<B>,
        bags: InputBags<FloatTensor<B>, Indices<B>>,
        layers: Vec<InferenceLayer<FloatTensor<B>>>,
    ) -> FloatTensor<B> {
        ops::infer::<B>(table, bags, layers)
    }

    fn funnel_logs(logits: FloatTensor<B>) -> [FloatTensor<B>; 2] {
        let logits = Host::<B>::new(logits);
        funnel::logs(logits.values(), logits.dim(1)).map(|logs| B::tensor(logs, &logits.shape))
    }

    fn funnel_probs(logits: FloatTensor<B>) -> [FloatTensor<B>; 3] {
        let logits = Host::<B>::new(logits);
        funnel::probs(logits.values(), logits.dim(1)).map(|probs| B::tensor(probs, &logits.shape[..1]))
    }

    fn funnel_loss(logits: FloatTensor<B>, reached: FloatTensor<B>) -> FloatTensor<B> {
        let logits = Host::<B>::new(logits);
        let reached = Host::<B>::new(reached);
        let stages = logits.dim(1);
        B::tensor(funnel::loss(logits.values(), reached.values(), stages), &[stages])
    }

    fn funnel_loss_backward(
        logits: FloatTensor<B>,
        reached: FloatTensor<B>,
        grad: FloatTensor<B>,
    ) -> FloatTensor<B> {
        let [logits, reached, grad] = [logits, reached, grad].map(Host::<B>::new);
        let out = funnel::loss_backward(logits.values(), reached.values(), grad.values());
        B::tensor(out, &logits.shape)
    }

    fn update_rows(
        table: WithMoments<FloatTensor<B>>,
        rows: Indices<B>,
        grads: FloatTensor<B>,
        update: RowUpdate,
    ) -> WithMoments<FloatTensor<B>> {
        let grads = Host::<B>::new(grads);
        let mut state = table.map(Host::<B>::new);
        let widths: Vec<usize> =
            std::iter::once(&state.tensor).chain(&state.moments).map(|table| table.dim(1)).collect();
        let tables = std::iter::once(&mut state.tensor).chain(&mut state.moments);
        rows::update(tables.map(Host::values_mut).collect(), &widths, rows.host(), grads.values(), &update);
        state.map(Host::into_tensor)
    }

    fn pool(table: FloatTensor<B>, bags: InputBags<FloatTensor<B>, Indices<B>>) -> Pooled<FloatTensor<B>> {
        <Reference as Kernels<B>>::pool(table, bags)
    }

    fn row_grads(
        bags: InputBags<FloatTensor<B>, Indices<B>>,
        grads: Pooled<FloatTensor<B>>,
        num_rows: usize,
    ) -> FloatTensor<B> {
        <Reference as Kernels<B>>::row_grads(bags, grads, num_rows)
    }

    fn update_pooled(
        table: WithMoments<FloatTensor<B>>,
        bags: InputBags<FloatTensor<B>, Indices<B>>,
        grads: Pooled<FloatTensor<B>>,
        update: RowUpdate,
    ) -> WithMoments<FloatTensor<B>> {
        <Reference as Kernels<B>>::update_pooled(table, bags, grads, update)
    }

    fn update_weights(
        weights: Vec<WithGrad<FloatTensor<B>>>,
        update: WeightUpdate,
    ) -> Vec<WithMoments<FloatTensor<B>>> {
        ops::update_weights::<B>(weights, &update)
    }
}
