//! Some rows of a source: Arrow columns, and where each row came from.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, BooleanArray, StringArray};
use arrow::compute::filter_record_batch;
use arrow::record_batch::RecordBatch;

use super::list_format::ListFormat;
use crate::column::key_column::KeyColumn;
use crate::column::spelling::Spelling;
use crate::error::DataError;
use crate::place::{Origin, Place};

/// Rows of a chunk at most.
pub(crate) const CHUNK_ROWS: usize = 8192;

/// The usual spelling, which most chunks share.
static USUAL: LazyLock<Arc<Spelling>> = LazyLock::new(|| Arc::new(Spelling::default()));

/// Up to 8192 rows of a source with the columns that were asked for.
#[derive(Debug, Clone)]
pub struct Chunk {
    batch: RecordBatch,
    origin: Origin,
    lists: ListFormat,
    spelling: Arc<Spelling>,
    first_row: u64,
}

impl Chunk {
    /// A chunk from columns in memory, in the usual spelling. `first_row` is the number of its first row among all rows, from
    /// 0.
    pub fn new(batch: RecordBatch, origin: Origin, lists: ListFormat, first_row: u64) -> Self {
        Self { batch, origin, lists, spelling: USUAL.clone(), first_row }
    }

    /// The same rows in another spelling.
    pub fn spelled(self, spelling: &Arc<Spelling>) -> Self {
        Self { spelling: spelling.clone(), ..self }
    }

    /// How its texts become values.
    pub fn spelling(&self) -> &Arc<Spelling> {
        &self.spelling
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

    /// The keys of a column as canonical texts, null where they are missing: `42` for what one file writes as `42` and
    /// another as `42.0`.
    ///
    /// # Errors
    /// When the chunk was read without this column, and for values that are no keys.
    pub fn keys(&self, name: &str) -> Result<StringArray, DataError> {
        Ok(KeyColumn::read(self, name)?.texts())
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
                hint: crate::error::nearest(name, names),
            }
        })
    }

    /// Some of its rows.
    ///
    /// # Panics
    /// When there are no such rows.
    pub(crate) fn slice(&self, rows: Range<usize>) -> Self {
        Self {
            batch: self.batch.slice(rows.start, rows.len()),
            origin: self.origin.skip(rows.start),
            lists: self.lists,
            spelling: self.spelling.clone(),
            first_row: self.first_row + rows.start as u64,
        }
    }

    /// The same rows with some of the columns only.
    pub(crate) fn project(&self, columns: &[String]) -> Result<Self, DataError> {
        let places = super::columns::find_columns(self.origin.path(), &self.names(), columns)?;
        let batch =
            self.batch.project(&places).map_err(|error| DataError::caused(self.origin.path(), error))?;
        Ok(self.with_batch(batch))
    }

    /// The same rows with other columns.
    pub(crate) fn with_batch(&self, batch: RecordBatch) -> Self {
        Self { batch, ..self.clone() }
    }

    /// The same rows, counted on after those of files before.
    pub(crate) fn numbered_from(self, first_row: u64) -> Self {
        Self { first_row, ..self }
    }

    fn names(&self) -> Vec<String> {
        self.batch.schema_ref().fields().iter().map(|field| field.name().clone()).collect()
    }

    /// Some of its rows. They have lost their places: an error in one of them must be looked for in the whole chunk.
    pub(crate) fn filter(&self, keep: &[bool]) -> Result<Self, DataError> {
        let batch = filter_record_batch(&self.batch, &BooleanArray::from(keep.to_vec()))
            .map_err(|error| DataError::caused(self.origin.path(), error))?;
        Ok(self.with_batch(batch))
    }

    /// The place of a row, from 0.
    pub(crate) fn place(&self, row: usize) -> Place {
        self.origin.place(row)
    }

    /// A value that is not allowed. `found` is ready to be shown.
    pub(crate) fn bad_cell(&self, row: usize, column: &str, found: String, allowed: &str) -> DataError {
        DataError::Cell {
            place: self.place(row),
            column: column.to_owned(),
            found,
            allowed: allowed.to_owned(),
        }
    }

    /// A column whose type does not fit.
    pub(crate) fn bad_type(&self, column: &str, found: &dyn std::fmt::Display, allowed: &str) -> DataError {
        DataError::ColumnType {
            path: self.origin.path().to_owned(),
            column: column.to_owned(),
            found: found.to_string(),
            allowed: allowed.to_owned(),
        }
    }
}
