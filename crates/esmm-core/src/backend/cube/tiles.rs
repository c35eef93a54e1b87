//! Matmuls in f32 from tiles in shared memory, at any distances of rows and columns: what is transposed, shared by towers
//! or cut into pieces is read where it lies. One matmul a launch, or two that do not wait for each other.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::block::{Curve, activate, leak, slope_of};
use super::chunks::Chunks;
use super::epilogue::{Epilogue, Steps, of_columns};
use super::factor::Factor;
use super::moments::ChunkMoments;
use super::tensor::{Rows, address, array, empty_plain, grid_of, vector_size};
use super::tile::{Cut, Sizes, Tile, UNIT, pitch};
use super::tile_cube::{Extent, ExtentLaunch, column_of, multiply, place_in, write_results};
use super::tile_moments::tile_moments;

/// A matmul that is to be computed.
pub(super) struct Task<R: CubeRuntime> {
    pub(super) left: Factor<R>,
    pub(super) right: Factor<R>,
    pub(super) cut: Cut,
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
        let Sizes { batches, rows, columns, pieces, .. } = self.cut.sizes;
        let out = Rows::empty(&self.left.tensor, [batches * pieces, rows, columns]);
        Prepared {
            left_vector: self.left.vector(rows),
            right_vector: self.right.vector(columns),
            out_vector: vector_size(&[columns, out.stride]),
            out,
            task: self,
        }
    }
}

impl<R: CubeRuntime> Prepared<R> {
    fn extent(&self) -> ExtentLaunch<R> {
        let Sizes { sums, rows, columns, terms, pieces, .. } = self.task.cut.sizes;
        ExtentLaunch::new(
            self.task.left.distances(self.left_vector),
            self.task.right.distances(self.right_vector),
            self.out.stride / self.out_vector,
            rows,
            columns,
            terms,
            terms.div_ceil(pieces),
            pieces,
            sums,
        )
    }

    fn tensors(&self) -> [&CubeTensor<R>; 3] {
        [&self.task.left.tensor, &self.task.right.tensor, &self.out.tensor]
    }
}

/// `[batches * pieces, rows, columns]`, and where the epilogue asks for them the moments of the results. An epilogue has
/// no place where the terms are cut into pieces.
pub(super) fn matmul<R: CubeRuntime>(
    task: Task<R>,
    epilogue: &Epilogue<R>,
) -> (CubeTensor<R>, Option<ChunkMoments<R>>) {
    let task = task.prepared();
    let Cut { sizes, tile } = task.task.cut;
    let [left, right, out] = task.tensors();
    let chunks = Chunks { rows: tile.rows, count: sizes.rows.div_ceil(tile.rows) };
    let partial =
        epilogue.with_moments.then(|| empty_plain(out, [2, chunks.count, sizes.batches, sizes.columns]));
    let [across, down, deep] = task.task.cut.grid().map(|count| count as u32);
    // SAFETY: units read nothing beyond the rows, columns and terms of the factors and write nothing beyond the results; of
    // moments there are as many chunks as rows of tiles.
    unsafe {
        matmul_kernel::launch_unchecked(
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

/// Two matmuls in one launch: `[batches * pieces, rows, columns]` of each. The cubes of the first begin first.
///
/// # Panics
/// When their tiles have different numbers of units.
pub(super) fn pair<R: CubeRuntime>(tasks: [Task<R>; 2]) -> [CubeTensor<R>; 2] {
    let [first, second] = tasks.map(Task::prepared);
    let cuts = [first.task.cut, second.task.cut];
    let [units, others] = cuts.map(|cut| cut.tile.units());
    assert_eq!(units, others, "tiles of one launch have one number of units");
    let counts = cuts.map(|cut| cut.cubes());
    let all = [first.tensors(), second.tensors()].concat();
    // SAFETY: as for `matmul_kernel`; cubes beyond those of both do nothing.
    unsafe {
        pair_kernel::launch_unchecked(
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
            first.extent(),
            second.extent(),
            counts[0],
            counts[0] + counts[1],
            cuts.map(|cut| cut.tile),
            [first.task.left.is_wide(), second.task.left.is_wide()],
            [first.task.right.is_wide(), second.task.right.is_wide()],
        );
    }
    [first.out.tensor, second.out.tensor]
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn matmul_kernel<L: Size, N: Size, W: Size>(
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
    #[comptime] tile: Tile,
    #[comptime] left_wide: bool,
    #[comptime] right_wide: bool,
    #[comptime] epilogue: Steps,
) {
    let mut left_stages =
        SharedMemory::<Vector<f32, Const<4>>>::new(comptime!(2 * tile.depth * pitch(tile.rows)));
    let mut right_stages =
        SharedMemory::<Vector<f32, Const<4>>>::new(comptime!(2 * tile.depth * pitch(tile.columns)));
    let place = place_in(CUBE_POS_X as usize, CUBE_POS_Y as usize, CUBE_POS_Z as usize, tile);
    let mut results = multiply::<L, N>(
        left,
        right,
        &mut left_stages,
        &mut right_stages,
        &at,
        &place,
        tile,
        left_wide,
        right_wide,
    );

    let batch = place.matrix / at.pieces;
    #[unroll]
    for side in 0..2usize {
        let column = column_of(&place, side, tile);
        if comptime!(epilogue.scale) {
            let scale = of_columns(scales, batch * at.columns, column, at.columns);
            #[unroll]
            for row in 0..UNIT {
                results[comptime!(2 * row + side)] *= scale;
            }
        }
        if comptime!(epilogue.shift) {
            let shift = of_columns(shifts, batch * at.columns, column, at.columns);
            #[unroll]
            for row in 0..UNIT {
                results[comptime!(2 * row + side)] += shift;
            }
        }
        if comptime!(epilogue.curve != Curve::Identity) {
            let slope = slope_of(slopes, batch, leak, epilogue.curve);
            #[unroll]
            for row in 0..UNIT {
                let index = comptime!(2 * row + side);
                results[index] = activate::<Const<4>>(results[index], slope, epilogue.curve);
            }
        }
    }
    if comptime!(epilogue.moments) {
        tile_moments(&results, &mut left_stages, partial, &at, &place, batches, chunks, tile);
    }
    write_results::<W>(out, &results, &at, &place, tile);
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn pair_kernel<L: Size, N: Size, W: Size, M: Size, O: Size, X: Size>(
    left: &Array<Vector<f32, L>>,
    right: &Array<Vector<f32, N>>,
    out: &mut Array<Vector<f32, W>>,
    other_left: &Array<Vector<f32, M>>,
    other_right: &Array<Vector<f32, O>>,
    other_out: &mut Array<Vector<f32, X>>,
    at: Extent,
    other_at: Extent,
    first_cubes: usize,
    cubes: usize,
    #[comptime] tiles: [Tile; 2],
    #[comptime] left_wide: [bool; 2],
    #[comptime] right_wide: [bool; 2],
) {
    let mut left_stages = SharedMemory::<Vector<f32, Const<4>>>::new(comptime!(largest(
        2 * tiles[0].depth * pitch(tiles[0].rows),
        2 * tiles[1].depth * pitch(tiles[1].rows)
    )));
    let mut right_stages = SharedMemory::<Vector<f32, Const<4>>>::new(comptime!(largest(
        2 * tiles[0].depth * pitch(tiles[0].columns),
        2 * tiles[1].depth * pitch(tiles[1].columns)
    )));
    let cube = CUBE_POS;
    if cube < first_cubes {
        one_of_two::<L, N, W>(
            left,
            right,
            out,
            &mut left_stages,
            &mut right_stages,
            &at,
            cube,
            comptime!(tiles[0]),
            comptime!(left_wide[0]),
            comptime!(right_wide[0]),
        );
    } else if cube < cubes {
        one_of_two::<M, O, X>(
            other_left,
            other_right,
            other_out,
            &mut left_stages,
            &mut right_stages,
            &other_at,
            cube - first_cubes,
            comptime!(tiles[1]),
            comptime!(left_wide[1]),
            comptime!(right_wide[1]),
        );
    }
}

/// The tile of a matmul that its `cube`th cube computes.
#[cube]
fn one_of_two<L: Size, N: Size, W: Size>(
    left: &Array<Vector<f32, L>>,
    right: &Array<Vector<f32, N>>,
    out: &mut Array<Vector<f32, W>>,
    left_stages: &mut SharedMemory<Vector<f32, Const<4>>>,
    right_stages: &mut SharedMemory<Vector<f32, Const<4>>>,
    at: &Extent,
    cube: usize,
    #[comptime] tile: Tile,
    #[comptime] left_wide: bool,
    #[comptime] right_wide: bool,
) {
    let across = at.columns.div_ceil(comptime!(tile.columns));
    let down = at.rows.div_ceil(comptime!(tile.rows));
    let place = place_in(cube % across, cube / across % down, cube / across / down, tile);
    let results =
        multiply::<L, N>(left, right, left_stages, right_stages, at, &place, tile, left_wide, right_wide);
    write_results::<W>(out, &results, at, &place, tile);
}

fn largest(one: usize, other: usize) -> usize {
    one.max(other)
}
