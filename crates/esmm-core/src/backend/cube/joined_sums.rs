//! Sums of chunks of rows joined, in an order that depends on shapes alone: by a launch of its own, or in the kernel that
//! needs them.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::chunks::{Chunks, LANES, LINES, Layout, UNITS, add_lines};
use super::tensor::{array, empty_plain};

/// Sums over chunks of the rows of a batch.
pub(super) struct Partial<R: CubeRuntime> {
    /// `[3, chunks, K, O]`: of the gradient after dropout and activation; of the same times the standardized matmul, with
    /// batch norm; of what the slope of a PReLU gets, with one.
    pub(super) sums: CubeTensor<R>,
    pub(super) chunks: Chunks,
}

/// A grid for joining chunks: [`LANES`] columns a cube, the chunks cut among its [`LINES`] lines.
fn join_grid(columns: usize, kinds: u32) -> (CubeCount, CubeDim) {
    let across = columns.div_ceil(LANES as usize) as u32;
    (CubeCount::Static(across, kinds, 1), CubeDim::new_2d(LANES, LINES))
}

/// Sums of the chunks of the first kind, and, if `two`, of the second; else the first ones twice.
pub(super) fn join<R: CubeRuntime, const D: usize>(
    partial: &Partial<R>,
    shape: [usize; D],
    two: bool,
) -> [CubeTensor<R>; 2] {
    join_from(partial, 0, shape, two)
}

/// Sums of the chunks of one kind, and, if `two`, of the kind after it; else the first ones twice.
pub(super) fn join_from<R: CubeRuntime, const D: usize>(
    partial: &Partial<R>,
    kind: usize,
    shape: [usize; D],
    two: bool,
) -> [CubeTensor<R>; 2] {
    let Partial { sums, chunks } = partial;
    let out = empty_plain(sums, shape);
    let next = if two { empty_plain(sums, shape) } else { out.clone() };
    let units = shape.iter().product::<usize>();
    let (cubes, dim) = join_grid(units, if two { 2 } else { 1 });
    // SAFETY: units beyond the columns read and write nothing.
    unsafe {
        join_sums_kernel::launch_unchecked(
            &sums.client,
            cubes,
            dim,
            array(sums),
            array(&out),
            array(&next),
            kind * chunks.count * units,
            chunks.count,
            units,
            two,
        );
    }
    [out, next]
}

/// A column of one kind of sum: each line of a cube adds its share of the chunks in their order, then lines are added.
/// Every cube that asks gets the same bits; all of its units must ask.
#[cube]
pub(super) fn join_sums<N: Size>(
    partial: &Array<Vector<f32, N>>,
    #[comptime] kind: usize,
    column: usize,
    columns: usize,
    exists: bool,
    chunks: usize,
    #[comptime] layout: Layout,
) -> Vector<f32, N> {
    let mut sums = SharedMemory::<Vector<f32, N>>::new(comptime!(UNITS as usize));
    let unit = UNIT_POS as usize;
    let share = chunks.div_ceil(comptime!(layout.lines as usize));
    let start = min(UNIT_POS_Y as usize * share, chunks);
    let end = min(start + share, chunks);
    let mut sum = Vector::<f32, N>::new(0.0f32);
    if exists {
        for chunk in start..end {
            sum += partial[(kind * chunks + chunk) * columns + column];
        }
    }
    sums[unit] = sum;
    sync_cube();
    add_lines::<N>(&mut sums, layout);
    sums[UNIT_POS_X as usize]
}

/// Each line adds its share of the chunks in their order, then lines are added.
#[cube(launch_unchecked)]
fn join_sums_kernel(
    partial: &Array<f32>,
    out: &mut Array<f32>,
    next: &mut Array<f32>,
    first: usize,
    chunks: usize,
    units: usize,
    #[comptime] two: bool,
) {
    let mut sums = SharedMemory::<Vector<f32, Const<1>>>::new(comptime!(UNITS as usize));
    let unit = UNIT_POS as usize;
    let column = (CUBE_POS_X * LANES + UNIT_POS_X) as usize;
    let exists = column < units;
    let share = chunks.div_ceil(comptime!(LINES as usize));
    let start = min(UNIT_POS_Y as usize * share, chunks);
    let end = min(start + share, chunks);
    let kind = first + CUBE_POS_Y as usize * (chunks * units);
    let mut sum = 0.0f32;
    if exists {
        for chunk in start..end {
            sum += partial[kind + chunk * units + column];
        }
    }
    sums[unit] = Vector::new(sum);
    sync_cube();
    add_lines::<Const<1>>(&mut sums, Layout::JOINING);
    if exists && UNIT_POS_Y == 0 {
        let total = f32::cast_from(sums[unit]);
        if comptime!(two) {
            if CUBE_POS_Y == 0 {
                out[column] = total;
            } else {
                next[column] = total;
            }
        } else {
            out[column] = total;
        }
    }
}
