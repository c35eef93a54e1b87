//! Pooling of table rows, forward and backward.

use std::mem::MaybeUninit;
use std::ops::Range;

use multiversion::multiversion;

use super::tasks;
use super::work::{AHEAD, TASKS, cleared, prefetch, written};
use crate::backend::Bags;
use crate::schema::share;

/// Entries that make a task worth its start.
const ENTRIES: usize = 1024;
/// Rows of a task at most.
const MOST_ROWS: usize = 512;

/// Bags in host memory.
pub(super) type HostBags<'a> = Bags<&'a [f32], &'a [u32]>;

impl HostBags<'_> {
    /// Numbers in a row: one for each dense feature.
    pub(super) fn num_dense(&self) -> usize {
        self.dense.map_or(0, <[f32]>::len) / self.rows.max(1)
    }

    /// Columns of the dense features.
    pub(super) fn dense_width(&self) -> usize {
        self.bins.as_ref().map_or_else(|| self.num_dense(), |bins| bins.iter().sum())
    }

    /// Width of a pooled row.
    pub(super) fn width(&self, dim: usize) -> usize {
        self.num_sparse * dim + self.dense_width()
    }

    /// The pooled rows of all copies of the table, `[T, B, F * D + V]`.
    pub(super) fn pool(&self, table: &[f32], dim: usize) -> Vec<f32> {
        let tables = self.tables;
        let width = self.width(dim);
        // Each bag is summed by itself, so the cut does not show.
        let entries = (self.slots.len() / (2 * TASKS)).clamp(ENTRIES, 8 * ENTRIES);
        let task_rows = (entries * self.rows / self.slots.len().max(1)).clamp(1, MOST_ROWS);
        let fill = |out: &mut [MaybeUninit<f32>]| {
            let copies = out.chunks_mut((self.rows * width).max(1)).zip(table.chunks(table.len() / tables));
            let tasks = copies.flat_map(|(out, table)| {
                let tasks = out.chunks_mut(task_rows * width).enumerate();
                tasks.map(move |(task, out)| (table, task * task_rows, out))
            });
            tasks::each("pooling", tasks.collect(), |(table, start, out)| {
                self.pool_rows(table, dim, start..self.rows.min(start + task_rows), out);
            });
        };
        let len = tables * self.rows * width;
        // SAFETY: the pieces are all of `out`, and `pool_rows` writes all of each.
        unsafe { written(len, fill) }.0
    }

    /// Some pooled rows. Writes every element of `out`.
    pub(super) fn pool_rows(
        &self,
        table: &[f32],
        dim: usize,
        rows: Range<usize>,
        out: &mut [MaybeUninit<f32>],
    ) {
        let width = self.width(dim);
        let sparse = self.num_sparse * dim;
        let num_dense = self.num_dense();
        match self.weighted {
            None => {
                let slots = &self.slots[rows.start * self.num_sparse..rows.end * self.num_sparse];
                let mut ahead = slots.iter().skip(AHEAD);
                let slots = slots.chunks_exact(self.num_sparse.max(1));
                for (slots, out) in slots.zip(out.chunks_exact_mut(width.max(1))) {
                    for (&slot, bag) in slots.iter().zip(out[..sparse].chunks_exact_mut(dim)) {
                        if let Some(&slot) = ahead.next() {
                            prefetch(table, slot as usize * dim, dim);
                        }
                        bag.write_copy_of_slice(&table[slot as usize * dim..][..dim]);
                    }
                }
            }
            Some((segments, weights)) => {
                let entries = self.entries(segments, &rows);
                sum_bags(self, table, dim, (segments, weights), entries, rows.start, cleared(out));
            }
        }
        if let Some(dense) = self.dense {
            let dense = dense[rows.start * num_dense..rows.end * num_dense].chunks_exact(num_dense);
            for (dense, out) in dense.zip(out.chunks_exact_mut(width)) {
                match &self.bins {
                    None => {
                        out[sparse..].write_copy_of_slice(dense);
                    }
                    Some(bins) => write_columns(dense, bins, &mut out[sparse..]),
                }
            }
        }
    }

    /// The entries of some rows of the batch.
    fn entries(&self, segments: &[u32], rows: &Range<usize>) -> Range<usize> {
        let at = |row: usize| segments.partition_point(|&bag| (bag as usize) < row * self.num_sparse);
        at(rows.start)..at(rows.end)
    }

    /// Gradient with respect to the `num_rows` rows of each copy of the table, `[T * U, D]`. Each row sums its entries in their
    /// order, whatever the number of threads.
    pub(super) fn pool_backward(&self, grad: &[f32], num_rows: usize, dim: usize) -> Vec<f32> {
        let tables = self.tables;
        if self.num_sparse == 0 {
            return vec![0.0; tables * num_rows * dim];
        }
        let sorted = SortedEntries::new(self.slots, num_rows);
        let ranges = sorted.ranges((self.slots.len() / (2 * TASKS)).max(ENTRIES));
        let fill = |out: &mut [MaybeUninit<f32>]| {
            let mut tasks = Vec::with_capacity(tables * ranges.len());
            let grads = grad.chunks(self.rows * self.width(dim));
            for (mut rest, grad) in out.chunks_mut(num_rows * dim).zip(grads) {
                for range in &ranges {
                    let (piece, after) = rest.split_at_mut(range.len() * dim);
                    tasks.push((grad, range.clone(), piece));
                    rest = after;
                }
            }
            tasks::each("gradient of the tables", tasks, |(grad, range, out)| {
                sum_entries(self, grad, dim, range, &sorted, cleared(out));
            });
        };
        // SAFETY: the ranges cover all rows of each table, and each task clears its rows first.
        unsafe { written(tables * num_rows * dim, fill) }.0
    }

    /// Adds the gradient with respect to the rows of the table to `out`.
    pub(super) fn add_backward(&self, grad: &[f32], dim: usize, out: &mut [f32]) {
        let num_rows = out.len() / (self.tables * dim);
        let grads = self.pool_backward(grad, num_rows, dim);
        out.iter_mut().zip(grads).for_each(|(out, grad)| *out += grad);
    }
}

/// Writes the columns of all numbers of a row: see [`Bags::bins`].
fn write_columns(numbers: &[f32], bins: &[usize], mut out: &mut [MaybeUninit<f32>]) {
    for (&number, &bins) in numbers.iter().zip(bins) {
        let (columns, rest) = out.split_at_mut(bins);
        match columns {
            [column] => {
                column.write(number);
            }
            columns => columns.iter_mut().enumerate().for_each(|(bin, column)| {
                column.write(share(number, bin));
            }),
        }
        out = rest;
    }
}

/// Adds the weighted rows of `entries` to their bags; `out` begins with the row of the first entry's chunk.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+bmi2+fma", "x86_64+avx2+bmi2+fma"))]
fn sum_bags(
    bags: &HostBags<'_>,
    table: &[f32],
    dim: usize,
    (segments, weights): (&[u32], &[f32]),
    entries: Range<usize>,
    first_row: usize,
    out: &mut [f32],
) {
    let width = bags.width(dim);
    for entry in entries {
        if let Some(&slot) = bags.slots.get(entry + AHEAD) {
            prefetch(table, slot as usize * dim, dim);
        }
        let bag = segments[entry] as usize - first_row * bags.num_sparse;
        let start = bag / bags.num_sparse * width + bag % bags.num_sparse * dim;
        let source = &table[bags.slots[entry] as usize * dim..][..dim];
        add_scaled(&mut out[start..][..dim], source, weights[entry]);
    }
}

/// Adds the weighted gradients of the entries of some slots to `out`, the rows of these slots.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+bmi2+fma", "x86_64+avx2+bmi2+fma"))]
fn sum_entries(
    bags: &HostBags<'_>,
    grad: &[f32],
    dim: usize,
    slots: Range<usize>,
    sorted: &SortedEntries,
    out: &mut [f32],
) {
    let gap = bags.width(dim) - bags.num_sparse * dim;
    for (slot, out) in slots.zip(out.chunks_exact_mut(dim)) {
        for &entry in sorted.of(slot) {
            let entry = entry as usize;
            let (bag, weight) = match bags.weighted {
                None => (entry, 1.0),
                Some((segments, weights)) => (segments[entry] as usize, weights[entry]),
            };
            let start = if gap == 0 { bag * dim } else { bag * dim + bag / bags.num_sparse * gap };
            add_scaled(out, &grad[start..][..dim], weight);
        }
    }
}

/// The entries of each slot, in their order: a counting sort.
struct SortedEntries {
    offsets: Vec<u32>,
    entries: Vec<u32>,
}

impl SortedEntries {
    fn new(slots: &[u32], num_slots: usize) -> Self {
        let mut offsets = vec![0; num_slots + 1];
        for &slot in slots {
            offsets[slot as usize + 1] += 1;
        }
        for slot in 0..num_slots {
            offsets[slot + 1] += offsets[slot];
        }
        let mut next = offsets.clone();
        let mut entries = vec![0; slots.len()];
        for (entry, &slot) in slots.iter().enumerate() {
            let place = &mut next[slot as usize];
            entries[*place as usize] = entry as u32;
            *place += 1;
        }
        Self { offsets, entries }
    }

    fn of(&self, slot: usize) -> &[u32] {
        &self.entries[self.offsets[slot] as usize..self.offsets[slot + 1] as usize]
    }

    /// All slots, cut into ranges of about `size` entries.
    fn ranges(&self, size: usize) -> Vec<Range<usize>> {
        let mut ranges = Vec::new();
        let mut start = 0;
        for slot in 0..self.offsets.len() - 1 {
            let entries = self.offsets[slot + 1] - self.offsets[start];
            if entries as usize >= size || slot + 2 == self.offsets.len() {
                ranges.push(start..slot + 1);
                start = slot + 1;
            }
        }
        ranges
    }
}

#[inline(always)]
fn add_scaled(to: &mut [f32], from: &[f32], weight: f32) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += weight * from;
    }
}
