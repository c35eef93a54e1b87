//! Backward passes of the funnel's operations.

use std::marker::PhantomData;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorPrimitive};

use crate::backend::Kernels;
use crate::funnel::{self, ReachLogs};

/// `log P_k`, from the logits.
#[derive(Debug)]
pub(super) struct LogReachOp;

impl<B: Backend> Backward<B, 1> for LogReachOp {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let [logits_node] = ops.parents;
        if let Some(node) = logits_node {
            let grad = funnel::log_reach_backward::<B>(float(ops.state), float(grad));
            grads.register::<B>(node.id, grad.into_primitive().tensor());
        }
    }
}

/// `log(1 - P_k)`, from the logits; its state are these and the logarithms.
#[derive(Debug)]
pub(super) struct LogNotReachOp;

impl<B: Backend> Backward<B, 1> for LogNotReachOp {
    type State = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let [logits_node] = ops.parents;
        let (logits, log_reach, log_not_reach) = ops.state;
        if let Some(node) = logits_node {
            let logs = ReachLogs { log_reach: float(log_reach), log_not_reach: float(log_not_reach) };
            let grad = funnel::log_not_reach_backward::<B>(float(logits), logs, float(grad));
            grads.register::<B>(node.id, grad.into_primitive().tensor());
        }
    }
}

fn float<B: Backend>(tensor: FloatTensor<B>) -> Tensor<B, 2> {
    Tensor::from_primitive(TensorPrimitive::Float(tensor))
}

/// The mean cross-entropy of each stage; its state are the logits and the labels.
#[derive(Debug)]
pub(super) struct FunnelLossOp<K>(PhantomData<K>);

impl<K> FunnelLossOp<K> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<B: Backend, K: Kernels<B>> Backward<B, 1> for FunnelLossOp<K> {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let [logits_node] = ops.parents;
        let (logits, reached) = ops.state;
        if let Some(node) = logits_node {
            grads.register::<B>(node.id, K::funnel_loss_backward(logits, reached, grad));
        }
    }
}
