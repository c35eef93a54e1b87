//! Hand-written backward passes: each calls the `*_backward` operation of the inner backend.

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::tensor::TensorMetadata;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::ops::{FloatTensor, IntTensor};

use super::{
    BagPlan, EsmmBackend, GroupPlan, InferenceLayer, InputPlan, LayerInput, LayerOutput, LayerSaved,
    LayerSpec, PooledInput, PooledOutput, PooledSaved, RowState, RowUpdate, WeightState, WeightUpdate,
};
use crate::precision::Precision;
use crate::slot_order::SlotOrder;

impl<B: EsmmBackend, C: CheckpointStrategy> EsmmBackend for Autodiff<B, C> {
    const QUEUES_WORK: bool = B::QUEUES_WORK;

    fn precisions(device: &Self::Device) -> Vec<Precision> {
        B::precisions(device)
    }

    /// Not part of a graph.
    fn gather_rows(table: FloatTensor<Self>, rows: IntTensor<Self>) -> FloatTensor<Self> {
        Self::from_inner(B::gather_rows(table.primitive, rows))
    }

    fn bag_pool(table: FloatTensor<Self>, plan: BagPlan<Self>) -> FloatTensor<Self> {
        let plan = inner_plan(plan);
        let num_rows = table.primitive.shape()[0] / plan.tables;
        match BagPool.prepare::<C>([table.node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let output = B::bag_pool(table.primitive, plan.clone());
                prep.finish((plan, num_rows), output)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::bag_pool(table.primitive, plan)),
        }
    }

    fn tower_layer(input: LayerInput<Self>, spec: LayerSpec) -> LayerOutput<Self> {
        let nodes = [
            input.input.node,
            input.weight.node,
            input.bias.node,
            input.gamma.node,
            input.beta.node,
            input.slope.node,
        ];
        let input = LayerInput::<B> {
            input: input.input.primitive,
            weight: input.weight.primitive,
            bias: input.bias.primitive,
            gamma: input.gamma.primitive,
            beta: input.beta.primitive,
            slope: input.slope.primitive,
        };
        let LayerOutput { output, saved } = B::tower_layer(input.clone(), spec);
        let outside = outside::<B, C>(&saved);
        let output = match TowerLayer.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((input, saved, spec), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        };
        LayerOutput { output, saved: outside }
    }

    fn pooled_layer(input: PooledInput<Self>, spec: LayerSpec) -> PooledOutput<Self> {
        let nodes = [
            input.table.node,
            input.weight.node,
            input.bias.node,
            input.gamma.node,
            input.beta.node,
            input.slope.node,
        ];
        let input = PooledInput::<B> {
            table: input.table.primitive,
            plan: inner_input_plan(input.plan),
            weight: input.weight.primitive,
            bias: input.bias.primitive,
            gamma: input.gamma.primitive,
            beta: input.beta.primitive,
            slope: input.slope.primitive,
        };
        let PooledOutput { output, saved } = B::pooled_layer(input.clone(), spec);
        // What is pooled stays inside: only the backward pass below reads it.
        let outside = PooledSaved { pooled: Vec::new(), layer: outside::<B, C>(&saved.layer) };
        let output = match PooledLayer.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((input, saved, spec), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        };
        PooledOutput { output, saved: outside }
    }

    /// Not part of a graph.
    fn infer_logits(
        table: FloatTensor<Self>,
        plan: BagPlan<Self>,
        layers: Vec<InferenceLayer<Self>>,
    ) -> FloatTensor<Self> {
        Self::from_inner(B::infer_logits(table.primitive, inner_plan(plan), inner_layers(layers)))
    }

    /// Not part of a graph.
    fn infer_pooled_logits(
        table: FloatTensor<Self>,
        plan: InputPlan<Self>,
        layers: Vec<InferenceLayer<Self>>,
    ) -> FloatTensor<Self> {
        Self::from_inner(B::infer_pooled_logits(
            table.primitive,
            inner_input_plan(plan),
            inner_layers(layers),
        ))
    }

    fn funnel_loss(logits: FloatTensor<Self>, reached: FloatTensor<Self>) -> FloatTensor<Self> {
        let (node, logits, reached) = (logits.node, logits.primitive, reached.primitive);
        match FunnelLoss.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let output = B::funnel_loss(logits.clone(), reached.clone());
                prep.finish((logits, reached), output)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::funnel_loss(logits, reached)),
        }
    }

    /// Not part of a graph.
    fn blend(old: FloatTensor<Self>, new: FloatTensor<Self>, factors: [f64; 2]) -> FloatTensor<Self> {
        Self::from_inner(B::blend(old.primitive, new.primitive, factors))
    }

    /// Not part of a graph: updates the table of the inner backend in place.
    fn update_rows(
        state: RowState<Self>,
        rows: IntTensor<Self>,
        grads: FloatTensor<Self>,
        update: RowUpdate,
    ) -> RowState<Self> {
        let inner = RowState::<B> {
            table: state.table.primitive,
            moments: state.moments.into_iter().map(|moment| moment.primitive).collect(),
        };
        let inner = B::update_rows(inner, rows, grads.primitive, update);
        RowState {
            table: Self::from_inner(inner.table),
            moments: inner.moments.into_iter().map(Self::from_inner).collect(),
        }
    }

    /// Not part of a graph.
    fn update_weights(
        state: WeightState<Self>,
        grad: FloatTensor<Self>,
        update: WeightUpdate,
    ) -> WeightState<Self> {
        let inner = WeightState::<B> {
            weight: state.weight.primitive,
            moments: state.moments.into_iter().map(|moment| moment.primitive).collect(),
        };
        let inner = B::update_weights(inner, grad.primitive, update);
        WeightState {
            weight: Self::from_inner(inner.weight),
            moments: inner.moments.into_iter().map(Self::from_inner).collect(),
        }
    }
}

fn inner_layers<B: EsmmBackend, C: CheckpointStrategy>(
    layers: Vec<InferenceLayer<Autodiff<B, C>>>,
) -> Vec<InferenceLayer<B>> {
    let layers = layers.into_iter().map(|layer| InferenceLayer {
        weight: layer.weight.primitive,
        scale: layer.scale.map(|scale| scale.primitive),
        shift: layer.shift.primitive,
        activation: layer.activation,
        slope: layer.slope.primitive,
    });
    layers.collect()
}

fn outside<B: EsmmBackend, C: CheckpointStrategy>(saved: &LayerSaved<B>) -> LayerSaved<Autodiff<B, C>> {
    let wrap = |tensor: &FloatTensor<B>| Autodiff::<B, C>::from_inner(tensor.clone());
    LayerSaved { hidden: wrap(&saved.hidden), mean: wrap(&saved.mean), variance: wrap(&saved.variance) }
}

fn inner_input_plan<B: EsmmBackend, C: CheckpointStrategy>(plan: InputPlan<Autodiff<B, C>>) -> InputPlan<B> {
    let groups = plan.groups.map(|groups| GroupPlan {
        bags: inner_plan(groups.bags),
        of_rows: groups.of_rows,
        rows_by_group: groups.rows_by_group.map(inner_order),
        features: groups.features,
    });
    InputPlan { own: inner_plan(plan.own), groups }
}

fn inner_plan<B: EsmmBackend, C: CheckpointStrategy>(plan: BagPlan<Autodiff<B, C>>) -> BagPlan<B> {
    BagPlan {
        tables: plan.tables,
        rows: plan.rows,
        num_sparse: plan.num_sparse,
        slots: plan.slots,
        order: plan.order.map(inner_order),
        bags: plan.bags.map(|(segments, weights)| (segments, weights.primitive)),
        dense: plan.dense.map(|dense| dense.primitive),
    }
}

fn inner_order<B: EsmmBackend, C: CheckpointStrategy>(order: SlotOrder<Autodiff<B, C>>) -> SlotOrder<B> {
    let SlotOrder { packed, entries, pieces, slots } = order;
    SlotOrder { packed, entries, pieces, slots }
}

#[derive(Debug)]
struct BagPool;

impl<B: EsmmBackend> Backward<B, 1> for BagPool {
    type State = (BagPlan<B>, usize);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let [table] = ops.parents;
        let (plan, num_rows) = ops.state;
        if let Some(node) = table {
            grads.register::<B>(node.id, B::bag_pool_backward(grad, plan, num_rows));
        }
    }
}

#[derive(Debug)]
struct TowerLayer;

impl<B: EsmmBackend> Backward<B, 6> for TowerLayer {
    type State = (LayerInput<B>, LayerSaved<B>, LayerSpec);

    fn backward(self, ops: Ops<Self::State, 6>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (input, saved, spec) = ops.state;
        let parts = B::tower_layer_backward(input, saved, grad, spec);
        let parts = [parts.input, parts.weight, parts.bias, parts.gamma, parts.beta, parts.slope];
        for (node, part) in ops.parents.into_iter().zip(parts) {
            if let Some(node) = node {
                grads.register::<B>(node.id, part);
            }
        }
    }
}

#[derive(Debug)]
struct PooledLayer;

impl<B: EsmmBackend> Backward<B, 6> for PooledLayer {
    type State = (PooledInput<B>, PooledSaved<B>, LayerSpec);

    fn backward(self, ops: Ops<Self::State, 6>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (input, saved, spec) = ops.state;
        let parts = B::pooled_layer_backward(input, saved, grad, spec);
        let parts = [parts.table, parts.weight, parts.bias, parts.gamma, parts.beta, parts.slope];
        for (node, part) in ops.parents.into_iter().zip(parts) {
            if let Some(node) = node {
                grads.register::<B>(node.id, part);
            }
        }
    }
}

#[derive(Debug)]
struct FunnelLoss;

impl<B: EsmmBackend> Backward<B, 1> for FunnelLoss {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let [logits_node] = ops.parents;
        let (logits, reached) = ops.state;
        if let Some(node) = logits_node {
            grads.register::<B>(node.id, B::funnel_loss_backward(logits, reached, grad));
        }
    }
}
