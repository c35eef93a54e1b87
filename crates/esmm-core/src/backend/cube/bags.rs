//! Pooling of table rows, forward and backward.

use burn::tensor::backend::Backend;
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*, std::FastDivmod};
use burn_cubecl::tensor::CubeTensor;

use super::tensor::{Rows, address, array, grid, vector_size};
use crate::backend::BagPlan;
use crate::slot_order::SlotOrder;

/// A [`BagPlan`] of some cube backend, without that backend.
pub(super) struct Plan<R: CubeRuntime> {
    tables: usize,
    rows: usize,
    num_sparse: usize,
    slots: CubeTensor<R>,
    bags: Option<(CubeTensor<R>, CubeTensor<R>)>,
    dense: Option<Rows<R>>,
}

impl<R: CubeRuntime> Plan<R> {
    pub(super) fn new<B>(plan: BagPlan<B>) -> Self
    where
        B: Backend<FloatTensorPrimitive = CubeTensor<R>, IntTensorPrimitive = CubeTensor<R>>,
    {
        let BagPlan { tables, rows, num_sparse, slots, bags, dense, .. } = plan;
        let dense = dense.map(Rows::new);
        Self { tables, rows, num_sparse, slots, bags, dense }
    }

    fn num_dense(&self) -> usize {
        self.dense.as_ref().map_or(0, |dense| dense.width)
    }

    fn entries(&self) -> usize {
        self.slots.meta.shape()[0]
    }
}

/// `table [R, D]`, `rows [N]` to `[N, D]`.
pub(super) fn gather_rows<R: CubeRuntime>(table: CubeTensor<R>, rows: CubeTensor<R>) -> CubeTensor<R> {
    let table = Rows::new(table);
    let count = rows.meta.shape()[0];
    let out = Rows::empty(&table.tensor, [count, table.width]);
    let vector = vector_size(&[table.width, table.stride, out.stride]);
    let units = count * table.width / vector;
    let (cubes, dim) = grid(&table.tensor.client, units);
    // SAFETY: `rows` are rows of the table, as the batch was built; units beyond the last element do nothing.
    unsafe {
        gather_kernel::launch_unchecked(
            &table.tensor.client,
            cubes,
            dim,
            address(&[&table.tensor, &out.tensor]),
            vector,
            table.array(),
            array(&rows),
            out.array(),
            table.width / vector,
            table.stride / vector,
            out.stride / vector,
            units,
        );
    }
    out.tensor
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn gather_kernel<N: Size>(
    table: &Array<Vector<f32, N>>,
    rows: &Array<i32>,
    out: &mut Array<Vector<f32, N>>,
    width: FastDivmod<usize>,
    table_stride: usize,
    out_stride: usize,
    units: usize,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let (row, column) = width.div_mod(ABSOLUTE_POS);
    out[row * out_stride + column] = table[usize::cast_from(rows[row]) * table_stride + column];
}

/// `table [T * U, D]` to `[T, B, F * D + V]`: a unit for each vector of the output.
pub(super) fn bag_pool<R: CubeRuntime>(table: CubeTensor<R>, plan: Plan<R>) -> CubeTensor<R> {
    let table = Rows::new(table);
    let (dim, num_dense) = (table.width, plan.num_dense());
    let width = plan.num_sparse * dim + num_dense;
    let out = Rows::empty(&table.tensor, [plan.tables, plan.rows, width]);
    let dense_stride = plan.dense.as_ref().map_or(0, |dense| dense.stride);
    let vector = vector_size(&[dim, table.stride, num_dense, dense_stride, out.stride]);
    let units = plan.tables * plan.rows * width / vector;
    let client = table.tensor.client.clone();
    let (cubes, cube_dim) = grid(&client, units);
    let (segments, weights) = match &plan.bags {
        Some((segments, weights)) => (segments, weights),
        None => (&plan.slots, &table.tensor),
    };
    let dense = plan.dense.as_ref().map_or(&table.tensor, |dense| &dense.tensor);
    // SAFETY: slots are rows of the table and segments are bags of the batch, as the batch was built; units beyond the
    // last element do nothing.
    unsafe {
        pool_kernel::launch_unchecked(
            &client,
            cubes,
            cube_dim,
            address(&[&table.tensor, &out.tensor]),
            vector,
            table.array(),
            array(&plan.slots),
            array(segments),
            array(weights),
            array(dense),
            out.array(),
            width / vector,
            dim / vector,
            plan.rows,
            plan.num_sparse,
            plan.num_sparse * dim / vector,
            table.tensor.meta.shape()[0] / plan.tables,
            table.stride / vector,
            dense_stride / vector,
            out.stride / vector,
            plan.entries(),
            units,
            plan.bags.is_some(),
        );
    }
    out.tensor
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn pool_kernel<N: Size>(
    table: &Array<Vector<f32, N>>,
    slots: &Array<i32>,
    segments: &Array<i32>,
    weights: &Array<f32>,
    dense: &Array<Vector<f32, N>>,
    out: &mut Array<Vector<f32, N>>,
    width: FastDivmod<usize>,
    dim: FastDivmod<usize>,
    rows: FastDivmod<usize>,
    num_sparse: usize,
    sparse_width: usize,
    table_rows: usize,
    table_stride: usize,
    dense_stride: usize,
    out_stride: usize,
    entries: usize,
    units: usize,
    #[comptime] bagged: bool,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let (out_row, column) = width.div_mod(ABSOLUTE_POS);
    let (copy, row) = rows.div_mod(out_row);
    let place = out_row * out_stride + column;
    if column < sparse_width {
        let (feature, part) = dim.div_mod(column);
        let bag = row * num_sparse + feature;
        let first_row = copy * table_rows;
        if comptime!(bagged) {
            let start = lower_bound(segments, i32::cast_from(bag), entries);
            let end = lower_bound(segments, i32::cast_from(bag + 1), entries);
            let mut sum = Vector::<f32, N>::new(0.0f32);
            for entry in start..end {
                let source = (first_row + usize::cast_from(slots[entry])) * table_stride + part;
                sum += Vector::new(weights[entry]) * table[source];
            }
            out[place] = sum;
        } else {
            out[place] = table[(first_row + usize::cast_from(slots[bag])) * table_stride + part];
        }
    } else {
        out[place] = dense[row * dense_stride + column - sparse_width];
    }
}

/// First place in a rising list whose value is at least `least`.
#[cube]
fn lower_bound(values: &Array<i32>, least: i32, len: usize) -> usize {
    let mut low = 0usize;
    let mut high = len;
    while low < high {
        let middle = (low + high) / 2;
        if values[middle] < least {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// `grad [T, B, F * D + V]` to `[T * U, D]`: sums of pieces of a slot's entries, then sums of pieces. No atomics, and the
/// same order of additions every time.
pub(super) fn bag_pool_backward<R, B>(
    grad: CubeTensor<R>,
    plan: Plan<R>,
    order: SlotOrder<B>,
) -> CubeTensor<R>
where
    R: CubeRuntime,
    B: Backend<IntTensorPrimitive = CubeTensor<R>>,
{
    let grad = Rows::new(grad);
    let dim = (grad.width - plan.num_dense()) / plan.num_sparse;
    let sums = Rows::empty(&grad.tensor, [plan.tables * order.pieces, dim]);
    let vector = vector_size(&[dim, grad.stride, sums.stride]);
    let units = plan.tables * order.pieces * dim / vector;
    let client = grad.tensor.client.clone();
    let (cubes, cube_dim) = grid(&client, units);
    let (segments, weights) = match &plan.bags {
        Some((segments, weights)) => (segments, weights),
        None => (&plan.slots, &grad.tensor),
    };
    // SAFETY: the order lists entries of this batch, and segments are bags of it; units beyond the last element do
    // nothing.
    unsafe {
        sum_pieces_kernel::launch_unchecked(
            &client,
            cubes,
            cube_dim,
            address(&[&grad.tensor, &sums.tensor]),
            vector,
            grad.array(),
            array(&order.packed),
            array(segments),
            array(weights),
            sums.array(),
            dim / vector,
            order.pieces,
            plan.num_sparse,
            dim / vector,
            plan.rows,
            grad.stride / vector,
            sums.stride / vector,
            order.entries,
            units,
            plan.bags.is_some(),
        );
    }
    if order.pieces == order.slots { sums.tensor } else { join_pieces(sums, &order, plan.tables) }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn sum_pieces_kernel<N: Size>(
    grad: &Array<Vector<f32, N>>,
    order: &Array<i32>,
    segments: &Array<i32>,
    weights: &Array<f32>,
    sums: &mut Array<Vector<f32, N>>,
    dim: FastDivmod<usize>,
    pieces: FastDivmod<usize>,
    num_sparse: FastDivmod<usize>,
    feature_width: usize,
    rows: usize,
    grad_stride: usize,
    sums_stride: usize,
    first_piece: usize,
    units: usize,
    #[comptime] bagged: bool,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let (place, part) = dim.div_mod(ABSOLUTE_POS);
    let (copy, piece) = pieces.div_mod(place);
    let start = usize::cast_from(order[first_piece + piece]);
    let end = usize::cast_from(order[first_piece + piece + 1]);
    let mut sum = Vector::<f32, N>::new(0.0f32);
    for index in start..end {
        let entry = usize::cast_from(order[index]);
        if comptime!(bagged) {
            let (row, feature) = num_sparse.div_mod(usize::cast_from(segments[entry]));
            let source = (copy * rows + row) * grad_stride + feature * feature_width + part;
            sum += Vector::new(weights[entry]) * grad[source];
        } else {
            let (row, feature) = num_sparse.div_mod(entry);
            sum += grad[(copy * rows + row) * grad_stride + feature * feature_width + part];
        }
    }
    sums[place * sums_stride + part] = sum;
}

/// `sums [T * P, D]` to `[T * U, D]`.
fn join_pieces<R, B>(sums: Rows<R>, order: &SlotOrder<B>, tables: usize) -> CubeTensor<R>
where
    R: CubeRuntime,
    B: Backend<IntTensorPrimitive = CubeTensor<R>>,
{
    let out = Rows::empty(&sums.tensor, [tables * order.slots, sums.width]);
    let vector = vector_size(&[sums.width, sums.stride, out.stride]);
    let units = tables * order.slots * sums.width / vector;
    let client = sums.tensor.client.clone();
    let (cubes, dim) = grid(&client, units);
    // SAFETY: the order lists the pieces of each slot; units beyond the last element do nothing.
    unsafe {
        join_pieces_kernel::launch_unchecked(
            &client,
            cubes,
            dim,
            address(&[&sums.tensor, &out.tensor]),
            vector,
            sums.array(),
            array(&order.packed),
            out.array(),
            sums.width / vector,
            order.slots,
            order.pieces,
            sums.stride / vector,
            out.stride / vector,
            order.entries + order.pieces + 1,
            units,
        );
    }
    out.tensor
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn join_pieces_kernel<N: Size>(
    sums: &Array<Vector<f32, N>>,
    order: &Array<i32>,
    out: &mut Array<Vector<f32, N>>,
    dim: FastDivmod<usize>,
    slots: FastDivmod<usize>,
    pieces: usize,
    sums_stride: usize,
    out_stride: usize,
    first_slot: usize,
    units: usize,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let (place, part) = dim.div_mod(ABSOLUTE_POS);
    let (copy, slot) = slots.div_mod(place);
    let start = usize::cast_from(order[first_slot + slot]);
    let end = usize::cast_from(order[first_slot + slot + 1]);
    let mut sum = Vector::<f32, N>::new(0.0f32);
    for piece in start..end {
        sum += sums[(copy * pieces + piece) * sums_stride + part];
    }
    out[place * out_stride + part] = sum;
}
