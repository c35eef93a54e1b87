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
use super::tensor::{Rows, address, array, vector_size};
use crate::tower::Activation;

/// Values that are loaded, stored and multiplied at once.
const QUAD: usize = 4;
/// Results that a unit computes in each direction.
const UNIT: usize = 2 * QUAD;
/// Units of a plane side by side; a plane has four rows of them.
const PLANE_COLUMNS: usize = 8;
const PLANE_ROWS: usize = 4;
/// Cubes that fill a large GPU.
const CUBES: usize = 264;

/// What a cube computes: 64 or 128 rows and columns, `depth` terms at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Tile {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) depth: usize,
}

/// A factor: its element of row (or column) `i`, term `k`, in batch `b` and summand `s` lies at
/// `b * batch + s * sum + i * across + k * along`.
pub(super) struct Factor<R: CubeRuntime> {
    pub(super) tensor: CubeTensor<R>,
    pub(super) batch: usize,
    pub(super) sum: usize,
    pub(super) across: usize,
    pub(super) along: usize,
}

/// How many results there are, and how many terms each sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Matmuls side by side.
    pub(super) batches: usize,
    /// Matmuls that are added to one result.
    pub(super) sums: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) terms: usize,
    /// Pieces into which the terms are cut, each with a result of its own.
    pub(super) pieces: usize,
}

/// What is done to a result before it is written: `activation(result * scale + shift)`.
pub(super) struct After<R: CubeRuntime> {
    /// `[batches, columns]`.
    pub(super) scale: Option<CubeTensor<R>>,
    /// `[batches, columns]`: a bias, or what stands for one and a batch norm.
    pub(super) shift: Option<CubeTensor<R>>,
    pub(super) activation: Activation,
    /// Slope of a PReLU of each batch, `[batches]`.
    pub(super) slope: Option<CubeTensor<R>>,
}

/// What of [`After`] is compiled into a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Steps {
    scale: bool,
    shift: bool,
    curve: Curve,
}

/// Distances of a factor as a kernel takes them, in vectors.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Distances {
    batch: usize,
    sum: usize,
    across: usize,
    along: usize,
}

impl Tile {
    /// Tiles for a matmul, the best first: those that compute the least beyond its edges, smaller where there would be few
    /// cubes.
    ///
    /// 16 terms at a time, and 8 where that is too much shared memory. Long sums that end in the first half of a stage of
    /// 16 take 8 as well: measured on an H200 with the first layer of the notebook, whose 514 terms are the one case
    /// where 8 was faster.
    pub(super) fn candidates(sizes: Sizes) -> [Self; 2] {
        let side = |length: usize| {
            if length.next_multiple_of(64) < length.next_multiple_of(128) { 64 } else { 128 }
        };
        let [rows, columns] = [sizes.rows, sizes.columns].map(side);
        let ends_early = sizes.terms > 512 && (1..=8).contains(&(sizes.terms % 16));
        let depths = if ends_early { [8, 16] } else { [16, 8] };
        depths.map(|depth| Self { rows, columns, depth }.for_few_cubes(sizes))
    }

    fn for_few_cubes(self, sizes: Sizes) -> Self {
        let mut tile = self;
        if tile.cubes(sizes) < CUBES {
            tile.rows = 64;
        }
        if tile.cubes(sizes) < CUBES {
            tile.columns = 64;
        }
        tile
    }

    pub(super) fn units(self) -> usize {
        self.rows / UNIT * self.columns / UNIT
    }

    /// Bytes of shared memory.
    pub(super) fn shared_memory(self) -> usize {
        2 * self.depth * (pitch(self.rows) + pitch(self.columns)) * QUAD * size_of::<f32>()
    }

    pub(super) fn cubes(self, sizes: Sizes) -> usize {
        let tiles = sizes.rows.div_ceil(self.rows) * sizes.columns.div_ceil(self.columns);
        tiles * sizes.batches * sizes.pieces
    }
}

/// Quads from one term of a stage to the next: one more than there are, so that units which store different terms of one
/// row meet different banks.
const fn pitch(side: usize) -> usize {
    side / QUAD + 1
}

impl<R: CubeRuntime> Factor<R> {
    /// `[K or 1, M, C]` as the left one: rows are rows, columns are terms.
    pub(super) fn left(rows: &Rows<R>) -> Self {
        let (batch, stride) = distances(rows);
        Self { tensor: rows.tensor.clone(), batch, sum: 0, across: stride, along: 1 }
    }

    /// `[K or 1, C, N]` as the right one: rows are terms.
    pub(super) fn right(rows: &Rows<R>) -> Self {
        let (batch, stride) = distances(rows);
        Self { tensor: rows.tensor.clone(), batch, sum: 0, across: 1, along: stride }
    }

    /// `[B, K * O]` as the right one: each tower has O columns.
    pub(super) fn side_by_side(rows: &Rows<R>, towers: usize) -> Self {
        Self { batch: rows.width / towers, ..Self::right(rows) }
    }

    /// The same with rows for columns.
    pub(super) fn turned(self) -> Self {
        Self { across: self.along, along: self.across, ..self }
    }

    /// The same with its batches added.
    pub(super) fn summed(self) -> Self {
        Self { batch: 0, sum: self.batch, ..self }
    }

    /// Whether neighbours across lie side by side: then whole vectors of them are read.
    fn is_wide(&self) -> bool {
        self.across == 1
    }

    /// The largest vector in which `width` neighbours can be read.
    fn vector(&self, width: usize) -> usize {
        if self.is_wide() { vector_size(&[self.batch, self.sum, self.along, width]) } else { 1 }
    }

    fn distances(&self, vector: usize) -> DistancesLaunch<R> {
        let across = if self.is_wide() { 1 } else { self.across };
        DistancesLaunch::new(self.batch / vector, self.sum / vector, across, self.along / vector)
    }
}

/// From one matrix to the next (0 where there is one) and from one row to the next.
fn distances<R: CubeRuntime>(rows: &Rows<R>) -> (usize, usize) {
    let batch = match rows.tensor.meta.shape().as_ref() {
        [1, ..] | [_, _] => 0,
        shape => shape[1] * rows.stride,
    };
    (batch, rows.stride)
}

/// Whether this device has the shared memory and the units for a tile.
pub(super) fn fits<R: CubeRuntime>(client: &ComputeClient<R>, tile: Tile) -> bool {
    let hardware = &client.properties().hardware;
    tile.shared_memory() <= hardware.max_shared_memory_size
        && tile.units() <= hardware.max_units_per_cube as usize
}

impl<R: CubeRuntime> After<R> {
    /// The results as they are.
    pub(super) fn nothing() -> Self {
        Self { scale: None, shift: None, activation: Activation::None, slope: None }
    }

    /// A bias `[batches, columns]`.
    pub(super) fn bias(bias: CubeTensor<R>) -> Self {
        Self { shift: Some(bias), ..Self::nothing() }
    }

    fn steps(&self) -> Steps {
        Steps { scale: self.scale.is_some(), shift: self.shift.is_some(), curve: Curve::new(self.activation) }
    }
}

/// `[batches * pieces, rows, columns]`. What comes after a matmul has no place where it is cut into pieces.
pub(super) fn matmul<R: CubeRuntime>(
    left: Factor<R>,
    right: Factor<R>,
    after: &After<R>,
    sizes: Sizes,
    tile: Tile,
) -> CubeTensor<R> {
    let Sizes { batches, sums, rows, columns, terms, pieces } = sizes;
    let out = Rows::empty(&left.tensor, [batches * pieces, rows, columns]);
    let client = out.tensor.client.clone();
    let (left_vector, right_vector) = (left.vector(rows), right.vector(columns));
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
            array(after.scale.as_ref().unwrap_or(&right.tensor)),
            array(after.shift.as_ref().unwrap_or(&right.tensor)),
            array(after.slope.as_ref().unwrap_or(&right.tensor)),
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
            leak(after.activation),
            tile,
            left.is_wide(),
            right.is_wide(),
            after.steps(),
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
    #[comptime] after: Steps,
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
        if comptime!(after.scale) {
            let scale = of_columns(scales, batch * columns, column, columns);
            #[unroll]
            for row in 0..UNIT {
                results[comptime!(2 * row + side)] *= scale;
            }
        }
        if comptime!(after.shift) {
            let shift = of_columns(shifts, batch * columns, column, columns);
            #[unroll]
            for row in 0..UNIT {
                results[comptime!(2 * row + side)] += shift;
            }
        }
        if comptime!(after.curve != Curve::Identity) {
            let slope = slope_of(slopes, batch, leak, after.curve);
            #[unroll]
            for row in 0..UNIT {
                let place = comptime!(2 * row + side);
                results[place] = activate::<Const<4>>(results[place], slope, after.curve);
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

/// Four columns of `[batches, columns]`, 0 beyond the last.
#[cube]
fn of_columns(values: &Array<f32>, first: usize, column: usize, columns: usize) -> Vector<f32, Const<4>> {
    let mut found = Vector::<f32, Const<4>>::new(0.0f32);
    #[unroll]
    for lane in 0..QUAD {
        if column + lane < columns {
            found[lane] = values[first + column + lane];
        }
    }
    found
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
