//! Pooling of embeddings, forward and backward.

use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{IndexingUpdateOp, Tensor};

use super::{float, ints, primitive};
use crate::backend::BagPlan;

/// See [`EsmmBackend::gather_rows`](crate::EsmmBackend::gather_rows).
pub fn gather_rows<B: Backend>(table: FloatTensor<B>, rows: IntTensor<B>) -> FloatTensor<B> {
    primitive(float::<B, 2>(table).select(0, ints(rows)))
}

/// See [`EsmmBackend::bag_pool`](crate::EsmmBackend::bag_pool).
pub fn bag_pool<B: Backend>(table: FloatTensor<B>, plan: BagPlan<B>) -> FloatTensor<B> {
    let table = float::<B, 2>(table);
    let ([all, dim], tables, rows) = (table.dims(), plan.tables, plan.rows);
    let table = table.reshape([tables, all / tables, dim]);
    let dense = plan.dense.map(|dense| {
        let dense = float::<B, 2>(dense);
        let width = dense.dims()[1];
        dense.unsqueeze::<3>().expand([tables, rows, width])
    });
    if let (0, Some(dense)) = (plan.num_sparse, &dense) {
        return primitive(dense.clone());
    }
    let entries = table.select(1, ints(plan.slots));
    let bags = match plan.bags {
        None => entries,
        Some((segments, weights)) => {
            let weighted = entries * float::<B, 1>(weights).unsqueeze::<2>().unsqueeze_dim(2);
            let empty = Tensor::zeros([tables, plan.rows * plan.num_sparse, dim], &weighted.device());
            empty.select_assign(1, ints(segments), weighted, IndexingUpdateOp::Add)
        }
    };
    let pooled = bags.reshape([tables, plan.rows, plan.num_sparse * dim]);
    primitive(match dense {
        None => pooled,
        Some(dense) => Tensor::cat(vec![pooled, dense], 2),
    })
}

/// See [`EsmmBackend::bag_pool_backward`](crate::EsmmBackend::bag_pool_backward).
pub fn bag_pool_backward<B: Backend>(
    grad: FloatTensor<B>,
    plan: BagPlan<B>,
    num_rows: usize,
) -> FloatTensor<B> {
    let grad = float::<B, 3>(grad);
    let [tables, rows, width] = grad.dims();
    let width = width - plan.dense.map_or(0, |dense| float::<B, 2>(dense).dims()[1]);
    let grad = grad.slice([0..tables, 0..rows, 0..width]);
    let dim = width / plan.num_sparse;
    let bags = grad.reshape([tables, rows * plan.num_sparse, dim]);
    let entries = match plan.bags {
        None => bags,
        Some((segments, weights)) => {
            bags.select(1, ints(segments)) * float::<B, 1>(weights).unsqueeze::<2>().unsqueeze_dim(2)
        }
    };
    let zeros = Tensor::zeros([tables, num_rows, dim], &entries.device());
    let sums = zeros.select_assign(1, ints(plan.slots), entries, IndexingUpdateOp::Add);
    primitive(sums.reshape([tables * num_rows, dim]))
}
