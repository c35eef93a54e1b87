//! Pooling of table rows, forward and backward.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};

use super::{float, ints, primitive};
use crate::backend::{Bags, GroupBags, Indices, InputBags};

pub(super) fn gather_rows<B: Backend>(table: FloatTensor<B>, rows: &Indices<B>) -> FloatTensor<B> {
    primitive(float::<B, 2>(table).select(0, ints(rows.tensor())))
}

/// The towers' input: every row with the bags of its group, columns in the order of the model.
///
/// # Shapes
/// `table [T * U, D]` to `[T, B, F * D + V]`.
pub(super) fn pool_input<B: Backend>(
    table: Tensor<B, 2>,
    bags: InputBags<FloatTensor<B>, Indices<B>>,
) -> Tensor<B, 3> {
    let InputBags { own, groups } = bags;
    let Some(GroupBags { bags, of_rows, features }) = groups else { return pool(table, own) };
    let dim = table.dims()[1];
    let own = pool(table.clone(), own);
    let shared = pool(table, bags).select(1, ints(of_rows.tensor()));
    // Column `i` of the input is column `places[i]` of the own columns followed by the shared ones.
    let columns = features.columns(false, dim).into_iter().chain(features.columns(true, dim)).flatten();
    let mut places: Vec<(usize, usize)> =
        columns.enumerate().map(|(place, column)| (column, place)).collect();
    places.sort_unstable();
    let places: Vec<usize> = places.into_iter().map(|(_, place)| place).collect();
    let places = numbers(&places, &own);
    Tensor::cat(vec![own, shared], 2).select(2, places)
}

/// Gradient of [`pool_input`] with respect to the rows of the table.
///
/// # Shapes
/// `grad [T, B, F * D + V]` to `[T * U, D]`, U = `num_rows`.
pub(super) fn pool_input_backward<B: Backend>(
    grad: Tensor<B, 3>,
    bags: InputBags<FloatTensor<B>, Indices<B>>,
    num_rows: usize,
    dim: usize,
) -> Tensor<B, 2> {
    let InputBags { own, groups } = bags;
    let Some(GroupBags { bags, of_rows, features }) = groups else {
        return pool_backward(grad, own, num_rows, dim);
    };
    let of = |shared: bool| {
        let columns: Vec<usize> = features.columns(shared, dim).into_iter().flatten().collect();
        grad.clone().select(2, numbers(&columns, &grad))
    };
    let own_grad = of(false);
    let row_grad = of(true);
    let [tables, _, width] = row_grad.dims();
    let zeros = Tensor::zeros([tables, bags.rows, width], (&row_grad.device(), row_grad.dtype()));
    let group_grad = zeros.select_assign(1, ints(of_rows.tensor()), row_grad, IndexingUpdateOp::Add);
    pool_backward(own_grad, own, num_rows, dim) + pool_backward(group_grad, bags, num_rows, dim)
}

/// Weighted sums of table rows, bag by bag, with the dense values after them.
///
/// # Shapes
/// `table [T * U, D]` to `[T, B, F * D + V]`.
fn pool<B: Backend>(table: Tensor<B, 2>, bags: Bags<FloatTensor<B>, Indices<B>>) -> Tensor<B, 3> {
    let [all, dim] = table.dims();
    let tables = bags.tables;
    let rows = bags.rows;
    let table = table.reshape([tables, all / tables, dim]);
    let dense = bags.dense.map(|dense| {
        let dense = float::<B, 2>(dense);
        let width = dense.dims()[1];
        dense.unsqueeze::<3>().expand([tables, rows, width])
    });
    if let (0, Some(dense)) = (bags.num_sparse, &dense) {
        return dense.clone();
    }
    let entries = table.select(1, ints(bags.slots.tensor()));
    let sums = match bags.weighted {
        None => entries,
        Some((segments, weights)) => {
            let weighted = entries * float::<B, 1>(weights).unsqueeze::<2>().unsqueeze_dim(2);
            let empty =
                Tensor::zeros([tables, rows * bags.num_sparse, dim], (&weighted.device(), weighted.dtype()));
            empty.select_assign(1, ints(segments.tensor()), weighted, IndexingUpdateOp::Add)
        }
    };
    let pooled = sums.reshape([tables, rows, bags.num_sparse * dim]);
    match dense {
        None => pooled,
        Some(dense) => Tensor::cat(vec![pooled, dense], 2),
    }
}

/// Gradient of [`pool`] with respect to the rows of the table.
///
/// # Shapes
/// `grad [T, B, F * D + V]` to `[T * U, D]`, U = `num_rows`.
fn pool_backward<B: Backend>(
    grad: Tensor<B, 3>,
    bags: Bags<FloatTensor<B>, Indices<B>>,
    num_rows: usize,
    dim: usize,
) -> Tensor<B, 2> {
    let [tables, rows, _] = grad.dims();
    let zeros = Tensor::zeros([tables, num_rows, dim], (&grad.device(), grad.dtype()));
    if bags.num_sparse == 0 {
        return zeros.reshape([tables * num_rows, dim]);
    }
    let grad = grad.slice([0..tables, 0..rows, 0..bags.num_sparse * dim]);
    let sums = grad.reshape([tables, rows * bags.num_sparse, dim]);
    let entries = match bags.weighted {
        None => sums,
        Some((segments, weights)) => {
            let weights = float::<B, 1>(weights).unsqueeze::<2>().unsqueeze_dim(2);
            sums.select(1, ints(segments.tensor())) * weights
        }
    };
    let sums = zeros.select_assign(1, ints(bags.slots.tensor()), entries, IndexingUpdateOp::Add);
    sums.reshape([tables * num_rows, dim])
}

fn numbers<B: Backend, const D: usize>(values: &[usize], like: &Tensor<B, D>) -> Tensor<B, 1, Int> {
    let values: Vec<i32> = values.iter().map(|&value| value as i32).collect();
    Tensor::from_data(TensorData::from(values.as_slice()), &like.device())
}
