//! Mean and variance over the rows of a batch: cubes take chunks of rows, then chunks are joined in their order.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::chunks::{Chunks, Layout, UNITS, add_lines};
use super::tensor::{Rows, address, array, empty_plain};

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
    let layout = chunks.layout(matmul.width);
    let (cubes, dim) = chunks.grid(layout, columns, towers);
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
            layout,
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
    #[comptime] layout: Layout,
) {
    let mut sums = SharedMemory::<Vector<f32, N>>::new(comptime!(UNITS as usize));
    let mut squares = SharedMemory::<Vector<f32, N>>::new(comptime!(UNITS as usize));
    let column = (CUBE_POS_X * comptime!(layout.lanes) + UNIT_POS_X) as usize;
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
        for row in range_stepped(start + UNIT_POS_Y as usize, end, comptime!(layout.lines as usize)) {
            let difference = matmul[(tower * rows + row) * stride + column] - pivot;
            sum += difference;
            square += difference * difference;
        }
    }
    sums[unit] = sum;
    squares[unit] = square;
    sync_cube();
    add_lines::<N>(&mut sums, layout);
    add_lines::<N>(&mut squares, layout);
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
    #[comptime] layout: Layout,
) -> (Vector<f32, N>, Vector<f32, N>) {
    let mut line_means = SharedMemory::<Vector<f32, N>>::new(comptime!(UNITS as usize));
    let mut line_squares = SharedMemory::<Vector<f32, N>>::new(comptime!(UNITS as usize));
    let mut line_rows = SharedMemory::<f32>::new(comptime!(UNITS as usize));
    let unit = UNIT_POS as usize;
    let share = chunks.div_ceil(comptime!(layout.lines as usize));
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
    let halvings = comptime!(layout.halvings());
    #[unroll]
    for halving in 0..halvings {
        let half = comptime!(layout.lines >> (halving + 1));
        if UNIT_POS_Y < half {
            let other = unit + comptime!((half * layout.lanes) as usize);
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
