//! Dense columns that hold a number in pieces: in every row ones, then any value, then zeros.
//!
//! The encoding `ple` makes such columns of a number. For a row with k ones and the value s after them, `x W` is
//! `(W_0 + .. + W_(k-1)) + s W_k`: a row of a table of sums and a scaled row of the weights, two additions whatever the
//! number of columns. The columns are found by what they hold, in each batch anew; columns that happen to be so are
//! treated alike, since the equation holds for them too.

use std::ops::Range;

use multiversion::multiversion;
use rayon::prelude::*;

use super::shared::COLUMNS;

/// Columns that pay: two additions cost about as much as six columns of a matmul.
const FEWEST: usize = 8;
/// Rows of the batch for each column that pay: a table has a row for each column.
const ROWS_EACH: usize = 4;

/// Neighbouring dense columns that hold ones, then any value, then zeros.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stairs {
    /// The columns of the layer's input.
    pub(super) columns: Range<usize>,
    /// How many ones each row of the batch begins with, below the number of columns, `[B]`.
    pub(super) ones: Vec<u32>,
    /// The value after them, `[B]`.
    pub(super) values: Vec<f32>,
}

/// What rows add to their matmul: a row of a table, and a scaled one.
#[derive(Debug, Clone, Copy)]
pub(super) struct StairAddend<'a> {
    /// For each number of ones the sum of their weights, then the weights of the next column, `[K, W, 2, O]`.
    pub(super) tables: &'a [f32],
    pub(super) ones: &'a [u32],
    pub(super) values: &'a [f32],
}

/// Which of the dense columns `[B, V]` make stairs; `follows[v]` says whether column v + 1 of the input is column v + 1 here.
pub(super) fn find(dense: &[f32], rows: usize, follows: &[bool]) -> Vec<Range<usize>> {
    let width = follows.len() + 1;
    if width < FEWEST || rows < FEWEST * ROWS_EACH {
        return Vec::new();
    }
    let mut breaks: Vec<u32> = follows.iter().map(|follows| u32::from(!follows)).collect();
    find_breaks(dense, &mut breaks);
    let mut found = Vec::new();
    let mut start = 0;
    for end in 1..=width {
        if breaks.get(end - 1) == Some(&0) {
            continue;
        }
        let columns = start..end;
        if columns.len() >= FEWEST && rows >= columns.len() * ROWS_EACH {
            found.push(columns);
        }
        start = end;
    }
    found
}

/// Marks each column that is not followed by its next step: in some row it is not 1, and the next one is not 0.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+bmi2+fma", "x86_64+avx2+bmi2+fma"))]
fn find_breaks(dense: &[f32], breaks: &mut [u32]) {
    let width = breaks.len() + 1;
    for row in dense.chunks_exact(width) {
        for ((broken, value), next) in breaks.iter_mut().zip(row).zip(&row[1..]) {
            *broken |= u32::from(*value != 1.0) & u32::from(*next != 0.0);
        }
    }
}

impl Stairs {
    /// Reads columns `place..` of `dense [B, V]`, which are `columns` of the layer's input.
    pub(super) fn read(dense: &[f32], width: usize, place: usize, columns: Range<usize>) -> Self {
        let rows = dense.len() / width;
        let mut ones = Vec::with_capacity(rows);
        let mut values = Vec::with_capacity(rows);
        for row in dense.chunks_exact(width) {
            let row = &row[place..][..columns.len()];
            let most = row.len() - 1;
            let count = row[..most].iter().take_while(|value| **value == 1.0).count();
            ones.push(count as u32);
            values.push(row[count]);
        }
        Self { columns, ones, values }
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
        grads.par_chunks_exact_mut(width * outputs).zip(grad.par_chunks_exact(tower)).for_each(
            |(out, grad)| {
                let mut sums = vec![0.0; width * 2 * outputs];
                sum_rows(grad, outputs, (&self.ones, &self.values), &mut sums);
                // A column is 1 in rows with more ones, its value in rows with as many, and 0 in the others.
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
            },
        );
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
            values: &self.values[rows],
        }
    }

    /// What a row adds: a row of the table, and the one to be scaled with its factor.
    #[inline(always)]
    pub(super) fn read(&self, row: usize, outputs: usize) -> (&'a [f32], &'a [f32], f32) {
        let entry = &self.tables[self.ones[row] as usize * 2 * outputs..][..2 * outputs];
        let (below, next) = entry.split_at(outputs);
        (below, next, self.values[row])
    }
}

/// For each number of ones the sum of the gradients of its rows, and that of the scaled ones, into `sums [W, 2, O]`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+bmi2+fma", "x86_64+avx2+bmi2+fma"))]
fn sum_rows(grad: &[f32], outputs: usize, (ones, values): (&[u32], &[f32]), sums: &mut [f32]) {
    for start in (0..outputs).step_by(COLUMNS) {
        let width = COLUMNS.min(outputs - start);
        for ((grad, ones), value) in grad.chunks_exact(outputs).zip(ones).zip(values) {
            let grad = &grad[start..][..width];
            let entry = &mut sums[*ones as usize * 2 * outputs..][..2 * outputs];
            let (whole, scaled) = entry.split_at_mut(outputs);
            let sums = whole[start..][..width].iter_mut().zip(&mut scaled[start..][..width]);
            for ((whole, scaled), grad) in sums.zip(grad) {
                *whole += grad;
                *scaled += value * grad;
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

    /// Ten columns of a number, then a column of its own kind, for each of 40 rows.
    fn dense() -> Vec<f32> {
        let row = |row: usize| {
            let ones = row % 11;
            let steps = (0..10).map(move |column| match column {
                column if column < ones => 1.0,
                column if column == ones => row as f32 / 40.0,
                _ => 0.0,
            });
            steps.chain([0.5])
        };
        (0..40).flat_map(row).collect()
    }

    #[test]
    fn columns_are_found_by_what_they_hold() {
        let mut dense = dense();
        assert_eq!(find(&dense, 40, &[true; 10]).as_slice(), std::slice::from_ref(&(0..10)));
        let stairs = Stairs::read(&dense, 11, 0, 7..17);
        assert_eq!(
            (&stairs.ones[8..12], &stairs.values[8..12]),
            (&[8, 9, 9, 0][..], &[0.2, 0.225, 1.0, 0.275][..])
        );
        // Another feature between two columns parts them.
        let mut follows = [true; 10];
        follows[1] = false;
        assert_eq!(find(&dense, 40, &follows).as_slice(), std::slice::from_ref(&(2..10)));
        // One row that is otherwise, in a middle column: no part is long enough.
        dense[7 * 11 + 4] = 0.5;
        assert!(find(&dense, 40, &[true; 10]).is_empty());
        assert!(find(&dense[..11 * 20], 20, &[true; 10]).is_empty(), "too few rows");
        assert!(find(&dense, 440, &[]).is_empty());
        assert!(find(&[], 0, &[]).is_empty());
    }

    /// The sums are those of the matmul, in which zeros make NaN of an infinite weight.
    #[test]
    fn tables_and_gradients_are_the_matmul() {
        let dense = dense();
        let stairs = Stairs::read(&dense, 11, 0, 1..11);
        let towers = 2;
        let outputs = 3;
        for special in [0.25, f32::INFINITY, f32::NAN] {
            let mut weight: Vec<f32> =
                (0..towers * 12 * outputs).map(|place| (place % 7) as f32 / 8.0).collect();
            weight[5 * outputs + 1] = special;
            let tables = stairs.tables(&weight, towers, outputs);
            let addend = StairAddend { tables: &tables, ones: &stairs.ones, values: &stairs.values };
            for tower in 0..towers {
                let rows = addend.of(tower, towers, 0..40);
                for row in 0..40 {
                    let (below, next, factor) = rows.read(row, outputs);
                    for output in 0..outputs {
                        let product = |column: usize| {
                            dense[row * 11 + column] * weight[(tower * 12 + 1 + column) * outputs + output]
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
                    |row: usize| dense[row * 11 + column] * grad[(tower * 40 + row) * outputs + output];
                let expected: f32 = (0..40).map(product).sum();
                let same = (found - expected).abs() < 1e-4 || found.is_nan() && expected.is_nan();
                assert!(same || *found == expected, "{special}: {tower} {column}: {found}, {expected}");
            }
        }
    }
}
