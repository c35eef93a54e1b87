//! The results of tensor cores on their way to the tensor: which lane holds which of a fragment is NVIDIA's secret, so they go
//! through shared memory, a row of fragments at a time.

use burn_cubecl::cubecl::{self, cmma, prelude::*};

use super::block::{Curve, activate};
use super::epilogue::Steps;
use super::extent::Extent;
use super::quads;
use super::tensor_cores::{FRAGMENT, PLANE, TensorTile};
use super::tensor_cube::Place;
use super::tensor_moments::LaneSums;
use super::tile::QUAD;

/// What is done to the four columns of a lane before they are written: `activation(result * scale + shift)`.
#[derive(CubeType, Clone, Copy)]
pub(super) struct OfColumns {
    pub(super) scale: Vector<f32, Const<4>>,
    pub(super) shift: Vector<f32, Const<4>>,
    /// Slope of the activation below zero.
    pub(super) slope: f32,
}

/// First column of the four that this lane writes.
#[cube]
pub(super) fn lane_column(place: &Place, #[comptime] tile: TensorTile) -> usize {
    let quad = UNIT_POS as usize % comptime!(tile.plane_quads());
    place.corner.column + place.column + quad * QUAD
}

/// Writes the results of this plane, and returns sums of what this lane wrote, where moments are wanted. `waiting` has room
/// for a row of fragments of each plane.
#[cube]
pub(super) fn write_results<W: Size>(
    out: &mut Array<Vector<f32, W>>,
    results: &Sequence<cmma::Matrix<f32>>,
    waiting: &mut SharedMemory<Vector<f32, Const<4>>>,
    of_columns: &OfColumns,
    at: &Extent,
    place: &Place,
    #[comptime] tile: TensorTile,
    #[comptime] scaled: bool,
    #[comptime] epilogue: Steps,
) -> LaneSums {
    let pitch = comptime!(tile.result_pitch());
    let region = comptime!(FRAGMENT * tile.result_pitch());
    let quads = comptime!(tile.plane_quads());
    let wide = comptime!(tile.fragments_wide());
    let plane = UNIT_POS as usize / PLANE;
    let lane = UNIT_POS as usize % PLANE;
    let quad = lane % quads;
    let column = lane_column(place, tile);
    let out_first = place.corner.matrix * at.rows;
    let mut pivot = Vector::<f32, Const<4>>::new(0.0f32);
    let mut sum = Vector::<f32, Const<4>>::new(0.0f32);
    let mut squares = Vector::<f32, Const<4>>::new(0.0f32);
    #[unroll]
    for fragment_row in 0..comptime!(tile.fragments_tall()) {
        #[unroll]
        for fragment_column in 0..wide {
            let from = plane * region + comptime!(fragment_column * FRAGMENT / QUAD);
            cmma::store(
                &mut waiting.slice_mut(from, (plane + 1) * region),
                results.index(comptime!(fragment_row * wide + fragment_column)),
                comptime!((tile.result_pitch() * QUAD) as u32),
                cmma::MatrixLayout::RowMajor,
            );
        }
        sync_plane();
        #[unroll]
        for part in 0..comptime!(FRAGMENT * tile.plane_quads() / PLANE) {
            let line = lane / quads + comptime!(part * (PLANE / tile.plane_quads()));
            let row = place.corner.row + place.row + comptime!(fragment_row * FRAGMENT) + line;
            if row < at.rows {
                let mut result = waiting[plane * region + line * pitch + quad];
                if comptime!(epilogue.scale || scaled) {
                    result *= of_columns.scale;
                }
                if comptime!(epilogue.shift) {
                    result += of_columns.shift;
                }
                if comptime!(epilogue.curve != Curve::Identity) {
                    result = activate::<Const<4>>(result, of_columns.slope, epilogue.curve);
                }
                if comptime!(epilogue.moments) {
                    // The first row of a lane, which exists where any of its rows does.
                    if comptime!(fragment_row == 0 && part == 0) {
                        pivot = result;
                    }
                    let difference = result - pivot;
                    sum += difference;
                    squares += difference * difference;
                }
                quads::write::<W>(out, result, (out_first + row) * at.out_stride, column, at.columns);
            }
        }
        sync_plane();
    }
    LaneSums { pivot, sum, squares }
}
