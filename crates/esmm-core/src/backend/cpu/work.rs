//! How work is cut into tasks and where results are written.

use std::mem::MaybeUninit;

/// Rows of a batch in one task: their activations stay in a core's cache, and packing the weights anew for each task
/// costs little beside its product. Part of the order of summation, so it does not follow the machine.
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
