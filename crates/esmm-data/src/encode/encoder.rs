//! Fitted encoders: from a chunk of raw columns to table rows and numbers.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use esmm_core::{FeatureSchema, Pooling, Side};

use super::dense::DenseEncoder;
use super::feature::{FeatureKind, FeatureSpec};
use super::pieces::Pieces;
use super::table::TableEncoder;
use super::users::users_stand_apart;
use crate::column::bag::{Bags, Weights, row_of};
use crate::column::key_column::KeyColumn;
use crate::column::real::RealColumn;
use crate::dataset::{EncodedChunk, Sides, SparseColumn, UserGroups};
use crate::error::DataError;
use crate::read::chunk::Chunk;
use crate::read::grouped::{Segment, Segments};
use crate::read::pieces::Piece;
use crate::read::source::SourceSpec;

/// The encoders of all features of a model. Their order is the schema's.
#[derive(Debug, Clone, PartialEq)]
pub struct FittedEncoders {
    specs: Vec<FeatureSpec>,
    fitted: Vec<Fitted>,
    schema: FeatureSchema,
}

/// What one feature became.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fitted {
    Table(TableEncoder),
    Shares(usize),
    Dense(DenseEncoder),
    /// Cut into pieces after its missing values were filled in.
    Pieces(DenseEncoder, Pieces),
}

/// The numbers that a dense feature gives the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DenseColumns {
    /// Name of the feature.
    pub name: String,
    /// Its dense columns, in schema order.
    pub columns: Range<usize>,
}

impl FittedEncoders {
    pub(crate) fn new(specs: Vec<FeatureSpec>, fitted: Vec<Fitted>) -> Result<Self, DataError> {
        let rows = |fitted: &Fitted| match fitted {
            Fitted::Table(table) => table.num_embeddings(),
            Fitted::Shares(_) | Fitted::Dense(_) | Fitted::Pieces(..) => 0,
        };
        let features = specs.iter().zip(&fitted).flat_map(|(spec, fitted)| spec.describe(rows(fitted)));
        let schema = FeatureSchema::new(features.collect())?;
        Ok(Self { specs, fitted, schema })
    }

    /// What the model has to know about the features.
    pub fn schema(&self) -> &FeatureSchema {
        &self.schema
    }

    /// What was asked for.
    pub fn specs(&self) -> &[FeatureSpec] {
        &self.specs
    }

    /// The dense features, each with its columns.
    pub fn dense_features(&self) -> Vec<DenseColumns> {
        let mut start = 0;
        let dense = self.specs.iter().filter(|spec| matches!(spec.kind, FeatureKind::Dense { .. }));
        let columns = dense.map(|spec| {
            let columns = start..start + spec.dense_width();
            start = columns.end;
            DenseColumns { name: spec.name.clone(), columns }
        });
        columns.collect()
    }

    pub(crate) fn fitted(&self) -> &[Fitted] {
        &self.fitted
    }

    /// The columns that [`FittedEncoders::encode`] reads, each once.
    pub fn required_columns(&self) -> Vec<String> {
        unique(self.specs.iter().flat_map(FeatureSpec::columns))
    }

    /// Encodes all rows of a chunk.
    ///
    /// # Errors
    /// A column that is not in the chunk or has an unsuitable type, and a value that is not allowed.
    pub fn encode(&self, chunk: &Chunk) -> Result<EncodedChunk, DataError> {
        self.encode_from(chunk.rows(), |_| true, |_| chunk)
    }

    /// Encodes some of the features for all rows of a chunk: those that `wanted` names. The others have no entry in the
    /// result, and their columns need not be there.
    ///
    /// # Errors
    /// As [`FittedEncoders::encode`].
    pub fn encode_some(
        &self,
        chunk: &Chunk,
        wanted: impl Fn(&FeatureSpec) -> bool,
    ) -> Result<EncodedChunk, DataError> {
        self.encode_from(chunk.rows(), wanted, |_| chunk)
    }

    /// The segments of a source, for [`encode_segment`](Self::encode_segment), if the features of users stand with its groups.
    ///
    /// # Errors
    /// As [`SourceSpec::open`].
    pub fn segments(&self, source: &SourceSpec, columns: &[String]) -> Result<Option<Segments>, DataError> {
        match users_stand_apart(source, &self.specs, [])? {
            true => source.segments(columns),
            false => Ok(None),
        }
    }

    /// Encodes all rows of a piece of a source.
    ///
    /// # Errors
    /// As [`FittedEncoders::encode`].
    pub fn encode_piece(&self, piece: &Piece) -> Result<EncodedChunk, DataError> {
        match piece {
            Piece::Rows(chunk) => self.encode(chunk),
            Piece::Groups(segment) => self.encode_segment(segment),
        }
    }

    /// Encodes the impressions of a segment and, once each, their users.
    ///
    /// # Errors
    /// As [`FittedEncoders::encode`].
    pub fn encode_segment(&self, segment: &Segment) -> Result<EncodedChunk, DataError> {
        self.encode_users(&segment.impressions, &segment.groups, segment.group_of.clone())
    }

    /// Encodes impressions and, once each, their users.
    ///
    /// # Errors
    /// As [`FittedEncoders::encode`].
    pub(crate) fn encode_users(
        &self,
        impressions: &Chunk,
        users: &Chunk,
        of_rows: Vec<u32>,
    ) -> Result<EncodedChunk, DataError> {
        let chunk_of = |spec: &FeatureSpec| if spec.side == Side::User { users } else { impressions };
        let encoded = self.encode_from(impressions.rows(), |_| true, chunk_of)?;
        let sides = Arc::new(Sides::of(&self.specs));
        Ok(EncodedChunk { users: Some(UserGroups { count: users.rows(), of_rows, sides }), ..encoded })
    }

    fn encode_from<'a>(
        &self,
        rows: usize,
        wanted: impl Fn(&FeatureSpec) -> bool,
        chunk_of: impl Fn(&FeatureSpec) -> &'a Chunk,
    ) -> Result<EncodedChunk, DataError> {
        let mut encoded = EncodedChunk { rows, sparse: Vec::new(), dense: Vec::new(), users: None };
        let features = self.specs.iter().zip(&self.fitted).filter(|(spec, _)| wanted(spec));
        for (spec, fitted) in features {
            let fitted = match fitted {
                Fitted::Shares(owner) => &self.fitted[*owner],
                own => own,
            };
            let chunk = chunk_of(spec);
            match fitted {
                Fitted::Dense(encoder) => encoded.dense.push(encode_dense(encoder, spec, chunk)?),
                Fitted::Pieces(encoder, pieces) => {
                    encoded.dense.extend(encode_pieces(encoder, pieces, spec, chunk)?);
                }
                Fitted::Table(table) => encoded.sparse.push(encode_sparse(table, spec, chunk)?),
                Fitted::Shares(_) => {}
            }
        }
        Ok(encoded)
    }
}

impl FeatureSpec {
    /// Where the weights of its bags are.
    pub(crate) fn weights(&self) -> Weights<'_> {
        match &self.kind {
            FeatureKind::Sparse { weights_column: Some(column), .. } => Weights::Column(column),
            FeatureKind::Sparse { weighted: true, .. } => Weights::Inside,
            _ => Weights::None,
        }
    }
}

/// Names in their order, each once.
pub(crate) fn unique<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut seen = HashSet::new();
    names.filter(|name| seen.insert(*name)).map(str::to_owned).collect()
}

fn encode_dense(encoder: &DenseEncoder, spec: &FeatureSpec, chunk: &Chunk) -> Result<Vec<f32>, DataError> {
    let mut numbers = Vec::with_capacity(chunk.rows());
    RealColumn::read(chunk, &spec.column, |row, value| {
        let number = encoder.apply(value);
        numbers.push(number.map_err(|bad| chunk.bad_cell(row, &spec.column, bad.found, bad.allowed))?);
        Ok(())
    })?;
    Ok(numbers)
}

fn encode_pieces(
    encoder: &DenseEncoder,
    pieces: &Pieces,
    spec: &FeatureSpec,
    chunk: &Chunk,
) -> Result<Vec<Vec<f32>>, DataError> {
    let mut columns = vec![vec![0.0; chunk.rows()]; spec.dense_width()];
    RealColumn::read(chunk, &spec.column, |row, value| {
        let value = encoder.fill(value);
        let value = value.map_err(|bad| chunk.bad_cell(row, &spec.column, bad.found, bad.allowed))?;
        let (full, share) = pieces.place(value);
        columns[..full].iter_mut().for_each(|column| column[row] = 1.0);
        if let Some(column) = columns.get_mut(full) {
            column[row] = share as f32;
        }
        Ok(())
    })?;
    Ok(columns)
}

fn encode_sparse(table: &TableEncoder, spec: &FeatureSpec, chunk: &Chunk) -> Result<SparseColumn, DataError> {
    match (&spec.kind, table) {
        (FeatureKind::Sparse { bag: Some(pooling), .. }, _) => encode_bag(table, *pooling, spec, chunk),
        (_, TableEncoder::Quantile(quantiles)) => {
            let mut ids = Vec::with_capacity(chunk.rows());
            RealColumn::read(chunk, &spec.column, |_, value| {
                ids.push(value.map_or(0, |value| quantiles.bucket(value) + 1));
                Ok(())
            })?;
            Ok(SparseColumn::Single(ids))
        }
        _ => {
            let keys = KeyColumn::read(chunk, &spec.column)?;
            let ids = encode_keys(table, &keys, spec, chunk, chunk.rows(), |row| row)?;
            Ok(SparseColumn::Single(ids))
        }
    }
}

fn encode_bag(
    table: &TableEncoder,
    pooling: Pooling,
    spec: &FeatureSpec,
    chunk: &Chunk,
) -> Result<SparseColumn, DataError> {
    let Bags { offsets, keys, weights } = Bags::read(chunk, &spec.column, spec.weights())?;
    let items = offsets.last().copied().unwrap_or(0);
    let ids = encode_keys(table, &keys, spec, chunk, items, |item| row_of(&offsets, item))?;
    let bag = SparseColumn::Bag { offsets, ids, weights };
    Ok(match pooling {
        Pooling::Sum => bag,
        Pooling::Mean => bag.without_weightless_bags(),
    })
}

fn encode_keys(
    table: &TableEncoder,
    keys: &KeyColumn,
    spec: &FeatureSpec,
    chunk: &Chunk,
    count: usize,
    row_of: impl Fn(usize) -> usize,
) -> Result<Vec<u32>, DataError> {
    let mut ids = Vec::with_capacity(count);
    for index in 0..count {
        let key = keys.key(index);
        ids.push(table.row(key).map_err(|allowed| {
            let found = key.map_or_else(|| "nothing".to_owned(), |key| key.quoted());
            chunk.bad_cell(row_of(index), &spec.column, found, &allowed)
        })?);
    }
    Ok(ids)
}
