//! Parquet files as chunks of Arrow columns.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::error::DataError;
use super::place::Origin;

/// One Parquet file with some of its columns.
pub(super) struct ParquetFile {
    path: Arc<Path>,
    reader: ParquetRecordBatchReader,
    rows: u64,
}

/// The names of the top-level columns.
pub(super) fn column_names(path: &Path) -> Result<Vec<String>, DataError> {
    Ok(names(builder(path)?.schema()))
}

/// The number of rows, which the file's end tells.
pub(super) fn num_rows(path: &Path) -> Result<u64, DataError> {
    Ok(builder(path)?.metadata().file_metadata().num_rows().max(0) as u64)
}

impl ParquetFile {
    /// Opens a file and skips all other columns; chunks have so many rows at most.
    pub(super) fn open(path: &Path, columns: &[String], most: usize) -> Result<Self, DataError> {
        let builder = builder(path)?;
        let roots = super::source::find_columns(path, &names(builder.schema()), columns)?;
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        let reader = builder.with_projection(mask).with_batch_size(most).build();
        let reader = reader.map_err(|error| DataError::file(path, error))?;
        Ok(Self { path: path.into(), reader, rows: 0 })
    }

    /// The next rows, or `None` at the end.
    pub(super) fn next_chunk(&mut self) -> Result<Option<(RecordBatch, Origin)>, DataError> {
        let Some(batch) = self.reader.next() else {
            return Ok(None);
        };
        let batch = batch.map_err(|error| DataError::file(&self.path, error))?;
        let origin = Origin::rows(self.path.clone(), self.rows + 1);
        self.rows += batch.num_rows() as u64;
        Ok(Some((batch, origin)))
    }
}

impl std::fmt::Debug for ParquetFile {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ParquetFile")
            .field("path", &self.path)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

fn builder(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>, DataError> {
    let file = File::open(path).map_err(|error| DataError::io(path, &error))?;
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| DataError::file(path, error))
}

fn names(schema: &SchemaRef) -> Vec<String> {
    schema.fields().iter().map(|field| field.name().clone()).collect()
}
