//! The factors of a matmul, read where they lie: as they are, transposed, shared by towers, or cut into pieces.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::tensor::{Rows, vector_size};

/// A factor: its element of row (or column) `i`, term `k`, in batch `b` and summand `s` lies at
/// `b * batch + s * sum + i * across + k * along`, where one of the two last distances is 1.
pub(super) struct Factor<R: CubeRuntime> {
    pub(super) tensor: CubeTensor<R>,
    pub(super) batch: usize,
    pub(super) sum: usize,
    pub(super) across: usize,
    pub(super) along: usize,
}

/// Where the lines of a factor lie, in vectors, as a kernel takes it: a line is what neighbours in memory belong to.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct Lines {
    pub(super) batch: usize,
    pub(super) sum: usize,
    pub(super) line: usize,
}

/// Which factors are wide (see [`Factor::is_wide`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Wide {
    pub(super) left: bool,
    pub(super) right: bool,
}

impl<R: CubeRuntime> Factor<R> {
    /// `[K or 1, M, C]` as the left one: rows are rows, columns are terms.
    pub(super) fn left(rows: &Rows<R>) -> Self {
        let (batch, stride) = distances(rows);
        Self { tensor: rows.tensor.clone(), batch, sum: 0, across: stride, along: 1 }
    }

    /// `[K or 1, C, N]` as the right one: rows are terms.
    pub(super) fn right(rows: &Rows<R>) -> Self {
        let (batch, stride) = distances(rows);
        Self { tensor: rows.tensor.clone(), batch, sum: 0, across: 1, along: stride }
    }

    /// `[B, K * O]` as the right one: each tower has O columns.
    pub(super) fn side_by_side(rows: &Rows<R>, towers: usize) -> Self {
        Self { batch: rows.width / towers, ..Self::right(rows) }
    }

    /// The same with rows for columns.
    pub(super) fn turned(self) -> Self {
        Self { across: self.along, along: self.across, ..self }
    }

    /// The same with its batches added.
    pub(super) fn summed(self) -> Self {
        Self { batch: 0, sum: self.batch, ..self }
    }

    /// Whether neighbours across lie side by side: then whole vectors of them are read.
    pub(super) fn is_wide(&self) -> bool {
        self.across == 1
    }

    /// The largest vector in which `width` neighbours can be read.
    pub(super) fn vector(&self, width: usize) -> usize {
        if self.is_wide() { vector_size(&[self.batch, self.sum, self.along, width]) } else { 1 }
    }

    /// The largest vector in which its lines can be read: neighbours in memory, `width` of them across or all terms.
    pub(super) fn line_vector(&self, width: usize, terms: usize) -> usize {
        if self.is_wide() {
            return self.vector(width);
        }
        vector_size(&[self.batch, self.sum, self.across, terms])
    }

    /// Its lines in vectors of this size.
    pub(super) fn lines(&self, vector: usize) -> LinesLaunch<R> {
        let line = if self.is_wide() { self.along } else { self.across };
        LinesLaunch::new(self.batch / vector, self.sum / vector, line / vector)
    }
}

/// From one matrix to the next (0 where there is one) and from one row to the next.
fn distances<R: CubeRuntime>(rows: &Rows<R>) -> (usize, usize) {
    let batch = match rows.tensor.meta.shape().as_ref() {
        [1, ..] | [_, _] => 0,
        shape => shape[1] * rows.stride,
    };
    (batch, rows.stride)
}
