//! Hand-written backward passes: each calls the `*_backward` operation of the inner backend.

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::tensor::TensorMetadata;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::ops::{FloatTensor, IntTensor};

use super::{BagPlan, BlockInput, BlockOutput, BlockSpec, EsmmBackend, RowState, RowUpdate};

impl<B: EsmmBackend, C: CheckpointStrategy> EsmmBackend for Autodiff<B, C> {
    fn bag_pool(touched: FloatTensor<Self>, plan: BagPlan<Self>) -> FloatTensor<Self> {
        let plan = inner_plan(plan);
        let num_touched = touched.primitive.shape()[1];
        match BagPool.prepare::<C>([touched.node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let output = B::bag_pool(touched.primitive, plan.clone());
                prep.finish((plan, num_touched), output)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::bag_pool(touched.primitive, plan)),
        }
    }

    fn stacked_linear(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let nodes = [input.node, weight.node, bias.node];
        let (input, weight, bias) = (input.primitive, weight.primitive, bias.primitive);
        match StackedLinear.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let output = B::stacked_linear(input.clone(), weight.clone(), bias);
                prep.finish((input, weight), output)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::stacked_linear(input, weight, bias)),
        }
    }

    fn tower_block(input: BlockInput<Self>, spec: BlockSpec) -> BlockOutput<Self> {
        let nodes = [input.hidden.node, input.gamma.node, input.beta.node, input.slope.node];
        let input = BlockInput::<B> {
            hidden: input.hidden.primitive,
            gamma: input.gamma.primitive,
            beta: input.beta.primitive,
            slope: input.slope.primitive,
        };
        let block = B::tower_block(input.clone(), spec);
        let mean = Self::from_inner(block.mean.clone());
        let variance = Self::from_inner(block.variance.clone());
        let output = match TowerBlock.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((input, block.mean, block.variance, spec), block.output),
            OpsKind::UnTracked(prep) => prep.finish(block.output),
        };
        BlockOutput { output, mean, variance }
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
}

fn inner_plan<B: EsmmBackend, C: CheckpointStrategy>(plan: BagPlan<Autodiff<B, C>>) -> BagPlan<B> {
    BagPlan {
        rows: plan.rows,
        num_sparse: plan.num_sparse,
        slots: plan.slots,
        bags: plan.bags.map(|(segments, weights)| (segments, weights.primitive)),
    }
}

#[derive(Debug)]
struct BagPool;

impl<B: EsmmBackend> Backward<B, 1> for BagPool {
    type State = (BagPlan<B>, usize);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let [touched] = ops.parents;
        let (plan, num_touched) = ops.state;
        if let Some(node) = touched {
            grads.register::<B>(node.id, B::bag_pool_backward(grad, plan, num_touched));
        }
    }
}

#[derive(Debug)]
struct StackedLinear;

impl<B: EsmmBackend> Backward<B, 3> for StackedLinear {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (input, weight) = ops.state;
        let parts = B::stacked_linear_backward(input, weight, grad);
        for (node, part) in ops.parents.into_iter().zip(parts) {
            if let Some(node) = node {
                grads.register::<B>(node.id, part);
            }
        }
    }
}

#[derive(Debug)]
struct TowerBlock;

impl<B: EsmmBackend> Backward<B, 4> for TowerBlock {
    type State = (BlockInput<B>, FloatTensor<B>, FloatTensor<B>, BlockSpec);

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (input, mean, variance, spec) = ops.state;
        let parts = B::tower_block_backward(input, mean, variance, grad, spec);
        let parts = [parts.hidden, parts.gamma, parts.beta, parts.slope];
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
