//! Encoded features without outcomes.

use super::counts::{OutsideCell, ValueCounts};
use super::sparse_column::SparseColumn;
use super::user_groups::UserGroups;
use super::{Dataset, RowCounts};

/// The features of some rows, without labels.
#[derive(Debug, Clone, PartialEq)]
pub struct EncodedChunk {
    /// Number of rows.
    pub rows: usize,
    /// Table rows, one entry for each sparse feature in schema order.
    pub sparse: Vec<SparseColumn>,
    /// Numbers or positions among bins, one entry for each dense feature in schema order, each as long as there are rows.
    pub dense: Vec<Vec<f32>>,
    /// Rows that share their user: columns of user features then have an entry for each group.
    pub users: Option<UserGroups>,
    /// What its cells were to the encoders.
    pub counts: ValueCounts,
    /// Cells for which something stood in, because an encoding does not take their values.
    pub outside: Vec<OutsideCell>,
}

impl EncodedChunk {
    /// Rows without features.
    pub fn of_rows(rows: usize) -> Self {
        Self {
            rows,
            sparse: Vec::new(),
            dense: Vec::new(),
            users: None,
            counts: ValueCounts::default(),
            outside: Vec::new(),
        }
    }

    /// The rows as a dataset that knows no outcome: every depth is 0.
    pub fn into_dataset(self) -> Dataset {
        let Self { rows, sparse, dense, users, counts: _, outside: _ } = self;
        Dataset {
            rows,
            sparse,
            dense,
            depth: vec![0; rows],
            group: None,
            truth: None,
            counts: RowCounts::default(),
            users,
        }
    }
}
