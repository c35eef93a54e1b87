//! The funnel as a file, CSV or Parquet, written chunk by chunk.

use std::io::{BufWriter, Write};
use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type};
use arrow::record_batch::RecordBatch;
use esmm_files::NewFile;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::config::SyntheticConfig;
use super::error::SyntheticError;
use super::funnel::SyntheticFunnel;

/// Writes the funnel to a CSV file with a header; lists are `c1|c5|c9` and `c1:0.7|c5:0.35`.
///
/// An existing file is replaced, once the new one is complete.
///
/// # Errors
/// [`SyntheticError::BadValue`] when a setting is out of range; [`SyntheticError::Write`] when the file cannot be
/// written, with its path.
pub fn write_csv(config: SyntheticConfig, path: impl AsRef<Path>) -> Result<(), SyntheticError> {
    let path = path.as_ref();
    let funnel = SyntheticFunnel::new(config)?;
    let file = NewFile::beside(path).map_err(|error| SyntheticError::write(path, error))?;
    let bad = |error: csv::Error| SyntheticError::write(path, error);
    let mut writer = csv::Writer::from_writer(BufWriter::new(file.file()));
    let schema = funnel.schema();
    let names = schema.fields().iter().map(|field| field.name());
    writer.write_record(names).map_err(bad)?;
    for batch in funnel {
        write_rows(&mut writer, &batch).map_err(bad)?;
    }
    writer.flush().map_err(|error| SyntheticError::write(path, error))?;
    drop(writer);
    file.finish().map_err(|error| SyntheticError::write(path, error))
}

/// Writes the funnel to a Parquet file, compressed with Zstandard; lists are Arrow lists.
///
/// An existing file is replaced, once the new one is complete.
///
/// # Errors
/// [`SyntheticError::BadValue`] when a setting is out of range; [`SyntheticError::Write`] when the file cannot be
/// written, with its path.
pub fn write_parquet(config: SyntheticConfig, path: impl AsRef<Path>) -> Result<(), SyntheticError> {
    let path = path.as_ref();
    let funnel = SyntheticFunnel::new(config)?;
    let file = NewFile::beside(path).map_err(|error| SyntheticError::write(path, error))?;
    let bad = |error| SyntheticError::write(path, error);
    let properties =
        WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let buffered = BufWriter::new(file.file());
    let mut writer = ArrowWriter::try_new(buffered, funnel.schema(), Some(properties)).map_err(bad)?;
    for batch in funnel {
        writer.write(&batch).map_err(bad)?;
    }
    let mut buffered = writer.into_inner().map_err(bad)?;
    buffered.flush().map_err(|error| SyntheticError::write(path, error))?;
    drop(buffered);
    file.finish().map_err(|error| SyntheticError::write(path, error))
}

fn write_rows(writer: &mut csv::Writer<impl Write>, batch: &RecordBatch) -> csv::Result<()> {
    let mut cell = String::new();
    for row in 0..batch.num_rows() {
        for column in batch.columns() {
            cell.clear();
            push_cell(&mut cell, column, row);
            writer.write_field(&cell)?;
        }
        writer.write_record(None::<&[u8]>)?;
    }
    Ok(())
}

/// Appends the text of one value. Numbers are written in the shortest form that reads back the same.
fn push_cell(cell: &mut String, column: &ArrayRef, row: usize) {
    match column.data_type() {
        DataType::Int64 => push(cell, column.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => push(cell, column.as_primitive::<Float64Type>().value(row)),
        DataType::Float32 => push(cell, column.as_primitive::<Float32Type>().value(row)),
        DataType::Utf8 => cell.push_str(column.as_string::<i32>().value(row)),
        DataType::List(_) => push_list(cell, &column.as_list::<i32>().value(row)),
        other => unreachable!("the synthetic funnel has no column of type {other}"),
    }
}

fn push(cell: &mut String, value: impl ToString) {
    cell.push_str(&value.to_string());
}

/// Entries joined by `|`; an entry of several fields has them joined by `:`.
fn push_list(cell: &mut String, entries: &ArrayRef) {
    let single = std::slice::from_ref(entries);
    let fields = entries.as_struct_opt().map_or(single, |pairs| pairs.columns());
    for entry in 0..entries.len() {
        for (number, field) in fields.iter().enumerate() {
            match (entry, number) {
                (0, 0) => {}
                (_, 0) => cell.push('|'),
                _ => cell.push(':'),
            }
            push_cell(cell, field, entry);
        }
    }
}
