//! Kernels for GPUs in CubeCL, one source for wgpu and CUDA.
//!
//! * `tensor.rs`: from tensors to what a kernel is launched with; strides, vectors, grids. `upload.rs`: batches in one piece.
//! * `bags.rs`, `grouped_layer.rs`, `layer.rs`, `layer_backward.rs`, `logits.rs`, `fold.rs`, `funnel.rs`,
//!   `rows.rs` (with `rows_by_value.rs`, `row_wise.rs`), `weights.rs`, `infer.rs`: the operations.
//! * `matmul.rs`, `rounding.rs`, `largest.rs`: matmuls, who computes them, and what their factors are rounded to.
//! * `tiles.rs`, `tile_pair.rs`: matmuls in f32 at any distances of rows and columns, one or two a launch; `tile.rs`,
//!   `layer_shape.rs`: how they are cut, `factor.rs`, `quads.rs`: where their factors lie, `task.rs`, `extent.rs`: what a
//!   launch and its kernel need of them, `tile_cube.rs`, `tile_stage.rs`: what a cube does, `epilogue.rs`,
//!   `tile_moments.rs`: what is done to results before they are written.
//! * `tensor_tiles.rs`, `tensor_pair.rs`: the same in tf32, bf16 and f16 on tensor cores, `tensor_cores.rs`: where there are
//!   some, and tiles, `tensor_cube.rs`: what a cube does, `tensor_stage.rs`, `tensor_results.rs`, `tensor_moments.rs`:
//!   factors to shared memory, results from there.
//! * `weight_grad.rs`: matmuls over the batch, cut into pieces; `join.rs`: pieces of all layers, added up.
//! * `sort.rs`, `scatter.rs`, `pooled.rs`: the distinct rows of a batch, and gradients of them.
//! * `chunks.rs`: passes over the rows of a batch; `moments.rs`, `sums.rs`: what is summed over one, `joined_sums.rs`: chunks
//!   added up, `hidden_grad.rs`: what follows from the sums backward, `saved.rs`, `from_above.rs`: what both passes backward
//!   read.
//! * `block.rs`, `dropout.rs`, `log_space.rs`: what is done to an element.
//!
//! A kernel reads ids that were checked when the batch was built, so it runs without the checks of CubeCL; its units check
//! that their element exists. Nothing is added by atomics: sums go over chunks that depend on shapes alone, so the same
//! device computes the same bits. No operation waits for the device.

mod bags;
mod block;
mod chunks;
mod dropout;
mod epilogue;
mod extent;
mod factor;
mod fold;
mod from_above;
mod funnel;
mod grouped_layer;
mod hidden_grad;
mod infer;
mod join;
mod joined_sums;
mod largest;
mod layer;
mod layer_backward;
mod layer_shape;
mod log_space;
mod logits;
mod matmul;
mod moments;
mod pooled;
mod quads;
mod rounding;
mod row_wise;
mod rows;
mod rows_by_value;
mod saved;
mod scatter;
mod sort;
mod sums;
mod task;
mod tensor;
mod tensor_cores;
mod tensor_cube;
mod tensor_moments;
mod tensor_pair;
mod tensor_results;
mod tensor_stage;
mod tensor_tiles;
mod tile;
mod tile_cube;
mod tile_moments;
mod tile_pair;
mod tile_stage;
mod tiles;
mod upload;
mod weight_grad;
mod weights;

use std::fmt::Debug;
use std::marker::PhantomData;

use burn::tensor::ops::FloatTensor;
use burn_cubecl::element::{BoolElement, FloatElement, IntElement};
use burn_cubecl::{CubeBackend, CubeRuntime};

use self::fold::Folded;
use self::from_above::FromAbove;
use self::join::Sum;
use self::layer_backward::WeightSums;
use self::rows::Grads;
use self::tensor::{OnCube, ints};
use super::{
    Blend, DeviceFacts, DeviceLine, Dispatched, EsmmBackend, FirstLayer, FirstLayerGrads, GroupedLayer,
    GroupedLayerGrads, HostAccess, HostLine, Indices, InferenceLayer, InputBags, Kernels, Layer, LayerOutput,
    LayerSaved, LayerSpec, LayerWeights, Moments, Norm, Pooled, Reference, RowUpdate, Running, TowersGrads,
    TowersOperands, TowersOutput, WeightUpdate, WithGrad, WithMoments,
};
use crate::backend::towers::{first_layer, first_layer_backward, walk, walk_back};
use crate::precision::Precision;

pub use tensor::pad_rows;

/// The kernels for tensors of a CubeCL runtime: wgpu's and CUDA's, in f32.
#[derive(Debug)]
pub struct Cube<R>(PhantomData<R>);

impl<R, F, I, BT> DeviceFacts for CubeBackend<R, F, I, BT>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    const QUEUES_WORK: bool = true;
    const FINDS_ROWS: bool = true;

    fn precisions(device: &Self::Device) -> Vec<Precision> {
        matmul::precisions(&R::client(device))
    }
}

impl<R, F, I, BT> HostAccess for CubeBackend<R, F, I, BT>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    fn upload(lines: Vec<HostLine>, device: &Self::Device) -> Vec<DeviceLine<Self>> {
        upload::upload::<R, Self>(lines, device)
    }
}

impl<R, F, I, BT> EsmmBackend for CubeBackend<R, F, I, BT>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    type Kernels = Dispatched<Cube<R>>;
}

/// The weights of the one layer.
fn only<T>(mut layers: Vec<LayerWeights<T>>) -> LayerWeights<T> {
    match layers.pop() {
        Some(weights) => weights,
        None => panic!("the weights of a layer got lost"),
    }
}

#[allow(private_bounds, reason = "which backends have CubeCL's tensors is decided in this folder")]
impl<R: CubeRuntime, B: OnCube<R>> Kernels<B> for Cube<R> {
    type Saved = <Reference as Kernels<B>>::Saved;

    fn gather_rows(table: FloatTensor<B>, rows: Indices<B>) -> FloatTensor<B> {
        <Reference as Kernels<B>>::gather_rows(table, rows)
    }

    fn first_layer(
        layer: FirstLayer<FloatTensor<B>, Indices<B>>,
        spec: LayerSpec,
    ) -> (LayerOutput<FloatTensor<B>>, Self::Saved) {
        <Reference as Kernels<B>>::first_layer(layer, spec)
    }

    fn first_layer_backward(
        layer: FirstLayer<FloatTensor<B>, Indices<B>>,
        saved: LayerSaved<FloatTensor<B>>,
        own: Self::Saved,
        grad: FloatTensor<B>,
        spec: LayerSpec,
    ) -> FirstLayerGrads<FloatTensor<B>> {
        <Reference as Kernels<B>>::first_layer_backward(layer, saved, own, grad, spec)
    }

    fn grouped_layer(
        layer: GroupedLayer<FloatTensor<B>, Indices<B>>,
        spec: LayerSpec,
    ) -> LayerOutput<FloatTensor<B>> {
        let (output, _) = grouped_layer::grouped_layer::<R, B>(layer, None, spec);
        output
    }

    fn grouped_layer_backward(
        layer: GroupedLayer<FloatTensor<B>, Indices<B>>,
        saved: LayerSaved<FloatTensor<B>>,
        grad: FloatTensor<B>,
        spec: LayerSpec,
    ) -> GroupedLayerGrads<FloatTensor<B>> {
        let ([own, shared], weights) =
            grouped_layer::grouped_layer_backward::<R, B>(layer, saved, grad.into(), spec);
        GroupedLayerGrads { own, shared, weights: only(layer_backward::join_weights(vec![weights])) }
    }

    fn layer(layer: Layer<FloatTensor<B>>, spec: LayerSpec) -> LayerOutput<FloatTensor<B>> {
        let (output, _) = layer::layer(layer, None, spec);
        output
    }

    fn layer_backward(
        layer: Layer<FloatTensor<B>>,
        saved: LayerSaved<FloatTensor<B>>,
        grad: FloatTensor<B>,
        spec: LayerSpec,
    ) -> Layer<FloatTensor<B>> {
        let (input, weights) = layer_backward::layer_backward::<R, B>(layer, saved, grad.into(), spec);
        // Whole before the sums are joined, for the pass that computes it makes those of the logits.
        let input = input.into();
        Layer { input, weights: only(layer_backward::join_weights(vec![weights])) }
    }

    fn towers(
        towers: TowersOperands<FloatTensor<B>, Indices<B>>,
        running: Vec<Option<Running<FloatTensor<B>>>>,
        specs: &[LayerSpec],
    ) -> TowersOutput<FloatTensor<B>, Self::Saved> {
        let of_rows = first_layer::<B, Self>;
        walk(towers, running, specs, layer::layer, grouped_layer::grouped_layer::<R, B>, of_rows)
    }

    fn towers_backward(
        towers: TowersOperands<FloatTensor<B>, Indices<B>>,
        saved: TowersOutput<FloatTensor<B>, Self::Saved>,
        grad: FloatTensor<B>,
        specs: &[LayerSpec],
    ) -> TowersGrads<FloatTensor<B>> {
        walk_back(
            towers,
            saved,
            grad,
            specs,
            layer_backward::layer_backward::<R, B>,
            grouped_layer::grouped_layer_backward::<R, B>,
            |layer, saved, own, grad: FromAbove<R>, spec| {
                let (table, weights) = first_layer_backward::<B, Self>(layer, saved, own, grad.into(), spec);
                let (weight, columns) = layer::Columns::split(weights);
                (table, WeightSums::Hidden(Sum::Whole(weight), columns))
            },
            layer_backward::join_weights,
        )
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
        let Norm { gamma, beta } = norm;
        let Moments { mean, variance } = running;
        fold::fold_norm(Folded { bias, gamma, beta, mean, variance }, epsilon)
    }

    fn infer(
        table: FloatTensor<B>,
        bags: InputBags<FloatTensor<B>, Indices<B>>,
        layers: Vec<InferenceLayer<FloatTensor<B>>>,
    ) -> FloatTensor<B> {
        grouped_layer::infer::<R, B>(table, bags, layers)
    }

    fn funnel_logs(logits: FloatTensor<B>) -> [FloatTensor<B>; 2] {
        funnel::logs(logits)
    }

    fn funnel_probs(logits: FloatTensor<B>) -> [FloatTensor<B>; 3] {
        funnel::probs(logits)
    }

    fn funnel_loss(logits: FloatTensor<B>, reached: FloatTensor<B>) -> FloatTensor<B> {
        funnel::loss(logits, reached)
    }

    fn funnel_loss_backward(
        logits: FloatTensor<B>,
        reached: FloatTensor<B>,
        grad: FloatTensor<B>,
    ) -> FloatTensor<B> {
        funnel::loss_backward(logits, reached, grad)
    }

    fn update_rows(
        table: WithMoments<FloatTensor<B>>,
        rows: Indices<B>,
        grads: FloatTensor<B>,
        update: RowUpdate,
    ) -> WithMoments<FloatTensor<B>> {
        rows::update_rows(table, Grads::listed(ints(&rows), grads), update)
    }

    fn pool(table: FloatTensor<B>, bags: InputBags<FloatTensor<B>, Indices<B>>) -> Pooled<FloatTensor<B>> {
        bags::pool_to_sort::<R, B>(table, &bags)
    }

    fn row_grads(
        bags: InputBags<FloatTensor<B>, Indices<B>>,
        grads: Pooled<FloatTensor<B>>,
        num_rows: usize,
    ) -> FloatTensor<B> {
        pooled::row_grads::<R, B>(bags, grads, num_rows)
    }

    fn update_pooled(
        table: WithMoments<FloatTensor<B>>,
        bags: InputBags<FloatTensor<B>, Indices<B>>,
        grads: Pooled<FloatTensor<B>>,
        update: RowUpdate,
    ) -> WithMoments<FloatTensor<B>> {
        let num_rows = table.tensor.meta.shape()[0] / bags.own.tables;
        let sums = pooled::piece_sums::<R, B>(bags, grads, num_rows);
        rows::update_rows(table, Grads::runs(sums), update)
    }

    fn update_weights(
        weights: Vec<WithGrad<FloatTensor<B>>>,
        update: WeightUpdate,
    ) -> Vec<WithMoments<FloatTensor<B>>> {
        weights::update_weights(weights, update)
    }
}
