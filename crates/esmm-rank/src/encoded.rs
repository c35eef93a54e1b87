//! Encoded rows of a part, as the engine reads them.

use esmm_core::SparseInput;
use esmm_data::{EncodedChunk, FeatureCounts, SparseColumn};

use crate::part::Columns;

/// The features of a part for some rows, encoded; lends [`Columns`] through a [`Borrowed`].
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    chunk: EncodedChunk,
}

/// What an [`Encoded`] lends.
#[derive(Debug)]
pub struct Borrowed<'a> {
    rows: usize,
    sparse: Vec<SparseInput<'a>>,
    dense: Vec<&'a [f32]>,
}

impl Encoded {
    pub(crate) fn new(chunk: EncodedChunk) -> Self {
        Self { chunk }
    }

    /// No rows: stands for a part that is not there.
    pub fn nothing() -> Self {
        Self::of_rows(0)
    }

    /// Rows without features.
    pub(crate) fn of_rows(rows: usize) -> Self {
        Self { chunk: EncodedChunk::of_rows(rows) }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.chunk.rows
    }

    /// What the values of each feature of the part were to its encoder: missing, unknown, outside of what it takes.
    pub fn counts(&self) -> &[FeatureCounts] {
        &self.chunk.counts.features
    }

    /// Lends the columns.
    pub fn borrow(&self) -> Borrowed<'_> {
        Borrowed {
            rows: self.chunk.rows,
            sparse: self.chunk.sparse.iter().map(SparseColumn::as_input).collect(),
            dense: self.chunk.dense.iter().map(Vec::as_slice).collect(),
        }
    }
}

impl<'a> Borrowed<'a> {
    /// The columns.
    pub fn columns(&'a self) -> Columns<'a> {
        Columns { rows: self.rows, sparse: &self.sparse, dense: &self.dense }
    }
}
