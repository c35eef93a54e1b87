//! The data path from file to dataset: every behaviour, and every bad input with its message.

mod contracts;
mod counting;
mod encode;
mod encode_bags;
mod grouped;
mod label;
mod save;
mod source;
mod split;
mod stream;
mod stream_groups;
mod unknown;
mod values;

use std::fs::{self, File};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema};
use esmm_core::{Pooling, Side};
use parquet::arrow::ArrowWriter;
use tempfile::TempDir;

use crate::load::files::{StreamOptions, StreamedSplits, in_files};
use crate::load::memory::{LoadedSplits, in_memory};
use crate::{
    Chunk, CountSpec, DataError, DataSpec, DenseTransform, EncodedChunk, EncoderFitter, FeatureKind,
    FeatureSpec, FittedEncoders, LabelSpec, Outside, SourceSpec, SparseColumn, SparseEncoding, SplitSpec,
    TruthSpec, UnknownRow,
};

/// A folder of data files that disappears with the test.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// A source of one new file.
    fn text(&self, name: &str, text: impl AsRef<[u8]>) -> SourceSpec {
        fs::write(self.path(name), text).unwrap();
        SourceSpec::new([self.path(name)])
    }

    /// A source of one new Parquet file.
    fn parquet(&self, name: &str, columns: Vec<(&str, ArrayRef)>) -> SourceSpec {
        let fields: Vec<Field> =
            columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let arrays = columns.into_iter().map(|(_, array)| array).collect();
        let batch = RecordBatch::try_new(schema.clone(), arrays).unwrap();
        let file = File::create(self.path(name)).unwrap();
        let mut writer = ArrowWriter::try_new(file, schema, None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        SourceSpec::new([self.path(name)])
    }

    /// The message of an error, without the folder.
    fn message(&self, error: &DataError) -> String {
        let message = error.to_string();
        assert!(!message.contains('\n'), "{message}");
        self.message_of(&message)
    }

    /// A message or place without the folder.
    fn message_of(&self, message: &dyn std::fmt::Display) -> String {
        message.to_string().replace(&self.path(""), "")
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn chunks(source: &SourceSpec, columns: &[&str]) -> Result<Vec<Chunk>, DataError> {
    source.open(&names(columns))?.collect()
}

fn vocabulary() -> SparseEncoding {
    SparseEncoding::Vocabulary { min_count: 1 }
}

fn feature(name: &str, kind: FeatureKind) -> FeatureSpec {
    FeatureSpec { name: name.into(), column: name.into(), side: Side::User, kind, outside: Outside::Clip }
}

fn sparse(name: &str, encoding: SparseEncoding) -> FeatureSpec {
    let kind =
        FeatureKind::Sparse { encoding, bag: None, weighted: false, weights_column: None, shares: None };
    feature(name, kind)
}

fn bag(name: &str, encoding: SparseEncoding, pooling: Pooling, weighted: bool) -> FeatureSpec {
    let kind =
        FeatureKind::Sparse { encoding, bag: Some(pooling), weighted, weights_column: None, shares: None };
    feature(name, kind)
}

fn dense(name: &str, transform: DenseTransform, missing: Option<f32>) -> FeatureSpec {
    let kind = FeatureKind::Dense { transform, missing };
    feature(name, kind)
}

/// The splits in memory.
fn load_splits(
    split: &SplitSpec,
    features: &[FeatureSpec],
    labels: &LabelSpec,
    group: Option<&str>,
    truth: Option<&TruthSpec>,
    by_group: bool,
) -> Result<LoadedSplits, DataError> {
    in_memory(&data_spec(split, features, labels, group, truth), by_group)
}

/// The splits in their files.
fn stream_splits(
    split: &SplitSpec,
    features: &[FeatureSpec],
    labels: &LabelSpec,
    group: Option<&str>,
    truth: Option<&TruthSpec>,
    options: StreamOptions,
) -> Result<StreamedSplits, DataError> {
    in_files(&data_spec(split, features, labels, group, truth), options)
}

fn data_spec(
    split: &SplitSpec,
    features: &[FeatureSpec],
    labels: &LabelSpec,
    group: Option<&str>,
    truth: Option<&TruthSpec>,
) -> DataSpec {
    DataSpec {
        split: split.clone(),
        features: features.to_vec(),
        // Ids count from 1 then.
        unknown_share: 0.0,
        labels: labels.clone(),
        group: group.map(str::to_owned),
        truth: truth.cloned(),
        counting: CountSpec::default(),
    }
}

/// Encoders fitted on all rows of a source.
fn fit(source: &SourceSpec, specs: &[FeatureSpec]) -> Result<FittedEncoders, DataError> {
    let mut fitter = EncoderFitter::new(specs.to_vec())?.with_unknown_row(UnknownRow::OfMissing);
    for chunk in source.open(&fitter.required_columns())? {
        let chunk = chunk?;
        fitter.observe(&chunk, &vec![true; chunk.rows()])?;
    }
    fitter.finish()
}

/// Fits on a source of one chunk and encodes it.
fn encode(source: &SourceSpec, specs: &[FeatureSpec]) -> Result<EncodedChunk, DataError> {
    let encoders = fit(source, specs)?;
    encode_with(&encoders, source)
}

fn encode_with(encoders: &FittedEncoders, source: &SourceSpec) -> Result<EncodedChunk, DataError> {
    let mut reader = source.open(&encoders.required_columns())?;
    encoders.encode(&reader.next().unwrap()?)
}

fn single(encoded: &EncodedChunk, feature: usize) -> &[u32] {
    single_ids(&encoded.sparse[feature])
}

fn single_ids(column: &SparseColumn) -> &[u32] {
    match column {
        SparseColumn::Single(ids) => ids,
        bag => panic!("a bag: {bag:?}"),
    }
}

fn bag_column(offsets: &[usize], ids: &[u32], weights: Option<&[f32]>) -> SparseColumn {
    SparseColumn::Bag { offsets: offsets.to_vec(), ids: ids.to_vec(), weights: weights.map(<[f32]>::to_vec) }
}
