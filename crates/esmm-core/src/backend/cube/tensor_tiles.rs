//! Matmuls on tensor cores, of f32 factors that are rounded on their way to shared memory: no copy of them in a smaller
//! dtype is ever written. Sums are f32. One matmul a launch, or two that do not wait for each other.

use burn::tensor::{bf16, f16};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::block::{Curve, leak, slope_of};
use super::chunks::Chunks;
use super::epilogue::{Epilogue, Steps, of_columns};
use super::factor::Factor;
use super::largest::join_largest;
use super::moments::ChunkMoments;
use super::rounding::{exponent, inverse_exponent, power_of_two};
use super::tensor::{Rows, address, array, empty_plain, grid_of, vector_size};
use super::tensor_cores::{Rounding, TensorTile};
use super::tensor_cube::{Extent, ExtentLaunch, LinesLaunch, Scaled, multiply, place_in};
use super::tensor_moments::write_moments;
use super::tensor_results::{OfColumns, lane_column, write_results};
use super::tile::Sizes;

/// A matmul that is to be computed.
pub(super) struct Task<R: CubeRuntime> {
    pub(super) left: Factor<R>,
    pub(super) right: Factor<R>,
    pub(super) sizes: Sizes,
    pub(super) tile: TensorTile,
}

/// A task with what its launch needs.
struct Prepared<R: CubeRuntime> {
    task: Task<R>,
    /// `[batches * pieces, rows, columns]`.
    out: Rows<R>,
    left_vector: usize,
    right_vector: usize,
    out_vector: usize,
}

impl<R: CubeRuntime> Task<R> {
    fn prepared(self) -> Prepared<R> {
        let Sizes { batches, rows, columns, terms, pieces, .. } = self.sizes;
        let out = Rows::empty(&self.left.tensor, [batches * pieces, rows, columns]);
        Prepared {
            left_vector: self.left.line_vector(rows, terms),
            right_vector: self.right.line_vector(columns, terms),
            out_vector: vector_size(&[columns, out.stride]),
            out,
            task: self,
        }
    }

    fn grid(&self) -> [usize; 3] {
        self.sizes.grid(self.tile.rows, self.tile.columns)
    }
}

impl<R: CubeRuntime> Prepared<R> {
    fn extent(&self) -> ExtentLaunch<R> {
        let Task { left, right, sizes, tile } = &self.task;
        let Sizes { sums, rows, columns, terms, pieces, .. } = *sizes;
        // Whole stages, so that pieces begin at whole vectors.
        let length = terms.div_ceil(pieces).next_multiple_of(tile.depth);
        ExtentLaunch::new(
            lines(left, self.left_vector),
            lines(right, self.right_vector),
            self.out.stride / self.out_vector,
            rows,
            columns,
            terms,
            length,
            pieces,
            sums,
        )
    }

    fn tensors(&self) -> [&CubeTensor<R>; 3] {
        [&self.task.left.tensor, &self.task.right.tensor, &self.out.tensor]
    }
}

fn lines<R: CubeRuntime>(factor: &Factor<R>, vector: usize) -> LinesLaunch<R> {
    LinesLaunch::new(factor.batch / vector, factor.sum / vector, factor.line() / vector)
}

/// `[batches * pieces, rows, columns]`, and where the epilogue asks for them the moments of the results. An epilogue has
/// no place where the terms are cut into pieces.
pub(super) fn matmul<R: CubeRuntime>(
    task: Task<R>,
    epilogue: &Epilogue<R>,
) -> (CubeTensor<R>, Option<ChunkMoments<R>>) {
    match task.tile.rounding {
        Rounding::Tf32 => matmul_in::<R, tf32>(task, epilogue),
        Rounding::Bf16 => matmul_in::<R, bf16>(task, epilogue),
        Rounding::F16 => matmul_in::<R, f16>(task, epilogue),
    }
}

fn matmul_in<R: CubeRuntime, E: Float>(
    task: Task<R>,
    epilogue: &Epilogue<R>,
) -> (CubeTensor<R>, Option<ChunkMoments<R>>) {
    let task = task.prepared();
    let Task { sizes, tile, .. } = task.task;
    let [left, right, out] = task.tensors();
    let chunks = Chunks { rows: tile.rows, count: sizes.rows.div_ceil(tile.rows) };
    let partial =
        epilogue.with_moments.then(|| empty_plain(out, [2, chunks.count, sizes.batches, sizes.columns]));
    let [across, down, deep] = task.task.grid().map(|count| count as u32);
    // SAFETY: units read nothing beyond the rows, columns and terms of the factors and write nothing beyond the results; of
    // moments there are as many chunks as rows of tiles.
    unsafe {
        tensor_matmul_kernel::launch_unchecked::<E, R>(
            &out.client,
            CubeCount::Static(across, down, deep),
            CubeDim::new_1d(tile.units() as u32),
            address(&task.tensors()),
            task.left_vector,
            task.right_vector,
            task.out_vector,
            array(left),
            array(right),
            array(epilogue.scale.as_ref().unwrap_or(right)),
            array(epilogue.shift.as_ref().unwrap_or(right)),
            array(epilogue.slope.as_ref().unwrap_or(right)),
            array(out),
            array(partial.as_ref().unwrap_or(out)),
            task.extent(),
            leak(epilogue.activation),
            sizes.batches,
            chunks.count,
            tile,
            task.task.left.is_wide(),
            task.task.right.is_wide(),
            epilogue.steps(),
        );
    }
    let moments = partial.map(|partial| ChunkMoments { partial, chunks });
    (task.out.tensor, moments)
}

/// Two matmuls in one launch: `[batches * pieces, rows, columns]` of each. The cubes of the first begin first. `largest` are
/// the largest magnitudes of the factors that are `scaled`, where there are some.
///
/// # Panics
/// When their tiles have different numbers of units, or round to different dtypes.
pub(super) fn pair<R: CubeRuntime>(
    tasks: [Task<R>; 2],
    scaled: [Scaled; 2],
    largest: Option<&CubeTensor<R>>,
) -> [CubeTensor<R>; 2] {
    let [rounding, other] = [&tasks[0], &tasks[1]].map(|task| task.tile.rounding);
    assert_eq!(rounding, other, "matmuls of one launch are computed in one precision");
    match rounding {
        Rounding::Tf32 => pair_in::<R, tf32>(tasks, scaled, largest),
        Rounding::Bf16 => pair_in::<R, bf16>(tasks, scaled, largest),
        Rounding::F16 => pair_in::<R, f16>(tasks, scaled, largest),
    }
}

fn pair_in<R: CubeRuntime, E: Float>(
    tasks: [Task<R>; 2],
    scaled: [Scaled; 2],
    largest: Option<&CubeTensor<R>>,
) -> [CubeTensor<R>; 2] {
    let [first, second] = tasks.map(Task::prepared);
    let tiles = [first.task.tile, second.task.tile];
    let [units, others] = tiles.map(TensorTile::units);
    assert_eq!(units, others, "tiles of one launch have one number of units");
    let counts = [&first, &second].map(|task| task.task.grid().into_iter().product::<usize>());
    let all = [first.tensors(), second.tensors()].concat();
    // SAFETY: as for `tensor_matmul_kernel`; cubes beyond those of both do nothing.
    unsafe {
        tensor_pair_kernel::launch_unchecked::<E, R>(
            &first.out.tensor.client,
            grid_of(counts[0] + counts[1]),
            CubeDim::new_1d(units as u32),
            address(&all),
            first.left_vector,
            first.right_vector,
            first.out_vector,
            second.left_vector,
            second.right_vector,
            second.out_vector,
            array(&first.task.left.tensor),
            array(&first.task.right.tensor),
            first.out.array(),
            array(&second.task.left.tensor),
            array(&second.task.right.tensor),
            second.out.array(),
            array(largest.unwrap_or(&first.task.left.tensor)),
            first.extent(),
            second.extent(),
            counts[0],
            counts[0] + counts[1],
            largest.map_or(0, |largest| largest.meta.num_elements()),
            tiles,
            [first.task.left.is_wide(), second.task.left.is_wide()],
            [first.task.right.is_wide(), second.task.right.is_wide()],
            scaled,
        );
    }
    [first.out.tensor, second.out.tensor]
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn tensor_matmul_kernel<E: Float, L: Size, N: Size, W: Size>(
    left: &Array<Vector<f32, L>>,
    right: &Array<Vector<f32, N>>,
    scales: &Array<f32>,
    shifts: &Array<f32>,
    slopes: &Array<f32>,
    out: &mut Array<Vector<f32, W>>,
    partial: &mut Array<f32>,
    at: Extent,
    leak: f32,
    batches: usize,
    chunks: usize,
    #[comptime] tile: TensorTile,
    #[comptime] left_wide: bool,
    #[comptime] right_wide: bool,
    #[comptime] epilogue: Steps,
) {
    let mut left_stages = SharedMemory::<Vector<E, Const<4>>>::new_aligned(
        comptime!(2 * tile.stage(tile.rows, left_wide)),
        128usize,
    );
    let mut right_stages = SharedMemory::<Vector<E, Const<4>>>::new_aligned(
        comptime!(2 * tile.stage(tile.columns, right_wide)),
        128usize,
    );
    let mut waiting = SharedMemory::<Vector<f32, Const<4>>>::new_aligned(comptime!(tile.waiting()), 128usize);
    let place = place_in(CUBE_POS_X as usize, CUBE_POS_Y as usize, CUBE_POS_Z as usize, tile);
    let results = multiply::<E, L, N>(
        left,
        right,
        &mut left_stages,
        &mut right_stages,
        &at,
        &place,
        1.0f32,
        tile,
        left_wide,
        right_wide,
        Scaled::Neither,
    );

    let batch = place.matrix / at.pieces;
    let column = lane_column(&place, tile);
    let mut scale = Vector::<f32, Const<4>>::new(1.0f32);
    let mut shift = Vector::<f32, Const<4>>::new(0.0f32);
    if comptime!(epilogue.scale) {
        scale = of_columns(scales, batch * at.columns, column, at.columns);
    }
    if comptime!(epilogue.shift) {
        shift = of_columns(shifts, batch * at.columns, column, at.columns);
    }
    let mut slope = 1.0f32;
    if comptime!(epilogue.curve != Curve::Identity) {
        slope = slope_of(slopes, batch, leak, epilogue.curve);
    }
    let of_lane = OfColumns { scale, shift, slope };
    let lane_sums =
        write_results::<W>(out, &results, &mut waiting, &of_lane, &at, &place, tile, false, epilogue);
    if comptime!(epilogue.moments) {
        write_moments(&lane_sums, &mut waiting, partial, &at, &place, batches, chunks, tile);
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn tensor_pair_kernel<E: Float, L: Size, N: Size, W: Size, M: Size, O: Size, X: Size>(
    left: &Array<Vector<f32, L>>,
    right: &Array<Vector<f32, N>>,
    out: &mut Array<Vector<f32, W>>,
    other_left: &Array<Vector<f32, M>>,
    other_right: &Array<Vector<f32, O>>,
    other_out: &mut Array<Vector<f32, X>>,
    largest: &Array<f32>,
    at: Extent,
    other_at: Extent,
    first_cubes: usize,
    cubes: usize,
    parts: usize,
    #[comptime] tiles: [TensorTile; 2],
    #[comptime] left_wide: [bool; 2],
    #[comptime] right_wide: [bool; 2],
    #[comptime] scaled: [Scaled; 2],
) {
    let mut left_stages = SharedMemory::<Vector<E, Const<4>>>::new_aligned(
        comptime!(more_of(
            2 * tiles[0].stage(tiles[0].rows, left_wide[0]),
            2 * tiles[1].stage(tiles[1].rows, left_wide[1])
        )),
        128usize,
    );
    let mut right_stages = SharedMemory::<Vector<E, Const<4>>>::new_aligned(
        comptime!(more_of(
            2 * tiles[0].stage(tiles[0].columns, right_wide[0]),
            2 * tiles[1].stage(tiles[1].columns, right_wide[1])
        )),
        128usize,
    );
    let mut waiting = SharedMemory::<Vector<f32, Const<4>>>::new_aligned(
        comptime!(more_of(tiles[0].waiting(), tiles[1].waiting())),
        128usize,
    );
    let mut factor = 1.0f32;
    let mut inverse = 1.0f32;
    if comptime!(scaled[0] != Scaled::Neither || scaled[1] != Scaled::Neither) {
        let of_factor = exponent(join_largest(largest, parts));
        factor = power_of_two(of_factor);
        inverse = power_of_two(inverse_exponent(of_factor));
    }
    let cube = CUBE_POS;
    if cube < first_cubes {
        one_of_two::<E, L, N, W>(
            left,
            right,
            out,
            &mut left_stages,
            &mut right_stages,
            &mut waiting,
            &at,
            cube,
            factor,
            inverse,
            comptime!(tiles[0]),
            comptime!(left_wide[0]),
            comptime!(right_wide[0]),
            comptime!(scaled[0]),
        );
    } else if cube < cubes {
        one_of_two::<E, M, O, X>(
            other_left,
            other_right,
            other_out,
            &mut left_stages,
            &mut right_stages,
            &mut waiting,
            &other_at,
            cube - first_cubes,
            factor,
            inverse,
            comptime!(tiles[1]),
            comptime!(left_wide[1]),
            comptime!(right_wide[1]),
            comptime!(scaled[1]),
        );
    }
}

/// The tile of a matmul that its `cube`th cube computes.
#[cube]
fn one_of_two<E: Float, L: Size, N: Size, W: Size>(
    left: &Array<Vector<f32, L>>,
    right: &Array<Vector<f32, N>>,
    out: &mut Array<Vector<f32, W>>,
    left_stages: &mut SharedMemory<Vector<E, Const<4>>>,
    right_stages: &mut SharedMemory<Vector<E, Const<4>>>,
    waiting: &mut SharedMemory<Vector<f32, Const<4>>>,
    at: &Extent,
    cube: usize,
    factor: f32,
    inverse: f32,
    #[comptime] tile: TensorTile,
    #[comptime] left_wide: bool,
    #[comptime] right_wide: bool,
    #[comptime] scaled: Scaled,
) {
    let across = at.columns.div_ceil(comptime!(tile.columns));
    let down = at.rows.div_ceil(comptime!(tile.rows));
    let place = place_in(cube % across, cube / across % down, cube / across / down, tile);
    let results = multiply::<E, L, N>(
        left,
        right,
        left_stages,
        right_stages,
        at,
        &place,
        factor,
        tile,
        left_wide,
        right_wide,
        scaled,
    );
    let of_lane = OfColumns {
        scale: Vector::<f32, Const<4>>::new(inverse),
        shift: Vector::<f32, Const<4>>::new(0.0f32),
        slope: 1.0f32,
    };
    write_results::<W>(
        out,
        &results,
        waiting,
        &of_lane,
        at,
        &place,
        tile,
        comptime!(scaled != Scaled::Neither),
        comptime!(Steps::NONE),
    );
}

fn more_of(one: usize, other: usize) -> usize {
    one.max(other)
}
