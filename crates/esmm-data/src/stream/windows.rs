//! Windows: how many rows each has, and rows on their way into them.

use crate::dataset::{Dataset, EncodedChunk, Outcome};

/// How many rows the windows of a pass have: so many in the first, twice as many in each that follows, up to a most.
///
/// Nothing can be handed over before a window is full, so the first ones are small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSizes {
    pub(super) first: usize,
    pub(super) most: usize,
}

impl WindowSizes {
    /// All of one size, at least 1.
    pub fn equal(rows: usize) -> Self {
        Self { first: rows, most: rows }
    }

    /// Rows of a window.
    pub fn rows(&self, window: u32) -> usize {
        let doubled = if window < 32 { self.first.saturating_mul(1 << window) } else { self.most };
        doubled.min(self.most)
    }

    /// The window that holds a row, and the row at which it starts.
    pub fn find(&self, row: u64) -> (u32, u64) {
        let (mut window, mut start) = (0, 0);
        while row >= start + self.rows(window) as u64 {
            start += self.rows(window) as u64;
            window += 1;
        }
        (window, start)
    }

    /// Rows before a window.
    fn start(&self, window: u32) -> u64 {
        (0..window).map(|window| self.rows(window) as u64).sum()
    }
}

/// Rows on their way into windows.
pub(super) struct Windows<'a> {
    empty: Dataset,
    current: Dataset,
    sizes: WindowSizes,
    number: u32,
    /// Rows that are still to be left out.
    pub(super) skip: u64,
    take: &'a mut dyn FnMut(Dataset) -> bool,
}

impl<'a> Windows<'a> {
    pub(super) fn new(
        empty: Dataset,
        sizes: WindowSizes,
        first: u32,
        take: &'a mut dyn FnMut(Dataset) -> bool,
    ) -> Self {
        Self { current: empty.clone(), empty, sizes, number: first, skip: sizes.start(first), take }
    }

    /// Adds all rows of a chunk; `false` when there are enough.
    pub(super) fn push(&mut self, encoded: &EncodedChunk, outcome: &Outcome) -> bool {
        let skipped = self.skip.min(encoded.rows as u64) as usize;
        self.skip -= skipped as u64;
        let rows: Vec<usize> = (skipped..encoded.rows).collect();
        let mut rest = rows.as_slice();
        while !rest.is_empty() {
            let room = self.sizes.rows(self.number) - self.current.rows;
            let (now, later) = rest.split_at(rest.len().min(room));
            self.current.append(encoded, outcome, now);
            rest = later;
            if now.len() == room {
                let mut next = self.empty.clone();
                self.number += 1;
                next.reserve(self.current.rows.min(self.sizes.rows(self.number)));
                if !(self.take)(std::mem::replace(&mut self.current, next)) {
                    return false;
                }
            }
        }
        true
    }

    /// Hands over what is left.
    pub(super) fn finish(self) {
        if self.current.rows > 0 {
            (self.take)(self.current);
        }
    }
}
