//! Vocabularies as a Parquet file: columns feature, row, key, count.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, UInt32Type, UInt64Type};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::unknown_row::UnknownRow;
use super::vocabulary::Vocabulary;
use crate::column::key::OwnedKey;
use crate::error::DataError;
use crate::read::chunk::CHUNK_ROWS;
use crate::read::parquet::ParquetFile;

/// Rows that are handed to the writer at once.
const WRITE_ROWS: usize = 65_536;

/// Writes vocabularies, each with its feature's name.
pub(crate) fn write<'a>(
    file: &File,
    path: &Path,
    vocabularies: impl Iterator<Item = (&'a str, &'a Vocabulary)>,
) -> Result<(), DataError> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("feature", DataType::Utf8, false),
        Field::new("row", DataType::UInt32, false),
        Field::new("key", DataType::Utf8, false),
        Field::new("count", DataType::UInt64, false),
    ]));
    let properties =
        WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let broken = |error| DataError::caused(path, error);
    let mut writer = ArrowWriter::try_new(file, schema.clone(), Some(properties)).map_err(broken)?;
    for (feature, vocabulary) in vocabularies {
        let mut first = vocabulary.unknown_row().first_key();
        for entries in vocabulary.entries().chunks(WRITE_ROWS) {
            let columns: Vec<ArrayRef> = vec![
                Arc::new(StringArray::from_iter_values(entries.iter().map(|_| feature))),
                Arc::new(UInt32Array::from_iter_values(first..first + entries.len() as u32)),
                Arc::new(StringArray::from_iter_values(entries.iter().map(|(key, _)| key.text()))),
                Arc::new(UInt64Array::from_iter_values(entries.iter().map(|(_, count)| *count))),
            ];
            let batch = RecordBatch::try_new(schema.clone(), columns)
                .map_err(|error| DataError::caused(path, error))?;
            writer.write(&batch).map_err(broken)?;
            first += entries.len() as u32;
        }
    }
    writer.close().map(|_| ()).map_err(broken)
}

/// Reads vocabularies by the names of their features.
pub(crate) fn read(path: &Path, unknown_row: UnknownRow) -> Result<HashMap<String, Vocabulary>, DataError> {
    let columns = ["feature", "row", "key", "count"].map(str::to_owned);
    let mut file = ParquetFile::open(path, &columns, CHUNK_ROWS)?;
    let mut vocabularies: HashMap<String, Vocabulary> = HashMap::new();
    while let Some((batch, _)) = file.next_chunk()? {
        add(&batch, unknown_row, &mut vocabularies)
            .ok_or_else(|| DataError::file(path, "the keys of a vocabulary are damaged"))?;
    }
    Ok(vocabularies)
}

fn add(
    batch: &RecordBatch,
    unknown_row: UnknownRow,
    vocabularies: &mut HashMap<String, Vocabulary>,
) -> Option<()> {
    let features = batch.column_by_name("feature")?.as_string_opt::<i32>()?;
    let rows = batch.column_by_name("row")?.as_primitive_opt::<UInt32Type>()?;
    let keys = batch.column_by_name("key")?.as_string_opt::<i32>()?;
    let counts = batch.column_by_name("count")?.as_primitive_opt::<UInt64Type>()?;
    for index in 0..batch.num_rows() {
        let feature = features.value(index);
        if !vocabularies.contains_key(feature) {
            vocabularies.insert(feature.to_owned(), Vocabulary::empty(unknown_row));
        }
        let vocabulary = vocabularies.get_mut(feature)?;
        let next = vocabulary.next_row();
        let fresh = vocabulary.push(OwnedKey::parse(keys.value(index)), counts.value(index));
        (fresh && rows.value(index) == next).then_some(())?;
    }
    Some(())
}
