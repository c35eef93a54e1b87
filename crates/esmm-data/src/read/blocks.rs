//! Sources as blocks: pieces that can be read in any order, without the rows before them.
//!
//! A block is a row group of a Parquet file, a [segment](super::grouped) of impressions with their groups, or up to 8192
//! lines of a CSV file. Where the blocks of a CSV file start is known once it was read, so a [`scan`] gives each chunk
//! with its block.

use std::path::Path;
use std::sync::Arc;

use super::chunk::{CHUNK_ROWS, Chunk};
use super::csv::{CsvReader, Mark};
use super::data_file::{DataFile, Format};
use super::grouped::{GroupedFile, Segment};
use super::parquet::{self, ParquetFile};
use super::source::SourceSpec;
use crate::error::DataError;

/// Bytes of an id or number in memory.
const VALUE_BYTES: f64 = 4.0;

/// A piece of a source.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Block {
    file: DataFile,
    place: Place,
    /// Number of its first row among all rows of the source, from 0.
    first_row: u64,
    /// Rows in it.
    pub(crate) rows: u64,
}

/// Where a block lies in its file.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Lines(Mark),
    RowGroup(usize),
}

/// Reads some columns of all rows in order, and hands over each chunk with the number of its block.
///
/// # Errors
/// As [`SourceSpec::open`], and those of `each`.
pub(crate) fn scan(
    source: &SourceSpec,
    columns: &[String],
    mut each: impl FnMut(usize, Chunk) -> Result<(), DataError>,
) -> Result<Vec<Block>, DataError> {
    source.open(columns)?; // checks the files before the first of them is read
    let mut blocks = Vec::new();
    let mut first_row = 0;
    let files = source.files()?;
    let spelling = Arc::new(source.spelling.clone());
    for file in &files {
        for (group, rows) in source.row_groups(file, columns)?.into_iter().enumerate() {
            let block = Block { file: file.clone(), place: Place::RowGroup(group), first_row, rows };
            source.read_block(&block, columns, |chunk| {
                each(blocks.len(), chunk)?;
                Ok(true)
            })?;
            blocks.push(block);
            first_row += rows;
        }
        if file.format() == Format::Csv {
            let (delimiter, quote) = source.bytes(file);
            let mut reader = CsvReader::open(file, delimiter, quote, source.spelling.trim, columns)?;
            loop {
                let place = Place::Lines(reader.mark());
                let Some((batch, origin)) = reader.next_chunk(CHUNK_ROWS)? else { break };
                let chunk = Chunk::new(batch, origin, source.lists, first_row).spelled(&spelling);
                let rows = chunk.rows() as u64;
                each(blocks.len(), chunk)?;
                blocks.push(Block { file: file.clone(), place, first_row, rows });
                first_row += rows;
            }
        }
    }
    match files.last() {
        Some(file) if first_row == 0 => Err(DataError::file(file.path(), "no rows")),
        _ => Ok(blocks),
    }
}

impl SourceSpec {
    /// Rows of each row group of a Parquet file; none of a CSV file.
    fn row_groups(&self, file: &DataFile, columns: &[String]) -> Result<Vec<u64>, DataError> {
        match (&self.groups, file.format()) {
            (_, Format::Csv) => Ok(Vec::new()),
            (None, Format::Parquet) => parquet::group_rows(file.bytes()),
            (Some(groups), Format::Parquet) => {
                let file = GroupedFile::open(file.path(), groups, columns, self.lists)?;
                Ok((0..file.segments()).map(|segment| file.segment_rows(segment) as u64).collect())
            }
        }
    }

    /// Reads some columns of a block, chunk by chunk, until `each` says that it has enough.
    ///
    /// # Errors
    /// A file that is gone, damaged or has changed, and the errors of `each`.
    pub(crate) fn read_block(
        &self,
        block: &Block,
        columns: &[String],
        mut each: impl FnMut(Chunk) -> Result<bool, DataError>,
    ) -> Result<(), DataError> {
        let path = block.file.path();
        let spelling = Arc::new(self.spelling.clone());
        let mut rows = 0;
        let mut pass = |chunk: Chunk| {
            let chunk = chunk.numbered_from(block.first_row + rows).spelled(&spelling);
            rows += chunk.rows() as u64;
            each(chunk)
        };
        match (block.place, &self.groups) {
            (Place::RowGroup(segment), Some(groups)) => {
                let file = GroupedFile::open(path, groups, columns, self.lists)?;
                if segment >= file.segments() {
                    return Err(block.changed());
                }
                for chunk in file.segment(segment)?.chunks() {
                    if !pass(chunk?)? {
                        return Ok(());
                    }
                }
            }
            (Place::RowGroup(group), None) => {
                let mut reader = ParquetFile::open_group(&block.file, columns, group)?;
                while let Some((batch, origin)) = reader.next_chunk()? {
                    if !pass(Chunk::new(batch, origin, self.lists, 0))? {
                        return Ok(());
                    }
                }
            }
            (Place::Lines(mark), _) => {
                let (delimiter, quote) = self.bytes(&block.file);
                let mut reader = CsvReader::open(&block.file, delimiter, quote, self.spelling.trim, columns)?;
                reader.go_to(mark)?;
                if let Some((batch, origin)) = reader.next_chunk(CHUNK_ROWS)?
                    && !pass(Chunk::new(batch, origin, self.lists, 0))?
                {
                    return Ok(());
                }
            }
        }
        match rows == block.rows {
            true => Ok(()),
            false => Err(block.changed()),
        }
    }

    /// Whether all files have the columns `own` with the impressions and `beside` with their groups.
    ///
    /// # Errors
    /// As [`SourceSpec::files`], and a damaged file.
    pub(crate) fn columns_stand_apart(&self, own: &[&str], beside: &[&str]) -> Result<bool, DataError> {
        let Some(groups) = &self.groups else {
            return Ok(false);
        };
        let all_in = |path: &Path, columns: &[&str]| -> Result<bool, DataError> {
            let names = parquet::column_names(path)?;
            Ok(columns.iter().all(|column| names.iter().any(|name| name == column)))
        };
        for file in self.files()? {
            let path = file.path();
            if !all_in(path, own)? || !all_in(&path.with_file_name(groups), beside)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads some columns of a block of impressions with their groups, each group once.
    ///
    /// # Errors
    /// As [`read_block`](Self::read_block), and a source without groups.
    pub(crate) fn read_segment(&self, block: &Block, columns: &[String]) -> Result<Segment, DataError> {
        let (Place::RowGroup(number), Some(groups)) = (block.place, &self.groups) else {
            return Err(block.changed());
        };
        let file = GroupedFile::open(block.file.path(), groups, columns, self.lists)?;
        if number >= file.segments() || file.segment_rows(number) as u64 != block.rows {
            return Err(block.changed());
        }
        let mut segment = file.segment(number)?;
        segment.impressions = segment.impressions.numbered_from(block.first_row);
        Ok(segment.spelled(&Arc::new(self.spelling.clone())))
    }

    /// About what some columns of all files take in memory, encoded, in bytes: 4 a value in a Parquet file, as the files'
    /// ends tell, a group's values once for each of its impressions unless they are held `once`; and as much as the text of
    /// other files.
    ///
    /// # Errors
    /// As [`SourceSpec::files`], and a damaged file.
    pub(crate) fn encoded_bytes(&self, columns: &[String], once: bool) -> Result<u64, DataError> {
        let mut bytes = 0.0;
        for file in self.files()? {
            if file.format() == Format::Csv {
                bytes += file.len() as f64;
                continue;
            }
            let path = file.path();
            bytes += VALUE_BYTES * parquet::num_values(file.bytes(), columns)? as f64;
            if let Some(groups) = &self.groups {
                let groups = path.with_file_name(groups);
                let rows =
                    |path: &Path| parquet::group_rows(path).map(|rows| rows.iter().sum::<u64>() as f64);
                let repeated = if once { 1.0 } else { rows(path)? / rows(&groups)?.max(1.0) };
                bytes += VALUE_BYTES * repeated * parquet::num_values(&groups, columns)? as f64;
            }
        }
        Ok(bytes as u64)
    }
}

impl Block {
    /// An error for a block that is not what it was.
    pub(crate) fn changed(&self) -> DataError {
        DataError::file(self.file.path(), "has changed since the training began")
    }
}
