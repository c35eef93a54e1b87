//! CSV files as chunks of text columns.

use std::fs::File;
use std::io::SeekFrom;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use csv::{ByteRecord, Reader, ReaderBuilder};

use super::data_file::{DataFile, PathColumn, with_constants};
use super::newlines::Newlines;
use crate::error::DataError;
use crate::place::{Origin, Place, RowNumber};

/// A chunk ends early when its text is this long, in bytes.
const CHUNK_BYTES: usize = 64 << 20;
/// Bytes that are read from the file at once.
const BUFFER_BYTES: usize = 1 << 17;

/// One CSV file with some of its columns.
#[derive(Debug)]
pub(crate) struct CsvReader {
    path: Arc<Path>,
    reader: Reader<Newlines<File>>,
    width: usize,
    /// The quote of fields before which a blank stands, where blanks are left out.
    blank_quote: Option<char>,
    columns: Vec<(usize, String)>,
    constants: Vec<PathColumn>,
    schema: Arc<Schema>,
    record: ByteRecord,
}

/// The start of a record in a CSV file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    offset: u64,
    lines_before: u64,
}

/// The column names of a CSV file.
pub(crate) fn column_names(
    file: &DataFile,
    delimiter: u8,
    quote: u8,
    trim: bool,
) -> Result<Vec<String>, DataError> {
    open(file, delimiter, quote, trim).map(|(_, names)| file.with_path_columns(names))
}

impl CsvReader {
    /// Opens a file whose columns were already found to be there; `columns` are their names.
    pub(crate) fn open(
        file: &DataFile,
        delimiter: u8,
        quote: u8,
        trim: bool,
        columns: &[String],
    ) -> Result<Self, DataError> {
        let (reader, names) = open(file, delimiter, quote, trim)?;
        let (columns, constants) = file.sorted(&names, columns);
        let indices = super::columns::find_columns(file.path(), &names, &columns)?;
        let fields: Vec<Field> = columns.iter().map(|name| Field::new(name, DataType::Utf8, true)).collect();
        Ok(Self {
            path: file.path().into(),
            reader,
            width: names.len(),
            blank_quote: trim.then_some(char::from(quote)),
            columns: indices.into_iter().zip(columns.iter().cloned()).collect(),
            constants,
            schema: Arc::new(Schema::new(fields)),
            record: ByteRecord::new(),
        })
    }

    /// Where the next rows start.
    pub(crate) fn mark(&mut self) -> Mark {
        let offset = self.reader.position().byte();
        Mark { offset, lines_before: self.reader.get_mut().lines_before(offset) }
    }

    /// Goes on at a place that [`mark`](Self::mark) told.
    pub(crate) fn go_to(&mut self, mark: Mark) -> Result<(), DataError> {
        let mut position = csv::Position::new();
        position.set_byte(mark.offset);
        let sought = self.reader.seek_raw(SeekFrom::Start(mark.offset), position);
        sought.map_err(|error| broken(&self.path, error))?;
        self.reader.get_mut().set_lines_before(mark.lines_before);
        Ok(())
    }

    /// Its columns, without a row.
    pub(crate) fn no_rows(&self) -> RecordBatch {
        with_constants(RecordBatch::new_empty(self.schema.clone()), &self.constants)
    }

    /// The next rows, so many at most; `None` at the end.
    pub(crate) fn next_chunk(&mut self, most: usize) -> Result<Option<(RecordBatch, Origin)>, DataError> {
        let mut builders: Vec<StringBuilder> = self.columns.iter().map(|_| StringBuilder::new()).collect();
        let mut lines = Vec::with_capacity(most);
        let mut bytes = 0;
        while lines.len() < most && bytes < CHUNK_BYTES {
            let Some(line) = self.next_record()? else { break };
            self.append(&mut builders, line)?;
            lines.push(line);
            bytes += self.record.as_slice().len();
        }
        if lines.is_empty() {
            return Ok(None);
        }
        let arrays = builders.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(lines.len()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            .map_err(|error| DataError::caused(&self.path, error))?;
        let batch = with_constants(batch, &self.constants);
        Ok(Some((batch, Origin::lines(self.path.clone(), lines))))
    }

    /// Reads a record and returns the line on which it starts.
    fn next_record(&mut self) -> Result<Option<u64>, DataError> {
        let more =
            self.reader.read_byte_record(&mut self.record).map_err(|error| broken(&self.path, error))?;
        if !more {
            return Ok(None);
        }
        let end = self.reader.position().byte();
        let inside = self.record.as_slice().iter().filter(|byte| **byte == b'\n').count() as u64;
        let line = self.reader.get_mut().line_of_end(end) - inside;
        if self.record.len() != self.width {
            let found = self.record.len();
            let expected = self.width;
            return Err(DataError::FieldCount { place: self.place(line), found, expected });
        }
        Ok(Some(line))
    }

    fn append(&self, builders: &mut [StringBuilder], line: u64) -> Result<(), DataError> {
        // One check for the whole record; a field may still begin or end inside of a character.
        let text = std::str::from_utf8(self.record.as_slice()).ok();
        for (builder, (index, name)) in builders.iter_mut().zip(&self.columns) {
            let cell = text.and_then(|text| text.get(self.record.range(*index)?));
            match cell.map_or_else(|| std::str::from_utf8(&self.record[*index]), Ok) {
                Ok("") => builder.append_null(),
                Ok(cell) => match self.blank_quote.and_then(|quote| unquoted(cell, quote)) {
                    Some(inside) => builder.append_value(inside),
                    None => builder.append_value(cell),
                },
                Err(_) => {
                    let found = crate::error::quoted(&String::from_utf8_lossy(&self.record[*index]));
                    let place = self.place(line);
                    let column = name.clone();
                    let allowed = "UTF-8 text".to_owned();
                    return Err(DataError::Cell { place, column, found, allowed });
                }
            }
        }
        Ok(())
    }

    fn place(&self, line: u64) -> Place {
        Place { path: self.path.to_path_buf(), row: RowNumber::Line(line) }
    }
}

/// A field that begins with a blank and then a quote, ` "a"`, without them; the parser takes such quotes for text.
fn unquoted(cell: &str, quote: char) -> Option<String> {
    let begins = matches!(cell.as_bytes().first(), Some(b' ' | b'\t'));
    let inside = begins.then(|| cell.trim().strip_prefix(quote)?.strip_suffix(quote)).flatten()?;
    let quote = quote.to_string();
    Some(inside.replace(&quote.repeat(2), &quote))
}

fn open(
    file: &DataFile,
    delimiter: u8,
    quote: u8,
    trim: bool,
) -> Result<(Reader<Newlines<File>>, Vec<String>), DataError> {
    let path = file.path();
    let file = File::open(file.bytes()).map_err(|error| DataError::io(path, &error))?;
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter)
        .quote(quote)
        .flexible(true)
        .buffer_capacity(BUFFER_BYTES)
        .from_reader(Newlines::new(file));
    let header = reader.byte_headers().map_err(|error| broken(path, error))?;
    if header.is_empty() {
        return Err(DataError::file(path, "the file is empty, its first line must name the columns"));
    }
    let name = |bytes| {
        let name = std::str::from_utf8(bytes).map_err(|_| bad_header(path, bytes))?;
        let unquoted = trim.then(|| unquoted(name, char::from(quote))).flatten();
        let name = unquoted.as_deref().unwrap_or(name);
        Ok::<_, DataError>(if trim { name.trim() } else { name }.to_owned())
    };
    let names = header.iter().map(name).collect::<Result<_, _>>()?;
    Ok((reader, names))
}

fn bad_header(path: &Path, name: &[u8]) -> DataError {
    DataError::Cell {
        place: Place { path: path.to_owned(), row: RowNumber::Line(1) },
        column: String::from_utf8_lossy(name).chars().take(40).collect(),
        found: "a header that is not UTF-8".to_owned(),
        allowed: "UTF-8 text".to_owned(),
    }
}

fn broken(path: &Path, error: csv::Error) -> DataError {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => DataError::io(path, &error),
        kind => DataError::file(path, format!("{kind:?}")),
    }
}
