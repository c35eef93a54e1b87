//! Matmuls on tensor cores, of f32 factors that are rounded on their way to shared memory: no copy of them in a smaller
//! dtype is ever written. Sums are f32.
//!
//! A cube computes a tile of `rows x columns` results, a plane a part of it in fragments of 16 x 16. A stage lies in shared
//! memory as the factor lies in the tensor, terms or rows side by side: fragments are read either way. While a stage is
//! multiplied, the next one is on its way in registers. Results go through shared memory, a row of fragments at a time,
//! for the epilogue.

use burn::tensor::{bf16, f16};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, cmma, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::block::{Curve, activate, leak, slope_of};
use super::epilogue::{Epilogue, Steps, of_columns};
use super::factor::Factor;
use super::rounding::{bounded, exponent, inverse_exponent, power_of_two};
use super::tensor::{Rows, address, array, vector_size};
use super::tensor_cores::{FRAGMENT, PLANE, Rounding, TensorTile};
use super::tile::{QUAD, Sizes};
use super::tile_cube::write;

/// A factor that is multiplied by a power of two before it is rounded; what is written is divided by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Scaled {
    Neither,
    Left,
    Right,
}

/// Where the lines of a factor lie, in vectors: a line is what neighbours in memory belong to.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Lines {
    batch: usize,
    sum: usize,
    line: usize,
}

/// How much is summed, and where it is written.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Extent {
    rows: usize,
    columns: usize,
    terms: usize,
    /// Terms of a piece.
    length: usize,
    pieces: usize,
    sums: usize,
    /// Vectors from one row of results to the next.
    stride: usize,
}

/// `[batches * pieces, rows, columns]`. `largest` is the largest magnitude of the factor that is scaled, `[1]`; an epilogue
/// has no place where the terms are cut into pieces.
pub(super) fn matmul<R: CubeRuntime>(
    left: Factor<R>,
    right: Factor<R>,
    epilogue: &Epilogue<R>,
    sizes: Sizes,
    tile: TensorTile,
    scaled: Scaled,
    largest: Option<&CubeTensor<R>>,
) -> CubeTensor<R> {
    let launch = match tile.rounding {
        Rounding::Tf32 => launch::<R, tf32>,
        Rounding::Bf16 => launch::<R, bf16>,
        Rounding::F16 => launch::<R, f16>,
    };
    launch(left, right, epilogue, sizes, tile, scaled, largest)
}

fn launch<R: CubeRuntime, E: Float>(
    left: Factor<R>,
    right: Factor<R>,
    epilogue: &Epilogue<R>,
    sizes: Sizes,
    tile: TensorTile,
    scaled: Scaled,
    largest: Option<&CubeTensor<R>>,
) -> CubeTensor<R> {
    let Sizes { batches, sums, rows, columns, terms, pieces } = sizes;
    let out = Rows::empty(&left.tensor, [batches * pieces, rows, columns]);
    let client = out.tensor.client.clone();
    let left_vector = line_vector(&left, rows, terms);
    let right_vector = line_vector(&right, columns, terms);
    let out_vector = vector_size(&[columns, out.stride]);
    let cubes = CubeCount::Static(
        columns.div_ceil(tile.columns) as u32,
        rows.div_ceil(tile.rows) as u32,
        (batches * pieces) as u32,
    );
    // Whole stages, so that pieces begin at whole vectors.
    let length = terms.div_ceil(pieces).next_multiple_of(tile.depth);
    let extent = ExtentLaunch::new(rows, columns, terms, length, pieces, sums, out.stride / out_vector);
    // SAFETY: units read nothing beyond the rows, columns and terms of the factors and write nothing beyond the results.
    unsafe {
        tensor_matmul_kernel::launch_unchecked::<E, R>(
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
            array(largest.unwrap_or(&right.tensor)),
            out.array(),
            lines(&left, left_vector),
            lines(&right, right_vector),
            extent,
            leak(epilogue.activation),
            tile,
            left.is_wide(),
            right.is_wide(),
            scaled,
            epilogue.steps(),
        );
    }
    out.tensor
}

/// The largest vector in which the lines of a factor can be read.
fn line_vector<R: CubeRuntime>(factor: &Factor<R>, width: usize, terms: usize) -> usize {
    if factor.is_wide() {
        return factor.vector(width);
    }
    vector_size(&[factor.batch, factor.sum, factor.across, terms])
}

fn lines<R: CubeRuntime>(factor: &Factor<R>, vector: usize) -> LinesLaunch<R> {
    let line = if factor.is_wide() { factor.along } else { factor.across };
    LinesLaunch::new(factor.batch / vector, factor.sum / vector, line / vector)
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn tensor_matmul_kernel<E: Float, L: Size, N: Size, W: Size>(
    left: &Array<Vector<f32, L>>,
    right: &Array<Vector<f32, N>>,
    scales: &Array<f32>,
    shifts: &Array<f32>,
    slopes: &Array<f32>,
    largest: &Array<f32>,
    out: &mut Array<Vector<f32, W>>,
    left_at: Lines,
    right_at: Lines,
    at: Extent,
    leak: f32,
    #[comptime] tile: TensorTile,
    #[comptime] left_wide: bool,
    #[comptime] right_wide: bool,
    #[comptime] scaled: Scaled,
    #[comptime] epilogue: Steps,
) {
    let left_stage = comptime!(tile.stage(tile.rows, left_wide));
    let right_stage = comptime!(tile.stage(tile.columns, right_wide));
    let mut left_stages = SharedMemory::<Vector<E, Const<4>>>::new_aligned(
        comptime!(2 * tile.stage(tile.rows, left_wide)),
        128usize,
    );
    let mut right_stages = SharedMemory::<Vector<E, Const<4>>>::new_aligned(
        comptime!(2 * tile.stage(tile.columns, right_wide)),
        128usize,
    );

    let unit = UNIT_POS as usize;
    let plane = unit / PLANE;
    let planes_wide = comptime!(tile.columns / tile.plane_columns);
    let plane_row = plane / planes_wide * comptime!(tile.plane_rows);
    let plane_column = plane % planes_wide * comptime!(tile.plane_columns);

    let first_row = CUBE_POS_Y as usize * comptime!(tile.rows);
    let first_column = CUBE_POS_X as usize * comptime!(tile.columns);
    let batch = CUBE_POS_Z as usize / at.pieces;
    let piece = CUBE_POS_Z as usize % at.pieces;
    let start = min(piece * at.length, at.terms);
    let end = min(start + at.length, at.terms);
    let steps_each = (end - start).div_ceil(comptime!(tile.depth));
    let steps = steps_each * at.sums;
    let left_batch = batch * left_at.batch;
    let right_batch = batch * right_at.batch;

    let mut factor = 1.0f32;
    let mut inverse = 1.0f32;
    if comptime!(scaled != Scaled::Neither) {
        let of_factor = exponent(largest[0]);
        factor = power_of_two(of_factor);
        inverse = power_of_two(inverse_exponent(of_factor));
    }

    let tall = comptime!(tile.plane_rows / FRAGMENT);
    let wide = comptime!(tile.plane_columns / FRAGMENT);
    let mut results = Sequence::<cmma::Matrix<f32>>::new();
    #[unroll]
    for _ in 0..comptime!(tall * wide) {
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
                left_batch + sum * left_at.sum,
                left_at.line,
                first_row,
                at.rows,
                term,
                end,
                unit,
                tile.rows,
                tile,
                left_wide,
            );
            load::<N>(
                right,
                &mut next_right,
                right_batch + sum * right_at.sum,
                right_at.line,
                first_column,
                at.columns,
                term,
                end,
                unit,
                tile.columns,
                tile,
                right_wide,
            );
        }
        if step > 0 {
            let stage = (step - 1) % 2;
            multiply::<E>(
                &left_stages,
                &right_stages,
                &results,
                stage * left_stage,
                stage * right_stage,
                plane_row,
                plane_column,
                tile,
                left_wide,
                right_wide,
            );
        }
        if step < steps {
            let stage = step % 2;
            store::<E>(
                &next_left,
                &mut left_stages,
                stage * left_stage,
                factor,
                unit,
                tile.rows,
                tile,
                left_wide,
                comptime!(scaled == Scaled::Left),
            );
            store::<E>(
                &next_right,
                &mut right_stages,
                stage * right_stage,
                factor,
                unit,
                tile.columns,
                tile,
                right_wide,
                comptime!(scaled == Scaled::Right),
            );
        }
        sync_cube();
    }

    let region = comptime!(FRAGMENT * tile.result_pitch());
    let mut waiting = SharedMemory::<Vector<f32, Const<4>>>::new_aligned(
        comptime!(tile.planes() * FRAGMENT * tile.result_pitch()),
        128usize,
    );
    let quads = comptime!(tile.plane_columns / QUAD);
    let lane = unit % PLANE;
    let quad = lane % quads;
    let column = first_column + plane_column + quad * QUAD;
    let mut scale = Vector::<f32, Const<4>>::new(inverse);
    let mut shift = Vector::<f32, Const<4>>::new(0.0f32);
    if comptime!(epilogue.scale) {
        scale *= of_columns(scales, batch * at.columns, column, at.columns);
    }
    if comptime!(epilogue.shift) {
        shift = of_columns(shifts, batch * at.columns, column, at.columns);
    }
    let mut slope = 1.0f32;
    if comptime!(epilogue.curve != Curve::Identity) {
        slope = slope_of(slopes, batch, leak, epilogue.curve);
    }
    let out_first = CUBE_POS_Z as usize * at.rows;
    #[unroll]
    for fragment_row in 0..tall {
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
        for part in 0..comptime!(FRAGMENT * quads / PLANE) {
            let line = lane / quads + comptime!(part * (PLANE / quads));
            let row = first_row + plane_row + comptime!(fragment_row * FRAGMENT) + line;
            if row < at.rows {
                let mut result = waiting[plane * region + line * comptime!(tile.result_pitch()) + quad];
                if comptime!(epilogue.scale || scaled != Scaled::Neither) {
                    result *= scale;
                }
                if comptime!(epilogue.shift) {
                    result += shift;
                }
                if comptime!(epilogue.curve != Curve::Identity) {
                    result = activate::<Const<4>>(result, slope, epilogue.curve);
                }
                write::<W>(out, result, (out_first + row) * at.stride, column, at.columns);
            }
        }
        sync_plane();
    }
}

/// Adds the matmul of a stage to the results of a plane.
#[cube]
fn multiply<E: Float>(
    left: &SharedMemory<Vector<E, Const<4>>>,
    right: &SharedMemory<Vector<E, Const<4>>>,
    results: &Sequence<cmma::Matrix<f32>>,
    left_first: usize,
    right_first: usize,
    plane_row: usize,
    plane_column: usize,
    #[comptime] tile: TensorTile,
    #[comptime] left_wide: bool,
    #[comptime] right_wide: bool,
) {
    let terms = comptime!(tile.rounding.fragment_terms());
    let tall = comptime!(tile.plane_rows / FRAGMENT);
    let wide = comptime!(tile.plane_columns / FRAGMENT);
    #[unroll]
    for part in 0..comptime!(tile.depth / terms) {
        let mut columns = Sequence::<cmma::Matrix<E>>::new();
        #[unroll]
        for fragment in 0..wide {
            columns.push(fragment_of::<E>(
                right,
                right_first,
                plane_column + comptime!(fragment * FRAGMENT),
                comptime!(part * terms),
                tile.columns,
                cmma::MatrixIdent::B,
                tile,
                right_wide,
            ));
        }
        #[unroll]
        for fragment_row in 0..tall {
            let rows = fragment_of::<E>(
                left,
                left_first,
                plane_row + comptime!(fragment_row * FRAGMENT),
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

/// A fragment of a stage: 16 rows (or columns) from `across` on, terms from `term` on.
#[cube]
fn fragment_of<E: Float>(
    stages: &SharedMemory<Vector<E, Const<4>>>,
    first: usize,
    across: usize,
    #[comptime] term: usize,
    #[comptime] side: usize,
    #[comptime] ident: cmma::MatrixIdent,
    #[comptime] tile: TensorTile,
    #[comptime] wide: bool,
) -> cmma::Matrix<E> {
    let pitch = comptime!(tile.pitch(side, wide));
    let place = if comptime!(wide) {
        first + comptime!(term * pitch) + across / QUAD
    } else {
        first + across * pitch + comptime!(term / QUAD)
    };
    // SAFETY: it is loaded before it is read.
    let fragment = unsafe {
        cmma::Matrix::<E>::uninitialized(
            ident,
            FRAGMENT,
            FRAGMENT,
            comptime!(tile.rounding.fragment_terms()),
            comptime!(layout(ident, wide)),
        )
    };
    let lines = stages.slice(place, place + comptime!(FRAGMENT * pitch));
    cmma::load(&fragment, &lines, comptime!((pitch * QUAD) as u32));
    fragment
}

/// How a fragment lies in a stage: rows of the left factor and terms of the right one are rows of a fragment.
fn layout(ident: cmma::MatrixIdent, wide: bool) -> cmma::MatrixLayout {
    let lines_are_rows = (ident == cmma::MatrixIdent::B) == wide;
    if lines_are_rows { cmma::MatrixLayout::RowMajor } else { cmma::MatrixLayout::ColMajor }
}

/// A unit's share of a stage, from the tensor: 0 beyond the rows (or columns) and the terms.
#[cube]
fn load<N: Size>(
    values: &Array<Vector<f32, N>>,
    next: &mut Array<Vector<f32, Const<4>>>,
    base: usize,
    line_distance: usize,
    first: usize,
    len: usize,
    term: usize,
    end: usize,
    unit: usize,
    #[comptime] side: usize,
    #[comptime] tile: TensorTile,
    #[comptime] wide: bool,
) {
    let size = N::value().comptime();
    let quads = comptime!(tile.line(side, wide));
    #[unroll]
    for load in 0..comptime!(tile.loads(side)) {
        let index = unit + comptime!(load * tile.units());
        let quad = index % quads * QUAD;
        let line = index / quads;
        let (line, line_end, from, from_end) = if comptime!(wide) {
            (term + line, end, first + quad, len)
        } else {
            (first + line, len, term + quad, end)
        };
        let mut loaded = Vector::<f32, Const<4>>::new(0.0f32);
        if line < line_end {
            #[unroll]
            for part in 0..comptime!(QUAD / size) {
                let neighbour = from + comptime!(part * size);
                if neighbour < from_end {
                    let vector = values[base + line * line_distance + neighbour / size];
                    #[unroll]
                    for lane in 0..size {
                        loaded[comptime!(part * size + lane)] = vector[lane];
                    }
                }
            }
        }
        next[load] = loaded;
    }
}

/// A unit's share of a stage, rounded, to shared memory.
#[cube]
fn store<E: Float>(
    next: &Array<Vector<f32, Const<4>>>,
    stages: &mut SharedMemory<Vector<E, Const<4>>>,
    stage: usize,
    factor: f32,
    unit: usize,
    #[comptime] side: usize,
    #[comptime] tile: TensorTile,
    #[comptime] wide: bool,
    #[comptime] scaled: bool,
) {
    let quads = comptime!(tile.line(side, wide));
    #[unroll]
    for load in 0..comptime!(tile.loads(side)) {
        let index = unit + comptime!(load * tile.units());
        let mut value = next[load];
        if comptime!(scaled) {
            value *= Vector::<f32, Const<4>>::new(factor);
        }
        if comptime!(tile.rounding.is_bounded()) {
            value = bounded::<Const<4>>(value);
        }
        let place = stage + index / quads * comptime!(tile.pitch(side, wide)) + index % quads;
        stages[place] = Vector::<E, Const<4>>::cast_from(value);
    }
}
