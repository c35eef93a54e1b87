//! Predictions in a file: CSV or Parquet, one row out for each row in, whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use esmm_data::Chunk;

use crate::error::RunError;
use crate::files::{NewFile, folder_of, remove_leftovers};

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
    Csv { writer: Box<csv::Writer<BufWriter<File>>>, has_header: bool },
    Parquet { file: File, writer: Option<Box<ArrowWriter<File>>> },
}

impl PredictionWriter {
    /// Opens a temporary file beside `path`; a path that is a device or pipe is written directly.
    ///
    /// # Errors
    /// An extension other than `.csv` and `.parquet`, a folder that refuses.
    pub fn create(path: &Path) -> Result<Self, RunError> {
        let refused = |error: io::Error| RunError::file(path, format!("cannot be written: {error}"));
        let special = path.metadata().is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir());
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if !special && !matches!(extension, "csv" | "parquet") {
            let found = path.display();
            return Err(RunError::Config(format!("-o {found}: the output must end in .csv or .parquet")));
        }
        let (file, temporary) = if special {
            (File::options().write(true).open(path).map_err(refused)?, None)
        } else {
            remove_leftovers(folder_of(path));
            let temporary = NewFile::beside(path).map_err(refused)?;
            (temporary.reopen().map_err(refused)?, Some(temporary))
        };
        let sink = match extension {
            "parquet" => Sink::Parquet { file, writer: None },
            _ => Sink::Csv {
                writer: Box::new(csv::Writer::from_writer(BufWriter::new(file))),
                has_header: false,
            },
        };
        Ok(Self { path: path.to_owned(), sink, temporary, rows: 0 })
    }

    /// Appends rows. All batches must have the schema of the first.
    ///
    /// # Errors
    /// A disk that refuses, a column that CSV cannot hold.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), RunError> {
        self.rows += batch.num_rows() as u64;
        let result = match &mut self.sink {
            Sink::Csv { writer, has_header } => write_csv(writer, has_header, batch),
            Sink::Parquet { file, writer } => write_parquet(file, writer, batch),
        };
        result.map_err(|reason| RunError::file(&self.path, format!("cannot be written: {reason}")))
    }

    /// Completes the file under its name. Returns the number of rows.
    ///
    /// # Errors
    /// A disk that refuses; a file of that name is then as it was.
    pub fn finish(self) -> Result<u64, RunError> {
        let refused = |reason: String| RunError::file(&self.path, format!("cannot be written: {reason}"));
        match self.sink {
            Sink::Csv { mut writer, .. } => writer.flush().map_err(|error| refused(error.to_string()))?,
            Sink::Parquet { writer, .. } => {
                if let Some(writer) = writer {
                    writer.close().map_err(|error| refused(error.to_string()))?;
                }
            }
        }
        if let Some(temporary) = self.temporary {
            temporary.finish().map_err(|error| refused(error.to_string()))?;
        }
        Ok(self.rows)
    }
}

fn write_csv(
    writer: &mut csv::Writer<impl Write>,
    has_header: &mut bool,
    batch: &RecordBatch,
) -> Result<(), String> {
    let schema = batch.schema();
    if !*has_header {
        let names = schema.fields().iter().map(|field| field.name());
        writer.write_record(names).map_err(|error| error.to_string())?;
        *has_header = true;
    }
    let options = FormatOptions::default();
    let columns: Result<Vec<_>, _> = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref() as &dyn Array, &options))
        .collect();
    let columns = columns.map_err(|error| error.to_string())?;
    for row in 0..batch.num_rows() {
        for column in &columns {
            writer.write_field(column.value(row).to_string()).map_err(|error| error.to_string())?;
        }
        writer.write_record(None::<&[u8]>).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn write_parquet(
    file: &File,
    writer: &mut Option<Box<ArrowWriter<File>>>,
    batch: &RecordBatch,
) -> Result<(), String> {
    let writer = match writer {
        Some(writer) => writer,
        None => writer.insert(Box::new(parquet_writer(file, batch.schema())?)),
    };
    writer.write(batch).map_err(|error| error.to_string())
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
