//! How work is cut into tasks and where results are written.

use std::mem::MaybeUninit;

/// Rows of a batch in one task: their activations stay in a core's cache, and packing the weights anew for each task
/// costs little beside its matmul. Part of the order of summation, so it does not follow the machine.
pub(super) const ROWS: usize = 512;

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

/// Cuts `[towers, rows, width]` into one piece a tower and [`ROWS`] rows: `pieces[tower][chunk]`.
pub(super) fn pieces<T>(values: &mut [T], towers: usize, width: usize) -> Vec<Vec<&mut [T]>> {
    let tower = values.len() / towers;
    values.chunks_mut(tower.max(1)).map(|tower| tower.chunks_mut(ROWS * width).collect()).collect()
}

/// The rows of a chunk in a batch of `rows`.
pub(super) fn chunk_rows(chunk: usize, rows: usize) -> std::ops::Range<usize> {
    chunk * ROWS..rows.min((chunk + 1) * ROWS)
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
