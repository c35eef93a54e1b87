//! Kernels for GPUs in CubeCL, one source for wgpu and CUDA.
//!
//! * `tensor.rs`: from tensors to what a kernel is launched with; strides, vectors, grids.
//! * `bags.rs`, `bags_backward.rs`, `pooled.rs`, `layer.rs`, `layer_backward.rs`, `logits.rs`, `blend.rs`, `funnel.rs`, `rows.rs`,
//!   `weights.rs`, `infer.rs`: the operations.
//! * `product.rs`, `rounding.rs`: products, CubeK's with the towers as their batches, and what their factors are rounded to.
//! * `tiles.rs`: matmuls in f32 at any distances of rows and columns.
//! * `weight_grad.rs`: matmuls over the batch, cut into pieces.
//! * `moments.rs`, `sums.rs`: what is summed over a batch; `block.rs`, `dropout.rs`, `log_space.rs`: what is done to an
//!   element.
//!
//! A kernel reads ids that were checked when the batch was built, so it runs without the checks of CubeCL; its units check
//! that their element exists. Nothing is added by atomics: sums go over chunks that depend on shapes alone, so the same
//! device gives the same bits. No operation waits for the device, but for a bag backward whose plan brings no
//! [`SlotOrder`]. Reals that are not f32 and integers that are not i32 go to the [reference](super::reference).

mod bags;
mod bags_backward;
mod blend;
mod block;
mod dropout;
mod funnel;
mod infer;
mod layer;
mod layer_backward;
mod log_space;
mod logits;
mod moments;
mod pooled;
mod product;
mod rounding;
mod rows;
mod sums;
mod tensor;
mod tiles;
mod weight_grad;
mod weights;

use burn::tensor::DType;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn_cubecl::element::{BoolElement, FloatElement, IntElement};
use burn_cubecl::ops::into_data_sync;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeRuntime};

use self::bags::Plan;
use self::tensor::{OnCube, all_f32};
use super::{
    BagPlan, EsmmBackend, GroupPlan, InferenceLayer, InputPlan, LayerGrads, LayerInput, LayerOutput,
    LayerSaved, LayerSpec, PooledGrads, PooledInput, PooledOutput, PooledSaved, RowState, RowUpdate,
    WeightState, WeightUpdate, reference,
};
use crate::precision::Precision;
use crate::slot_order::SlotOrder;

impl<R, F, I, BT> EsmmBackend for CubeBackend<R, F, I, BT>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    const QUEUES_WORK: bool = true;

    fn precisions(device: &Self::Device) -> Vec<Precision> {
        product::precisions(&R::client(device))
    }

    fn gather_rows(table: FloatTensor<Self>, rows: IntTensor<Self>) -> FloatTensor<Self> {
        if all_f32([&table]) && is_i32(&rows) {
            bags::gather_rows(table, rows)
        } else {
            reference::gather_rows::<Self>(table, rows)
        }
    }

    fn bag_pool(table: FloatTensor<Self>, plan: BagPlan<Self>) -> FloatTensor<Self> {
        if all_f32([&table]) && plan_fits(&plan) {
            bags::bag_pool(table, Plan::new(plan))
        } else {
            reference::bag_pool::<Self>(table, plan)
        }
    }

    fn bag_pool_backward(grad: FloatTensor<Self>, plan: BagPlan<Self>, num_rows: usize) -> FloatTensor<Self> {
        if !(all_f32([&grad]) && plan_fits(&plan)) {
            return reference::bag_pool_backward::<Self>(grad, plan, num_rows);
        }
        let order = plan.order.clone().unwrap_or_else(|| sort_on_host::<R, Self>(&plan.slots, num_rows));
        bags_backward::bag_pool_backward(grad, Plan::new(plan), order)
    }

    fn tower_layer(input: LayerInput<Self>, spec: LayerSpec) -> LayerOutput<Self> {
        if layer_is_f32(&input) {
            layer::tower_layer::<R, Self>(input, spec)
        } else {
            reference::tower_layer::<Self>(input, spec)
        }
    }

    fn tower_layer_backward(
        input: LayerInput<Self>,
        saved: LayerSaved<Self>,
        grad: FloatTensor<Self>,
        spec: LayerSpec,
    ) -> LayerGrads<Self> {
        if layer_is_f32(&input) {
            layer_backward::tower_layer_backward::<R, Self>(input, saved, grad, spec)
        } else {
            reference::tower_layer_backward::<Self>(input, saved, grad, spec)
        }
    }

    fn pooled_layer(input: PooledInput<Self>, spec: LayerSpec) -> PooledOutput<Self> {
        match groups_of(&input) {
            Some(groups) => pooled::pooled_layer::<R, Self>(input, groups, spec),
            None => reference::pooled_layer::<Self>(input, spec),
        }
    }

    fn pooled_layer_backward(
        input: PooledInput<Self>,
        saved: PooledSaved<Self>,
        grad: FloatTensor<Self>,
        spec: LayerSpec,
    ) -> PooledGrads<Self> {
        match groups_of(&input) {
            Some(groups) => pooled::pooled_layer_backward::<R, Self>(input, groups, saved, grad, spec),
            None => reference::pooled_layer_backward::<Self>(input, saved, grad, spec),
        }
    }

    fn infer_logits(
        table: FloatTensor<Self>,
        plan: BagPlan<Self>,
        layers: Vec<InferenceLayer<Self>>,
    ) -> FloatTensor<Self> {
        if all_f32([&table]) && plan_fits(&plan) && all_f32(layers.iter().map(|layer| &layer.weight)) {
            infer::infer_logits::<R, Self>(table, Plan::new(plan), layers)
        } else {
            reference::infer_logits::<Self>(table, plan, layers)
        }
    }

    fn infer_pooled_logits(
        table: FloatTensor<Self>,
        plan: InputPlan<Self>,
        layers: Vec<InferenceLayer<Self>>,
    ) -> FloatTensor<Self> {
        let is_f32 = all_f32([&table].into_iter().chain(layers.iter().map(|layer| &layer.weight)));
        match plan {
            InputPlan { own, groups: Some(groups) } if is_f32 && groups_fit(&own, &groups) => {
                pooled::infer_pooled_logits::<R, Self>(table, own, groups, layers)
            }
            plan => reference::infer_pooled_logits::<Self>(table, plan, layers),
        }
    }

    fn blend(old: FloatTensor<Self>, new: FloatTensor<Self>, factors: [f64; 2]) -> FloatTensor<Self> {
        if all_f32([&old, &new]) {
            blend::blend(old, new, factors)
        } else {
            reference::blend::<Self>(old, new, factors)
        }
    }

    fn funnel_loss(logits: FloatTensor<Self>, reached: FloatTensor<Self>) -> FloatTensor<Self> {
        if all_f32([&logits, &reached]) {
            funnel::loss(logits, reached)
        } else {
            reference::funnel_loss::<Self>(logits, reached)
        }
    }

    fn funnel_loss_backward(
        logits: FloatTensor<Self>,
        reached: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        if all_f32([&logits, &reached, &grad]) {
            funnel::loss_backward(logits, reached, grad)
        } else {
            reference::funnel_loss_backward::<Self>(logits, reached, grad)
        }
    }

    fn funnel_logs(logits: FloatTensor<Self>) -> [FloatTensor<Self>; 2] {
        if all_f32([&logits]) { funnel::logs(logits) } else { reference::funnel_logs::<Self>(logits) }
    }

    fn funnel_probs(logits: FloatTensor<Self>) -> [FloatTensor<Self>; 3] {
        if all_f32([&logits]) { funnel::probs(logits) } else { reference::funnel_probs::<Self>(logits) }
    }

    fn update_weights(
        state: WeightState<Self>,
        grad: FloatTensor<Self>,
        update: WeightUpdate,
    ) -> WeightState<Self> {
        if !all_f32(state.moments.iter().chain([&state.weight, &grad])) {
            return reference::update_weights::<Self>(state, grad, update);
        }
        let tensors = [state.weight].into_iter().chain(state.moments).collect();
        let mut tensors = weights::update_weights(tensors, grad, update).into_iter();
        match tensors.next() {
            Some(weight) => WeightState { weight, moments: tensors.collect() },
            None => panic!("an update lost its weight"),
        }
    }

    fn update_rows(
        state: RowState<Self>,
        rows: IntTensor<Self>,
        grads: FloatTensor<Self>,
        update: RowUpdate,
    ) -> RowState<Self> {
        if !(all_f32(state.moments.iter().chain([&state.table, &grads])) && is_i32(&rows)) {
            return reference::update_rows::<Self>(state, rows, grads, update);
        }
        let tables = [state.table].into_iter().chain(state.moments).collect();
        let mut tables = rows::update_rows(tables, rows, grads, update).into_iter();
        match tables.next() {
            Some(table) => RowState { table, moments: tables.collect() },
            None => panic!("a row update lost its table"),
        }
    }
}

fn is_i32<R: CubeRuntime>(tensor: &CubeTensor<R>) -> bool {
    tensor.dtype == DType::I32
}

fn plan_fits<R: CubeRuntime, B: OnCube<R>>(plan: &BagPlan<B>) -> bool {
    let weights = plan.bags.iter().map(|(_, weights)| weights);
    let segments = plan.bags.iter().all(|(segments, _)| is_i32(segments));
    is_i32(&plan.slots) && segments && all_f32(weights.chain(&plan.dense))
}

fn groups_fit<R: CubeRuntime, B: OnCube<R>>(own: &BagPlan<B>, groups: &GroupPlan<B>) -> bool {
    plan_fits(own) && plan_fits(&groups.bags) && is_i32(&groups.of_rows)
}

/// What groups share, if there are groups and kernels can read all of the input.
fn groups_of<R: CubeRuntime, B: OnCube<R>>(input: &PooledInput<B>) -> Option<GroupPlan<B>> {
    let PooledInput { table, plan, weight, bias, gamma, beta, slope } = input;
    let is_f32 = all_f32([table, weight, bias, gamma, beta, slope]);
    plan.groups.clone().filter(|groups| is_f32 && groups_fit(&plan.own, groups))
}

fn layer_is_f32<R: CubeRuntime, B: OnCube<R>>(input: &LayerInput<B>) -> bool {
    let LayerInput { input, weight, bias, gamma, beta, slope } = input;
    all_f32([input, weight, bias, gamma, beta, slope])
}

/// For plans that were made by hand: waits for the device. Batches bring their order.
fn sort_on_host<R: CubeRuntime, B: OnCube<R>>(slots: &CubeTensor<R>, num_rows: usize) -> SlotOrder<B> {
    let host: Vec<i32> = into_data_sync(slots.clone()).iter::<i32>().collect();
    SlotOrder::new(&host, num_rows, &slots.device)
}
