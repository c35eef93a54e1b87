//! Files of impressions: which ones, how they are written, and one way to read them all.

use std::path::{Path, PathBuf};

use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

use super::chunk::{CHUNK_ROWS, Chunk};
use super::columns::find_columns;
use super::csv::{self, CsvReader};
use super::files::{self, Format};
use super::grouped::{GroupedFile, GroupedReader, Segments};
use super::list_format::ListFormat;
use super::parquet::{self, ParquetFile};
use crate::error::DataError;
use crate::place::Origin;

/// Some files of impressions, CSV or Parquet by their extension, read in the order of their paths.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SourceSpec {
    /// Files or globs. They are sorted; a file that is named twice is read once.
    pub paths: Vec<String>,
    /// How CSV files are written.
    #[serde(default)]
    pub csv: CsvOptions,
    /// How lists are written in text columns.
    #[serde(default)]
    pub lists: ListFormat,
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

    /// The files, sorted, each once.
    ///
    /// # Errors
    /// No path, a glob that matches nothing, a missing or empty file, a folder, an unknown extension.
    pub fn files(&self) -> Result<Vec<PathBuf>, DataError> {
        files::expand(&self.paths)
    }

    /// The columns of the first file.
    ///
    /// # Errors
    /// As [`SourceSpec::open`].
    pub fn column_names(&self) -> Result<Vec<String>, DataError> {
        self.validate()?;
        let files = self.files()?;
        files.first().map_or(Ok(Vec::new()), |path| self.columns_of(path))
    }

    /// Starts to read the named columns of all files. Can be called again for another pass.
    ///
    /// # Errors
    /// Settings that cannot be, the errors of [`SourceSpec::files`], a damaged file, and a file that lacks one of the
    /// columns or has it twice.
    pub fn open(&self, columns: &[String]) -> Result<ChunkReader, DataError> {
        self.validate()?;
        let files = self.files()?;
        for path in &files {
            find_columns(path, &self.columns_of(path)?, columns)?;
        }
        let columns = columns.to_vec();
        Ok(ChunkReader {
            spec: self.clone(),
            columns,
            chunk_rows: CHUNK_ROWS,
            files: files.into_iter(),
            current: None,
            rows: 0,
            last: None,
        })
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
        let open = |path: PathBuf| GroupedFile::open(parquet_only(&path)?, groups, columns, self.lists);
        let files = self.files()?.into_iter().map(open).collect::<Result<Vec<_>, _>>()?;
        Ok(Some(Segments::new(files)))
    }

    /// The number of rows of a file whose format tells it without reading them: `Some` for Parquet, `None` for CSV.
    ///
    /// # Errors
    /// An unknown extension, a damaged file.
    pub fn known_rows(&self, path: &Path) -> Result<Option<u64>, DataError> {
        match files::format(path)? {
            Format::Csv => Ok(None),
            Format::Parquet => parquet::num_rows(path).map(Some),
        }
    }

    fn validate(&self) -> Result<(), DataError> {
        let delimiter = self.csv.delimiter.unwrap_or(',');
        let ListFormat { separator, weight_separator } = self.lists;
        let reason = if !usable(delimiter) {
            format!("delimiter = {delimiter:?}, it must be one ASCII character and no line feed")
        } else if !usable(self.csv.quote) {
            format!("quote = {:?}, it must be one ASCII character and no line feed", self.csv.quote)
        } else if delimiter == self.csv.quote {
            format!("delimiter and quote are both {delimiter:?}, they must differ")
        } else if separator == weight_separator {
            format!("the separators of lists and of weights are both {separator:?}, they must differ")
        } else {
            return Ok(());
        };
        Err(DataError::setting("source", reason))
    }

    pub(crate) fn bytes(&self, path: &Path) -> (u8, u8) {
        let usual = if files::is_tsv(path) { '\t' } else { ',' };
        (self.csv.delimiter.unwrap_or(usual) as u8, self.csv.quote as u8)
    }

    fn columns_of(&self, path: &Path) -> Result<Vec<String>, DataError> {
        if let Some(groups) = &self.groups {
            return GroupedFile::column_names(parquet_only(path)?, groups);
        }
        match files::format(path)? {
            Format::Csv => {
                let (delimiter, quote) = self.bytes(path);
                csv::column_names(path, delimiter, quote)
            }
            Format::Parquet => parquet::column_names(path),
        }
    }

    fn open_file(&self, path: &Path, columns: &[String], chunk_rows: usize) -> Result<OpenFile, DataError> {
        if let Some(groups) = &self.groups {
            let reader = GroupedReader::open(parquet_only(path)?, groups, columns, self.lists)?;
            return Ok(OpenFile::Grouped(Box::new(reader)));
        }
        match files::format(path)? {
            Format::Csv => {
                let (delimiter, quote) = self.bytes(path);
                CsvReader::open(path, delimiter, quote, columns).map(|reader| OpenFile::Csv(Box::new(reader)))
            }
            Format::Parquet => {
                ParquetFile::open(path, columns, chunk_rows).map(|reader| OpenFile::Parquet(Box::new(reader)))
            }
        }
    }
}

/// A path, if it is one of a Parquet file: groups stand beside no others.
fn parquet_only(path: &Path) -> Result<&Path, DataError> {
    match files::format(path)? {
        Format::Parquet => Ok(path),
        Format::Csv => Err(DataError::file(path, "is no Parquet file; `groups` goes with Parquet only")),
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
    columns: Vec<String>,
    chunk_rows: usize,
    files: std::vec::IntoIter<PathBuf>,
    current: Option<OpenFile>,
    rows: u64,
    last: Option<PathBuf>,
}

impl ChunkReader {
    /// With smaller chunks: for files with so many columns that the usual ones would be large. At least 1 row.
    #[must_use]
    pub fn in_chunks_of(mut self, rows: usize) -> Self {
        self.chunk_rows = rows.clamp(1, CHUNK_ROWS);
        self
    }

    fn advance(&mut self) -> Result<Option<Chunk>, DataError> {
        loop {
            let next = match &mut self.current {
                Some(file) => file.next_chunk(self.spec.lists, self.chunk_rows)?,
                None => None,
            };
            if let Some(chunk) = next {
                let chunk = chunk.numbered_from(self.rows);
                self.rows += chunk.rows() as u64;
                return Ok(Some(chunk));
            }
            self.current = None;
            let Some(path) = self.files.next() else {
                return self.end();
            };
            self.current = Some(self.spec.open_file(&path, &self.columns, self.chunk_rows)?);
            self.last = Some(path);
        }
    }

    /// Parquet files may be empty (Spark writes such parts), but not all of them.
    fn end(&mut self) -> Result<Option<Chunk>, DataError> {
        match self.last.take() {
            Some(path) if self.rows == 0 => Err(DataError::file(&path, "no rows")),
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
