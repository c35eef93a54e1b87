//! Moments of the results of a tiled matmul, taken while they are in registers: a chunk of rows is a tile's. The results
//! are not read again for them.

use burn_cubecl::cubecl::{self, prelude::*};

use super::extent::Extent;
use super::tile::{QUAD, Tile, UNIT};
use super::tile_cube::{Place, column_of, row_of};

/// Mean and sum of squared deviations of each column of a tile, to their places in `[2, chunks, batches, columns]`: first
/// the mean, then the deviations from it. `lines` is shared memory that no one reads any more; all units of the cube must
/// ask.
#[cube]
pub(super) fn tile_moments(
    results: &Array<Vector<f32, Const<4>>>,
    lines: &mut SharedMemory<Vector<f32, Const<4>>>,
    partial: &mut Array<f32>,
    at: &Extent,
    place: &Place,
    batches: usize,
    chunks: usize,
    #[comptime] tile: Tile,
) {
    let rows_here = min(at.rows - place.corner.row, comptime!(tile.rows));
    let count = Vector::<f32, Const<4>>::new(f32::cast_from(rows_here));
    let mut means = Array::<Vector<f32, Const<4>>>::new(2usize);
    #[unroll]
    for side in 0..2usize {
        means[side] = Vector::new(0.0f32);
    }
    // Once for the means, once for the deviations from them.
    #[unroll]
    for pass in 0..2u32 {
        #[unroll]
        for side in 0..2usize {
            let mut sum = Vector::<f32, Const<4>>::new(0.0f32);
            #[unroll]
            for half in 0..2usize {
                #[unroll]
                for row in 0..QUAD {
                    if place.corner.row + row_of(place, half, row, tile) < at.rows {
                        let difference = results[comptime!(2 * (half * QUAD + row) + side)] - means[side];
                        if comptime!(pass == 0) {
                            sum += difference;
                        } else {
                            sum += difference * difference;
                        }
                    }
                }
            }
            lines[place.unit_row * comptime!(tile.columns / QUAD) + quad_of(place, side, tile)] = sum;
        }
        sync_cube();
        #[unroll]
        for side in 0..2usize {
            let mut total = Vector::<f32, Const<4>>::new(0.0f32);
            for line in 0..comptime!(tile.rows / UNIT) {
                total += lines[line * comptime!(tile.columns / QUAD) + quad_of(place, side, tile)];
            }
            let mut found = total;
            if comptime!(pass == 0) {
                found = total / count;
                means[side] = found;
            }
            if place.unit_row == 0 {
                let chunk = comptime!(pass as usize) * chunks + place.corner.row / comptime!(tile.rows);
                let column = column_of(place, side, tile);
                let first = (chunk * batches + place.corner.matrix) * at.columns;
                #[unroll]
                for lane in 0..QUAD {
                    if column + lane < at.columns {
                        partial[first + column + lane] = found[lane];
                    }
                }
            }
        }
        sync_cube();
    }
}

/// The quad of columns that a side of the results has, counted in the tile.
#[cube]
fn quad_of(place: &Place, #[comptime] side: usize, #[comptime] tile: Tile) -> usize {
    place.unit_column + comptime!(side * (tile.columns / UNIT))
}
