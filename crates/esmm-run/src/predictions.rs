//! Predictions in a file: CSV or Parquet, one row out for each row in, whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use esmm_data::{Chunk, zoned_text};
use flate2::write::GzEncoder;

use crate::error::RunError;
use crate::files::NewFile;

/// Writes record batches of one schema to a CSV or Parquet file, by its extension.
#[must_use = "the file is there after `finish` only"]
pub struct PredictionWriter {
    path: PathBuf,
    sink: Sink,
    /// The temporary file, unless the target is a device or pipe.
    temporary: Option<NewFile>,
    rows: u64,
}

enum Sink {
    Csv { writer: Box<csv::Writer<Packed>>, has_header: bool },
    Parquet { file: File, writer: Option<Box<ArrowWriter<File>>> },
}

/// How predictions are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputFormat {
    /// Text with a header.
    Csv,
    /// The same, compressed with gzip.
    CsvGzip,
    /// The same, compressed with Zstandard.
    CsvZstd,
    /// Parquet.
    Parquet,
}

impl OutputFormat {
    /// The format that the name of a file asks for. Standard output (`-`), and devices and pipes whose name asks for none,
    /// get plain CSV.
    ///
    /// # Errors
    /// Another extension.
    pub fn of(path: &Path) -> Result<Self, RunError> {
        let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        let formats = [
            (".csv", Self::Csv),
            (".csv.gz", Self::CsvGzip),
            (".csv.zst", Self::CsvZstd),
            (".parquet", Self::Parquet),
        ];
        let named = formats.into_iter().find(|(extension, _)| name.ends_with(extension));
        match named {
            Some((_, format)) => Ok(format),
            None if is_stdout(path) || is_special(path) => Ok(Self::Csv),
            None => {
                let found = path.display();
                let allowed =
                    "the output must end in .csv, .csv.gz, .csv.zst or .parquet, or be - for standard output";
                Err(RunError::Config(format!("-o {found}: {allowed}")))
            }
        }
    }
}

fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

/// Whether a path is a device or a pipe.
fn is_special(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
}

/// Text on its way into a file.
enum Packed {
    Plain(BufWriter<File>),
    Gzip(GzEncoder<BufWriter<File>>),
    Zstd(zstd::Encoder<'static, BufWriter<File>>),
}

impl Write for Packed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.write(bytes),
            Self::Gzip(file) => file.write(bytes),
            Self::Zstd(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.flush(),
            Self::Gzip(file) => file.flush(),
            Self::Zstd(file) => file.flush(),
        }
    }
}

impl Packed {
    fn finish(self) -> io::Result<()> {
        match self {
            Self::Plain(mut file) => file.flush(),
            Self::Gzip(file) => file.finish()?.flush(),
            Self::Zstd(file) => file.finish()?.flush(),
        }
    }
}

/// The file behind standard output, which stays open.
fn stdout() -> io::Result<File> {
    #[cfg(unix)]
    let output = std::os::fd::AsFd::as_fd(&io::stdout()).try_clone_to_owned()?;
    #[cfg(windows)]
    let output = std::os::windows::io::AsHandle::as_handle(&io::stdout()).try_clone_to_owned()?;
    Ok(File::from(output))
}

/// A reader that has gone is no failure.
fn is_closed(reason: &(dyn std::error::Error + 'static)) -> bool {
    // The csv crate names no source of its errors.
    if let Some(csv::ErrorKind::Io(error)) = reason.downcast_ref::<csv::Error>().map(csv::Error::kind) {
        return error.kind() == io::ErrorKind::BrokenPipe;
    }
    let io = reason.downcast_ref::<io::Error>().map(|error| error.kind() == io::ErrorKind::BrokenPipe);
    io.unwrap_or_else(|| reason.source().is_some_and(is_closed))
}

impl PredictionWriter {
    /// Opens a temporary file beside `path`; a path that is a device or pipe, and `-` for standard output, is written
    /// directly.
    ///
    /// # Errors
    /// An extension other than `.csv` (also with `.gz` or `.zst`) and `.parquet`, a folder that refuses.
    pub fn create(path: &Path) -> Result<Self, RunError> {
        let refused = |error: io::Error| RunError::caused(path, "cannot be written", error);
        let to_stdout = is_stdout(path);
        let special = is_special(path);
        let format = OutputFormat::of(path)?;
        let (file, temporary) = if to_stdout {
            (stdout().map_err(refused)?, None)
        } else if special {
            (File::options().write(true).open(path).map_err(refused)?, None)
        } else {
            let temporary = NewFile::beside(path).map_err(refused)?;
            (temporary.reopen().map_err(refused)?, Some(temporary))
        };
        let text =
            |packed| Sink::Csv { writer: Box::new(csv::Writer::from_writer(packed)), has_header: false };
        let sink = match format {
            OutputFormat::Parquet => Sink::Parquet { file, writer: None },
            OutputFormat::Csv => text(Packed::Plain(BufWriter::new(file))),
            OutputFormat::CsvGzip => {
                text(Packed::Gzip(GzEncoder::new(BufWriter::new(file), flate2::Compression::default())))
            }
            OutputFormat::CsvZstd => {
                let encoder = zstd::Encoder::new(BufWriter::new(file), 0).map_err(refused)?;
                text(Packed::Zstd(encoder))
            }
        };
        Ok(Self { path: path.to_owned(), sink, temporary, rows: 0 })
    }

    /// Rows that were written.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Appends rows. All batches must have the schema of the first.
    ///
    /// # Errors
    /// A disk that refuses, a column that CSV cannot hold, and [`RunError::Closed`] when nobody reads any more.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), RunError> {
        self.rows += batch.num_rows() as u64;
        let result = match &mut self.sink {
            Sink::Csv { writer, has_header } => write_csv(writer, has_header, batch),
            Sink::Parquet { file, writer } => write_parquet(file, writer, batch),
        };
        result.map_err(|reason| refused(&self.path, reason.as_ref()))
    }

    /// Completes the file under its name. Returns the number of rows.
    ///
    /// # Errors
    /// A disk that refuses; a file of that name is then as it was.
    pub fn finish(self) -> Result<u64, RunError> {
        let path = self.path;
        let failed = |reason: Reason| refused(&path, reason.as_ref());
        match self.sink {
            Sink::Csv { writer, .. } => {
                let packed = writer.into_inner().map_err(|error| failed(Box::new(error.into_error())))?;
                packed.finish().map_err(|error| failed(Box::new(error)))?;
            }
            Sink::Parquet { writer, .. } => {
                if let Some(writer) = writer {
                    writer.close().map_err(|error| failed(Box::new(error)))?;
                }
            }
        }
        if let Some(temporary) = self.temporary {
            temporary.finish().map_err(|error| failed(Box::new(error)))?;
        }
        Ok(self.rows)
    }
}

type Reason = Box<dyn std::error::Error>;

fn refused(path: &Path, reason: &(dyn std::error::Error + 'static)) -> RunError {
    match is_closed(reason) {
        true => RunError::Closed,
        false => RunError::file(path, format!("cannot be written: {reason}")),
    }
}

fn write_csv(
    writer: &mut csv::Writer<impl Write>,
    has_header: &mut bool,
    batch: &RecordBatch,
) -> Result<(), Reason> {
    let schema = batch.schema();
    if !*has_header {
        writer.write_record(schema.fields().iter().map(|field| field.name()))?;
        *has_header = true;
    }
    let options = FormatOptions::default();
    let shown = |column: &ArrayRef| Ok::<_, Reason>(zoned_text(column)?.unwrap_or_else(|| column.clone()));
    let shown = batch.columns().iter().map(shown).collect::<Result<Vec<ArrayRef>, _>>()?;
    let columns = shown.iter().map(|column| ArrayFormatter::try_new(column.as_ref() as &dyn Array, &options));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    for row in 0..batch.num_rows() {
        for column in &columns {
            writer.write_field(column.value(row).to_string())?;
        }
        writer.write_record(None::<&[u8]>)?;
    }
    Ok(())
}

fn write_parquet(
    file: &File,
    writer: &mut Option<Box<ArrowWriter<File>>>,
    batch: &RecordBatch,
) -> Result<(), Reason> {
    let writer = match writer {
        Some(writer) => writer,
        None => writer.insert(Box::new(parquet_writer(file, batch.schema())?)),
    };
    Ok(writer.write(batch)?)
}

fn parquet_writer(file: &File, schema: SchemaRef) -> Result<ArrowWriter<File>, String> {
    let file = file.try_clone().map_err(|error| error.to_string())?;
    let properties =
        WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    ArrowWriter::try_new(file, schema, Some(properties)).map_err(|error| error.to_string())
}

/// Scores with some columns of their rows in front.
///
/// # Errors
/// A column that the chunk was read without, or one that is named like a score.
pub fn with_columns(chunk: &Chunk, names: &[String], scores: &RecordBatch) -> Result<RecordBatch, RunError> {
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for name in names {
        if scores.column_by_name(name).is_some() {
            return Err(RunError::Config(format!("--keep {name}: the scores have a column of that name")));
        }
        let column = chunk.column(name)?;
        fields.push(Arc::new(Field::new(name, column.data_type().clone(), true)));
        columns.push(column.clone());
    }
    fields.extend(scores.schema().fields().iter().cloned());
    columns.extend(scores.columns().iter().cloned());
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .map_err(|error| RunError::Scoring(error.to_string()))
}
