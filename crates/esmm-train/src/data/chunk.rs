//! Some rows of a source: Arrow columns, and where each row came from.

use arrow::array::ArrayRef;
use arrow::record_batch::RecordBatch;

use super::error::DataError;
use super::place::{Origin, Place};
use super::source::ListFormat;

/// Rows of a chunk at most.
pub(super) const CHUNK_ROWS: usize = 8192;

/// Up to 8192 rows of a source with the columns that were asked for.
#[derive(Debug, Clone)]
pub struct Chunk {
    batch: RecordBatch,
    origin: Origin,
    lists: ListFormat,
    first_row: u64,
}

impl Chunk {
    /// A chunk from columns in memory. `first_row` is the number of its first row among all rows, from 0.
    pub fn new(batch: RecordBatch, origin: Origin, lists: ListFormat, first_row: u64) -> Self {
        Self { batch, origin, lists, first_row }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// The columns.
    pub fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    /// Where the rows came from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Number of the first row among all rows of the source, from 0.
    pub fn first_row(&self) -> u64 {
        self.first_row
    }

    /// How lists are written in text columns.
    pub fn lists(&self) -> ListFormat {
        self.lists
    }

    /// A column by its name.
    ///
    /// # Errors
    /// When the chunk was read without this column.
    pub fn column(&self, name: &str) -> Result<&ArrayRef, DataError> {
        self.batch.column_by_name(name).ok_or_else(|| {
            let schema = self.batch.schema_ref();
            let names = schema.fields().iter().map(|field| field.name().as_str());
            DataError::UnknownColumn {
                path: self.origin.path().to_owned(),
                column: name.to_owned(),
                hint: super::error::nearest(name, names),
            }
        })
    }

    /// The place of a row, from 0.
    pub(super) fn place(&self, row: usize) -> Place {
        self.origin.place(row)
    }

    /// A value that is not allowed. `found` is ready to be shown.
    pub(super) fn bad_cell(&self, row: usize, column: &str, found: String, allowed: &str) -> DataError {
        DataError::Cell {
            place: self.place(row),
            column: column.to_owned(),
            found,
            allowed: allowed.to_owned(),
        }
    }

    /// A column whose type does not fit.
    pub(super) fn bad_type(&self, column: &str, found: &dyn std::fmt::Display, allowed: &str) -> DataError {
        DataError::ColumnType {
            path: self.origin.path().to_owned(),
            column: column.to_owned(),
            found: found.to_string(),
            allowed: allowed.to_owned(),
        }
    }
}
