//! Matmuls in f32 from tiles in shared memory, at any distances of rows and columns: what is transposed, shared by towers
//! or cut into pieces is read where it lies.
//!
//! A cube computes a tile of `rows x columns` results, a unit 8 x 8 of them in two halves of four each way, so that units
//! of a plane read neighbouring words. While a stage of `depth` terms is multiplied, the next one is on its way: two
//! stages in shared memory, one barrier each.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::block::{Curve, activate, leak, slope_of};
use super::epilogue::{Epilogue, Steps, of_columns};
use super::factor::{Distances, Factor};
use super::tensor::{Rows, address, array, vector_size};
use super::tile::{QUAD, Sizes, Tile, UNIT, pitch};

/// Units of a plane side by side; a plane has four rows of them.
const PLANE_COLUMNS: usize = 8;
const PLANE_ROWS: usize = 4;
/// `[batches * pieces, rows, columns]`. An epilogue has no place where the terms are cut into
/// pieces.
pub(super) fn matmul<R: CubeRuntime>(
    left: Factor<R>,
    right: Factor<R>,
    epilogue: &Epilogue<R>,
    sizes: Sizes,
    tile: Tile,
) -> CubeTensor<R> {
    let Sizes { batches, sums, rows, columns, terms, pieces } = sizes;
    let out = Rows::empty(&left.tensor, [batches * pieces, rows, columns]);
    let client = out.tensor.client.clone();
    let left_vector = left.vector(rows);
    let right_vector = right.vector(columns);
    let out_vector = vector_size(&[columns, out.stride]);
    let length = terms.div_ceil(pieces);
    let cubes = CubeCount::Static(
        columns.div_ceil(tile.columns) as u32,
        rows.div_ceil(tile.rows) as u32,
        (batches * pieces) as u32,
    );
    // SAFETY: units read nothing beyond the rows, columns and terms of the factors and write nothing beyond the results.
    unsafe {
        matmul_kernel::launch_unchecked(
            &client,
            cubes,
            CubeDim::new_1d(tile.units() as u32),
            address(&[&left.tensor, &right.tensor, &out.tensor]),
            left_vector,
            right_vector,
            out_vector,
            array(&left.tensor),
            array(&right.tensor),
            array(epilogue.scale.as_ref().unwrap_or(&right.tensor)),
            array(epilogue.shift.as_ref().unwrap_or(&right.tensor)),
            array(epilogue.slope.as_ref().unwrap_or(&right.tensor)),
            out.array(),
            left.distances(left_vector),
            right.distances(right_vector),
            out.stride / out_vector,
            rows,
            columns,
            terms,
            length,
            pieces,
            sums,
            leak(epilogue.activation),
            tile,
            left.is_wide(),
            right.is_wide(),
            epilogue.steps(),
        );
    }
    out.tensor
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn matmul_kernel<L: Size, N: Size, W: Size>(
    left: &Array<Vector<f32, L>>,
    right: &Array<Vector<f32, N>>,
    scales: &Array<f32>,
    shifts: &Array<f32>,
    slopes: &Array<f32>,
    out: &mut Array<Vector<f32, W>>,
    left_at: Distances,
    right_at: Distances,
    out_stride: usize,
    rows: usize,
    columns: usize,
    terms: usize,
    length: usize,
    pieces: usize,
    sums: usize,
    leak: f32,
    #[comptime] tile: Tile,
    #[comptime] left_wide: bool,
    #[comptime] right_wide: bool,
    #[comptime] epilogue: Steps,
) {
    let row_stage = comptime!(tile.depth * pitch(tile.rows));
    let column_stage = comptime!(tile.depth * pitch(tile.columns));
    let row_loads = comptime!((tile.rows / QUAD * tile.depth) / tile.units());
    let column_loads = comptime!((tile.columns / QUAD * tile.depth) / tile.units());
    let mut left_stages =
        SharedMemory::<Vector<f32, Const<4>>>::new(comptime!(2 * tile.depth * pitch(tile.rows)));
    let mut right_stages =
        SharedMemory::<Vector<f32, Const<4>>>::new(comptime!(2 * tile.depth * pitch(tile.columns)));

    let unit = UNIT_POS as usize;
    let (plane, lane) =
        (unit / comptime!(PLANE_ROWS * PLANE_COLUMNS), unit % comptime!(PLANE_ROWS * PLANE_COLUMNS));
    let planes_wide = comptime!(tile.columns / UNIT / PLANE_COLUMNS);
    let unit_row = plane / planes_wide * PLANE_ROWS + lane / PLANE_COLUMNS;
    let unit_column = plane % planes_wide * PLANE_COLUMNS + lane % PLANE_COLUMNS;

    let first_row = CUBE_POS_Y as usize * comptime!(tile.rows);
    let first_column = CUBE_POS_X as usize * comptime!(tile.columns);
    let batch = CUBE_POS_Z as usize / pieces;
    let piece = CUBE_POS_Z as usize % pieces;
    let start = min(piece * length, terms);
    let end = min(start + length, terms);
    let steps_each = (end - start).div_ceil(comptime!(tile.depth));
    let steps = steps_each * sums;
    let left_batch = batch * left_at.batch;
    let right_batch = batch * right_at.batch;

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
            first_row,
            rows,
            start,
            end,
            &left_at,
            unit,
            tile.rows,
            tile,
            left_wide,
        );
        load::<N>(
            right,
            &mut next_right,
            right_batch,
            first_column,
            columns,
            start,
            end,
            &right_at,
            unit,
            tile.columns,
            tile,
            right_wide,
        );
        store(&next_left, &mut left_stages, 0, unit, tile.rows, tile, left_wide);
        store(&next_right, &mut right_stages, 0, unit, tile.columns, tile, right_wide);
    }
    sync_cube();
    for step in 0..steps {
        let stage = step % 2;
        let more = step + 1 < steps;
        if more {
            let sum = (step + 1) / steps_each;
            let term = start + (step + 1) % steps_each * comptime!(tile.depth);
            let left_base = left_batch + sum * left_at.sum;
            let right_base = right_batch + sum * right_at.sum;
            load::<L>(
                left,
                &mut next_left,
                left_base,
                first_row,
                rows,
                term,
                end,
                &left_at,
                unit,
                tile.rows,
                tile,
                left_wide,
            );
            load::<N>(
                right,
                &mut next_right,
                right_base,
                first_column,
                columns,
                term,
                end,
                &right_at,
                unit,
                tile.columns,
                tile,
                right_wide,
            );
        }
        let left_first = stage * row_stage + unit_row;
        let right_first = stage * column_stage + unit_column;
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
                    let place = comptime!(2 * (half * QUAD + row));
                    results[place] += factor * right_low;
                    results[place + 1] += factor * right_high;
                }
            }
        }
        if more {
            let other = 1 - stage;
            store(&next_left, &mut left_stages, other * row_stage, unit, tile.rows, tile, left_wide);
            store(&next_right, &mut right_stages, other * column_stage, unit, tile.columns, tile, right_wide);
        }
        sync_cube();
    }

    #[unroll]
    for side in 0..2usize {
        let column = first_column + (unit_column + comptime!(side * (tile.columns / UNIT))) * QUAD;
        if comptime!(epilogue.scale) {
            let scale = of_columns(scales, batch * columns, column, columns);
            #[unroll]
            for row in 0..UNIT {
                results[comptime!(2 * row + side)] *= scale;
            }
        }
        if comptime!(epilogue.shift) {
            let shift = of_columns(shifts, batch * columns, column, columns);
            #[unroll]
            for row in 0..UNIT {
                results[comptime!(2 * row + side)] += shift;
            }
        }
        if comptime!(epilogue.curve != Curve::Identity) {
            let slope = slope_of(slopes, batch, leak, epilogue.curve);
            #[unroll]
            for row in 0..UNIT {
                let place = comptime!(2 * row + side);
                results[place] = activate::<Const<4>>(results[place], slope, epilogue.curve);
            }
        }
    }
    let out_first = CUBE_POS_Z as usize * rows;
    #[unroll]
    for half in 0..2usize {
        #[unroll]
        for row in 0..QUAD {
            let out_row = first_row + (unit_row + comptime!(half * (tile.rows / UNIT))) * QUAD + row;
            if out_row < rows {
                #[unroll]
                for side in 0..2usize {
                    let column =
                        first_column + (unit_column + comptime!(side * (tile.columns / UNIT))) * QUAD;
                    let result = results[comptime!(2 * (half * QUAD + row) + side)];
                    write::<W>(out, result, (out_first + out_row) * out_stride, column, columns);
                }
            }
        }
    }
}

/// A unit's share of a stage, from the tensor.
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
            if comptime!(wide) {
                #[unroll]
                for part in 0..comptime!(QUAD / size) {
                    let neighbour = from + comptime!(part * size);
                    if neighbour < len {
                        let vector = values[base + term * at.along + neighbour / size];
                        #[unroll]
                        for lane in 0..size {
                            loaded[comptime!(part * size + lane)] = vector[lane];
                        }
                    }
                }
            } else {
                #[unroll]
                for part in 0..QUAD {
                    if from + part < len {
                        let vector = values[base + (from + part) * at.across + term * at.along];
                        loaded[part] = vector[0];
                    }
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

/// Four results of a row, but for those beyond the last column.
#[cube]
fn write<N: Size>(
    out: &mut Array<Vector<f32, N>>,
    result: Vector<f32, Const<4>>,
    row: usize,
    column: usize,
    columns: usize,
) {
    let size = N::value().comptime();
    #[unroll]
    for part in 0..comptime!(QUAD / size) {
        let place = column + comptime!(part * size);
        if place < columns {
            let mut vector = Vector::<f32, N>::empty();
            #[unroll]
            for lane in 0..size {
                vector[lane] = result[comptime!(part * size + lane)];
            }
            out[row + place / size] = vector;
        }
    }
}
