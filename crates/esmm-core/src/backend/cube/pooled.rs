//! Gradients of table rows from that of what was pooled, where the device finds a batch's distinct rows.
//!
//! Entries are sorted by row; the entries of a row are a run. A run is cut into pieces at fixed places of the sorted order,
//! pieces are summed entry by entry, and the pieces of a run in their order: the same bits every time, and a row that half
//! of a batch names keeps no one waiting. What belongs to a row stands at the place of its first entry.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*, std::FastDivmod};
use burn_cubecl::tensor::CubeTensor;

use super::bags::on_device;
use super::sort::{Sorted, sorted};
use super::tensor::{OnCube, Rows, address, array, empty_plain, grid, vector_size};
use crate::backend::{Bags, Indices};

/// Sorted places from the beginning of one piece to that of the next.
const PIECE: usize = 64;
/// How many members of a run are read at once. Rows are sorted, so where the last of several places has the row, all of them
/// have it, and no load waits for another. The order of the sum is that of the members all the same.
const AT_ONCE: [usize; 3] = [16, 4, 1];

/// Sums of pieces of runs.
pub(super) struct PieceSums<R: CubeRuntime> {
    /// `[T * N, D]`: at the first place of each piece its sum, at others anything.
    pub(super) sums: Rows<R>,
    pub(super) sorted: Sorted<R>,
    pub(super) tables: usize,
    /// N.
    pub(super) entries: usize,
    /// Rows of one copy of the table.
    pub(super) num_rows: usize,
}

/// `grad [T, B, F * D + V]` of what `bags` pooled.
pub(super) fn piece_sums<R: CubeRuntime, B: OnCube<R>>(
    bags: Bags<CubeTensor<R>, Indices<B>>,
    grad: CubeTensor<R>,
    num_rows: usize,
) -> PieceSums<R> {
    let sorted = sorted::<R, B>(&bags.slots, num_rows);
    let bags = on_device::<R, B>(bags);
    let grad = Rows::new(grad);
    let entries = bags.slots.meta.shape()[0];
    let num_dense = bags.dense.as_ref().map_or(0, |dense| dense.meta.shape()[1]);
    let dim = (grad.width - num_dense) / bags.num_sparse;
    let sums = Rows::new(empty_plain(&grad.tensor, [bags.tables * entries, dim]));
    let vector = vector_size(&[dim, grad.stride]);
    let units = bags.tables * entries * dim / vector;
    let client = grad.tensor.client.clone();
    let (cubes, cube_dim) = grid(&client, units);
    let (segments, weights) = match &bags.weighted {
        Some((segments, weights)) => (segments, weights),
        None => (&bags.slots, &grad.tensor),
    };
    // SAFETY: sorted entries are those of this batch, and segments are bags of it; units beyond the last element do nothing.
    unsafe {
        piece_sums_kernel::launch_unchecked(
            &client,
            cubes,
            cube_dim,
            address(&[&grad.tensor, &sums.tensor]),
            vector,
            grad.array(),
            array(&sorted.rows),
            array(&sorted.entries),
            array(segments),
            array(weights),
            sums.array(),
            dim / vector,
            entries,
            bags.num_sparse,
            dim / vector,
            bags.rows,
            grad.stride / vector,
            entries,
            units,
            bags.weighted.is_some(),
        );
    }
    PieceSums { sums, sorted, tables: bags.tables, entries, num_rows }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn piece_sums_kernel<N: Size>(
    grad: &Array<Vector<f32, N>>,
    rows: &Array<i32>,
    entries: &Array<i32>,
    segments: &Array<i32>,
    weights: &Array<f32>,
    sums: &mut Array<Vector<f32, N>>,
    dim: FastDivmod<usize>,
    places: FastDivmod<usize>,
    num_sparse: FastDivmod<usize>,
    feature_width: usize,
    batch_rows: usize,
    grad_stride: usize,
    count: usize,
    units: usize,
    #[comptime] bagged: bool,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let (at, part) = dim.div_mod(ABSOLUTE_POS);
    let (copy, place) = places.div_mod(at);
    if place % PIECE == 0 || is_first(rows, place) {
        let row = rows[place];
        let end = min((place / PIECE + 1) * PIECE, count);
        let mut sum = Vector::<f32, N>::new(0.0f32);
        let mut next = place;
        #[unroll]
        for level in 0..comptime!(AT_ONCE.len()) {
            let at_once = comptime!(AT_ONCE[level]);
            let mut more = is_row(rows, next + comptime!(at_once - 1), row, end);
            while more {
                let mut parts = Array::<Vector<f32, N>>::new(at_once);
                #[unroll]
                for index in 0..at_once {
                    let entry = usize::cast_from(entries[next + index]);
                    if comptime!(bagged) {
                        let (batch_row, feature) = num_sparse.div_mod(usize::cast_from(segments[entry]));
                        let source =
                            (copy * batch_rows + batch_row) * grad_stride + feature * feature_width + part;
                        parts[index] = Vector::new(weights[entry]) * grad[source];
                    } else {
                        let (batch_row, feature) = num_sparse.div_mod(entry);
                        let source =
                            (copy * batch_rows + batch_row) * grad_stride + feature * feature_width + part;
                        parts[index] = grad[source];
                    }
                }
                #[unroll]
                for index in 0..at_once {
                    sum += parts[index];
                }
                next += at_once;
                more = is_row(rows, next + comptime!(at_once - 1), row, end);
            }
        }
        sums[ABSOLUTE_POS] = sum;
    }
}

/// Whether a place is the first one of its row.
#[cube]
pub(super) fn is_first(rows: &Array<i32>, place: usize) -> bool {
    let mut first = true;
    if place > 0 {
        first = rows[place] != rows[place - 1];
    }
    first
}

/// The sum of a run that begins at `place` of `count`, from those of its pieces: in `sums` that of place 0 is at `first`,
/// and one place is `stride` from the next.
#[cube]
pub(super) fn run_sum<N: Size>(
    sums: &Array<Vector<f32, N>>,
    rows: &Array<i32>,
    place: usize,
    first: usize,
    stride: usize,
    count: usize,
) -> Vector<f32, N> {
    let row = rows[place];
    let mut sum = sums[first + place * stride];
    let mut next = (place / PIECE + 1) * PIECE;
    // Most rows have one piece. Of those with hundreds as many are read at once as there are.
    if is_row(rows, next, row, count) {
        #[unroll]
        for level in 0..comptime!(AT_ONCE.len()) {
            let at_once = comptime!(AT_ONCE[level]);
            let mut more = is_row(rows, next + comptime!((at_once - 1) * PIECE), row, count);
            while more {
                let mut parts = Array::<Vector<f32, N>>::new(at_once);
                #[unroll]
                for index in 0..at_once {
                    parts[index] = sums[first + (next + index * PIECE) * stride];
                }
                #[unroll]
                for index in 0..at_once {
                    sum += parts[index];
                }
                next += comptime!(at_once * PIECE);
                more = is_row(rows, next + comptime!((at_once - 1) * PIECE), row, count);
            }
        }
    }
    sum
}

/// Whether a place is one of a row, and there is one.
#[cube]
fn is_row(rows: &Array<i32>, place: usize, row: i32, count: usize) -> bool {
    let mut is_row = false;
    if place < count {
        is_row = rows[place] == row;
    }
    is_row
}

/// See [`Kernels::row_grads`](crate::backend::Kernels::row_grads).
pub(super) fn row_grads<R: CubeRuntime, B: OnCube<R>>(
    bags: Bags<CubeTensor<R>, Indices<B>>,
    grad: CubeTensor<R>,
    num_rows: usize,
) -> CubeTensor<R> {
    let PieceSums { sums, sorted, tables, entries, .. } = piece_sums::<R, B>(bags, grad, num_rows);
    let out = Rows::new(empty_plain(&sums.tensor, [tables * entries, sums.width]));
    let vector = sums.vector();
    let units = tables * entries * sums.width / vector;
    let (cubes, dim) = grid(&sums.tensor.client, units);
    // SAFETY: one unit for each vector of the output.
    unsafe {
        row_grads_kernel::launch_unchecked(
            &sums.tensor.client,
            cubes,
            dim,
            address(&[&sums.tensor]),
            vector,
            sums.array(),
            array(&sorted.rows),
            out.array(),
            sums.width / vector,
            entries,
            sums.width / vector,
            entries,
            units,
        );
    }
    out.tensor
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn row_grads_kernel<N: Size>(
    sums: &Array<Vector<f32, N>>,
    rows: &Array<i32>,
    out: &mut Array<Vector<f32, N>>,
    dim: FastDivmod<usize>,
    places: FastDivmod<usize>,
    stride: usize,
    count: usize,
    units: usize,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let (at, part) = dim.div_mod(ABSOLUTE_POS);
    let (copy, place) = places.div_mod(at);
    let mut found = Vector::<f32, N>::new(0.0f32);
    if is_first(rows, place) {
        found = run_sum::<N>(sums, rows, place, copy * count * stride + part, stride, count);
    }
    out[ABSOLUTE_POS] = found;
}
