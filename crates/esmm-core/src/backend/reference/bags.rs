//! Pooling of embeddings, forward and backward.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{IndexingUpdateOp, Tensor};

use super::{float, ints, primitive};
use crate::backend::BagPlan;

/// See [`EsmmBackend::bag_pool`](crate::EsmmBackend::bag_pool).
pub fn bag_pool<B: Backend>(touched: FloatTensor<B>, plan: BagPlan<B>) -> FloatTensor<B> {
    let touched = float::<B, 3>(touched);
    let [tables, _, dim] = touched.dims();
    let entries = touched.select(1, ints(plan.slots));
    let bags = match plan.bags {
        None => entries,
        Some((segments, weights)) => {
            let weighted = entries * float::<B, 1>(weights).unsqueeze::<2>().unsqueeze_dim(2);
            let empty = Tensor::zeros([tables, plan.rows * plan.num_sparse, dim], &weighted.device());
            empty.select_assign(1, ints(segments), weighted, IndexingUpdateOp::Add)
        }
    };
    primitive(bags.reshape([tables, plan.rows, plan.num_sparse * dim]))
}

/// See [`EsmmBackend::bag_pool_backward`](crate::EsmmBackend::bag_pool_backward).
pub fn bag_pool_backward<B: Backend>(
    grad: FloatTensor<B>,
    plan: BagPlan<B>,
    num_touched: usize,
) -> FloatTensor<B> {
    let grad = float::<B, 3>(grad);
    let [tables, rows, width] = grad.dims();
    let dim = width / plan.num_sparse;
    let bags = grad.reshape([tables, rows * plan.num_sparse, dim]);
    let entries = match plan.bags {
        None => bags,
        Some((segments, weights)) => {
            bags.select(1, ints(segments)) * float::<B, 1>(weights).unsqueeze::<2>().unsqueeze_dim(2)
        }
    };
    let zeros = Tensor::zeros([tables, num_touched, dim], &entries.device());
    primitive(zeros.select_assign(1, ints(plan.slots), entries, IndexingUpdateOp::Add))
}
