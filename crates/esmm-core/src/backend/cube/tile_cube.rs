//! What a cube of a tiled matmul does: it computes a tile of `rows x columns` results, a unit 8 x 8 of them in two halves
//! of four each way, so that units of a plane read neighbouring words. While a stage of `depth` terms is multiplied, the
//! next one is on its way: two stages in shared memory, one barrier each.

use burn_cubecl::cubecl::{self, prelude::*};

use super::factor::Distances;
use super::quads;
use super::tile::{QUAD, Tile, UNIT, pitch};

/// Units of a plane side by side; a plane has four rows of them.
const PLANE_COLUMNS: usize = 8;
const PLANE_ROWS: usize = 4;

/// Sizes of a matmul and where its factors and results lie.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct Extent {
    pub(super) left: Distances,
    pub(super) right: Distances,
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

/// Which results a unit computes.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Place {
    /// First row and column of the cube's tile.
    pub(super) first_row: usize,
    pub(super) first_column: usize,
    /// Of the unit, among those of its cube.
    pub(super) unit_row: usize,
    pub(super) unit_column: usize,
    /// Number of the matrix of results: batch and piece.
    pub(super) matrix: usize,
}

/// The place of this unit in the tile at `row_tile` and `column_tile`, counted in tiles. In a plane two neighbours are one
/// below the other, and eight such pairs side by side: so each half of it reads every quad of the right factor once, and
/// neighbours the same one.
#[cube]
pub(super) fn place_in(column_tile: usize, row_tile: usize, matrix: usize, #[comptime] tile: Tile) -> Place {
    let unit = UNIT_POS as usize;
    let plane = unit / comptime!(PLANE_ROWS * PLANE_COLUMNS);
    let lane = unit % comptime!(PLANE_ROWS * PLANE_COLUMNS);
    let planes_wide = comptime!(tile.columns / UNIT / PLANE_COLUMNS);
    Place {
        first_row: row_tile * comptime!(tile.rows),
        first_column: column_tile * comptime!(tile.columns),
        unit_row: plane / planes_wide * PLANE_ROWS + lane % 2 + lane / 16 * 2,
        unit_column: plane % planes_wide * PLANE_COLUMNS + lane / 2 % PLANE_COLUMNS,
        matrix,
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
    #[comptime] left_wide: bool,
    #[comptime] right_wide: bool,
) -> Array<Vector<f32, Const<4>>> {
    let row_stage = comptime!(tile.depth * pitch(tile.rows));
    let column_stage = comptime!(tile.depth * pitch(tile.columns));
    let row_loads = comptime!((tile.rows / QUAD * tile.depth) / tile.units());
    let column_loads = comptime!((tile.columns / QUAD * tile.depth) / tile.units());
    let unit = UNIT_POS as usize;

    let batch = place.matrix / at.pieces;
    let piece = place.matrix % at.pieces;
    let start = min(piece * at.length, at.terms);
    let end = min(start + at.length, at.terms);
    let steps_each = (end - start).div_ceil(comptime!(tile.depth));
    let steps = steps_each * at.sums;
    let left_batch = batch * at.left.batch;
    let right_batch = batch * at.right.batch;

    let zero = Vector::<f32, Const<4>>::new(0.0f32);
    let mut results = Array::<Vector<f32, Const<4>>>::new(comptime!(2 * UNIT));
    #[unroll]
    for index in 0..comptime!(2 * UNIT) {
        results[index] = zero;
    }
    let mut next_left = Array::<Vector<f32, Const<4>>>::new(row_loads);
    let mut next_right = Array::<Vector<f32, Const<4>>>::new(column_loads);

    if steps > 0 {
        load::<L>(
            left,
            &mut next_left,
            left_batch,
            place.first_row,
            at.rows,
            start,
            end,
            &at.left,
            unit,
            tile.rows,
            tile,
            left_wide,
        );
        load::<N>(
            right,
            &mut next_right,
            right_batch,
            place.first_column,
            at.columns,
            start,
            end,
            &at.right,
            unit,
            tile.columns,
            tile,
            right_wide,
        );
        store(&next_left, left_stages, 0, unit, tile.rows, tile, left_wide);
        store(&next_right, right_stages, 0, unit, tile.columns, tile, right_wide);
    }
    sync_cube();
    // Counted up, for a division a stage is a long wait before its first load.
    let mut term = start;
    let mut left_base = left_batch;
    let mut right_base = right_batch;
    for step in 0..steps {
        let stage = step % 2;
        let more = step + 1 < steps;
        if more {
            term += comptime!(tile.depth);
            if term >= end {
                term = start;
                left_base += at.left.sum;
                right_base += at.right.sum;
            }
            load::<L>(
                left,
                &mut next_left,
                left_base,
                place.first_row,
                at.rows,
                term,
                end,
                &at.left,
                unit,
                tile.rows,
                tile,
                left_wide,
            );
            load::<N>(
                right,
                &mut next_right,
                right_base,
                place.first_column,
                at.columns,
                term,
                end,
                &at.right,
                unit,
                tile.columns,
                tile,
                right_wide,
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
            let other = 1 - stage;
            store(&next_left, left_stages, other * row_stage, unit, tile.rows, tile, left_wide);
            store(&next_right, right_stages, other * column_stage, unit, tile.columns, tile, right_wide);
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
    let first = place.matrix * at.rows;
    #[unroll]
    for half in 0..2usize {
        #[unroll]
        for row in 0..QUAD {
            let out_row = place.first_row + row_of(place, half, row, tile);
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
    place.first_column + (place.unit_column + comptime!(side * (tile.columns / UNIT))) * QUAD
}

/// A unit's share of a stage, from the tensor: 0 beyond the terms, the last ones again beyond the rows (or columns), whose
/// results are not written.
#[cube]
fn load<N: Size>(
    values: &Array<Vector<f32, N>>,
    next: &mut Array<Vector<f32, Const<4>>>,
    base: usize,
    first: usize,
    len: usize,
    term: usize,
    end: usize,
    at: &Distances,
    unit: usize,
    #[comptime] side: usize,
    #[comptime] tile: Tile,
    #[comptime] wide: bool,
) {
    let size = N::value().comptime();
    #[unroll]
    for load in 0..comptime!(side / QUAD * tile.depth / tile.units()) {
        let (quad, depth) = place_of(unit + comptime!(load * tile.units()), side, tile, wide);
        let from = first + quad * QUAD;
        let term = term + depth;
        let mut loaded = Vector::<f32, Const<4>>::new(0.0f32);
        if term < end {
            let line = base + term * at.along;
            if comptime!(wide) {
                #[unroll]
                for part in 0..comptime!(QUAD / size) {
                    let neighbour = min(from + comptime!(part * size), len - size);
                    let vector = values[line + neighbour / size];
                    #[unroll]
                    for lane in 0..size {
                        loaded[comptime!(part * size + lane)] = vector[lane];
                    }
                }
            } else {
                #[unroll]
                for part in 0..QUAD {
                    let neighbour = min(from + part, len - 1);
                    let vector = values[line + neighbour * at.across];
                    loaded[part] = vector[0];
                }
            }
        }
        next[load] = loaded;
    }
}

/// A unit's share of a stage, to shared memory.
#[cube]
fn store(
    next: &Array<Vector<f32, Const<4>>>,
    stages: &mut SharedMemory<Vector<f32, Const<4>>>,
    stage: usize,
    unit: usize,
    #[comptime] side: usize,
    #[comptime] tile: Tile,
    #[comptime] wide: bool,
) {
    #[unroll]
    for load in 0..comptime!(side / QUAD * tile.depth / tile.units()) {
        let (quad, depth) = place_of(unit + comptime!(load * tile.units()), side, tile, wide);
        stages[stage + depth * comptime!(pitch(side)) + quad] = next[load];
    }
}

/// Quad and term of the `index`th load of a stage: neighbours in the tensor are loaded by neighbouring units.
#[cube]
fn place_of(
    index: usize,
    #[comptime] side: usize,
    #[comptime] tile: Tile,
    #[comptime] wide: bool,
) -> (usize, usize) {
    if comptime!(wide) {
        let quads = comptime!(side / QUAD);
        (index % quads, index / quads)
    } else {
        let depth = comptime!(tile.depth);
        (index / depth, index % depth)
    }
}
