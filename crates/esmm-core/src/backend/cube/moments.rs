//! Mean and variance over the rows of a batch, and sums over them: cubes take chunks of rows, then chunks are joined in
//! their order. Chunks depend on the number of rows alone, so the same batch has the same bits.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::tensor::{Rows, address, array, empty_plain};

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
        Self::cut(rows, CHUNK, CHUNKS)
    }

    /// At most `most` chunks, of at least `shortest` rows.
    pub(super) fn cut(rows: usize, shortest: usize, most: usize) -> Self {
        let chunk = rows.div_ceil(most).max(shortest).next_multiple_of(LINES as usize);
        Self { rows: chunk, count: rows.div_ceil(chunk) }
    }

    /// A cube for each chunk of each tower, and for each [`LANES`] vectors of its columns.
    pub(super) fn grid(self, columns: usize, towers: usize) -> (CubeCount, CubeDim) {
        let across = columns.div_ceil(LANES as usize) as u32;
        let count = CubeCount::Static(across, self.count as u32, towers as u32);
        (count, CubeDim::new_2d(LANES, LINES))
    }
}

/// Moments of chunks of the rows of a batch.
pub(super) struct ChunkMoments<R: CubeRuntime> {
    /// `[2, chunks, K, O]`: means, then sums of squared deviations.
    pub(super) partial: CubeTensor<R>,
    pub(super) chunks: Chunks,
}

/// Moments of the chunks of a matmul `[K, B, O]`.
pub(super) fn chunk_moments<R: CubeRuntime>(matmul: &Rows<R>, chunks: Chunks) -> ChunkMoments<R> {
    let shape = matmul.tensor.meta.shape();
    let [towers, rows] = [shape[0], shape[1]];
    let vector = matmul.vector();
    let columns = matmul.width / vector;
    let partial = empty_plain(&matmul.tensor, [2, chunks.count, towers, matmul.width]);
    let (cubes, dim) = chunks.grid(columns, towers);
    // SAFETY: units beyond the columns or rows of the matmul read and write nothing of it.
    unsafe {
        chunk_moments_kernel::launch_unchecked(
            &matmul.tensor.client,
            cubes,
            dim,
            address(&[&matmul.tensor]),
            vector,
            matmul.array(),
            array(&partial),
            columns,
            rows,
            matmul.stride / vector,
            chunks.rows,
            towers * columns,
            chunks.count * towers * columns,
        );
    }
    ChunkMoments { partial, chunks }
}

/// Mean and sum of squared deviations of a chunk, from sums of differences to its first row.
#[cube(launch_unchecked, address_type = "dynamic")]
fn chunk_moments_kernel<N: Size>(
    matmul: &Array<Vector<f32, N>>,
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
        pivot = matmul[(tower * rows + start) * stride + column];
        for row in range_stepped(start + UNIT_POS_Y as usize, end, comptime!(LINES as usize)) {
            let difference = matmul[(tower * rows + row) * stride + column] - pivot;
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

/// Mean and biased variance of a column from those of its chunks (Chan, Golub and LeVeque, 1979): each line of a cube
/// joins its share of the chunks in their order, then lines are joined. Every cube that asks gets the same bits; all of
/// its units must ask.
#[cube]
pub(super) fn join_moments<N: Size>(
    partial: &Array<Vector<f32, N>>,
    column: usize,
    columns: usize,
    exists: bool,
    rows: usize,
    chunk_rows: usize,
    chunks: usize,
) -> (Vector<f32, N>, Vector<f32, N>) {
    let mut line_means = SharedMemory::<Vector<f32, N>>::new(comptime!((LANES * LINES) as usize));
    let mut line_squares = SharedMemory::<Vector<f32, N>>::new(comptime!((LANES * LINES) as usize));
    let mut line_rows = SharedMemory::<f32>::new(comptime!((LANES * LINES) as usize));
    let unit = UNIT_POS as usize;
    let share = chunks.div_ceil(comptime!(LINES as usize));
    let first = min(UNIT_POS_Y as usize * share, chunks);
    let last = min(first + share, chunks);
    let mut mean = Vector::<f32, N>::new(0.0f32);
    let mut square = Vector::<f32, N>::new(0.0f32);
    let mut before = 0.0f32;
    if exists {
        for chunk in first..last {
            let here = f32::cast_from(min(chunk_rows, rows - chunk * chunk_rows));
            let part = here / (before + here);
            let difference = partial[chunk * columns + column] - mean;
            mean += difference * Vector::new(part);
            square += partial[(chunks + chunk) * columns + column]
                + difference * difference * Vector::new(part * before);
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
            let squares = line_squares[other] + difference * difference * Vector::new(part * here);
            line_means[unit] += difference * Vector::new(part);
            line_squares[unit] += squares;
            line_rows[unit] = here + there;
        }
        sync_cube();
    }
    let lane = UNIT_POS_X as usize;
    (line_means[lane], line_squares[lane] / Vector::new(f32::cast_from(rows)))
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
