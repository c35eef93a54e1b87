//! What a cube of a matmul on tensor cores does: it computes a tile of `rows x columns` results, a plane a part of it in
//! fragments of 16 x 16. While a stage is multiplied, the next one is on its way in registers: two stages in shared
//! memory, one barrier each.

use burn_cubecl::cubecl::{self, cmma, prelude::*};

use super::tensor_cores::{FRAGMENT, PLANE, TensorTile};
use super::tensor_stage::{fragment_of, load, store};

/// A factor that is multiplied by a power of two before it is rounded; what is written is divided by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Scaled {
    Neither,
    Left,
    Right,
}

/// Where the lines of a factor lie, in vectors: a line is what neighbours in memory belong to.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct Lines {
    pub(super) batch: usize,
    pub(super) sum: usize,
    pub(super) line: usize,
}

/// Sizes of a matmul and where its factors and results lie.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct Extent {
    pub(super) left: Lines,
    pub(super) right: Lines,
    /// From one row of results to the next, in vectors.
    pub(super) out_stride: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) terms: usize,
    /// Terms of a piece.
    pub(super) length: usize,
    pub(super) pieces: usize,
    pub(super) sums: usize,
}

/// Which results a plane computes.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Place {
    /// First row and column of the cube's tile.
    pub(super) first_row: usize,
    pub(super) first_column: usize,
    /// Those of the plane, in the tile.
    pub(super) plane_row: usize,
    pub(super) plane_column: usize,
    /// Number of the matrix of results: batch and piece.
    pub(super) matrix: usize,
}

/// The place of this plane in the tile at `column_tile` and `row_tile`, counted in tiles.
#[cube]
pub(super) fn place_in(
    column_tile: usize,
    row_tile: usize,
    matrix: usize,
    #[comptime] tile: TensorTile,
) -> Place {
    let plane = UNIT_POS as usize / PLANE;
    let planes_wide = comptime!(tile.planes_wide());
    Place {
        first_row: row_tile * comptime!(tile.rows),
        first_column: column_tile * comptime!(tile.columns),
        plane_row: plane / planes_wide * comptime!(tile.plane_rows),
        plane_column: plane % planes_wide * comptime!(tile.plane_columns),
        matrix,
    }
}

/// The results of this plane, fragments of a row side by side.
#[cube]
pub(super) fn multiply<E: Float, L: Size, N: Size>(
    left: &Array<Vector<f32, L>>,
    right: &Array<Vector<f32, N>>,
    left_stages: &mut SharedMemory<Vector<E, Const<4>>>,
    right_stages: &mut SharedMemory<Vector<E, Const<4>>>,
    at: &Extent,
    place: &Place,
    factor: f32,
    #[comptime] tile: TensorTile,
    #[comptime] left_wide: bool,
    #[comptime] right_wide: bool,
    #[comptime] scaled: Scaled,
) -> Sequence<cmma::Matrix<f32>> {
    let left_stage = comptime!(tile.stage(tile.rows, left_wide));
    let right_stage = comptime!(tile.stage(tile.columns, right_wide));
    let batch = place.matrix / at.pieces;
    let piece = place.matrix % at.pieces;
    let start = min(piece * at.length, at.terms);
    let end = min(start + at.length, at.terms);
    let steps_each = (end - start).div_ceil(comptime!(tile.depth));
    let steps = steps_each * at.sums;
    let left_batch = batch * at.left.batch;
    let right_batch = batch * at.right.batch;

    let mut results = Sequence::<cmma::Matrix<f32>>::new();
    #[unroll]
    for _ in 0..comptime!(tile.fragments_tall() * tile.fragments_wide()) {
        results.push(cmma::Matrix::<f32>::from_value(
            cmma::MatrixIdent::Accumulator,
            FRAGMENT,
            FRAGMENT,
            comptime!(tile.rounding.fragment_terms()),
            cmma::MatrixLayout::Undefined,
            0.0f32,
        ));
    }
    let mut next_left = Array::<Vector<f32, Const<4>>>::new(comptime!(tile.loads(tile.rows)));
    let mut next_right = Array::<Vector<f32, Const<4>>>::new(comptime!(tile.loads(tile.columns)));

    // One step more than stages: the first one only loads.
    for step in 0..steps + 1 {
        if step < steps {
            let sum = step / steps_each;
            let term = start + step % steps_each * comptime!(tile.depth);
            load::<L>(
                left,
                &mut next_left,
                left_batch + sum * at.left.sum,
                at.left.line,
                place.first_row,
                at.rows,
                term,
                end,
                tile.rows,
                tile,
                left_wide,
            );
            load::<N>(
                right,
                &mut next_right,
                right_batch + sum * at.right.sum,
                at.right.line,
                place.first_column,
                at.columns,
                term,
                end,
                tile.columns,
                tile,
                right_wide,
            );
        }
        if step > 0 {
            let stage = (step - 1) % 2;
            multiply_stage::<E>(
                left_stages,
                right_stages,
                &results,
                stage * left_stage,
                stage * right_stage,
                place,
                tile,
                left_wide,
                right_wide,
            );
        }
        if step < steps {
            let stage = step % 2;
            store::<E>(
                &next_left,
                left_stages,
                stage * left_stage,
                factor,
                tile.rows,
                tile,
                left_wide,
                comptime!(scaled == Scaled::Left),
            );
            store::<E>(
                &next_right,
                right_stages,
                stage * right_stage,
                factor,
                tile.columns,
                tile,
                right_wide,
                comptime!(scaled == Scaled::Right),
            );
        }
        sync_cube();
    }
    results
}

/// Adds the matmul of a stage to the results of a plane.
#[cube]
fn multiply_stage<E: Float>(
    left: &SharedMemory<Vector<E, Const<4>>>,
    right: &SharedMemory<Vector<E, Const<4>>>,
    results: &Sequence<cmma::Matrix<f32>>,
    left_first: usize,
    right_first: usize,
    place: &Place,
    #[comptime] tile: TensorTile,
    #[comptime] left_wide: bool,
    #[comptime] right_wide: bool,
) {
    let terms = comptime!(tile.rounding.fragment_terms());
    let wide = comptime!(tile.fragments_wide());
    #[unroll]
    for part in 0..comptime!(tile.depth / terms) {
        let mut columns = Sequence::<cmma::Matrix<E>>::new();
        #[unroll]
        for fragment in 0..wide {
            columns.push(fragment_of::<E>(
                right,
                right_first,
                place.plane_column + comptime!(fragment * FRAGMENT),
                comptime!(part * terms),
                tile.columns,
                cmma::MatrixIdent::B,
                tile,
                right_wide,
            ));
        }
        #[unroll]
        for fragment_row in 0..comptime!(tile.fragments_tall()) {
            let rows = fragment_of::<E>(
                left,
                left_first,
                place.plane_row + comptime!(fragment_row * FRAGMENT),
                comptime!(part * terms),
                tile.rows,
                cmma::MatrixIdent::A,
                tile,
                left_wide,
            );
            #[unroll]
            for fragment in 0..wide {
                let result = results.index(comptime!(fragment_row * wide + fragment));
                cmma::execute::<E, E, f32, f32>(&rows, columns.index(fragment), result, result);
            }
        }
    }
}
