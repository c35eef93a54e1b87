//! Pooling of table rows, forward and backward.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData, TensorMetadata};

use super::{float, ints, primitive, rows};
use crate::backend::{Bags, GroupBags, Indices, InputBags, Pooled, RowUpdate, WithMoments};

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
    let Some(groups) = groups else { return pool(table, own) };
    let dim = table.dims()[1];
    let own = pool(table.clone(), own);
    let shared = pool(table, groups.bags.clone());
    join_input(own, shared, &groups, dim)
}

/// Every row with what it has of its own and what its group shares, columns in the order of the model.
///
/// # Shapes
/// `own [T, B, own columns]`, `shared [T, G, shared columns]` to `[T, B, F * D + V]`.
pub(super) fn join_input<B: Backend>(
    own: Tensor<B, 3>,
    shared: Tensor<B, 3>,
    groups: &GroupBags<FloatTensor<B>, Indices<B>>,
    dim: usize,
) -> Tensor<B, 3> {
    let GroupBags { of_rows, features, .. } = groups;
    let shared = shared.select(1, ints(of_rows.tensor()));
    // Column `i` of the input is column `places[i]` of the own columns followed by the shared ones.
    let columns = features.columns(false, dim).into_iter().chain(features.columns(true, dim)).flatten();
    let mut places: Vec<(usize, usize)> =
        columns.enumerate().map(|(place, column)| (column, place)).collect();
    places.sort_unstable();
    let places: Vec<usize> = places.into_iter().map(|(_, place)| place).collect();
    let places = numbers(&places, &own);
    Tensor::cat(vec![own, shared], 2).select(2, places)
}

/// Gradients of what [`join_input`] joined: that of a group is the sum over its rows.
///
/// # Shapes
/// `grad [T, B, F * D + V]` to `[T, B, own columns]` and `[T, G, shared columns]`.
pub(super) fn join_input_backward<B: Backend>(
    grad: Tensor<B, 3>,
    groups: &GroupBags<FloatTensor<B>, Indices<B>>,
    dim: usize,
) -> [Tensor<B, 3>; 2] {
    let GroupBags { bags, of_rows, features } = groups;
    let of = |shared: bool| {
        let columns: Vec<usize> = features.columns(shared, dim).into_iter().flatten().collect();
        grad.clone().select(2, numbers(&columns, &grad))
    };
    let own_grad = of(false);
    let row_grad = of(true);
    let [tables, _, width] = row_grad.dims();
    let zeros = Tensor::zeros([tables, bags.rows, width], (&row_grad.device(), row_grad.dtype()));
    let group_grad = zeros.select_assign(1, ints(of_rows.tensor()), row_grad, IndexingUpdateOp::Add);
    [own_grad, group_grad]
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
    let Some(groups) = groups else {
        return pool_backward(grad, own, num_rows, dim);
    };
    let [own_grad, group_grad] = join_input_backward(grad, &groups, dim);
    pool_backward(own_grad, own, num_rows, dim) + pool_backward(group_grad, groups.bags, num_rows, dim)
}

/// See [`Kernels::pool`](crate::backend::Kernels::pool).
pub(super) fn pool_parts<B: Backend>(
    table: Tensor<B, 2>,
    bags: InputBags<FloatTensor<B>, Indices<B>>,
) -> Pooled<FloatTensor<B>> {
    let InputBags { own, groups } = bags;
    let own = primitive(pool(table.clone(), own));
    Pooled { own, shared: groups.map(|groups| primitive(pool(table, groups.bags))) }
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
    bags: InputBags<FloatTensor<B>, Indices<B>>,
    grads: Pooled<FloatTensor<B>>,
) -> FloatTensor<B> {
    let mut sorted = rows_of_entries(&bags);
    sorted.sort_unstable();
    // The place of the first entry of each entry's row, when entries are sorted by row.
    let first_place = |row: u32| sorted.partition_point(|other| *other < row) as u32;
    primitive(sums_by_number(bags, grads, first_place, sorted.len()))
}

/// See [`Kernels::update_pooled`](crate::backend::Kernels::update_pooled).
pub(super) fn update_pooled<B: Backend>(
    table: WithMoments<FloatTensor<B>>,
    bags: InputBags<FloatTensor<B>, Indices<B>>,
    grads: Pooled<FloatTensor<B>>,
    update: RowUpdate,
) -> WithMoments<FloatTensor<B>> {
    let mut touched = rows_of_entries(&bags);
    touched.sort_unstable();
    touched.dedup();
    let number = |row: u32| touched.partition_point(|touched| *touched < row) as u32;
    let tables = bags.own.tables;
    let num_rows = (table.tensor.shape()[0] / tables) as u32;
    let of_copy = |copy: u32| touched.iter().map(move |row| row + copy * num_rows);
    let rows = (0..tables as u32).flat_map(of_copy).collect();
    let rows = Indices::new(rows, bags.own.slots.device());
    let sums = sums_by_number(bags, grads, number, touched.len());
    rows::update::<B>(table, &rows, primitive(sums), update)
}

/// The row of each entry, those of groups last.
fn rows_of_entries<B: Backend>(bags: &InputBags<FloatTensor<B>, Indices<B>>) -> Vec<u32> {
    bags.parts().flat_map(|part| part.slots.host()).copied().collect()
}

/// Sums of the gradients of all entries whose rows have one number.
///
/// # Shapes
/// `[T * numbers, D]`.
fn sums_by_number<B: Backend>(
    bags: InputBags<FloatTensor<B>, Indices<B>>,
    grads: Pooled<FloatTensor<B>>,
    number: impl Fn(u32) -> u32,
    numbers: usize,
) -> Tensor<B, 2> {
    let of_part = |mut bags: Bags<FloatTensor<B>, Indices<B>>, grad: FloatTensor<B>| {
        let found = bags.slots.host().iter().map(|row| number(*row)).collect();
        bags.slots = Indices::new(found, bags.slots.device());
        let grad = float::<B, 3>(grad);
        let dim = dim_of(&grad, &bags);
        pool_backward(grad, bags, numbers, dim)
    };
    let own = of_part(bags.own, grads.own);
    match bags.groups.zip(grads.shared) {
        Some((groups, grad)) => own + of_part(groups.bags, grad),
        None => own,
    }
}

pub(super) fn dim_of<B: Backend>(input: &Tensor<B, 3>, bags: &Bags<FloatTensor<B>, Indices<B>>) -> usize {
    let numbers = bags.dense.as_ref().map_or(0, |dense| dense.shape()[1]);
    let dense = bags.bins.as_ref().map_or(numbers, |bins| bins.iter().sum());
    (input.dims()[2] - dense) / bags.num_sparse
}
