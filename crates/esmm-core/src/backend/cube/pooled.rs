//! Gradients of table rows from that of what was pooled, where the device finds a batch's distinct rows.
//!
//! Entries are sorted by row, those of groups with the others; the entries of a row are a run. A run is cut into pieces at
//! fixed places of the sorted order, pieces are summed entry by entry, and the pieces of a run in their order: the same bits
//! every time, and a row that half of a batch names keeps no one waiting. What belongs to a row stands at the place of its
//! first entry.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*, std::FastDivmod};
use burn_cubecl::tensor::CubeTensor;

use super::bags::{CubeBags, on_device};
use super::sort::{Sorted, sorted};
use super::tensor::{OnCube, Rows, address, array, empty_plain, grid, vector_size};
use crate::backend::{Indices, InputBags, Pooled};

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
}

/// What a kernel knows of what was pooled for rows, or for groups.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct PartAt {
    num_sparse: FastDivmod<usize>,
    /// Rows of the batch, or groups.
    rows: usize,
    /// Vectors from one row of the gradient to the next.
    stride: usize,
}

/// Which vector of an entry's gradient a unit sums.
#[derive(CubeType, Clone, Copy)]
struct VectorAt {
    /// Copy of the table.
    copy: usize,
    /// The vector in the gradient of a bag, and how many vectors that has.
    vector: usize,
    feature_width: usize,
    /// Entries of rows: those of groups are counted on from them.
    own_entries: usize,
}

/// `grads` of what `bags` pooled.
pub(super) fn piece_sums<R: CubeRuntime, B: OnCube<R>>(
    bags: InputBags<CubeTensor<R>, Indices<B>>,
    grads: Pooled<CubeTensor<R>>,
    num_rows: usize,
) -> PieceSums<R> {
    let sorted = sorted::<R, B>(&bags, num_rows);
    let parts: Vec<CubeBags<R>> = bags.parts().map(|part| on_device::<R, B>(part.clone())).collect();
    let grads: Vec<Rows<R>> = grads.parts().cloned().map(Rows::new).collect();
    let Some((own, grad)) = parts.first().zip(grads.first()) else { panic!("gradients of nothing") };
    let num_dense = own.dense.as_ref().map_or(0, |dense| dense.meta.shape()[1]);
    let dim = (grad.width - num_dense) / own.num_sparse;
    let like = &grad.tensor;
    let sums = Rows::new(empty_plain(like, [own.tables * sorted.num_entries, dim]));
    let mut widths = vec![dim];
    widths.extend(grads.iter().map(|grad| grad.stride));
    let vector = vector_size(&widths);
    let units = own.tables * sorted.num_entries * dim / vector;
    let (cubes, cube_dim) = grid(&like.client, units);
    // Something must stand for what entries do not have.
    let weighted = |part: &CubeBags<R>| part.weighted.clone();
    let segments = parts.iter().map(|part| weighted(part).map_or(part.slots.clone(), |weighted| weighted.0));
    let weights = parts.iter().map(|part| weighted(part).map_or(like.clone(), |weighted| weighted.1));
    let at = parts.iter().zip(&grads);
    let at = at.map(|(part, grad)| PartAtLaunch::new(part.num_sparse, part.rows, grad.stride / vector));
    // SAFETY: sorted entries are those of this batch, and segments are bags of it; units beyond the last element do nothing.
    unsafe {
        piece_sums_kernel::launch_unchecked(
            &like.client,
            cubes,
            cube_dim,
            address(&grads.iter().map(|grad| &grad.tensor).chain([&sums.tensor]).collect::<Vec<_>>()),
            vector,
            grads.iter().map(Rows::array).collect(),
            array(&sorted.rows),
            array(&sorted.entries),
            segments.map(|segments| array(&segments)).collect(),
            weights.map(|weights| array(&weights)).collect(),
            sums.array(),
            at.collect(),
            dim / vector,
            sorted.num_entries,
            dim / vector,
            own.slots.meta.shape()[0],
            sorted.num_entries,
            units,
            parts.iter().map(|part| part.weighted.is_some()).collect(),
        );
    }
    PieceSums { sums, tables: own.tables, sorted }
}

#[allow(clippy::needless_range_loop, reason = "CubeCL unrolls loops over ranges alone")]
#[cube(launch_unchecked, address_type = "dynamic")]
fn piece_sums_kernel<N: Size>(
    grads: &Sequence<Array<Vector<f32, N>>>,
    rows: &Array<i32>,
    entries: &Array<i32>,
    segments: &Sequence<Array<i32>>,
    weights: &Sequence<Array<f32>>,
    sums: &mut Array<Vector<f32, N>>,
    at: &Sequence<PartAt>,
    dim: FastDivmod<usize>,
    places: FastDivmod<usize>,
    feature_width: usize,
    own_entries: usize,
    count: usize,
    units: usize,
    #[comptime] bagged: Vec<bool>,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let (unit, part) = dim.div_mod(ABSOLUTE_POS);
    let (copy, place) = places.div_mod(unit);
    if place % PIECE == 0 || is_first(rows, place) {
        let row = rows[place];
        let end = min((place / PIECE + 1) * PIECE, count);
        let at_vector = VectorAt { copy, vector: part, feature_width, own_entries };
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
                    parts[index] = entry_grad::<N>(
                        grads,
                        segments,
                        weights,
                        at,
                        usize::cast_from(entries[next + index]),
                        &at_vector,
                        comptime!(bagged.clone()),
                    );
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

/// A vector of what an entry gets from the gradient of its bag.
#[allow(clippy::if_same_then_else, reason = "the first condition is decided when the kernel is compiled")]
#[cube]
fn entry_grad<N: Size>(
    grads: &Sequence<Array<Vector<f32, N>>>,
    segments: &Sequence<Array<i32>>,
    weights: &Sequence<Array<f32>>,
    at: &Sequence<PartAt>,
    entry: usize,
    at_vector: &VectorAt,
    #[comptime] bagged: Vec<bool>,
) -> Vector<f32, N> {
    let of_rows = comptime!(bagged[0]);
    if comptime!(bagged.len() == 1) {
        part_grad::<N>(grads, segments, weights, at, entry, at_vector, 0usize, of_rows)
    } else if entry < at_vector.own_entries {
        part_grad::<N>(grads, segments, weights, at, entry, at_vector, 0usize, of_rows)
    } else {
        let entry = entry - at_vector.own_entries;
        let of_groups = comptime!(bagged[1]);
        part_grad::<N>(grads, segments, weights, at, entry, at_vector, 1usize, of_groups)
    }
}

/// The same for an entry of one part.
#[cube]
fn part_grad<N: Size>(
    grads: &Sequence<Array<Vector<f32, N>>>,
    segments: &Sequence<Array<i32>>,
    weights: &Sequence<Array<f32>>,
    at: &Sequence<PartAt>,
    entry: usize,
    at_vector: &VectorAt,
    #[comptime] part: usize,
    #[comptime] bagged: bool,
) -> Vector<f32, N> {
    let part_at = at.index(part);
    let grad = grads.index(part);
    if comptime!(bagged) {
        let segment = usize::cast_from(segments.index(part)[entry]);
        Vector::new(weights.index(part)[entry]) * grad[place_of(segment, part_at, at_vector)]
    } else {
        grad[place_of(entry, part_at, at_vector)]
    }
}

/// Where the vector lies in the gradient of a bag: bags of a row lie side by side.
#[cube]
fn place_of(bag: usize, part: &PartAt, at: &VectorAt) -> usize {
    let (row, feature) = part.num_sparse.div_mod(bag);
    (at.copy * part.rows + row) * part.stride + feature * at.feature_width + at.vector
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
#[allow(clippy::needless_range_loop, reason = "CubeCL unrolls loops over ranges alone")]
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
    bags: InputBags<CubeTensor<R>, Indices<B>>,
    grads: Pooled<CubeTensor<R>>,
    num_rows: usize,
) -> CubeTensor<R> {
    let PieceSums { sums, sorted, tables } = piece_sums::<R, B>(bags, grads, num_rows);
    let entries = sorted.num_entries;
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
