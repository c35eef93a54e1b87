//! The two files of a split, written row group by row group; the row groups are made anywhere.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field as ArrowField, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;

use esmm_data::grouped::GROUP_COLUMN;

use crate::columns::arrow_fields;
use crate::error::AliCcpError;
use crate::field::{Layout, Table};

/// Columns of `impressions.parquet` before the fields.
const IMPRESSION_COLUMNS: [(&str, DataType); 4] = [
    ("sample_id", DataType::Int64),
    ("click", DataType::UInt8),
    ("conversion", DataType::UInt8),
    (GROUP_COLUMN, DataType::UInt32),
];

/// Columns of `groups.parquet` before the fields.
const GROUP_COLUMNS: [(&str, DataType); 2] =
    [(GROUP_COLUMN, DataType::UInt32), ("common_feature_index", DataType::Utf8)];

/// A Parquet file that is being written.
pub(crate) struct TableWriter {
    path: PathBuf,
    writer: SerializedFileWriter<BufWriter<File>>,
    encoder: Arc<RowGroupEncoder>,
}

/// Makes row groups of a file, in any thread.
pub(crate) struct RowGroupEncoder {
    schema: SchemaRef,
    factory: ArrowRowGroupWriterFactory,
}

/// A column of a row group: some arrays, one after the other.
pub(crate) type ColumnParts = Vec<ArrayRef>;

impl TableWriter {
    pub(crate) fn create(path: PathBuf, table: Table, layout: Layout) -> Result<Self, AliCcpError> {
        let first: &[(&str, DataType)] = match table {
            Table::Skeleton => &IMPRESSION_COLUMNS,
            Table::Common => &GROUP_COLUMNS,
        };
        let first = first.iter().map(|(name, kind)| ArrowField::new(*name, kind.clone(), false));
        let schema = Arc::new(Schema::new(first.chain(arrow_fields(table, layout)).collect::<Vec<_>>()));
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .build();
        let file = File::create(&path).map_err(|error| AliCcpError::io(&path, &error))?;
        let failed = |error: ParquetError| AliCcpError::file(&path, error);
        let writer = ArrowWriter::try_new(BufWriter::new(file), schema.clone(), Some(properties));
        let (writer, factory) = writer.and_then(ArrowWriter::into_serialized_writer).map_err(failed)?;
        Ok(Self { writer, encoder: Arc::new(RowGroupEncoder { schema, factory }), path })
    }

    pub(crate) fn encoder(&self) -> Arc<RowGroupEncoder> {
        self.encoder.clone()
    }

    /// Appends a row group.
    pub(crate) fn append(&mut self, columns: Vec<ArrowColumnChunk>) -> Result<(), AliCcpError> {
        let append = || {
            let mut group = self.writer.next_row_group()?;
            columns.into_iter().try_for_each(|column| column.append_to_row_group(&mut group))?;
            group.close().map(|_| ())
        };
        append().map_err(|error| refused(&self.path, error))
    }

    /// Completes the file: it is on the disk then.
    pub(crate) fn finish(self) -> Result<(), AliCcpError> {
        let buffered = self.writer.into_inner().map_err(|error| refused(&self.path, error))?;
        let synced =
            buffered.into_inner().map_err(|error| error.into_error()).and_then(|file| file.sync_all());
        synced.map_err(|error| AliCcpError::io(&self.path, &error))
    }
}

fn refused(path: &Path, error: ParquetError) -> AliCcpError {
    match error {
        ParquetError::External(error) => match error.downcast_ref::<std::io::Error>() {
            Some(error) => AliCcpError::io(path, error),
            None => AliCcpError::file(path, error),
        },
        error => AliCcpError::file(path, error),
    }
}

impl RowGroupEncoder {
    /// Encodes and packs the columns of a row group, which are in the order of the schema.
    pub(crate) fn encode(&self, columns: &[ColumnParts]) -> Result<Vec<ArrowColumnChunk>, ParquetError> {
        let writers = self.factory.create_column_writers(0)?.into_iter();
        let mut encoded = Vec::with_capacity(columns.len());
        for ((mut writer, field), parts) in writers.zip(self.schema.fields()).zip(columns) {
            for part in parts {
                for leaf in compute_leaves(field, part)? {
                    writer.write(&leaf)?;
                }
            }
            encoded.push(writer.close()?);
        }
        Ok(encoded)
    }
}
