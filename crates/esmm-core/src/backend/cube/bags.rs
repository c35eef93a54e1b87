//! Pooling of table rows.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*, std::FastDivmod};
use burn_cubecl::tensor::CubeTensor;

use super::tensor::{OnCube, Rows, address, array, grid, ints, vector_size};
use crate::backend::{Bags, Indices};

/// Bags on a device.
pub(super) type CubeBags<R> = Bags<CubeTensor<R>, CubeTensor<R>>;

/// The bags with their row numbers on the device.
pub(super) fn on_device<R: CubeRuntime, B: OnCube<R>>(bags: Bags<CubeTensor<R>, Indices<B>>) -> CubeBags<R> {
    bags.map(|tensor| tensor, |indices| ints(&indices))
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
pub(super) fn bag_pool<R: CubeRuntime>(table: CubeTensor<R>, plan: CubeBags<R>) -> CubeTensor<R> {
    let table = Rows::new(table);
    let dense = plan.dense.clone().map(Rows::new);
    let dim = table.width;
    let num_dense = dense.as_ref().map_or(0, |dense| dense.width);
    let width = plan.num_sparse * dim + num_dense;
    let out = Rows::empty(&table.tensor, [plan.tables, plan.rows, width]);
    let dense_stride = dense.as_ref().map_or(0, |dense| dense.stride);
    let vector = vector_size(&[dim, table.stride, num_dense, dense_stride, out.stride]);
    let units = plan.tables * plan.rows * width / vector;
    let client = table.tensor.client.clone();
    let (cubes, cube_dim) = grid(&client, units);
    let (segments, weights) = match &plan.weighted {
        Some((segments, weights)) => (segments, weights),
        None => (&plan.slots, &table.tensor),
    };
    let dense = dense.as_ref().map_or(&table.tensor, |dense| &dense.tensor);
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
            plan.slots.meta.shape()[0],
            units,
            plan.weighted.is_some(),
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
