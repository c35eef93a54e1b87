//! What a cube of a tiled matmul does: it computes a tile of `rows x columns` results, a unit 8 x 8 of them in two halves
//! of four each way, so that units of a plane read neighbouring words. While a stage of `depth` terms is multiplied, the
//! next one is on its way: two stages in shared memory, one barrier each.

use burn_cubecl::cubecl::{self, prelude::*};

use super::extent::{Corner, Extent, terms_of};
use super::factor::Wide;
use super::quads;
use super::tile::{QUAD, Tile, UNIT, pitch};
use super::tile_stage::{load_stages, store_stages};

/// Units of a plane, the longer way and the shorter one.
const LONG: usize = 8;
const SHORT: usize = 4;

/// Which results a unit computes.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Place {
    pub(super) corner: Corner,
    /// Of the unit, among those of its cube.
    pub(super) unit_row: usize,
    pub(super) unit_column: usize,
}

/// The place of this unit in the tile at a corner. In a plane two neighbours lie the shorter way, and eight such pairs the
/// longer one: so each half of it reads every quad of one factor once, and neighbours the same one.
#[cube]
pub(super) fn place_in(corner: Corner, #[comptime] tile: Tile) -> Place {
    let unit = UNIT_POS as usize;
    let plane = unit / comptime!(LONG * SHORT);
    let lane = unit % comptime!(LONG * SHORT);
    let pair = lane / 2;
    let short = lane % 2 + pair / LONG * 2;
    let long = pair % LONG;
    // Whole planes fill the tile in one of two directions.
    if comptime!(tile.columns.is_multiple_of(UNIT * LONG)) {
        let planes_wide = comptime!(tile.columns / UNIT / LONG);
        Place {
            corner,
            unit_row: plane / planes_wide * SHORT + short,
            unit_column: plane % planes_wide * LONG + long,
        }
    } else {
        let planes_wide = comptime!(tile.columns / UNIT / SHORT);
        Place {
            corner,
            unit_row: plane / planes_wide * LONG + long,
            unit_column: plane % planes_wide * SHORT + short,
        }
    }
}

/// The results of this unit: row r, half h of its columns at `2 * r + h`.
#[cube]
pub(super) fn multiply<L: Size, N: Size>(
    left: &Array<Vector<f32, L>>,
    right: &Array<Vector<f32, N>>,
    left_stages: &mut SharedMemory<Vector<f32, Const<4>>>,
    right_stages: &mut SharedMemory<Vector<f32, Const<4>>>,
    at: &Extent,
    place: &Place,
    #[comptime] tile: Tile,
    #[comptime] wide: Wide,
) -> Array<Vector<f32, Const<4>>> {
    let row_stage = comptime!(tile.stage(tile.rows));
    let column_stage = comptime!(tile.stage(tile.columns));

    let terms = terms_of(at, place.corner.matrix);
    let steps_each = (terms.end - terms.start).div_ceil(comptime!(tile.depth));
    let steps = steps_each * at.sums;

    let zero = Vector::<f32, Const<4>>::new(0.0f32);
    let mut results = Array::<Vector<f32, Const<4>>>::new(comptime!(2 * UNIT));
    #[unroll]
    for index in 0..comptime!(2 * UNIT) {
        results[index] = zero;
    }
    let mut next_left = Array::<Vector<f32, Const<4>>>::new(comptime!(tile.loads(tile.rows)));
    let mut next_right = Array::<Vector<f32, Const<4>>>::new(comptime!(tile.loads(tile.columns)));

    // Counted up, for a division a stage is a long wait before its first load.
    let mut term = terms.start;
    let mut left_base = terms.batch * at.left.batch;
    let mut right_base = terms.batch * at.right.batch;
    if steps > 0 {
        load_stages::<L, N>(
            left,
            right,
            &mut next_left,
            &mut next_right,
            left_base,
            right_base,
            term,
            terms.end,
            at,
            place,
            tile,
            wide,
        );
        store_stages(&next_left, &next_right, left_stages, right_stages, 0usize, tile, wide);
    }
    sync_cube();
    for step in 0..steps {
        let stage = step % 2;
        let more = step + 1 < steps;
        if more {
            term += comptime!(tile.depth);
            if term >= terms.end {
                term = terms.start;
                left_base += at.left.sum;
                right_base += at.right.sum;
            }
            load_stages::<L, N>(
                left,
                right,
                &mut next_left,
                &mut next_right,
                left_base,
                right_base,
                term,
                terms.end,
                at,
                place,
                tile,
                wide,
            );
        }
        let left_first = stage * row_stage + place.unit_row;
        let right_first = stage * column_stage + place.unit_column;
        #[unroll]
        for term in 0..comptime!(tile.depth) {
            let left_place = left_first + comptime!(term * pitch(tile.rows));
            let right_place = right_first + comptime!(term * pitch(tile.columns));
            let right_low = right_stages[right_place];
            let right_high = right_stages[right_place + comptime!(tile.columns / UNIT)];
            #[unroll]
            for half in 0..2usize {
                let quad = left_stages[left_place + comptime!(half * (tile.rows / UNIT))];
                #[unroll]
                for row in 0..QUAD {
                    let factor = Vector::<f32, Const<4>>::new(quad[row]);
                    let low = comptime!(2 * (half * QUAD + row));
                    results[low] += factor * right_low;
                    results[low + 1] += factor * right_high;
                }
            }
        }
        if more {
            store_stages(&next_left, &next_right, left_stages, right_stages, 1 - stage, tile, wide);
        }
        sync_cube();
    }
    results
}

/// Writes the results of this unit.
#[cube]
pub(super) fn write_results<W: Size>(
    out: &mut Array<Vector<f32, W>>,
    results: &Array<Vector<f32, Const<4>>>,
    at: &Extent,
    place: &Place,
    #[comptime] tile: Tile,
) {
    let first = place.corner.matrix * at.rows;
    #[unroll]
    for half in 0..2usize {
        #[unroll]
        for row in 0..QUAD {
            let out_row = place.corner.row + row_of(place, half, row, tile);
            if out_row < at.rows {
                #[unroll]
                for side in 0..2usize {
                    let result = results[comptime!(2 * (half * QUAD + row) + side)];
                    let column = column_of(place, side, tile);
                    quads::write::<W>(out, result, (first + out_row) * at.out_stride, column, at.columns);
                }
            }
        }
    }
}

/// Row of the tile that holds result `row` of a half.
#[cube]
pub(super) fn row_of(
    place: &Place,
    #[comptime] half: usize,
    #[comptime] row: usize,
    #[comptime] tile: Tile,
) -> usize {
    (place.unit_row + comptime!(half * (tile.rows / UNIT))) * QUAD + row
}

/// First column of a side of the results.
#[cube]
pub(super) fn column_of(place: &Place, #[comptime] side: usize, #[comptime] tile: Tile) -> usize {
    place.corner.column + (place.unit_column + comptime!(side * (tile.columns / UNIT))) * QUAD
}
