//! Segment after segment, as they are or as flat chunks.

use std::path::Path;
use std::sync::Arc;

use super::file::GroupedFile;
use super::segment::Segment;
use crate::column::spelling::Spelling;
use crate::error::DataError;
use crate::read::chunk::Chunk;
use crate::read::list_format::ListFormat;

/// The segments of some pairs of files, in order, their rows numbered on from file to file.
#[derive(Debug)]
pub struct Segments {
    files: std::vec::IntoIter<GroupedFile>,
    current: Option<GroupedFile>,
    next: usize,
    rows: u64,
    spelling: Arc<Spelling>,
}

impl Segments {
    pub(crate) fn new(files: Vec<GroupedFile>, spelling: Arc<Spelling>) -> Self {
        let mut files = files.into_iter();
        Self { current: files.next(), files, next: 0, rows: 0, spelling }
    }
}

impl Iterator for Segments {
    type Item = Result<Segment, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.current.as_ref()?.segments() == self.next {
            (self.current, self.next) = (self.files.next(), 0);
        }
        let segment = self.current.as_ref()?.segment(self.next).map(|mut segment| {
            segment.impressions = segment.impressions.numbered_from(self.rows);
            self.rows += segment.rows() as u64;
            segment.spelled(&self.spelling)
        });
        self.next += 1;
        Some(segment)
    }
}

/// The rows of a pair of files, in order. Holds one segment.
#[derive(Debug)]
pub(crate) struct GroupedReader {
    file: GroupedFile,
    next: usize,
    current: Option<(Segment, Vec<usize>)>,
    row: usize,
}

impl GroupedReader {
    pub(crate) fn open(
        path: &Path,
        groups: &str,
        columns: &[String],
        lists: ListFormat,
    ) -> Result<Self, DataError> {
        let file = GroupedFile::open(path, groups, columns, lists)?;
        Ok(Self { file, next: 0, current: None, row: 0 })
    }

    /// The next rows, or `None` at the end.
    pub(crate) fn next_chunk(&mut self) -> Result<Option<Chunk>, DataError> {
        loop {
            if let Some((segment, items)) = &self.current
                && self.row < segment.rows()
            {
                let end = segment.chunk_end(self.row, items);
                let chunk = segment.flat(self.row..end)?;
                self.row = end;
                return Ok(Some(chunk));
            }
            if self.next == self.file.segments() {
                return Ok(None);
            }
            self.current = None;
            let segment = self.file.segment(self.next)?;
            let items = segment.items();
            self.current = Some((segment, items));
            self.next += 1;
            self.row = 0;
        }
    }
}
