//! The rows that are looked at: a bounded number from the start of each file.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;

use esmm_data::{Chunk, DataError, DataFile, SourceSpec};

use crate::{dialect, list};

/// Rows that are looked at, about.
const ROWS: usize = 200_000;
/// Cells that are looked at, about: files with many columns get fewer rows.
const CELLS: usize = 10_000_000;
/// Cells of a chunk.
const CHUNK_CELLS: usize = 2_000_000;
/// Bytes that are looked at, about.
const BYTES: usize = 256 << 20;
/// Files that are looked at, spread evenly over all of them.
const FILES: usize = 16;

/// Some rows of some files.
#[derive(Debug)]
pub(crate) struct Sample {
    /// All files, as they are to be read.
    pub(crate) source: SourceSpec,
    /// Columns that can be read.
    pub(crate) columns: Vec<String>,
    /// Columns that cannot, and why.
    pub(crate) unreadable: Vec<(String, &'static str)>,
    /// Rows that were looked at.
    pub(crate) rows: usize,
    /// Rows of all files, estimated unless `exact`.
    pub(crate) total: u64,
    /// Whether `total` was counted.
    pub(crate) exact: bool,
    /// Number of files.
    pub(crate) files: usize,
    /// Size of all files.
    pub(crate) bytes: u64,
    /// The rows.
    pub(crate) chunks: Vec<Chunk>,
}

/// What was seen of one file.
struct Part {
    rows: usize,
    bytes: usize,
    ended: bool,
}

impl Sample {
    /// Looks at files or globs.
    ///
    /// # Errors
    /// Files that cannot be read, that hold no row, or whose columns differ.
    pub(crate) fn read(paths: &[String]) -> Result<Self, DataError> {
        let mut source = SourceSpec::new(paths.iter().cloned());
        let files = source.files()?;
        let first = files.first().ok_or_else(|| DataError::setting("source", "there is no file"))?;
        if source.known_rows(first)?.is_none() {
            source.csv = dialect::detect(first)?;
        }
        let (columns, unreadable) = readable(source.column_names()?);
        let bytes = files.iter().map(DataFile::len).sum();
        let chunks = Vec::new();
        let count = files.len();
        let mut sample =
            Self { source, columns, unreadable, rows: 0, total: 0, exact: true, files: count, bytes, chunks };
        sample.read_files(&files)?;
        sample.find_decimal_comma();
        match sample.rows {
            0 => Err(DataError::file(first.path(), "no rows")),
            _ => Ok(sample),
        }
    }

    /// Takes commas for decimal marks where they do not stand between fields and all cells of a column have one.
    fn find_decimal_comma(&mut self) {
        if self.source.csv.delimiter.is_none_or(|delimiter| delimiter == ',') {
            return;
        }
        let is_comma = |name: &String| {
            let arrays =
                self.chunks.iter().filter_map(|chunk| chunk.column(name).ok()?.as_string_opt::<i32>());
            let cells: Vec<&str> = arrays.flatten().flatten().filter(|cell| !cell.is_empty()).collect();
            !cells.is_empty() && list::is_decimal_comma(&cells, ',')
        };
        if self.columns.iter().any(is_comma) {
            self.source.spelling.decimal = ',';
            let spelling = Arc::new(self.source.spelling.clone());
            self.chunks =
                std::mem::take(&mut self.chunks).into_iter().map(|chunk| chunk.spelled(&spelling)).collect();
        }
    }

    fn read_files(&mut self, files: &[DataFile]) -> Result<(), DataError> {
        let looked_at = files.len().min(FILES);
        let rows = ROWS.min(CELLS / self.columns.len().max(1)).max(1000);
        let quota = rows.div_ceil(looked_at);
        let bytes = BYTES / looked_at;
        let mut seen = (0_u64, 0_u64); // rows and bytes of the text files that were looked at
        let mut unseen = 0; // bytes of text of which the rows are not known
        for (place, file) in files.iter().enumerate() {
            let size = file.len();
            let known = self.source.known_rows(file)?;
            self.total += known.unwrap_or(0);
            let chosen = (place * looked_at) / files.len() != ((place + 1) * looked_at) / files.len();
            if !chosen || known == Some(0) {
                self.exact &= known.is_some();
                unseen += if known.is_none() { size } else { 0 };
                continue;
            }
            let part = self.read_file(file, quota, bytes)?;
            match (known, part.ended) {
                (Some(_), _) => {}
                (None, true) => self.total += part.rows as u64,
                (None, false) => {
                    self.exact = false;
                    self.total += part.rows as u64;
                    unseen += size.saturating_sub(part.bytes as u64);
                }
            }
            if known.is_none() {
                seen = (seen.0 + part.rows as u64, seen.1 + part.bytes as u64);
            }
        }
        self.total += (unseen as f64 * seen.0 as f64 / seen.1.max(1) as f64).round() as u64;
        Ok(())
    }

    fn read_file(&mut self, file: &DataFile, rows: usize, bytes: usize) -> Result<Part, DataError> {
        let most = rows.min(CHUNK_CELLS / self.columns.len().max(1)).max(64);
        let reader = self.source.open_files(vec![file.clone()], &self.columns)?;
        let mut reader = reader.in_chunks_of(most).or_empty();
        let mut part = Part { rows: 0, bytes: 0, ended: true };
        while let Some(chunk) = reader.next().transpose()? {
            let memory = chunk.batch().get_array_memory_size();
            (part.rows, part.bytes) = (part.rows + chunk.rows(), part.bytes + text_bytes(&chunk));
            self.rows += chunk.rows();
            self.chunks.push(chunk);
            if part.rows >= rows || memory.max(part.bytes) >= bytes {
                part.ended = reader.next().is_none();
                break;
            }
        }
        Ok(part)
    }

    /// Whether every row was looked at.
    pub(crate) fn is_whole(&self) -> bool {
        self.exact && self.total == self.rows as u64
    }
}

/// Columns that a run file can name, and the others.
fn readable(names: Vec<String>) -> (Vec<String>, Vec<(String, &'static str)>) {
    let mut count = std::collections::HashMap::<String, usize>::new();
    names.iter().for_each(|name| *count.entry(name.clone()).or_default() += 1);
    let mut columns = Vec::new();
    let mut unreadable = Vec::<(String, &'static str)>::new();
    for name in names {
        match count.get(&name) {
            _ if name.is_empty() => unreadable.push((name, "has no name in the first line")),
            Some(1) => columns.push(name),
            _ if unreadable.iter().any(|(other, _)| *other == name) => {}
            _ => unreadable.push((name, "is the name of several columns")),
        }
    }
    (columns, unreadable)
}

/// About the bytes that the rows of a chunk take in a text file.
fn text_bytes(chunk: &Chunk) -> usize {
    let texts = chunk.batch().columns().iter().filter(|column| column.data_type() == &DataType::Utf8);
    let lengths = texts.map(|column| {
        let offsets = column.as_string::<i32>().value_offsets();
        offsets.last().copied().unwrap_or(0) - offsets.first().copied().unwrap_or(0)
    });
    lengths.map(|length| length as usize).sum::<usize>() + chunk.rows() * chunk.batch().num_columns()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_every_file_is_looked_at_and_the_rest_is_estimated() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let rows = |rows: usize| "user,click\n".to_owned() + &"u12345,0\n".repeat(rows);
        std::fs::write(path("a.csv"), rows(ROWS)).unwrap();
        std::fs::write(path("b.csv"), rows(3 * ROWS)).unwrap();
        let sample = Sample::read(&[path("*.csv")]).unwrap();
        assert!((ROWS..ROWS + 2 * 8192).contains(&sample.rows), "{}", sample.rows);
        assert!(!sample.is_whole() && sample.files == 2);
        let off = (sample.total as f64 / (4 * ROWS) as f64 - 1.0).abs();
        assert!(off < 0.01, "{} rows", sample.total);

        std::fs::write(path("b.csv"), rows(7)).unwrap();
        let sample = Sample::read(&[path("b.csv")]).unwrap();
        assert_eq!((sample.rows, sample.total, sample.is_whole()), (7, 7, true));
    }

    #[test]
    fn columns_without_a_name_of_their_own_are_left_out() {
        let names = ["", "a", "b", "a"].map(str::to_owned).to_vec();
        let (columns, unreadable) = readable(names);
        assert_eq!(columns, ["b"]);
        assert_eq!(unreadable.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["", "a"]);
    }
}
