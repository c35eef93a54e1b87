//! Sums by shared row: the gradient of each row of a part, out of those of the rows of the batch that read it.

use std::mem::MaybeUninit;

use multiversion::multiversion;

use super::matmul::{Tile, strips};
use super::shared::{Shared, split_mut};
use super::tasks;
use super::work::{TASKS, cleared, written};

/// Columns that are summed together: those of a row lie in four registers of AVX-512, and their sums stay in the cache.
const COLUMNS: usize = 64;
/// Additions that make a task worth its start: some 40 us.
const ADDITIONS: usize = 1 << 19;

/// The sums of a part in some columns of a tower.
struct Sums<'a> {
    /// Row of the part that each row of the batch reads, `[B]`.
    of_rows: &'a [u32],
    /// All rows of the part.
    tile: Tile<'a>,
}

/// For every part the gradients of its matmuls, `[K, R, O]` of one after the other: those of the rows that read them, summed
/// in the order of the batch. `grad [K, B, O]`.
pub(super) fn by_rows(grad: &[f32], parts: &[Shared<'_>], towers: usize, outputs: usize) -> Vec<f32> {
    let lens: Vec<_> = parts.iter().map(|part| towers * part.rows * outputs).collect();
    let tower = grad.len() / towers;
    let across = towers * outputs.div_ceil(COLUMNS);
    let groups = groups(grad.len() * parts.len(), across, parts.len());
    let fill = |out: &mut [MaybeUninit<f32>]| {
        let mut tasks: Vec<Vec<Sums<'_>>> = (0..across * groups).map(|_| Vec::new()).collect();
        for (place, (part, out)) in parts.iter().zip(split_mut(out, &lens)).enumerate() {
            let first = place * groups / parts.len() * across;
            let tiles = strips(out, towers, part.rows, outputs, COLUMNS);
            for (task, tile) in tasks[first..].iter_mut().zip(tiles) {
                task.push(Sums { of_rows: part.of_rows, tile });
            }
        }
        tasks::each("sums by shared row", tasks, |mut parts| {
            let Some(first) = parts.first() else { return };
            let grad = &grad[first.tile.matrix() * tower..][..tower];
            parts.iter_mut().for_each(Sums::clear);
            sum_rows(grad, outputs, &mut parts);
        });
    };
    // SAFETY: the tiles are all of `out`, each is in one task, and that clears it.
    unsafe { written(lens.iter().sum(), fill) }.0
}

/// Groups that `parts` parts are cut into, where `across` tasks are cut by tower and column: all sums are taken in the order of
/// the batch, so a cut does not show, but each group reads the gradient once more.
fn groups(additions: usize, across: usize, parts: usize) -> usize {
    let tasks = (additions / ADDITIONS).min(TASKS);
    tasks.div_ceil(across.max(1)).clamp(1, parts.max(1))
}

impl Sums<'_> {
    fn clear(&mut self) {
        for row in 0..self.tile.rows().len() {
            cleared(self.tile.row(row));
        }
    }

    /// The sums of the part's row that a row of the batch reads. [`clear`](Self::clear) was called.
    #[inline(always)]
    fn of(&mut self, row: usize) -> &mut [f32] {
        let sums = self.tile.row(self.of_rows[row] as usize);
        // SAFETY: all rows of the tile were cleared.
        unsafe { sums.assume_init_mut() }
    }
}

/// Adds the gradient's rows to the sums, which are of the same columns in each part.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+bmi2+fma", "x86_64+avx2+bmi2+fma"))]
fn sum_rows(grad: &[f32], outputs: usize, parts: &mut [Sums<'_>]) {
    let Some(columns) = parts.first().map(|part| part.tile.columns()) else { return };
    for (row, grad) in grad.chunks_exact(outputs).enumerate() {
        let grad = &grad[columns.clone()];
        if let Ok(grad) = <[f32; COLUMNS]>::try_from(grad) {
            for part in parts.iter_mut() {
                add(part.of(row), grad);
            }
        } else {
            for part in parts.iter_mut() {
                part.of(row).iter_mut().zip(grad).for_each(|(sum, grad)| *sum += grad);
            }
        }
    }
}

/// `sums += grad`, in registers.
#[inline(always)]
fn add(sums: &mut [f32], grad: [f32; COLUMNS]) {
    if let Some(sums) = sums.first_chunk_mut::<COLUMNS>() {
        let mut next = *sums;
        for (next, grad) in next.iter_mut().zip(grad) {
            *next += grad;
        }
        *sums = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::shared::WeightRows;

    const ROWS: usize = 700;

    /// Two towers, parts of 1, 7 and 300 rows; columns that fill strips, and columns that leave some over. Each sum is taken
    /// in the order of the batch, so the values are those of the plain loop to the last bit.
    #[test]
    fn sums_are_those_of_the_plain_loop() {
        let towers = 2;
        for outputs in [1, 64, 70, 128, 200] {
            let grad: Vec<f32> = (0..towers * ROWS * outputs).map(|at| (at as f32 * 0.37).sin()).collect();
            let heights = [1, 7, 300];
            let of_rows: Vec<Vec<u32>> =
                heights.iter().map(|rows| (0..ROWS).map(|row| (row * row % rows) as u32).collect()).collect();
            let parts: Vec<_> = heights
                .iter()
                .zip(&of_rows)
                .map(|(&rows, of_rows)| Shared {
                    rows,
                    values: Vec::new(),
                    weight: WeightRows::pick(&[0.0; 2], 2, 1, std::slice::from_ref(&(0..1))),
                    columns: &[],
                    of_rows,
                })
                .collect();
            let mut expected = Vec::new();
            for part in &parts {
                for grad in grad.chunks_exact(ROWS * outputs) {
                    let mut sums = vec![0.0; part.rows * outputs];
                    for (row, grad) in grad.chunks_exact(outputs).enumerate() {
                        let sums = &mut sums[part.of_rows[row] as usize * outputs..][..outputs];
                        sums.iter_mut().zip(grad).for_each(|(sum, grad)| *sum += grad);
                    }
                    expected.extend(sums);
                }
            }
            assert!(by_rows(&grad, &parts, towers, outputs) == expected, "{outputs} columns");
        }
    }

    /// Batches of 2048 rows: 11 parts of `aliccp` (360 columns, 12 tasks by column), the same behind towers of 64, and so few
    /// additions that one task is enough.
    #[test]
    fn large_batches_are_cut_for_sixteen_cores() {
        let of = |batch: usize, outputs: usize, parts: usize| {
            let across = 2 * outputs.div_ceil(COLUMNS);
            across * groups(2 * batch * outputs * parts, across, parts)
        };
        assert_eq!([of(2048, 360, 11), of(8192, 360, 11), of(16_384, 64, 11)], [24, 24, 16]);
        assert_eq!([of(128, 360, 11), of(128, 64, 1), of(65_536, 64, 1)], [12, 2, 2]);
    }
}
