//! One file of a source: where its bytes are, how they are written, and which columns stand in its path.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path};
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use super::files::STDIN;
use super::spool;
use crate::error::DataError;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Csv,
    Parquet,
}

/// What Hive, Spark and pyarrow write into a path for a missing value.
const NULL_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";
const PARQUET: &[u8; 4] = b"PAR1";

/// A column that stands in the path of a file, as `day` in `day=2024-05-01/part.parquet`, and its value.
pub(crate) type PathColumn = (String, Option<String>);

/// One file of a source. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// Its path as it was named.
    path: Arc<Path>,
    /// Where its bytes are: there, or in a copy that was unpacked.
    bytes: Arc<Path>,
    format: Format,
    path_columns: Arc<[PathColumn]>,
}

impl DataFile {
    /// Looks at a file, a pipe, or `-` for standard input; what is compressed or can be read only once is copied into a
    /// temporary folder. `None` for a text file of 0 bytes.
    ///
    /// # Errors
    /// A file that is missing or of an unknown type, damaged compression.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, DataError> {
        let shown: Arc<Path> = if path == Path::new(STDIN) { Path::new("stdin").into() } else { path.into() };
        let copy = spool::copy(path, &shown)?;
        let bytes = copy.unwrap_or_else(|| path.to_owned());
        let metadata = fs::metadata(&bytes).map_err(|error| DataError::io(&shown, &error))?;
        let is_parquet = || is_parquet(&bytes).map_err(|error| DataError::io(&shown, &error));
        let read_once = bytes != path && !spool::is_regular(path);
        let format = match plain_extension(path).as_str() {
            "csv" | "tsv" | "txt" if is_parquet()? => Format::Parquet,
            "csv" | "tsv" | "txt" => Format::Csv,
            "parquet" | "pq" => Format::Parquet,
            _ if is_parquet()? => Format::Parquet,
            _ if read_once => Format::Csv,
            _ => {
                let allowed = "unknown type of file, allowed are .csv, .tsv, .txt, .parquet and .pq, each also with \
                               .gz or .zst";
                return Err(DataError::file(&shown, allowed));
            }
        };
        match (metadata.len(), format) {
            (0, Format::Csv) => return Ok(None),
            (0, Format::Parquet) => {
                return Err(DataError::file(&shown, "the file is empty, which no Parquet file is"));
            }
            _ => {}
        }
        Ok(Some(Self { path: shown, bytes: bytes.into(), format, path_columns: path_columns(path).into() }))
    }

    /// Its path as it was named, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where its bytes are.
    pub fn bytes(&self) -> &Path {
        &self.bytes
    }

    /// How it is written.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Its size in bytes, unpacked.
    pub fn len(&self) -> u64 {
        self.bytes.metadata().map_or(0, |metadata| metadata.len())
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is a CSV file, whose rows nobody has counted.
    pub fn is_text(&self) -> bool {
        self.format == Format::Csv
    }

    /// Whether tabs separate its fields unless something else is said.
    pub(crate) fn is_tsv(&self) -> bool {
        plain_extension(&self.path) == "tsv"
    }

    /// The names of its own columns and, after them, those in its path.
    pub(crate) fn with_path_columns(&self, mut own: Vec<String>) -> Vec<String> {
        for (name, _) in self.path_columns.iter() {
            if !own.contains(name) {
                own.push(name.clone());
            }
        }
        own
    }

    /// Columns that were asked for: those in the file, whose names are `own`, and those in its path. A column that is in
    /// both is read from the file.
    pub(crate) fn sorted(&self, own: &[String], asked: &[String]) -> (Vec<String>, Vec<PathColumn>) {
        let in_path = |name: &String| {
            let column = self.path_columns.iter().find(|(other, _)| other == name);
            column.filter(|_| !own.contains(name)).cloned()
        };
        let constants = asked.iter().filter_map(in_path).collect();
        (asked.iter().filter(|name| in_path(name).is_none()).cloned().collect(), constants)
    }
}

impl AsRef<Path> for DataFile {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

/// Rows with columns that have the same value in each.
pub(crate) fn with_constants(batch: RecordBatch, constants: &[PathColumn]) -> RecordBatch {
    if constants.is_empty() {
        return batch;
    }
    let rows = batch.num_rows();
    let mut fields: Vec<Arc<Field>> = batch.schema_ref().fields().iter().cloned().collect();
    let mut columns = batch.columns().to_vec();
    for (name, value) in constants {
        fields.push(Arc::new(Field::new(name, DataType::Utf8, true)));
        let array: ArrayRef = Arc::new(std::iter::repeat_n(value.as_deref(), rows).collect::<StringArray>());
        columns.push(array);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    // The columns are as long as the rows, so that this cannot fail; the rows without them would be refused later on.
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options).unwrap_or(batch)
}

/// The extension, before `.gz` or `.zst` where there is such a one.
fn plain_extension(path: &Path) -> String {
    let extension = |path: &Path| {
        path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
    };
    match extension(path).as_str() {
        "gz" | "gzip" | "zst" | "zstd" => {
            path.file_stem().map(|stem| extension(Path::new(stem))).unwrap_or_default()
        }
        other => other.to_owned(),
    }
}

fn is_parquet(path: &Path) -> std::io::Result<bool> {
    let mut file = File::open(path)?;
    let mut mark = [0; 4];
    if file.metadata()?.len() < 12 || file.read(&mut mark)? < 4 || &mark != PARQUET {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-4))?;
    file.read_exact(&mut mark)?;
    Ok(&mark == PARQUET)
}

/// `day=2024-05-01` among the folders of a path.
fn path_columns(path: &Path) -> Vec<PathColumn> {
    let folders = path.parent().into_iter().flat_map(Path::components);
    let names = folders.filter_map(|component| match component {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    let mut columns: Vec<PathColumn> = Vec::new();
    for (name, value) in names.filter_map(|name| name.split_once('=')).filter(|(name, _)| !name.is_empty()) {
        let name = unescaped(name);
        let value = unescaped(value);
        columns.retain(|(other, _)| *other != name);
        columns.push((name, (value != NULL_PARTITION).then_some(value)));
    }
    columns
}

/// `a%3Ab` as `a:b`.
fn unescaped(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(text.len());
    let mut place = 0;
    while place < bytes.len() {
        let code = bytes.get(place + 1..place + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        let code =
            code.filter(|_| bytes[place] == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        plain.push(code.unwrap_or(bytes[place]));
        place += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8(plain).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_name_columns() {
        let columns = path_columns(Path::new(
            "log/day=2024-05-01/hour=7/slot=a%3Ab/x=__HIVE_DEFAULT_PARTITION__/c=1.csv",
        ));
        let expected = [("day", Some("2024-05-01")), ("hour", Some("7")), ("slot", Some("a:b")), ("x", None)];
        assert_eq!(columns, expected.map(|(name, value)| (name.to_owned(), value.map(str::to_owned))));
        assert_eq!(unescaped("100%"), "100%");
    }

    #[test]
    fn compression_hides_no_extension() {
        for (path, extension) in
            [("a.csv.gz", "csv"), ("a.TSV", "tsv"), ("a.parquet.zst", "parquet"), ("a", "")]
        {
            assert_eq!(plain_extension(Path::new(path)), extension);
        }
    }
}
