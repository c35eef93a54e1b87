//! How work is cut into tasks and where results are written.

use std::mem::MaybeUninit;
use std::ops::Range;

/// Rows of a batch in one task at most: their activations stay in a core's cache, and packing the weights anew for each
/// task costs little beside its matmul.
pub(super) const ROWS: usize = 512;
/// Rows at least: with fewer, packing the weights takes longer than it takes to wait for a core.
const FEWEST_ROWS: usize = 128;
/// Tasks that rows are cut into at least where there are enough of them: one for each of 16 cores. Rows of a task are a power
/// of two, so there are up to twice as many.
pub(super) const TASKS: usize = 16;

/// Rows of a task, where `side_by_side` tasks of the same rows can run at the same time: towers, or inputs of towers. Part
/// of the order of summation, so it follows the shapes and not the machine.
pub(super) fn task_rows(side_by_side: usize, rows: usize) -> usize {
    let most = (side_by_side * rows / TASKS).max(1);
    (1 << most.ilog2()).clamp(FEWEST_ROWS, ROWS)
}

/// Memory with 0 everywhere.
pub(super) fn cleared(out: &mut [MaybeUninit<f32>]) -> &mut [f32] {
    out.fill(MaybeUninit::new(0.0));
    // SAFETY: all of it was just written.
    unsafe { out.assume_init_mut() }
}

/// Some rows of one tower.
pub(super) struct Piece<'a, T> {
    pub(super) tower: usize,
    pub(super) rows: Range<usize>,
    pub(super) values: &'a mut [T],
}

/// A vector of `len` values, all written by `fill`; its memory is not cleared first.
///
/// # Safety
/// `fill` must write every element.
pub(super) unsafe fn written<R>(
    len: usize,
    fill: impl FnOnce(&mut [MaybeUninit<f32>]) -> R,
) -> (Vec<f32>, R) {
    let mut values = Box::new_uninit_slice(len);
    let result = fill(&mut values);
    // SAFETY: the caller promises that `fill` wrote every element.
    (unsafe { values.assume_init() }.into_vec(), result)
}

/// Cuts `[towers, rows, width]` into pieces of `task` rows of a tower, one tower after the other.
pub(super) fn pieces<T>(values: &mut [T], towers: usize, width: usize, task: usize) -> Vec<Piece<'_, T>> {
    let tower = values.len() / towers;
    let towers = values.chunks_mut(tower.max(1)).enumerate();
    let pieces = towers.flat_map(|(tower, values)| {
        let chunks = values.chunks_mut((task * width).max(1)).enumerate();
        chunks.map(move |(chunk, values)| {
            let start = chunk * task;
            Piece { tower, rows: start..start + values.len() / width.max(1), values }
        })
    });
    pieces.collect()
}

/// Values that a table has before rows of it are asked for ahead: smaller ones stay in the cache anyway.
const FAR: usize = 1 << 18;
/// Values of a cache line.
const LINE: usize = 16;
/// Rows that are asked for ahead of their use.
pub(super) const AHEAD: usize = 12;

/// Asks for the values `start..start + len` of a table ahead of their use. A hint: results do not depend on it.
#[inline(always)]
pub(super) fn prefetch(table: &[f32], start: usize, len: usize) {
    #[cfg(target_arch = "x86_64")]
    if table.len() > FAR {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // The last value, which may begin a line of its own, counts as well.
        for index in (start..start + len).step_by(LINE).chain([(start + len).saturating_sub(1)]) {
            // SAFETY: a prefetch reads no memory that the program sees, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(table.as_ptr().wrapping_add(index).cast()) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (table, start, len);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batches of the benches: enough tasks for 16 cores, and no smaller than they must be.
    #[test]
    fn small_batches_are_cut_finer() {
        for (rows, of_inputs, of_towers) in
            [(300, 128, 128), (2048, 128, 256), (4096, 256, 512), (8192, 512, 512), (65_536, 512, 512)]
        {
            assert_eq!((task_rows(1, rows), task_rows(2, rows)), (of_inputs, of_towers), "{rows} rows");
        }
        for rows in [2048_usize, 2500, 4096, 8192, 100_000] {
            assert!(rows.div_ceil(task_rows(1, rows)) >= 16, "{rows} rows");
        }
    }

    #[test]
    fn pieces_are_all_of_the_values() {
        let mut values: Vec<usize> = (0..2 * 5 * 3).collect();
        let pieces = pieces(&mut values, 2, 3, 2);
        let found: Vec<_> =
            pieces.iter().map(|piece| (piece.tower, piece.rows.clone(), piece.values[0])).collect();
        let expected =
            [(0, 0..2, 0), (0, 2..4, 6), (0, 4..5, 12), (1, 0..2, 15), (1, 2..4, 21), (1, 4..5, 27)];
        assert_eq!(found, expected);
        assert!(super::pieces::<f32>(&mut [], 2, 0, 64).is_empty());
    }
}
