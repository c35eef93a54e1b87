//! Passes over the rows of a batch: each cube takes a chunk of rows, each of its units some columns and several rows at
//! once. Chunks and the order of sums depend on shapes alone, so the same batch has the same bits.

use burn_cubecl::cubecl::{self, prelude::*};

/// Units of a cube.
pub(super) const UNITS: u32 = 256;
/// Columns of a cube at most, in vectors.
pub(super) const LANES: u32 = 32;
/// Rows that a cube of as many columns takes side by side.
pub(super) const LINES: u32 = UNITS / LANES;
/// Columns of a cube at least, in vectors: devices read 128 bytes at once.
const FEWEST_LANES: u32 = 8;
/// Rows that a unit reads before it computes the first of them. A multiprocessor waits for memory about 800 cycles, and
/// needs some 14 KB under way to be as fast as it: 256 units with four vectors each have 16.
pub(super) const AT_ONCE: usize = 4;
/// Rows of a chunk at least: a batch of 4096 has 64 chunks, with two towers a cube for nearly each of the 132
/// multiprocessors of a large GPU.
const CHUNK: usize = 64;
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
        let chunk = rows.div_ceil(most).max(shortest).next_multiple_of(AT_ONCE * LINES as usize);
        Self { rows: chunk, count: rows.div_ceil(chunk) }
    }

    /// How cubes lie over chunks of rows of `width` values.
    pub(super) fn layout(self, width: usize) -> Layout {
        let quads = width.div_ceil(4).next_power_of_two() as u32;
        let lanes = quads.clamp(FEWEST_LANES, LANES);
        let lines = UNITS / lanes;
        let at_once = (self.rows / lines as usize).clamp(1, AT_ONCE);
        Layout { lanes, lines, at_once }
    }

    /// A cube for each chunk of each tower, and for as many of the columns, in vectors, as it has lanes.
    pub(super) fn grid(self, layout: Layout, columns: usize, towers: usize) -> (CubeCount, CubeDim) {
        let across = columns.div_ceil(layout.lanes as usize) as u32;
        let count = CubeCount::Static(across, self.count as u32, towers as u32);
        (count, CubeDim::new_2d(layout.lanes, layout.lines))
    }

    /// Cubes of the [`grid`](Self::grid) over rows of `width` values, if these are read in the widest vectors.
    pub(super) fn cubes(self, width: usize, towers: usize) -> usize {
        width.div_ceil(4).div_ceil(self.layout(width).lanes as usize) * self.count * towers
    }
}

/// How the units of a cube lie over columns and rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Layout {
    /// Columns side by side, in vectors: no more than narrow rows have, so that no unit is idle.
    pub(super) lanes: u32,
    /// Rows side by side.
    pub(super) lines: u32,
    /// Rows that a unit takes at once.
    pub(super) at_once: usize,
}

impl Layout {
    /// Of cubes that are not laid over chunks: they join pieces.
    pub(super) const JOINING: Self = Self { lanes: LANES, lines: LINES, at_once: 1 };

    /// Rows that a cube takes at once.
    pub(super) fn rows(self) -> usize {
        self.lines as usize * self.at_once
    }

    /// Rows that a unit takes at once in one of the [`PASSES`].
    pub(super) fn at_once_in(self, pass: u32) -> usize {
        if pass == 0 { self.at_once } else { 1 }
    }

    /// Times that half of the lines are added to the other half, until one is left.
    pub(super) fn halvings(self) -> u32 {
        self.lines.ilog2()
    }
}

/// How often a cube goes over its rows: it takes them in whole steps of [`Layout::rows`], then those that are left over.
pub(super) const PASSES: u32 = 2;

/// Which of the rows `start .. end` a cube takes in a pass.
#[cube]
pub(super) fn rows_of_pass(
    start: usize,
    end: usize,
    #[comptime] layout: Layout,
    #[comptime] pass: u32,
) -> (usize, usize) {
    let step = comptime!(layout.rows());
    let whole = start + (end - start) / step * step;
    if comptime!(pass == 0) { (start, whole) } else { (whole, end) }
}

/// Sums the lines of a cube into the first one, halving them.
#[cube]
pub(super) fn add_lines<N: Size>(values: &mut SharedMemory<Vector<f32, N>>, #[comptime] layout: Layout) {
    let unit = UNIT_POS as usize;
    let halvings = comptime!(layout.halvings());
    #[unroll]
    for halving in 0..halvings {
        let half = comptime!(layout.lines >> (halving + 1));
        if UNIT_POS_Y < half {
            let other = values[unit + comptime!((half * layout.lanes) as usize)];
            values[unit] += other;
        }
        sync_cube();
    }
}

#[cfg(test)]
mod tests {
    use super::{AT_ONCE, Chunks, LANES, Layout, UNITS};

    /// Widths of the layers of the benches' three models, and odd ones.
    const WIDTHS: [usize; 9] = [1, 3, 33, 64, 65, 80, 128, 200, 360];
    /// Multiprocessors of a large GPU.
    const MULTIPROCESSORS: usize = 132;

    #[test]
    fn every_unit_of_a_cube_over_narrow_rows_has_columns() {
        for width in WIDTHS {
            let Layout { lanes, lines, .. } = Chunks::new(4096).layout(width);
            assert_eq!(lanes * lines, UNITS, "{width} values");
            // A cube of more lanes than columns idles, unless there are very few.
            assert!(lanes == 8 || lanes as usize / 2 < width.div_ceil(4), "{width} values: {lanes} lanes");
            assert!(lanes <= LANES);
        }
    }

    #[test]
    fn a_unit_takes_several_rows_at_once() {
        for rows in [4096, 16384, 65536] {
            for width in WIDTHS {
                let chunks = Chunks::new(rows);
                let layout = chunks.layout(width);
                let enough = layout.at_once == AT_ONCE || layout.rows() == chunks.rows;
                assert!(enough, "{rows} rows of {width} values: {layout:?}");
            }
        }
    }

    #[test]
    fn chunks_cover_the_batch_and_nearly_fill_a_large_gpu() {
        for rows in [1, 63, 64, 65, 1000, 4096, 10_000, 16384, 65536] {
            let Chunks { rows: chunk, count } = Chunks::new(rows);
            assert!((count - 1) * chunk < rows && rows <= count * chunk, "{rows} rows: {count} of {chunk}");
            if rows.is_power_of_two() && rows >= 4096 {
                assert!(2 * count + 4 >= MULTIPROCESSORS, "{rows} rows: {count} chunks");
            }
        }
    }
}
