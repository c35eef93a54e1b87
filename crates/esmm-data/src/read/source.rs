//! Files of impressions: which ones, how they are written, and one way to read them all.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

use super::chunk::{CHUNK_ROWS, Chunk};
use super::columns::find_columns;
use super::csv::{self, CsvReader};
use super::data_file::{DataFile, Format};
use super::files;
use super::grouped::{GroupedFile, GroupedReader, Segments};
use super::list_format::ListFormat;
use super::parquet::{self, ParquetFile};
use crate::column::spelling::Spelling;
use crate::error::DataError;
use crate::place::Origin;

/// Some files of impressions, CSV or Parquet by their extension or content, read in the order in which they are named.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SourceSpec {
    /// Files, globs, folders, or `-` for standard input, in this order; a file that is named twice is read twice. The files of
    /// a glob or folder are sorted, and those of `groups` among them are left out.
    pub paths: Vec<String>,
    /// How CSV files are written.
    #[serde(default)]
    pub csv: CsvOptions,
    /// How lists are written in text columns.
    #[serde(default)]
    pub lists: ListFormat,
    /// How cells become values. Run directories of format version 1 do not say: their cells are exact texts.
    #[serde(default = "Spelling::exact")]
    pub spelling: Spelling,
    /// The Parquet file, relative to the folder of each file of impressions, that holds the columns of their groups: see
    /// [`grouped`](super::grouped). `None`: every row has all of its columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<String>,
}

/// How CSV files are written. The first line names the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CsvOptions {
    /// Between fields, one ASCII character. `None`: a tab in `.tsv` files, otherwise a comma.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// Around fields that hold a delimiter or a line feed, one ASCII character; doubled inside of them.
    pub quote: char,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self { delimiter: None, quote: '"' }
    }
}

impl SourceSpec {
    /// Files or globs in the default format.
    pub fn new(paths: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { paths: paths.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// The files. Pipes and compressed files are then copied into a temporary folder, see [`spool`](super::spool).
    ///
    /// # Errors
    /// No path, a glob that matches nothing, a folder without files, a missing file, an unknown type of file, nothing but
    /// empty files.
    pub fn files(&self) -> Result<Vec<DataFile>, DataError> {
        files::expand(&self.paths, self.groups.as_deref())
    }

    /// Paths of the files, found but not opened: nothing is copied, and what is wrong with one is left to who reads it.
    pub fn paths_there(&self) -> Vec<PathBuf> {
        let groups = self.groups.as_deref();
        let found = self.paths.iter().filter_map(|path| files::found(path, groups).ok());
        found.flatten().collect()
    }

    /// The files of groups beside these files of impressions, whether they are there or not; none without groups.
    pub fn groups_beside(&self, impressions: &[PathBuf]) -> Vec<PathBuf> {
        let Some(groups) = &self.groups else { return Vec::new() };
        impressions.iter().map(|path| files::groups_of(path, groups)).collect()
    }

    /// Files that are named more than once.
    ///
    /// # Errors
    /// As [`SourceSpec::files`].
    pub fn repeated_files(&self) -> Result<Vec<PathBuf>, DataError> {
        files::repeated(&self.paths, self.groups.as_deref())
    }

    /// The columns of the first file.
    ///
    /// # Errors
    /// As [`SourceSpec::open`].
    pub fn column_names(&self) -> Result<Vec<String>, DataError> {
        self.validate()?;
        let files = self.files()?;
        files.first().map_or(Ok(Vec::new()), |file| self.columns_of(file))
    }

    /// Starts to read the named columns of all files. Can be called again for another pass.
    ///
    /// # Errors
    /// Settings that cannot be, the errors of [`SourceSpec::files`], a damaged file, and a file that lacks one of the
    /// columns or has it twice.
    pub fn open(&self, columns: &[String]) -> Result<ChunkReader, DataError> {
        self.validate()?;
        self.open_files(self.files()?, columns)
    }

    /// As [`SourceSpec::open`], of some of its files.
    ///
    /// # Errors
    /// As [`SourceSpec::open`].
    pub fn open_files(&self, files: Vec<DataFile>, columns: &[String]) -> Result<ChunkReader, DataError> {
        for file in &files {
            find_columns(file.path(), &self.columns_of(file)?, columns)?;
        }
        let columns = columns.to_vec();
        Ok(ChunkReader {
            spelling: Arc::new(self.spelling.clone()),
            spec: self.clone(),
            columns,
            chunk_rows: CHUNK_ROWS,
            files: files.into_iter(),
            current: None,
            rows: 0,
            last: None,
            may_be_empty: false,
        })
    }

    /// A chunk of some columns without a row, as the first file has them.
    ///
    /// # Errors
    /// As [`SourceSpec::open`].
    pub fn no_rows(&self, columns: &[String]) -> Result<Chunk, DataError> {
        let files = self.files()?;
        let file = files.first().ok_or_else(|| DataError::setting("source", "there is no file"))?;
        let batch = match self.open_file(file, columns, CHUNK_ROWS)? {
            OpenFile::Csv(reader) => reader.no_rows(),
            OpenFile::Parquet(reader) => reader.no_rows(),
            OpenFile::Grouped(_) => return Err(DataError::file(file.path(), "no rows")),
        };
        Ok(Chunk::new(batch, Origin::rows(file.path().into(), 1), self.lists, 0))
    }

    /// The rows as segments of impressions beside their groups, file after file; `None` where they have no groups.
    ///
    /// # Errors
    /// As [`SourceSpec::open`].
    pub fn segments(&self, columns: &[String]) -> Result<Option<Segments>, DataError> {
        let Some(groups) = &self.groups else {
            return Ok(None);
        };
        self.validate()?;
        let open = |file: DataFile| GroupedFile::open(parquet_only(&file)?, groups, columns, self.lists);
        let files = self.files()?.into_iter().map(open).collect::<Result<Vec<_>, _>>()?;
        Ok(Some(Segments::new(files, Arc::new(self.spelling.clone()))))
    }

    /// The number of rows of a file whose format tells it without reading them: `Some` for Parquet, `None` for CSV.
    ///
    /// # Errors
    /// An unknown extension, a damaged file.
    pub fn known_rows(&self, file: &DataFile) -> Result<Option<u64>, DataError> {
        match file.format() {
            Format::Csv => Ok(None),
            Format::Parquet => parquet::num_rows(file.bytes()).map(Some),
        }
    }

    /// Checks how its files are said to be written.
    ///
    /// # Errors
    /// Delimiters, quotes and separators that cannot be, or are the same; a time zone that nobody knows.
    pub fn validate(&self) -> Result<(), DataError> {
        let delimiter = self.csv.delimiter.unwrap_or(',');
        let ListFormat { separator, weight_separator } = self.lists;
        let reason = if !usable(delimiter) {
            format!("delimiter = {delimiter:?}, it must be one ASCII character and no line feed")
        } else if !usable(self.csv.quote) {
            format!("quote = {:?}, it must be one ASCII character and no line feed", self.csv.quote)
        } else if delimiter == self.csv.quote {
            format!("delimiter and quote are both {delimiter:?}, they must differ")
        } else if let Err(reason) = self.spelling.validate() {
            reason
        } else if separator == weight_separator {
            format!("the separators of lists and of weights are both {separator:?}, they must differ")
        } else {
            return Ok(());
        };
        Err(DataError::setting("source", reason))
    }

    pub(crate) fn bytes(&self, file: &DataFile) -> (u8, u8) {
        let usual = if file.is_tsv() { '\t' } else { ',' };
        (self.csv.delimiter.unwrap_or(usual) as u8, self.csv.quote as u8)
    }

    fn columns_of(&self, file: &DataFile) -> Result<Vec<String>, DataError> {
        if let Some(groups) = &self.groups {
            return GroupedFile::column_names(parquet_only(file)?, groups);
        }
        match file.format() {
            Format::Csv => {
                let (delimiter, quote) = self.bytes(file);
                csv::column_names(file, delimiter, quote, self.spelling.trim)
            }
            Format::Parquet => Ok(file.with_path_columns(parquet::column_names(file.bytes())?)),
        }
    }

    fn open_file(
        &self,
        file: &DataFile,
        columns: &[String],
        chunk_rows: usize,
    ) -> Result<OpenFile, DataError> {
        if let Some(groups) = &self.groups {
            let reader = GroupedReader::open(parquet_only(file)?, groups, columns, self.lists)?;
            return Ok(OpenFile::Grouped(Box::new(reader)));
        }
        match file.format() {
            Format::Csv => {
                let (delimiter, quote) = self.bytes(file);
                let reader = CsvReader::open(file, delimiter, quote, self.spelling.trim, columns)?;
                Ok(OpenFile::Csv(Box::new(reader)))
            }
            Format::Parquet => ParquetFile::open_file(file, columns, chunk_rows)
                .map(|reader| OpenFile::Parquet(Box::new(reader))),
        }
    }
}

/// The path of a file, if it is a Parquet file: groups stand beside no others.
fn parquet_only(file: &DataFile) -> Result<&Path, DataError> {
    match file.format() {
        Format::Parquet => Ok(file.path()),
        Format::Csv => {
            Err(DataError::file(file.path(), "is no Parquet file; `groups` goes with Parquet only"))
        }
    }
}

fn usable(character: char) -> bool {
    character.is_ascii() && !matches!(character, '\n' | '\r' | '\0')
}

#[derive(Debug)]
enum OpenFile {
    Csv(Box<CsvReader>),
    Parquet(Box<ParquetFile>),
    Grouped(Box<GroupedReader>),
}

impl OpenFile {
    fn next_chunk(&mut self, lists: ListFormat, most: usize) -> Result<Option<Chunk>, DataError> {
        let flat = |next: Option<(RecordBatch, Origin)>| {
            next.map(|(batch, origin)| Chunk::new(batch, origin, lists, 0))
        };
        match self {
            Self::Csv(reader) => reader.next_chunk(most).map(flat),
            Self::Parquet(reader) => reader.next_chunk().map(flat),
            Self::Grouped(reader) => reader.next_chunk(),
        }
    }
}

/// The rows of a source, chunk by chunk, file after file. Ends after the first error.
#[derive(Debug)]
pub struct ChunkReader {
    spec: SourceSpec,
    spelling: Arc<Spelling>,
    columns: Vec<String>,
    chunk_rows: usize,
    files: std::vec::IntoIter<DataFile>,
    current: Option<OpenFile>,
    rows: u64,
    last: Option<DataFile>,
    may_be_empty: bool,
}

impl ChunkReader {
    /// With smaller chunks: for files with so many columns that the usual ones would be large. At least 1 row.
    #[must_use]
    pub fn in_chunks_of(mut self, rows: usize) -> Self {
        self.chunk_rows = rows.clamp(1, CHUNK_ROWS);
        self
    }

    /// Where files without a single row are no error.
    pub fn or_empty(mut self) -> Self {
        self.may_be_empty = true;
        self
    }

    fn advance(&mut self) -> Result<Option<Chunk>, DataError> {
        loop {
            let next = match &mut self.current {
                Some(file) => file.next_chunk(self.spec.lists, self.chunk_rows)?,
                None => None,
            };
            if let Some(chunk) = next {
                let chunk = chunk.numbered_from(self.rows).spelled(&self.spelling);
                self.rows += chunk.rows() as u64;
                return Ok(Some(chunk));
            }
            self.current = None;
            let Some(file) = self.files.next() else {
                return self.end();
            };
            self.current = Some(self.spec.open_file(&file, &self.columns, self.chunk_rows)?);
            self.last = Some(file);
        }
    }

    /// Files may be empty (Spark writes such parts), but not all of them.
    fn end(&mut self) -> Result<Option<Chunk>, DataError> {
        match self.last.take() {
            Some(file) if self.rows == 0 && !self.may_be_empty => {
                Err(DataError::file(file.path(), "no rows"))
            }
            _ => Ok(None),
        }
    }
}

impl Iterator for ChunkReader {
    type Item = Result<Chunk, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance().transpose();
        if !matches!(next, Some(Ok(_))) {
            (self.current, self.last) = (None, None);
            self.files = Vec::new().into_iter();
        }
        next
    }
}
