//! Pooling of table rows, forward and backward.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData, TensorMetadata};

use super::{float, ints, primitive, rows};
use crate::backend::{Bags, GroupBags, Indices, InputBags, RowUpdate, WithMoments};

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
pub(super) fn pool<B: Backend>(table: Tensor<B, 2>, bags: Bags<FloatTensor<B>, Indices<B>>) -> Tensor<B, 3> {
    let [all, dim] = table.dims();
    let tables = bags.tables;
    let rows = bags.rows;
    let table = table.reshape([tables, all / tables, dim]);
    let dense = bags.dense.map(|dense| {
        let dense = columns(float::<B, 2>(dense), bags.bins.as_deref());
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

/// The columns of dense features: see [`Bags::bins`].
fn columns<B: Backend>(numbers: Tensor<B, 2>, bins: Option<&[usize]>) -> Tensor<B, 2> {
    let Some(bins) = bins else { return numbers };
    let rows = numbers.dims()[0];
    let of_number = |(place, &bins): (usize, &usize)| {
        let number = numbers.clone().slice([0..rows, place..place + 1]);
        if bins == 1 {
            return number;
        }
        let starts = Tensor::<B, 1, Int>::arange(0..bins as i64, &numbers.device()).float();
        let starts = starts.cast(numbers.dtype()).unsqueeze::<2>();
        (number - starts).clamp(0.0, 1.0)
    };
    Tensor::cat(bins.iter().enumerate().map(of_number).collect(), 1)
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

/// See [`Kernels::row_grads`](crate::backend::Kernels::row_grads).
pub(super) fn row_grads<B: Backend>(
    mut bags: Bags<FloatTensor<B>, Indices<B>>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    let places = first_places(bags.slots.host());
    let entries = places.len();
    bags.slots = Indices::new(places, bags.slots.device());
    let grad = float::<B, 3>(grad);
    let dim = dim_of(&grad, &bags);
    primitive(pool_backward(grad, bags, entries, dim))
}

/// See [`Kernels::update_pooled`](crate::backend::Kernels::update_pooled).
pub(super) fn update_pooled<B: Backend>(
    table: WithMoments<FloatTensor<B>>,
    mut bags: Bags<FloatTensor<B>, Indices<B>>,
    grad: FloatTensor<B>,
    update: RowUpdate,
) -> WithMoments<FloatTensor<B>> {
    let mut touched = bags.slots.host().to_vec();
    touched.sort_unstable();
    touched.dedup();
    let number = |row: &u32| touched.partition_point(|touched| touched < row) as u32;
    let numbers = bags.slots.host().iter().map(number).collect();
    bags.slots = Indices::new(numbers, bags.slots.device());
    let grad = float::<B, 3>(grad);
    let dim = dim_of(&grad, &bags);
    let num_rows = (table.tensor.shape()[0] / bags.tables) as u32;
    let of_copy = |copy: u32| touched.iter().map(move |row| row + copy * num_rows);
    let rows = (0..bags.tables as u32).flat_map(of_copy).collect();
    let rows = Indices::new(rows, bags.slots.device());
    let grads = pool_backward(grad, bags, touched.len(), dim);
    rows::update::<B>(table, &rows, primitive(grads), update)
}

/// Place of the first entry of each entry's row, when entries are sorted by row.
fn first_places(slots: &[u32]) -> Vec<u32> {
    let mut sorted = slots.to_vec();
    sorted.sort_unstable();
    slots.iter().map(|row| sorted.partition_point(|other| other < row) as u32).collect()
}

fn dim_of<B: Backend>(grad: &Tensor<B, 3>, bags: &Bags<FloatTensor<B>, Indices<B>>) -> usize {
    let numbers = bags.dense.as_ref().map_or(0, |dense| dense.shape()[1]);
    let dense = bags.bins.as_ref().map_or(numbers, |bins| bins.iter().sum());
    (grad.dims()[2] - dense) / bags.num_sparse
}
