//! Where a vocabulary's table has the row of values that training does not know.

use serde::{Deserialize, Serialize};

use crate::dataset::SparseColumn;

/// The row of missing values in every table.
pub const MISSING: u32 = 0;

/// Which row of a vocabulary's table stands for values that training does not know. Row 0 stands for missing values.
///
/// Tables of other encodings have no such row: a hash and a quantile bucket take every value, and a raw id that is too
/// large is outside of what the feature takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownRow {
    /// Row 0, that of missing values: what run directories were before there was a choice.
    #[default]
    OfMissing,
    /// Row 1.
    Own,
}

impl UnknownRow {
    /// The row.
    pub fn row(self) -> u32 {
        match self {
            Self::OfMissing => MISSING,
            Self::Own => 1,
        }
    }

    /// Share of unknown ids among those of a column that are not missing, in `[0, 1]`; where both have one row, of missing and
    /// unknown ones among all. 0 where there are none.
    pub(crate) fn rate(self, column: &SparseColumn) -> f64 {
        let present = match self {
            Self::OfMissing => column.ids().len(),
            Self::Own => column.ids().len() - column.count(MISSING),
        };
        column.count(self.row()) as f64 / present.max(1) as f64
    }

    /// The row of the first key: as many rows stand for no key.
    pub(crate) fn first_key(self) -> u32 {
        self.row() + 1
    }
}
