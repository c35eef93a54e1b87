//! Which rows of the embedding tables a training had: the others keep their initial values.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, LargeBinaryArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use esmm_core::FeatureSchema;
use esmm_files::NewFile;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::error::DataError;
use crate::read::chunk::CHUNK_ROWS;
use crate::read::parquet::ParquetFile;

/// The file with a bit for each row of each table: columns table, bits.
pub const TRAINED_ROWS_FILE: &str = "trained_rows.parquet";

/// One bit for each row of each embedding table: whether a training row has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainedRows {
    /// Names of the tables: of the features that own them.
    tables: Vec<String>,
    /// Row `i` of a table is bit `i % 8` of byte `i / 8`.
    bits: Vec<Vec<u8>>,
    /// Place of the table of each sparse feature.
    table_of: Vec<usize>,
}

impl TrainedRows {
    /// No row of the tables of a schema.
    pub fn none(schema: &FeatureSchema) -> Self {
        let tables: Vec<_> = schema.tables().collect();
        let table_of = schema.sparse().map(|feature| {
            let owner = feature.shares.as_ref().unwrap_or(&feature.name);
            tables.iter().position(|table| table.name == *owner).unwrap_or(0)
        });
        Self {
            table_of: table_of.collect(),
            bits: tables.iter().map(|table| vec![0; table.num_embeddings.div_ceil(8)]).collect(),
            tables: tables.iter().map(|table| table.name.clone()).collect(),
        }
    }

    /// Notes rows of the table of the `feature`-th sparse feature.
    ///
    /// # Panics
    /// When there is no such feature or row.
    pub fn add(&mut self, feature: usize, rows: &[u32]) {
        let bits = &mut self.bits[self.table_of[feature]];
        for row in rows {
            bits[*row as usize / 8] |= 1 << (row % 8);
        }
    }

    /// Whether the table of the `feature`-th sparse feature had this row trained.
    ///
    /// # Panics
    /// When there is no such feature or row.
    pub fn has(&self, feature: usize, row: u32) -> bool {
        has(&self.bits[self.table_of[feature]], row)
    }

    /// Whether row `row` of the `table`-th table was trained.
    ///
    /// # Panics
    /// When there is no such table or row.
    pub fn table_has(&self, table: usize, row: u32) -> bool {
        has(&self.bits[table], row)
    }

    /// Rows of the `table`-th table that were trained.
    ///
    /// # Panics
    /// When there is no such table.
    pub fn count(&self, table: usize) -> u64 {
        self.bits[table].iter().map(|byte| u64::from(byte.count_ones())).sum()
    }

    /// Place of the table of each sparse feature.
    pub fn table_of(&self) -> &[usize] {
        &self.table_of
    }

    /// Writes the file into a folder, whole or not at all.
    ///
    /// # Errors
    /// A folder that is not there, a disk that refuses.
    pub fn save(&self, dir: &Path) -> Result<(), DataError> {
        let path = dir.join(TRAINED_ROWS_FILE);
        super::save::replace(&path, |file| self.write(file, &path))
    }

    fn write(&self, file: &mut NewFile, path: &Path) -> Result<(), DataError> {
        let schema = Arc::new(Schema::new(vec![
            Field::new("table", DataType::Utf8, false),
            Field::new("bits", DataType::LargeBinary, false),
        ]));
        let broken = |error: &dyn std::fmt::Display| DataError::file(path, error);
        let compression = Compression::ZSTD(ZstdLevel::default());
        let properties =
            WriterProperties::builder().set_compression(compression).set_dictionary_enabled(false);
        let mut writer = ArrowWriter::try_new(&mut *file, schema.clone(), Some(properties.build()))
            .map_err(|error| broken(&error))?;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(&self.tables)),
            Arc::new(LargeBinaryArray::from_iter_values(&self.bits)),
        ];
        let batch = RecordBatch::try_new(schema, columns).map_err(|error| broken(&error))?;
        writer.write(&batch).map_err(|error| broken(&error))?;
        writer.close().map_err(|error| broken(&error))?;
        file.flush().map_err(|error| DataError::io(path, &error))
    }

    /// Reads what [`TrainedRows::save`] wrote for a schema; `None` where there is no file, as in run directories of older
    /// versions and of trainings that have not ended.
    ///
    /// # Errors
    /// A file that is damaged or belongs to another schema.
    pub fn load(dir: &Path, schema: &FeatureSchema) -> Result<Option<Self>, DataError> {
        let path = dir.join(TRAINED_ROWS_FILE);
        if !path.exists() {
            return Ok(None);
        }
        let mut rows = Self::none(schema);
        let columns = ["table", "bits"].map(str::to_owned);
        let mut file = ParquetFile::open(&path, &columns, CHUNK_ROWS)?;
        let mut tables = 0;
        while let Some((batch, _)) = file.next_chunk()? {
            rows.take(&batch, &mut tables)
                .ok_or_else(|| DataError::file(&path, "belongs to another model"))?;
        }
        match tables == rows.tables.len() {
            true => Ok(Some(rows)),
            false => Err(DataError::file(&path, "belongs to another model")),
        }
    }

    /// Takes the next tables of a file; `None` where they are others.
    fn take(&mut self, batch: &RecordBatch, tables: &mut usize) -> Option<()> {
        let names = batch.column_by_name("table")?.as_string_opt::<i32>()?;
        let bits = batch.column_by_name("bits")?.as_binary_opt::<i64>()?;
        for index in 0..batch.num_rows() {
            let own = self.bits.get_mut(*tables)?;
            let same = self.tables[*tables] == names.value(index) && own.len() == bits.value(index).len();
            same.then_some(())?;
            own.copy_from_slice(bits.value(index));
            *tables += 1;
        }
        Some(())
    }
}

fn has(bits: &[u8], row: u32) -> bool {
    bits[row as usize / 8] >> (row % 8) & 1 == 1
}

#[cfg(test)]
mod tests {
    use esmm_core::{Feature, Side};

    use super::*;

    fn schema() -> FeatureSchema {
        FeatureSchema::new(vec![
            Feature::sparse("item", Side::Item, 130),
            Feature::dense("price", Side::Item),
            Feature::sparse("user", Side::User, 3),
            Feature::sparse("last_item", Side::User, 130).sharing("item"),
        ])
        .unwrap()
    }

    #[test]
    fn rows_are_noted_once_for_all_features_of_a_table() {
        let mut rows = TrainedRows::none(&schema());
        rows.add(0, &[1, 1, 129]);
        rows.add(2, &[64, 1]);
        rows.add(1, &[0, 2]);
        assert_eq!((rows.count(0), rows.count(1)), (3, 2));
        assert!(rows.has(0, 64) && rows.has(2, 129) && !rows.has(0, 63) && !rows.has(1, 1));
        assert!(rows.table_has(1, 0) && !rows.table_has(0, 0));
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(TrainedRows::load(folder.path(), &schema()).unwrap(), None);
        let mut rows = TrainedRows::none(&schema());
        rows.add(0, &[7, 8, 128]);
        rows.save(folder.path()).unwrap();
        assert_eq!(TrainedRows::load(folder.path(), &schema()).unwrap(), Some(rows));
        let other = FeatureSchema::new(vec![Feature::sparse("item", Side::Item, 130)]).unwrap();
        let error = TrainedRows::load(folder.path(), &other).unwrap_err().to_string();
        assert!(error.ends_with("trained_rows.parquet: belongs to another model"), "{error}");
    }
}
