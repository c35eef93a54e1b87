//! Mean and variance over the rows of a batch, and sums over them: cubes take chunks of rows, then chunks are joined in
//! their order. Chunks depend on the number of rows alone, so the same batch gives the same bits.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::tensor::{Rows, address, array, empty_plain, grid, vector_size};

/// Columns of a cube, in vectors.
pub(super) const LANES: u32 = 32;
/// Rows that a cube takes at once.
pub(super) const LINES: u32 = 8;
/// Rows of a chunk at least.
const CHUNK: usize = 128;
/// Chunks at most: what one unit joins.
const CHUNKS: usize = 64;

/// How rows are cut into chunks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunks {
    /// Rows of a chunk; the last one may be shorter.
    pub(super) rows: usize,
    /// Number of chunks.
    pub(super) count: usize,
}

impl Chunks {
    pub(super) fn new(rows: usize) -> Self {
        let chunk = rows.div_ceil(CHUNKS).max(CHUNK).next_multiple_of(LINES as usize);
        Self { rows: chunk, count: rows.div_ceil(chunk) }
    }

    /// A cube for each chunk of each tower, and for each [`LANES`] vectors of its columns.
    pub(super) fn grid(self, columns: usize, towers: usize) -> (CubeCount, CubeDim) {
        let across = columns.div_ceil(LANES as usize) as u32;
        let count = CubeCount::Static(across, self.count as u32, towers as u32);
        (count, CubeDim::new_2d(LANES, LINES))
    }
}

/// What batch norm needs of a product.
pub(super) struct Moments<R: CubeRuntime> {
    /// Mean, 1 / standard deviation, scale and shift, `[4, K, O]`.
    pub(super) packed: CubeTensor<R>,
    /// Mean with the bias, `[K, O]`.
    pub(super) mean: CubeTensor<R>,
    /// Biased variance, `[K, O]`.
    pub(super) variance: CubeTensor<R>,
}

/// Moments over the rows of each tower, of the product with the bias if there is one.
pub(super) fn moments<R: CubeRuntime>(
    product: &Rows<R>,
    bias: Option<&CubeTensor<R>>,
    gamma: &CubeTensor<R>,
    beta: &CubeTensor<R>,
    epsilon: f32,
) -> Moments<R> {
    let shape = product.tensor.meta.shape();
    let [towers, rows] = [shape[0], shape[1]];
    let chunks = Chunks::new(rows);
    let vector = product.vector();
    let columns = product.width / vector;
    let client = &product.tensor.client;
    let partial = empty_plain(&product.tensor, [2, chunks.count, towers, product.width]);
    let (cubes, dim) = chunks.grid(columns, towers);
    // SAFETY: units beyond the columns or rows of the product read and write nothing of it.
    unsafe {
        chunk_moments_kernel::launch_unchecked(
            client,
            cubes,
            dim,
            address(&[&product.tensor]),
            vector,
            product.array(),
            array(&partial),
            columns,
            rows,
            product.stride / vector,
            chunks.rows,
            towers * columns,
            chunks.count * towers * columns,
        );
    }
    let packed = empty_plain(&product.tensor, [4, towers, product.width]);
    let [mean, variance] = [(); 2].map(|()| empty_plain(&product.tensor, [towers, product.width]));
    let units = towers * product.width;
    let (cubes, dim) = join_grid(units, 1);
    // SAFETY: units beyond the columns read and write nothing; bias, scale and shift are `[K, O]`.
    unsafe {
        join_moments_kernel::launch_unchecked(
            client,
            cubes,
            dim,
            array(&partial),
            array(bias.unwrap_or(gamma)),
            array(gamma),
            array(beta),
            array(&packed),
            array(&mean),
            array(&variance),
            rows,
            chunks.rows,
            chunks.count,
            epsilon,
            units,
            bias.is_some(),
        );
    }
    Moments { packed, mean, variance }
}

/// Mean and sum of squared deviations of a chunk, from sums of differences to its first row.
#[cube(launch_unchecked, address_type = "dynamic")]
fn chunk_moments_kernel<N: Size>(
    product: &Array<Vector<f32, N>>,
    partial: &mut Array<Vector<f32, N>>,
    columns: usize,
    rows: usize,
    stride: usize,
    chunk_rows: usize,
    all_columns: usize,
    second: usize,
) {
    let mut sums = SharedMemory::<Vector<f32, N>>::new(comptime!((LANES * LINES) as usize));
    let mut squares = SharedMemory::<Vector<f32, N>>::new(comptime!((LANES * LINES) as usize));
    let column = (CUBE_POS_X * LANES + UNIT_POS_X) as usize;
    let chunk = CUBE_POS_Y as usize;
    let tower = CUBE_POS_Z as usize;
    let start = chunk * chunk_rows;
    let end = min(start + chunk_rows, rows);
    let unit = UNIT_POS as usize;
    let exists = column < columns;
    let mut pivot = Vector::<f32, N>::new(0.0f32);
    let mut sum = Vector::<f32, N>::new(0.0f32);
    let mut square = Vector::<f32, N>::new(0.0f32);
    if exists {
        pivot = product[(tower * rows + start) * stride + column];
        for row in range_stepped(start + UNIT_POS_Y as usize, end, comptime!(LINES as usize)) {
            let difference = product[(tower * rows + row) * stride + column] - pivot;
            sum += difference;
            square += difference * difference;
        }
    }
    sums[unit] = sum;
    squares[unit] = square;
    sync_cube();
    add_lines::<N>(&mut sums);
    add_lines::<N>(&mut squares);
    if exists && UNIT_POS_Y == 0 {
        let count = Vector::<f32, N>::new(f32::cast_from(end - start));
        let place = chunk * all_columns + tower * columns + column;
        let mean = sums[unit] / count;
        partial[place] = pivot + mean;
        let deviations = squares[unit] - sums[unit] * mean;
        // By a comparison: `max` of CUDA and WGSL turns NaN into 0.
        let zero = Vector::<f32, N>::new(0.0f32);
        partial[second + place] = select_many(deviations.less_than(zero), zero, deviations);
    }
}

/// A grid for joining chunks: [`LANES`] columns a cube, the chunks cut among its [`LINES`] lines.
pub(super) fn join_grid(columns: usize, kinds: u32) -> (CubeCount, CubeDim) {
    let across = columns.div_ceil(LANES as usize) as u32;
    (CubeCount::Static(across, kinds, 1), CubeDim::new_2d(LANES, LINES))
}

/// Joins the moments of chunks (Chan, Golub and LeVeque, 1979): each line those of its share in their order, then the lines.
#[cube(launch_unchecked)]
fn join_moments_kernel(
    partial: &Array<f32>,
    bias: &Array<f32>,
    gamma: &Array<f32>,
    beta: &Array<f32>,
    packed: &mut Array<f32>,
    means: &mut Array<f32>,
    variances: &mut Array<f32>,
    rows: usize,
    chunk_rows: usize,
    chunks: usize,
    epsilon: f32,
    units: usize,
    #[comptime] with_bias: bool,
) {
    let mut line_means = SharedMemory::<f32>::new(comptime!((LANES * LINES) as usize));
    let mut line_squares = SharedMemory::<f32>::new(comptime!((LANES * LINES) as usize));
    let mut line_rows = SharedMemory::<f32>::new(comptime!((LANES * LINES) as usize));
    let unit = UNIT_POS as usize;
    let column = (CUBE_POS_X * LANES + UNIT_POS_X) as usize;
    let exists = column < units;
    let share = chunks.div_ceil(comptime!(LINES as usize));
    let first = min(UNIT_POS_Y as usize * share, chunks);
    let last = min(first + share, chunks);
    let mut mean = 0.0f32;
    let mut square = 0.0f32;
    let mut before = 0.0f32;
    if exists {
        for chunk in first..last {
            let here = f32::cast_from(min(chunk_rows, rows - chunk * chunk_rows));
            let part = here / (before + here);
            let difference = partial[chunk * units + column] - mean;
            mean += difference * part;
            square += partial[(chunks + chunk) * units + column] + difference * difference * (part * before);
            before += here;
        }
    }
    line_means[unit] = mean;
    line_squares[unit] = square;
    line_rows[unit] = before;
    sync_cube();
    #[unroll]
    for halving in 0..3u32 {
        let half = comptime!(LINES >> (halving + 1));
        if UNIT_POS_Y < half {
            let other = unit + comptime!((half * LANES) as usize);
            let (here, there) = (line_rows[unit], line_rows[other]);
            let part = select(there > 0.0f32, there / (here + there), 0.0f32);
            let difference = line_means[other] - line_means[unit];
            line_means[unit] += difference * part;
            line_squares[unit] += line_squares[other] + difference * difference * (part * here);
            line_rows[unit] = here + there;
        }
        sync_cube();
    }
    if exists && UNIT_POS_Y == 0 {
        let variance = line_squares[unit] / f32::cast_from(rows);
        let mut mean = line_means[unit];
        if comptime!(with_bias) {
            mean += bias[column];
        }
        means[column] = mean;
        variances[column] = variance;
        packed[column] = mean;
        packed[units + column] = 1.0f32 / (variance + epsilon).sqrt();
        packed[2 * units + column] = gamma[column];
        packed[3 * units + column] = beta[column];
    }
}

/// Sums the lines of a cube into the first one, halving them.
#[cube]
pub(super) fn add_lines<N: Size>(values: &mut SharedMemory<Vector<f32, N>>) {
    let unit = UNIT_POS as usize;
    #[unroll]
    for halving in 0..3u32 {
        let half = comptime!(LINES >> (halving + 1));
        if UNIT_POS_Y < half {
            let other = values[unit + comptime!((half * LANES) as usize)];
            values[unit] += other;
        }
        sync_cube();
    }
}

/// [`Moments::packed`] of known moments.
pub(super) fn packed<R: CubeRuntime>(
    mean: &CubeTensor<R>,
    variance: &CubeTensor<R>,
    gamma: &CubeTensor<R>,
    beta: &CubeTensor<R>,
    epsilon: f32,
) -> CubeTensor<R> {
    let shape = mean.meta.shape();
    let [towers, width] = [shape[0], shape[1]];
    let packed = empty_plain(mean, [4, towers, width]);
    let vector = vector_size(&[width]);
    let units = towers * width / vector;
    let (cubes, dim) = grid(&mean.client, units);
    // SAFETY: one unit for each vector of the columns; all inputs are `[K, O]`.
    unsafe {
        pack_kernel::launch_unchecked(
            &mean.client,
            cubes,
            dim,
            vector,
            array(mean),
            array(variance),
            array(gamma),
            array(beta),
            array(&packed),
            epsilon,
            units,
        );
    }
    packed
}

#[cube(launch_unchecked)]
fn pack_kernel<N: Size>(
    mean: &Array<Vector<f32, N>>,
    variance: &Array<Vector<f32, N>>,
    gamma: &Array<Vector<f32, N>>,
    beta: &Array<Vector<f32, N>>,
    packed: &mut Array<Vector<f32, N>>,
    epsilon: f32,
    units: usize,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let column = ABSOLUTE_POS;
    packed[column] = mean[column];
    packed[units + column] =
        Vector::<f32, N>::new(1.0f32) / (variance[column] + Vector::<f32, N>::new(epsilon)).sqrt();
    packed[2 * units + column] = gamma[column];
    packed[3 * units + column] = beta[column];
}
