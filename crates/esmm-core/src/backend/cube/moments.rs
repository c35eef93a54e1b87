//! Mean and variance over the rows of a batch: cubes take chunks of rows, then chunks are joined in their order.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::chunks::{Chunks, Layout, UNITS, add_lines};
use super::tensor::{Rows, address, array, empty_plain, vector_size};

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
        let (mean, deviations) = about_mean::<N>(pivot, sums[unit], squares[unit], count);
        partial[place] = mean;
        partial[second + place] = deviations;
    }
}

/// Mean and sum of squared deviations of `count` rows, from sums of differences to a pivot and of their squares.
#[cube]
pub(super) fn about_mean<N: Size>(
    pivot: Vector<f32, N>,
    sum: Vector<f32, N>,
    squares: Vector<f32, N>,
    count: Vector<f32, N>,
) -> (Vector<f32, N>, Vector<f32, N>) {
    let shift = sum / count;
    let deviations = squares - sum * shift;
    // By a comparison: `max` of CUDA and WGSL turns NaN into 0.
    let zero = Vector::<f32, N>::new(0.0f32);
    (pivot + shift, select_many(deviations.less_than(zero), zero, deviations))
}

/// Chunks that all cubes of a launch together may join before one more launch takes less time: a cube reads up to 1 KB of
/// each, and 100 MB from the caches of a large GPU take some 20 us, where the launch takes 3.
const MOST_JOINED: usize = 100_000;

impl<R: CubeRuntime> ChunkMoments<R> {
    /// The same in one chunk, where each of so many `cubes` would have to join many.
    pub(super) fn joined_for(self, cubes: usize, rows: usize) -> Self {
        if is_joined_before(self.chunks.count, cubes) { self.joined(rows) } else { self }
    }

    fn joined(self, rows: usize) -> Self {
        let Self { partial, chunks } = self;
        let shape = partial.meta.shape();
        let [towers, width] = [shape[2], shape[3]];
        let out = empty_plain(&partial, [2, 1, towers, width]);
        let vector = vector_size(&[width]);
        let columns = towers * width / vector;
        // SAFETY: units beyond the columns read and write nothing.
        unsafe {
            join_moments_kernel::launch_unchecked(
                &partial.client,
                CubeCount::Static(columns.div_ceil(NARROW.lanes as usize) as u32, 1, 1),
                CubeDim::new_2d(NARROW.lanes, NARROW.lines),
                address(&[&partial]),
                vector,
                array(&partial),
                array(&out),
                columns,
                rows,
                chunks.rows,
                chunks.count,
            );
        }
        Self { partial: out, chunks: Chunks { rows, count: 1 } }
    }
}

/// Whether a launch of its own joins so many chunks, which else each of so many cubes would do again.
fn is_joined_before(chunks: usize, cubes: usize) -> bool {
    chunks * cubes > MOST_JOINED
}

/// Cubes that join chunks and do nothing else: few columns and many lines, so that there are many and each joins few.
const NARROW: Layout = Layout { lanes: 8, lines: UNITS / 8, at_once: 1 };

#[cube(launch_unchecked, address_type = "dynamic")]
fn join_moments_kernel<N: Size>(
    partial: &Array<Vector<f32, N>>,
    out: &mut Array<Vector<f32, N>>,
    columns: usize,
    rows: usize,
    chunk_rows: usize,
    chunks: usize,
) {
    let column = (CUBE_POS_X * comptime!(NARROW.lanes) + UNIT_POS_X) as usize;
    let exists = column < columns;
    let (mean, square) = join_chunks::<N>(partial, column, columns, exists, rows, chunk_rows, chunks, NARROW);
    if exists && UNIT_POS_Y == 0 {
        out[column] = mean;
        out[columns + column] = square;
    }
}

/// Mean and biased variance of a column from those of its chunks. Every cube that asks gets the same bits; all of its
/// units must ask.
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
    let (mean, square) = join_chunks::<N>(partial, column, columns, exists, rows, chunk_rows, chunks, layout);
    (mean, square / Vector::new(f32::cast_from(rows)))
}

/// Mean and sum of squared deviations of a column from those of its chunks: each line of a cube joins its share of the
/// chunks in their order, then lines are joined (Chan, Golub and LeVeque, 1979).
///
/// A line sums the differences to the mean of its first chunk and their squares, so nothing but additions waits for the
/// chunk before, and what is read is under way together. The squares lose no more by it than a factor of as many chunks
/// as the line has: the first of them is among the rows whose deviations are summed.
#[cube]
fn join_chunks<N: Size>(
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
    let mut count = 0.0f32;
    if exists && first < last {
        let pivot = partial[first * columns + column];
        let mut sum = Vector::<f32, N>::new(0.0f32);
        for chunk in first..last {
            let here = f32::cast_from(min(chunk_rows, rows - chunk * chunk_rows));
            let difference = partial[chunk * columns + column] - pivot;
            let weighted = difference * Vector::new(here);
            sum += weighted;
            square += partial[(chunks + chunk) * columns + column] + weighted * difference;
        }
        count = f32::cast_from(min(last * chunk_rows, rows) - first * chunk_rows);
        let (line_mean, deviations) = about_mean::<N>(pivot, sum, square, Vector::new(count));
        mean = line_mean;
        square = deviations;
    }
    line_means[unit] = mean;
    line_squares[unit] = square;
    line_rows[unit] = count;
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
    (line_means[lane], line_squares[lane])
}

#[cfg(test)]
mod tests {
    use super::super::chunks::Chunks;
    use super::is_joined_before;

    /// Whether a layer of two towers joins its moments in a launch of its own, from tiles of as many rows.
    fn is_joined(rows: usize, width: usize, tile_rows: usize) -> bool {
        let chunks = Chunks::new(rows);
        is_joined_before(rows.div_ceil(tile_rows), chunks.cubes(width, 2))
    }

    #[test]
    fn a_launch_more_joins_moments_only_where_each_of_many_cubes_would_join_hundreds() {
        for width in [64, 80, 128, 200, 360] {
            for (rows, tile_rows) in [(512, 64), (4096, 64), (16384, 64), (16384, 128)] {
                assert!(!is_joined(rows, width, tile_rows), "{rows} rows of {width}");
            }
        }
        // Two of the three layers of the largest model: 30 launches a step are allowed, and it makes 27.
        let joined = [360, 200, 80].map(|width| is_joined(65536, width, 128));
        assert_eq!(joined, [true, true, false]);
    }
}
