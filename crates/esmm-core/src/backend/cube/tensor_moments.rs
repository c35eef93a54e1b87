//! Moments of the results of a matmul on tensor cores, taken as they are written: a chunk of rows is a tile's. The results
//! are not read again for them.

use burn_cubecl::cubecl::{self, prelude::*};

use super::extent::Extent;
use super::moments::about_mean;
use super::tensor_cores::{PLANE, TensorTile};
use super::tensor_cube::Place;
use super::tile::QUAD;

/// What a lane wrote of its four columns: the first row, then sums of the differences to it and of their squares. The
/// first row is one of at most 16, so cancellation takes at most four bits from their squares.
#[derive(CubeType, Clone, Copy)]
pub(super) struct LaneSums {
    pub(super) pivot: Vector<f32, Const<4>>,
    pub(super) sum: Vector<f32, Const<4>>,
    pub(super) squares: Vector<f32, Const<4>>,
}

/// Mean and sum of squared deviations of each column of a tile, to their places in `[2, chunks, batches, columns]`: those
/// of the lanes are joined in the order of their rows (Chan, Golub and LeVeque, 1979). `waiting` is shared memory that other
/// planes may still read; all units of the cube must ask.
#[cube]
pub(super) fn write_moments(
    lane_sums: &LaneSums,
    waiting: &mut SharedMemory<Vector<f32, Const<4>>>,
    partial: &mut Array<f32>,
    at: &Extent,
    place: &Place,
    batches: usize,
    chunks: usize,
    #[comptime] tile: TensorTile,
) {
    let unit = UNIT_POS as usize;
    let quads = comptime!(tile.plane_quads());
    let lines = comptime!(PLANE / tile.plane_quads());
    let planes_wide = comptime!(tile.planes_wide());
    let zero = Vector::<f32, Const<4>>::new(0.0f32);

    let first = place.corner.row + place.row;
    let count = rows_of_lane(first, unit % PLANE / quads, at.rows, tile);
    let mut mean = lane_sums.pivot;
    let mut deviations = lane_sums.squares;
    if count > 0 {
        let rows_here = Vector::new(f32::cast_from(count));
        let (lane_mean, lane_deviations) =
            about_mean::<Const<4>>(lane_sums.pivot, lane_sums.sum, lane_sums.squares, rows_here);
        mean = lane_mean;
        deviations = lane_deviations;
    }
    sync_cube();
    waiting[2 * unit] = mean;
    waiting[2 * unit + 1] = deviations;
    sync_cube();

    // A unit joins four columns of the tile.
    if unit < comptime!(tile.columns / QUAD) {
        let mut mean = zero;
        let mut deviations = zero;
        let mut before = 0.0f32;
        for share in 0..comptime!(tile.rows / tile.plane_rows * lines) {
            let plane_row = share / lines;
            let line = share % lines;
            let first = place.corner.row + plane_row * comptime!(tile.plane_rows);
            let here = f32::cast_from(rows_of_lane(first, line, at.rows, tile));
            if here > 0.0f32 {
                let plane = plane_row * planes_wide + unit / quads;
                let other = 2 * (plane * PLANE + line * quads + unit % quads);
                let part = here / (before + here);
                let difference = waiting[other] - mean;
                mean += difference * Vector::new(part);
                deviations += waiting[other + 1] + difference * difference * Vector::new(part * before);
                before += here;
            }
        }
        let column = place.corner.column + unit * QUAD;
        let chunk = place.corner.row / comptime!(tile.rows);
        let first = (chunk * batches + place.corner.matrix) * at.columns + column;
        let second = chunks * batches * at.columns;
        #[unroll]
        for lane in 0..QUAD {
            if column + lane < at.columns {
                partial[first + lane] = mean[lane];
                partial[second + first + lane] = deviations[lane];
            }
        }
    }
}

/// How many rows a lane writes: of those of its plane, which begin at `first`, the ones that are `line` modulo the lines
/// that a plane writes at once.
#[cube]
fn rows_of_lane(first: usize, line: usize, rows: usize, #[comptime] tile: TensorTile) -> usize {
    let lines = comptime!(PLANE / tile.plane_quads());
    let here = min(rows - min(first, rows), comptime!(tile.plane_rows));
    (here + comptime!(lines - 1) - line) / lines
}
