//! Parts of a layer's input that rows share: multiplied once for each of their rows, added to the rows of the batch.

use std::borrow::Cow;
use std::mem::MaybeUninit;
use std::ops::Range;

use multiversion::multiversion;
use rayon::prelude::*;

use super::matmul::{Matrix, add_matmul, matmul};
use super::stairs::StairAddend;
use super::work::{chunk_rows, pieces, written};

/// Columns of a gradient that are summed together: their sums stay in the cache.
pub(super) const COLUMNS: usize = 64;

/// A part of the input of which rows of the batch read the same few rows.
pub(super) struct Shared<'a> {
    /// Rows of the part, R.
    pub(super) rows: usize,
    /// Its values for each copy of the table, `[R, W]`.
    pub(super) values: Vec<&'a [f32]>,
    /// Its rows of the weights.
    pub(super) weight: WeightRows<'a>,
    /// Its columns of the input.
    pub(super) columns: &'a [Range<usize>],
    /// Row of the part that each row of the batch reads, `[B]`.
    pub(super) of_rows: &'a [u32],
}

/// Some rows of every tower's weights.
pub(super) struct WeightRows<'a> {
    values: Cow<'a, [f32]>,
    /// Distance of two towers.
    stride: usize,
    /// Place of the first row in a tower.
    first: usize,
}

/// The matmuls of a part, `[K, R, O]`, and who reads them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addend<'a> {
    pub(super) matmuls: &'a [f32],
    pub(super) of_rows: &'a [u32],
}

/// What rows add to the matmul of what they have of their own.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Addends<'a> {
    pub(super) shared: &'a [Addend<'a>],
    pub(super) stairs: &'a [StairAddend<'a>],
}

/// The addends of some rows of one tower.
#[derive(Debug, Default)]
pub(super) struct RowAddends<'a> {
    /// Matmuls of parts, and the row of them that each row reads.
    shared: Vec<(&'a [f32], &'a [u32])>,
    stairs: Vec<StairAddend<'a>>,
}

/// Gradients of a part.
pub(super) struct SharedGrads {
    /// `[K, W, O]`.
    pub(super) weight: Vec<f32>,
    /// `[T, R, W]`.
    pub(super) values: Vec<f32>,
}

impl Shared<'_> {
    fn width(&self) -> usize {
        self.values.first().map_or(0, |values| values.len() / self.rows)
    }

    fn values_of(&self, tower: usize) -> Matrix<'_> {
        let copy = if self.values.len() == 1 { 0 } else { tower };
        Matrix::new(self.values[copy], self.rows, self.width())
    }

    fn weight_of(&self, tower: usize, outputs: usize) -> Matrix<'_> {
        self.weight.of(tower, self.width(), outputs)
    }

    /// The matmuls of all towers, `[K, R, O]`.
    pub(super) fn matmuls(&self, towers: usize, outputs: usize) -> Vec<f32> {
        let fill = |out: &mut [MaybeUninit<f32>]| {
            pieces(out, towers, outputs).into_par_iter().enumerate().for_each(|(tower, chunks)| {
                chunks.into_par_iter().enumerate().for_each(|(chunk, out)| {
                    let rows = self.values_of(tower).rows(chunk_rows(chunk, self.rows));
                    matmul(rows, self.weight_of(tower, outputs), out);
                });
            });
        };
        // SAFETY: the pieces are all of `out`, and `matmul` writes all of each.
        unsafe { written(towers * self.rows * outputs, fill) }.0
    }

    /// Gradients out of `sums [K, R, O]`, the gradients of the matmuls.
    pub(super) fn backward(&self, sums: &[f32], towers: usize, outputs: usize) -> SharedGrads {
        let width = self.width();
        let sums_of = |tower: usize| {
            Matrix::new(&sums[tower * self.rows * outputs..][..self.rows * outputs], self.rows, outputs)
        };
        let fill = |out: &mut [MaybeUninit<f32>]| {
            out.par_chunks_mut(width * outputs).enumerate().for_each(|(tower, out)| {
                matmul(self.values_of(tower).transposed(), sums_of(tower), out);
            });
        };
        // SAFETY: the chunks are all of `out`, and `matmul` writes all of each.
        let weight = unsafe { written(towers * width * outputs, fill) }.0;
        let copies = self.values.len();
        let fill = |out: &mut [MaybeUninit<f32>]| {
            pieces(out, copies, width).into_par_iter().enumerate().for_each(|(copy, chunks)| {
                let members = if copies == 1 { 0..towers } else { copy..copy + 1 };
                chunks.into_par_iter().enumerate().for_each(|(chunk, out)| {
                    for tower in members.clone() {
                        let grad = sums_of(tower).rows(chunk_rows(chunk, self.rows));
                        let weight = self.weight_of(tower, outputs).transposed();
                        if tower == members.start {
                            matmul(grad, weight, out);
                        } else {
                            // SAFETY: the matmul of the first member wrote every element.
                            add_matmul(grad, weight, unsafe { out.assume_init_mut() });
                        }
                    }
                });
            });
        };
        // SAFETY: the pieces are all of `out`, and the matmul of the first tower of each writes all of it.
        let values = unsafe { written(copies * self.rows * width, fill) }.0;
        SharedGrads { weight, values }
    }
}

impl<'a> Addend<'a> {
    /// What rows `rows` of the batch add in tower `tower`.
    pub(super) fn of(self, tower: usize, towers: usize, rows: Range<usize>) -> (&'a [f32], &'a [u32]) {
        let len = self.matmuls.len() / towers;
        (&self.matmuls[tower * len..][..len], &self.of_rows[rows])
    }
}

impl<'a> Addends<'a> {
    /// What rows `rows` of the batch add in tower `tower`.
    pub(super) fn of(self, tower: usize, towers: usize, rows: Range<usize>) -> RowAddends<'a> {
        let shared = self.shared.iter().map(|addend| addend.of(tower, towers, rows.clone()));
        let stairs = self.stairs.iter().map(|addend| addend.of(tower, towers, rows.clone()));
        RowAddends { shared: shared.collect(), stairs: stairs.collect() }
    }
}

impl RowAddends<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.shared.is_empty() && self.stairs.is_empty()
    }
}

/// Adds `bias` and what each row reads of every part to it.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+bmi2+fma", "x86_64+avx2+bmi2+fma"))]
pub(super) fn add_to_rows(rows: &mut [f32], bias: &[f32], addends: &RowAddends<'_>) {
    let width = bias.len();
    for (row, out) in rows.chunks_exact_mut(width).enumerate() {
        for (to, value) in out.iter_mut().zip(bias) {
            *to += value;
        }
        // Two at a time: half as many passes over the row.
        let mut pairs = addends.shared.chunks_exact(2);
        for pair in &mut pairs {
            for ((to, first), second) in
                out.iter_mut().zip(read(pair[0], row, width)).zip(read(pair[1], row, width))
            {
                *to += first + second;
            }
        }
        for last in pairs.remainder() {
            for (to, value) in out.iter_mut().zip(read(*last, row, width)) {
                *to += value;
            }
        }
        for stairs in &addends.stairs {
            let (below, next, factor) = stairs.read(row, width);
            for ((to, below), next) in out.iter_mut().zip(below).zip(next) {
                *to += below + factor * next;
            }
        }
    }
}

#[inline(always)]
fn read<'a>((matmuls, of_rows): (&'a [f32], &[u32]), row: usize, width: usize) -> &'a [f32] {
    &matmuls[of_rows[row] as usize * width..][..width]
}

/// For every part the gradients of its matmuls, `[K, R, O]`: those of the rows that read them, summed in the order of
/// the batch. `grad [K, B, O]`.
pub(super) fn sum_by_rows(
    grad: &[f32],
    parts: &[Shared<'_>],
    towers: usize,
    outputs: usize,
) -> Vec<Vec<f32>> {
    let mut sums: Vec<Vec<f32>> = parts.iter().map(|part| vec![0.0; towers * part.rows * outputs]).collect();
    let mut tasks: Vec<Vec<(&[u32], &mut [f32])>> = (0..towers).map(|_| Vec::new()).collect();
    for (part, sums) in parts.iter().zip(&mut sums) {
        for (task, sums) in tasks.iter_mut().zip(sums.chunks_exact_mut(part.rows * outputs)) {
            task.push((part.of_rows, sums));
        }
    }
    // Each sum is taken in one order, so the cut may follow the machine.
    let cuts = rayon::current_num_threads().div_ceil(towers);
    let rows = grad.len() / towers;
    tasks.par_iter_mut().zip(grad.par_chunks(rows)).for_each(|(parts, grad)| {
        let size = parts.len().div_ceil(cuts).max(1);
        parts.par_chunks_mut(size).for_each(|parts| sum_rows(grad, outputs, parts));
    });
    sums
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+bmi2+fma", "x86_64+avx2+bmi2+fma"))]
fn sum_rows(grad: &[f32], outputs: usize, parts: &mut [(&[u32], &mut [f32])]) {
    for start in (0..outputs).step_by(COLUMNS) {
        let width = COLUMNS.min(outputs - start);
        for (row, grad) in grad.chunks_exact(outputs).enumerate() {
            let grad = &grad[start..][..width];
            for (of_rows, sums) in parts.iter_mut() {
                let sums = &mut sums[of_rows[row] as usize * outputs + start..][..width];
                for (sum, grad) in sums.iter_mut().zip(grad) {
                    *sum += grad;
                }
            }
        }
    }
}

impl<'a> WeightRows<'a> {
    /// Rows `columns` of `weight [K, I, O]`: where they lie if they are neighbours, else one after the other in a copy.
    pub(super) fn pick(weight: &'a [f32], towers: usize, outputs: usize, columns: &[Range<usize>]) -> Self {
        let stride = weight.len() / towers;
        if let [rows] = columns {
            return Self { values: Cow::Borrowed(weight), stride, first: rows.start * outputs };
        }
        let values = pick_rows(weight, towers, outputs, columns);
        Self { stride: values.len() / towers, values, first: 0 }
    }

    fn of(&self, tower: usize, rows: usize, outputs: usize) -> Matrix<'_> {
        Matrix::new(&self.values[tower * self.stride + self.first..][..rows * outputs], rows, outputs)
    }
}

/// Rows `columns` of every tower's weights one after the other, `[K, I, O]` to `[K, W, O]`.
pub(super) fn pick_rows<'a>(
    weight: &'a [f32],
    towers: usize,
    outputs: usize,
    columns: &[Range<usize>],
) -> Cow<'a, [f32]> {
    let len = weight.len() / towers;
    if matches!(columns, [all] if *all == (0..len / outputs)) {
        return Cow::Borrowed(weight);
    }
    let width: usize = columns.iter().map(Range::len).sum();
    let mut picked = Vec::with_capacity(towers * width * outputs);
    for tower in weight.chunks_exact(len) {
        for rows in columns {
            picked.extend_from_slice(&tower[rows.start * outputs..rows.end * outputs]);
        }
    }
    Cow::Owned(picked)
}

/// The inverse of [`pick_rows`]: writes the rows of `part [K, W, O]` to their places in `all [K, I, O]`.
pub(super) fn put_rows(
    all: &mut [f32],
    part: &[f32],
    towers: usize,
    outputs: usize,
    columns: &[Range<usize>],
) {
    let len = all.len() / towers;
    let part_len = part.len() / towers;
    for (all, mut part) in all.chunks_exact_mut(len).zip(part.chunks_exact(part_len)) {
        for rows in columns {
            let (rows_of, rest) = part.split_at(rows.len() * outputs);
            all[rows.start * outputs..rows.end * outputs].copy_from_slice(rows_of);
            part = rest;
        }
    }
}
