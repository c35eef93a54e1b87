//! A pair of files, opened: which columns stand where, and any segment on demand.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::record_batch::{RecordBatch, RecordBatchReader};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};

use super::GROUP_COLUMN;
use super::segment::Segment;
use crate::error::DataError;
use crate::place::Origin;
use crate::read::chunk::Chunk;
use crate::read::columns::find_columns;
use crate::read::damage::caught;
use crate::read::list_format::ListFormat;
use crate::read::parquet::check_counts;

/// Impressions and the groups that lie beside them.
#[derive(Debug, Clone)]
pub struct GroupedFile {
    impressions: Table,
    groups: Table,
    columns: Vec<String>,
    lists: ListFormat,
}

impl GroupedFile {
    /// Opens a file of impressions with the file of their groups, which is named relative to its folder. Both footers
    /// are read, no data.
    ///
    /// # Errors
    /// A file that is missing or damaged, one that lacks the column `group` or shares another one with its partner, a
    /// column that neither has, files with different numbers of row groups.
    pub fn open(path: &Path, groups: &str, columns: &[String], lists: ListFormat) -> Result<Self, DataError> {
        let impressions = Footer::open(path)?;
        let groups = Footer::open(&path.with_file_name(groups))?;
        if impressions.segments() != groups.segments() {
            let found = format!("{} row groups for {}", groups.segments(), impressions.segments());
            return Err(misfit(&groups.path, path, &found));
        }
        let names = joined_names(&impressions, &groups)?;
        find_columns(path, &names, columns)?;
        let (own, other): (Vec<String>, Vec<String>) =
            columns.iter().cloned().partition(|name| impressions.names().contains(name));
        Ok(Self {
            impressions: Table::new(impressions, own)?,
            groups: Table::new(groups, other)?,
            columns: columns.to_vec(),
            lists,
        })
    }

    /// The columns of both files, those of the impressions first, `group` once.
    ///
    /// # Errors
    /// As [`GroupedFile::open`].
    pub fn column_names(path: &Path, groups: &str) -> Result<Vec<String>, DataError> {
        joined_names(&Footer::open(path)?, &Footer::open(&path.with_file_name(groups))?)
    }

    /// Number of segments.
    pub fn segments(&self) -> usize {
        self.impressions.footer.segments()
    }

    /// Impressions of a segment.
    ///
    /// # Panics
    /// When there is no such segment.
    pub fn segment_rows(&self, segment: usize) -> usize {
        self.impressions.footer.rows(segment)
    }

    /// All impressions.
    pub fn rows(&self) -> u64 {
        (0..self.segments()).map(|segment| self.segment_rows(segment) as u64).sum()
    }

    /// Reads one segment, in any order, from any thread.
    ///
    /// # Errors
    /// Damaged data; groups that are not those of the impressions.
    ///
    /// # Panics
    /// When there is no such segment.
    pub fn segment(&self, segment: usize) -> Result<Segment, DataError> {
        let (impressions, keys) = self.impressions.read(segment, self.lists)?;
        let (groups, group_keys) = self.groups.read(segment, self.lists)?;
        Segment::join(self.columns.clone(), (impressions, &keys), (groups, &group_keys))
    }
}

/// One of the files with the columns to read.
#[derive(Debug, Clone)]
struct Table {
    footer: Footer,
    columns: Vec<String>,
    mask: ProjectionMask,
}

/// What the end of a Parquet file says.
#[derive(Debug, Clone)]
struct Footer {
    path: Arc<Path>,
    metadata: ArrowReaderMetadata,
}

impl Footer {
    fn open(path: &Path) -> Result<Self, DataError> {
        let file = File::open(path).map_err(|error| DataError::io(path, &error))?;
        let metadata = caught(path, || ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()))?;
        check_counts(path, metadata.metadata())?;
        Ok(Self { path: path.into(), metadata })
    }

    fn names(&self) -> Vec<String> {
        self.metadata.schema().fields().iter().map(|field| field.name().clone()).collect()
    }

    fn segments(&self) -> usize {
        self.metadata.metadata().num_row_groups()
    }

    fn rows(&self, segment: usize) -> usize {
        self.metadata.metadata().row_group(segment).num_rows() as usize
    }
}

impl Table {
    fn new(footer: Footer, columns: Vec<String>) -> Result<Self, DataError> {
        let key = GROUP_COLUMN.to_owned();
        let read = columns.iter().filter(|name| **name != key).cloned().chain([key.clone()]);
        let roots = find_columns(&footer.path, &footer.names(), &read.collect::<Vec<_>>())?;
        let mask = ProjectionMask::roots(footer.metadata.parquet_schema(), roots);
        Ok(Self { footer, columns, mask })
    }

    /// The columns of a segment, and its keys.
    fn read(&self, segment: usize, lists: ListFormat) -> Result<(Chunk, Vec<u64>), DataError> {
        let path = &self.footer.path;
        let file = File::open(path).map_err(|error| DataError::io(path, &error))?;
        let rows = self.footer.rows(segment);
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.footer.metadata.clone())
            .with_projection(self.mask.clone())
            .with_row_groups(vec![segment])
            .with_batch_size(rows.max(1));
        let mut reader = caught(path, || builder.build())?;
        let batch = caught(path, || reader.next().transpose())?;
        let batch = batch.unwrap_or_else(|| RecordBatch::new_empty(reader.schema()));
        let first: u64 = (0..segment).map(|before| self.footer.rows(before) as u64).sum();
        let chunk = Chunk::new(batch, Origin::rows(path.clone(), first + 1), lists, first);
        let keys = super::segment::keys(&chunk)?;
        Ok((chunk.project(&self.columns)?, keys))
    }
}

/// Names of both, with the key once. A name in both would be ambiguous.
fn joined_names(impressions: &Footer, groups: &Footer) -> Result<Vec<String>, DataError> {
    let key = GROUP_COLUMN.to_owned();
    find_columns(&impressions.path, &impressions.names(), std::slice::from_ref(&key))?;
    find_columns(&groups.path, &groups.names(), std::slice::from_ref(&key))?;
    let mut names = impressions.names();
    for name in groups.names().into_iter().filter(|name| *name != key) {
        if names.contains(&name) {
            let other = impressions.path.display();
            return Err(DataError::file(&groups.path, format!("column `{name}` is in {other} as well")));
        }
        names.push(name);
    }
    Ok(names)
}

fn misfit(groups: &Path, impressions: &Path, found: &str) -> DataError {
    let reason = format!("has {found} of {}, they must be written as pairs", impressions.display());
    DataError::file(groups, reason)
}
