//! Parquet files as chunks of Arrow columns.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchReader};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::ParquetMetaData;

use super::chunk::CHUNK_ROWS;
use super::damage::caught;
use super::data_file::{DataFile, PathColumn, with_constants};
use crate::error::DataError;
use crate::place::Origin;

/// One Parquet file with some of its columns.
pub(crate) struct ParquetFile {
    path: Arc<Path>,
    reader: ParquetRecordBatchReader,
    constants: Vec<PathColumn>,
    rows: u64,
}

/// The names of the top-level columns.
pub(crate) fn column_names(path: &Path) -> Result<Vec<String>, DataError> {
    Ok(names(builder(path)?.schema()))
}

/// The number of rows, which the file's end tells.
pub(crate) fn num_rows(path: &Path) -> Result<u64, DataError> {
    Ok(builder(path)?.metadata().file_metadata().num_rows().max(0) as u64)
}

/// Rows of each row group.
pub(crate) fn group_rows(path: &Path) -> Result<Vec<u64>, DataError> {
    Ok(builder(path)?.metadata().row_groups().iter().map(|group| group.num_rows() as u64).collect())
}

/// Values in some columns, those in lists counted one by one, as the file's end tells.
pub(crate) fn num_values(path: &Path, columns: &[String]) -> Result<u64, DataError> {
    let builder = builder(path)?;
    let chunks = builder.metadata().row_groups().iter().flat_map(|group| group.columns());
    let wanted = chunks.filter(|chunk| {
        let root = chunk.column_path().parts().first();
        root.is_some_and(|root| columns.contains(root))
    });
    Ok(wanted.map(|chunk| chunk.num_values() as u64).sum())
}

impl ParquetFile {
    /// One row group of a file, and nothing else.
    pub(crate) fn open_group(file: &DataFile, columns: &[String], group: usize) -> Result<Self, DataError> {
        let path = file.path();
        let builder = builder_of(file.bytes(), path)?;
        let groups = builder.metadata().row_groups();
        if group >= groups.len() {
            return Err(DataError::file(path, format!("row group {group} is gone: the file has changed")));
        }
        let before = groups[..group].iter().map(|group| group.num_rows() as u64).sum();
        let (columns, constants) = file.sorted(&names(builder.schema()), columns);
        let reader = Self::build(path, builder.with_row_groups(vec![group]), &columns, CHUNK_ROWS)?;
        Ok(Self { rows: before, constants, ..reader })
    }

    /// Opens a file of a source, as [`open`](Self::open) does, with the columns in its path.
    pub(crate) fn open_file(file: &DataFile, columns: &[String], most: usize) -> Result<Self, DataError> {
        let builder = builder_of(file.bytes(), file.path())?;
        let (columns, constants) = file.sorted(&names(builder.schema()), columns);
        let reader = Self::build(file.path(), builder, &columns, most)?;
        Ok(Self { constants, ..reader })
    }

    /// Opens a file and skips all other columns; chunks have so many rows at most.
    pub(crate) fn open(path: &Path, columns: &[String], most: usize) -> Result<Self, DataError> {
        Self::build(path, builder(path)?, columns, most)
    }

    fn build(
        path: &Path,
        builder: ParquetRecordBatchReaderBuilder<File>,
        columns: &[String],
        most: usize,
    ) -> Result<Self, DataError> {
        let roots = super::columns::find_columns(path, &names(builder.schema()), columns)?;
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        let reader = caught(path, || builder.with_projection(mask).with_batch_size(most).build())?;
        Ok(Self { path: path.into(), reader, constants: Vec::new(), rows: 0 })
    }

    /// Its columns, without a row.
    pub(crate) fn no_rows(&self) -> RecordBatch {
        with_constants(RecordBatch::new_empty(self.reader.schema()), &self.constants)
    }

    /// The next rows, or `None` at the end.
    pub(crate) fn next_chunk(&mut self) -> Result<Option<(RecordBatch, Origin)>, DataError> {
        let Some(batch) = caught(&self.path, || self.reader.next().transpose())? else {
            return Ok(None);
        };
        let origin = Origin::rows(self.path.clone(), self.rows + 1);
        self.rows += batch.num_rows() as u64;
        Ok(Some((with_constants(batch, &self.constants), origin)))
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
    builder_of(path, path)
}

/// Of the bytes at a path; errors speak of the other one.
fn builder_of(bytes: &Path, path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>, DataError> {
    let file = File::open(bytes).map_err(|error| DataError::io(path, &error))?;
    let builder = caught(path, || ParquetRecordBatchReaderBuilder::try_new(file))?;
    check_counts(path, builder.metadata())?;
    Ok(builder)
}

/// Refuses an end of a file whose counts are negative, or add up to more than there can be.
pub(super) fn check_counts(path: &Path, metadata: &ParquetMetaData) -> Result<(), DataError> {
    let add = |sum: Option<u64>, count: i64| sum?.checked_add(u64::try_from(count).ok()?);
    let groups = metadata.row_groups().iter();
    let rows = groups.clone().map(|group| group.num_rows()).fold(Some(0), add);
    let values = groups.flat_map(|group| group.columns()).map(|chunk| chunk.num_values());
    if rows.is_none() || values.fold(Some(0), add).is_none() {
        let reason = "damaged, its end tells numbers of rows or values that cannot be";
        return Err(DataError::file(path, reason));
    }
    Ok(())
}

fn names(schema: &SchemaRef) -> Vec<String> {
    schema.fields().iter().map(|field| field.name().clone()).collect()
}
