//! Where a row came from, so that an error can say so.

use std::fmt::{Display, Formatter, Result as FmtResult};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One row of a file, shown as `train.csv:17` or `train.parquet: row 17`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// The row in it.
    pub row: RowNumber,
}

/// How a row is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowNumber {
    /// Line of a text file on which the row starts, from 1; the header is line 1.
    Line(u64),
    /// Row of a table, from 1.
    Row(u64),
}

impl Display for Place {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> FmtResult {
        let path = crate::error::shown(&self.path);
        match self.row {
            RowNumber::Line(line) => write!(formatter, "{path}:{line}"),
            RowNumber::Row(row) => write!(formatter, "{path}: row {row}"),
        }
    }
}

/// Where the rows of a chunk came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    path: Arc<Path>,
    rows: Rows,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rows {
    Lines(Vec<u64>),
    From(u64),
}

impl Origin {
    /// Rows of a text file, each with the line on which it starts, from 1.
    pub fn lines(path: Arc<Path>, lines: Vec<u64>) -> Self {
        Self { path, rows: Rows::Lines(lines) }
    }

    /// Consecutive rows of a table; `first` counts from 1.
    pub fn rows(path: Arc<Path>, first: u64) -> Self {
        Self { path, rows: Rows::From(first) }
    }

    /// The rows after the first few.
    ///
    /// # Panics
    /// When the chunk of a text file has fewer rows.
    pub(crate) fn skip(&self, rows: usize) -> Self {
        let rows = match &self.rows {
            Rows::Lines(lines) => Rows::Lines(lines[rows..].to_vec()),
            Rows::From(first) => Rows::From(first + rows as u64),
        };
        Self { path: self.path.clone(), rows }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The place of a row of the chunk, `row` from 0.
    ///
    /// # Panics
    /// When the chunk of a text file has no such row.
    pub fn place(&self, row: usize) -> Place {
        let row = match &self.rows {
            Rows::Lines(lines) => RowNumber::Line(lines[row]),
            Rows::From(first) => RowNumber::Row(first + row as u64),
        };
        Place { path: self.path.to_path_buf(), row }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_like_a_compiler_says_them() {
        let path: Arc<Path> = Path::new("a/train.csv").into();
        assert_eq!(Origin::lines(path.clone(), vec![2, 17]).place(1).to_string(), "a/train.csv:17");
        assert_eq!(Origin::rows(path, 8193).place(2).to_string(), "a/train.csv: row 8195");
    }
}
