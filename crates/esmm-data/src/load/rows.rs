//! The rows of a split, wherever they are.

use std::sync::Arc;

use crate::dataset::Dataset;
use crate::stream::FileRows;

/// The rows of a split: encoded in memory, or in files that every pass reads. Cheap to clone.
#[derive(Debug, Clone)]
pub enum SplitRows {
    /// In memory.
    Memory(Arc<Dataset>),
    /// In files.
    Files(Arc<FileRows>),
}

impl SplitRows {
    /// Number of rows; 0 where nobody has counted.
    pub fn rows(&self) -> usize {
        match self {
            Self::Memory(dataset) => dataset.rows,
            Self::Files(rows) => rows.rows() as usize,
        }
    }

    /// Whether the rows have groups, for GAUC.
    pub fn has_group(&self) -> bool {
        match self {
            Self::Memory(dataset) => dataset.group.is_some(),
            Self::Files(rows) => rows.has_group(),
        }
    }

    /// Whether the rows have true rates.
    pub fn has_truth(&self) -> bool {
        match self {
            Self::Memory(dataset) => dataset.truth.is_some(),
            Self::Files(rows) => rows.has_truth(),
        }
    }
}

impl From<Arc<Dataset>> for SplitRows {
    fn from(dataset: Arc<Dataset>) -> Self {
        Self::Memory(dataset)
    }
}

impl From<Dataset> for SplitRows {
    fn from(dataset: Dataset) -> Self {
        Self::Memory(Arc::new(dataset))
    }
}

impl From<FileRows> for SplitRows {
    fn from(rows: FileRows) -> Self {
        Self::Files(Arc::new(rows))
    }
}
