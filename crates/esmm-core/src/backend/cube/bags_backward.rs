//! Pooling, backward: sums of the entries of each slot.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*, std::FastDivmod};
use burn_cubecl::tensor::CubeTensor;

use super::bags::CubeBags;
use super::tensor::{Rows, address, array, grid, vector_size};
use crate::slot_order::SlotOrder;

/// `grad [T, B, F * D + V]` to `[T * U, D]`: sums of pieces of a slot's entries, then sums of pieces. No atomics, and the
/// same order of additions every time.
pub(super) fn bag_pool_backward<R: CubeRuntime>(
    grad: CubeTensor<R>,
    plan: CubeBags<R>,
    order: SlotOrder<CubeTensor<R>>,
) -> CubeTensor<R> {
    let grad = Rows::new(grad);
    let num_dense = plan.dense.as_ref().map_or(0, |dense| dense.meta.shape()[1]);
    let dim = (grad.width - num_dense) / plan.num_sparse;
    let sums = Rows::empty(&grad.tensor, [plan.tables * order.pieces, dim]);
    let vector = vector_size(&[dim, grad.stride, sums.stride]);
    let units = plan.tables * order.pieces * dim / vector;
    let client = grad.tensor.client.clone();
    let (cubes, cube_dim) = grid(&client, units);
    let (segments, weights) = match &plan.weighted {
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
            plan.weighted.is_some(),
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
fn join_pieces<R: CubeRuntime>(
    sums: Rows<R>,
    order: &SlotOrder<CubeTensor<R>>,
    tables: usize,
) -> CubeTensor<R> {
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
