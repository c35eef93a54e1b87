//! Positions among the bins of a number: ones, then a share, then zeros.
//!
//! For a row with k ones and the share s after them, `x W` is `(W_0 + .. + W_(k-1)) + s W_k`: a row of a table of sums and
//! a scaled row of the weights, two additions whatever the number of bins.

use std::ops::Range;

use multiversion::multiversion;

use super::tasks;
use crate::schema::share;

/// Bins that pay: two additions cost about as much as six columns of a matmul.
const FEWEST: usize = 8;
/// Rows of the batch for each bin that pay: a table has a row for each bin.
const ROWS_EACH: usize = 4;
/// Columns of a gradient that are summed together: their sums stay in the cache.
const COLUMNS: usize = 64;

/// A number in the rows of a batch, as its position among bins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stairs {
    /// The columns of the layer's input.
    pub(super) columns: Range<usize>,
    /// How many ones each row of the batch begins with, below the number of columns, `[B]`.
    pub(super) ones: Vec<u32>,
    /// The share after them, in `[0, 1]`, `[B]`.
    pub(super) shares: Vec<f32>,
}

/// What rows add to their matmul: a row of a table, and a scaled one.
#[derive(Debug, Clone, Copy)]
pub(super) struct StairAddend<'a> {
    /// For each number of ones the sum of their weights, then the weights of the next column, `[K, W, 2, O]`.
    pub(super) tables: &'a [f32],
    pub(super) ones: &'a [u32],
    pub(super) shares: &'a [f32],
}

/// Whether a table and two additions a row are less work than a matmul of all bins.
pub(super) fn pays(bins: usize, rows: usize) -> bool {
    bins >= FEWEST && rows >= bins * ROWS_EACH
}

impl Stairs {
    /// Reads column `place` of `positions [B, width]`, whose bins are `columns` of the layer's input.
    pub(super) fn read(positions: &[f32], width: usize, place: usize, columns: Range<usize>) -> Self {
        let last = columns.len() as u32 - 1;
        let of_rows = positions[place..].iter().step_by(width).map(|position| {
            let ones = (*position as u32).min(last);
            (ones, share(*position, ones as usize))
        });
        let (ones, shares) = of_rows.unzip();
        Self { columns, ones, shares }
    }

    /// The tables of all towers out of `weight [K, I, O]`: see [`StairAddend`].
    pub(super) fn tables(&self, weight: &[f32], towers: usize, outputs: usize) -> Vec<f32> {
        let width = self.columns.len();
        let mut tables = vec![0.0; towers * width * 2 * outputs];
        let pairs =
            weight.chunks_exact(weight.len() / towers).zip(tables.chunks_exact_mut(width * 2 * outputs));
        for (weight, table) in pairs {
            let weight = &weight[self.columns.start * outputs..self.columns.end * outputs];
            let mut sum = vec![0.0; outputs];
            for (entry, weight) in table.chunks_exact_mut(2 * outputs).zip(weight.chunks_exact(outputs)) {
                let (below, next) = entry.split_at_mut(outputs);
                below.copy_from_slice(&sum);
                next.copy_from_slice(weight);
                add_scaled(&mut sum, weight, 1.0);
            }
            // Columns that are 0 add nothing, unless their weight is infinite or NaN: then 0 times it is NaN.
            let mut zeros = vec![0.0; outputs];
            let entries = table.chunks_exact_mut(2 * outputs).zip(weight.chunks_exact(outputs));
            for (entry, weight) in entries.rev() {
                add_scaled(&mut entry[..outputs], &zeros, 1.0);
                add_scaled(&mut zeros, weight, 0.0);
            }
        }
        tables
    }

    /// The gradient of its rows of the weights, `[K, W, O]`, out of that of the matmul, `grad [K, B, O]`. Rows are summed in
    /// their order.
    pub(super) fn weight_grad(&self, grad: &[f32], towers: usize, outputs: usize) -> Vec<f32> {
        let width = self.columns.len();
        let tower = grad.len() / towers;
        let mut grads = vec![0.0; towers * width * outputs];
        let tasks = grads.chunks_exact_mut(width * outputs).zip(grad.chunks_exact(tower)).collect();
        tasks::each("weight gradient of positions", tasks, |(out, grad): (&mut [f32], &[f32])| {
            let mut sums = vec![0.0; width * 2 * outputs];
            sum_rows(grad, outputs, (&self.ones, &self.shares), &mut sums);
            // A bin is 1 in rows with more ones, a share in rows with as many, and 0 in the others.
            let mut above = vec![0.0; outputs];
            for (out, sums) in out.chunks_exact_mut(outputs).zip(sums.chunks_exact(2 * outputs)).rev() {
                let (whole, scaled) = sums.split_at(outputs);
                out.copy_from_slice(scaled);
                add_scaled(out, &above, 1.0);
                add_scaled(&mut above, whole, 1.0);
            }
            let mut zeros = vec![0.0; outputs];
            for (out, sums) in out.chunks_exact_mut(outputs).zip(sums.chunks_exact(2 * outputs)) {
                add_scaled(out, &zeros, 1.0);
                add_scaled(&mut zeros, &sums[..outputs], 0.0);
            }
        });
        grads
    }
}

impl<'a> StairAddend<'a> {
    /// What rows `rows` of the batch add in tower `tower`.
    pub(super) fn of(self, tower: usize, towers: usize, rows: Range<usize>) -> Self {
        let len = self.tables.len() / towers;
        Self {
            tables: &self.tables[tower * len..][..len],
            ones: &self.ones[rows.clone()],
            shares: &self.shares[rows],
        }
    }

    /// What a row adds: a row of the table, and the one to be scaled with its factor.
    #[inline(always)]
    pub(super) fn read(&self, row: usize, outputs: usize) -> (&'a [f32], &'a [f32], f32) {
        let entry = &self.tables[self.ones[row] as usize * 2 * outputs..][..2 * outputs];
        let (below, next) = entry.split_at(outputs);
        (below, next, self.shares[row])
    }
}

/// For each number of ones the sum of the gradients of its rows, and that of the scaled ones, into `sums [W, 2, O]`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+bmi2+fma", "x86_64+avx2+bmi2+fma"))]
fn sum_rows(grad: &[f32], outputs: usize, (ones, shares): (&[u32], &[f32]), sums: &mut [f32]) {
    for start in (0..outputs).step_by(COLUMNS) {
        let width = COLUMNS.min(outputs - start);
        for ((grad, ones), share) in grad.chunks_exact(outputs).zip(ones).zip(shares) {
            let grad = &grad[start..][..width];
            let entry = &mut sums[*ones as usize * 2 * outputs..][..2 * outputs];
            let (whole, scaled) = entry.split_at_mut(outputs);
            let sums = whole[start..][..width].iter_mut().zip(&mut scaled[start..][..width]);
            for ((whole, scaled), grad) in sums.zip(grad) {
                *whole += grad;
                *scaled += share * grad;
            }
        }
    }
}

fn add_scaled(to: &mut [f32], from: &[f32], factor: f32) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * from);
}

#[cfg(test)]
mod tests {
    use super::*;

    const BINS: usize = 10;

    /// A position and a number beside it, for each of 40 rows; both ends are among the positions.
    fn positions() -> Vec<f32> {
        (0..40).flat_map(|row| [(row % 11) as f32 * 0.9 + row as f32 / 39.0, 0.5]).collect()
    }

    #[test]
    fn positions_are_ones_and_a_share() {
        let stairs = Stairs::read(&[0.0, 7.0, 2.25, 7.0, 9.0, 7.0, 10.0, 7.0], 2, 0, 7..17);
        assert_eq!((&stairs.ones[..], &stairs.shares[..]), (&[0, 2, 9, 9][..], &[0.0, 0.25, 0.0, 1.0][..]));
        // A kernel reads nothing beyond its table, whatever it is given.
        let stairs = Stairs::read(&[-1.0, f32::NAN, 1e9], 1, 0, 0..10);
        assert_eq!((&stairs.ones[..], stairs.shares[0], stairs.shares[2]), (&[0, 0, 9][..], 0.0, 1.0));
        assert!(stairs.shares[1].is_nan());
        assert!(pays(10, 40) && !pays(10, 39) && !pays(7, 1000));
    }

    /// The sums are those of the matmul, in which zeros make NaN of an infinite weight.
    #[test]
    fn tables_and_gradients_are_the_matmul() {
        let positions = positions();
        let column_of = |row: usize, column: usize| share(positions[row * 2], column);
        let stairs = Stairs::read(&positions, 2, 0, 1..1 + BINS);
        let towers = 2;
        let outputs = 3;
        for special in [0.25, f32::INFINITY, f32::NAN] {
            let mut weight: Vec<f32> =
                (0..towers * 12 * outputs).map(|place| (place % 7) as f32 / 8.0).collect();
            weight[5 * outputs + 1] = special;
            let tables = stairs.tables(&weight, towers, outputs);
            let addend = StairAddend { tables: &tables, ones: &stairs.ones, shares: &stairs.shares };
            for tower in 0..towers {
                let rows = addend.of(tower, towers, 0..40);
                for row in 0..40 {
                    let (below, next, factor) = rows.read(row, outputs);
                    for output in 0..outputs {
                        let product = |column: usize| {
                            column_of(row, column) * weight[(tower * 12 + 1 + column) * outputs + output]
                        };
                        let expected: f32 = (0..10).map(product).sum();
                        let found = below[output] + factor * next[output];
                        let same = (found - expected).abs() < 1e-5 || found.is_nan() && expected.is_nan();
                        assert!(same || found == expected, "{special}: {tower} {row}: {found}, {expected}");
                    }
                }
            }
            let mut grad: Vec<f32> =
                (0..towers * 40 * outputs).map(|place| (place % 5) as f32 - 2.0).collect();
            grad[17 * outputs + 2] = special;
            let found = stairs.weight_grad(&grad, towers, outputs);
            for (place, found) in found.iter().enumerate() {
                let (tower, column, output) = (place / (10 * outputs), place / outputs % 10, place % outputs);
                let product =
                    |row: usize| column_of(row, column) * grad[(tower * 40 + row) * outputs + output];
                let expected: f32 = (0..40).map(product).sum();
                let same = (found - expected).abs() < 1e-4 || found.is_nan() && expected.is_nan();
                assert!(same || *found == expected, "{special}: {tower} {column}: {found}, {expected}");
            }
        }
    }
}
