//! Fitted encoders: from a chunk of raw columns to table rows and numbers.

use std::collections::HashSet;
use std::sync::Arc;

use esmm_core::{FeatureSchema, Side};

use super::cells::{Cells, encode_dense, encode_pieces, encode_sparse};
use super::dense::DenseEncoder;
use super::feature::{FeatureKind, FeatureSpec, Outside};
use super::pieces::Pieces;
use super::table::TableEncoder;
use super::unknown_row::UnknownRow;
use super::users::users_stand_apart;
use crate::column::bag::Weights;
use crate::dataset::{EncodedChunk, OutsideCell, Sides, UserGroups};
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
    /// Placed among pieces after its missing values were filled in.
    Pieces(DenseEncoder, Pieces),
}

impl FittedEncoders {
    pub(crate) fn new(specs: Vec<FeatureSpec>, fitted: Vec<Fitted>) -> Result<Self, DataError> {
        let rows = |fitted: &Fitted| match fitted {
            Fitted::Table(table) => table.num_embeddings(),
            Fitted::Shares(_) | Fitted::Dense(_) | Fitted::Pieces(..) => 0,
        };
        let features = specs.iter().zip(&fitted).map(|(spec, fitted)| spec.describe(rows(fitted)));
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

    pub(crate) fn fitted(&self) -> &[Fitted] {
        &self.fitted
    }

    /// The columns that [`FittedEncoders::encode`] reads, each once.
    pub fn required_columns(&self) -> Vec<String> {
        unique(self.specs.iter().flat_map(FeatureSpec::columns))
    }

    /// Where vocabularies have the row of values that training does not know.
    pub(crate) fn unknown_row(&self) -> UnknownRow {
        self.unknown_rows().into_iter().flatten().next().unwrap_or_default()
    }

    /// The same encoders, to which every value that an encoding does not take is an error, whatever its feature says.
    pub fn strict(mut self) -> Self {
        self.specs.iter_mut().for_each(|spec| spec.outside = Outside::Error);
        self
    }

    /// Encodes all rows of a chunk. Something stands in for values that an encoding does not take, as each feature's
    /// [`Outside`] says; [`EncodedChunk::outside`] names the cells.
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
        let mut encoded = EncodedChunk::of_rows(rows);
        let features = self.specs.iter().zip(&self.fitted).enumerate();
        for (feature, (spec, fitted)) in features.filter(|(_, (spec, _))| wanted(spec)) {
            let mut cells = Cells::new(spec, chunk_of(spec));
            self.encode_feature(fitted, &mut cells, &mut encoded)?;
            let Cells { counts, outside, .. } = cells;
            encoded.counts.features.push(counts);
            encoded.outside.extend(outside.into_iter().map(|row| OutsideCell { feature, row }));
        }
        Ok(encoded)
    }

    fn encode_feature(
        &self,
        fitted: &Fitted,
        cells: &mut Cells<'_>,
        encoded: &mut EncodedChunk,
    ) -> Result<(), DataError> {
        let fitted = match fitted {
            Fitted::Shares(owner) => &self.fitted[*owner],
            own => own,
        };
        match fitted {
            Fitted::Dense(encoder) => encoded.dense.push(encode_dense(encoder, cells)?),
            Fitted::Pieces(encoder, pieces) => encoded.dense.push(encode_pieces(encoder, pieces, cells)?),
            Fitted::Table(table) => encoded.sparse.push(encode_sparse(table, cells)?),
            Fitted::Shares(_) => {}
        }
        Ok(())
    }

    /// Refuses a cell of a training row for which something stood in: nothing is learned from it. `trains` says which
    /// impressions train.
    ///
    /// # Errors
    /// The first such cell, with its place, what was found, and what is allowed.
    pub(crate) fn check_training(
        &self,
        piece: &Piece,
        encoded: &EncodedChunk,
        trains: impl Fn(usize) -> bool,
    ) -> Result<(), DataError> {
        for cell in &encoded.outside {
            let of_user = self.specs[cell.feature].side == Side::User;
            let (chunk, in_training) = match piece {
                Piece::Groups(segment) if of_user => {
                    let mut members = segment.group_of.iter().enumerate();
                    let trains = members.any(|(row, group)| *group as usize == cell.row && trains(row));
                    (&segment.groups, trains)
                }
                Piece::Groups(segment) => (&segment.impressions, trains(cell.row)),
                Piece::Rows(chunk) => (chunk, trains(cell.row)),
            };
            if in_training {
                return Err(self.refused(chunk, *cell));
            }
        }
        Ok(())
    }

    /// The error that a cell is where nothing may stand in for it: with its place, what was found, and what is allowed.
    ///
    /// # Panics
    /// When there is no such feature, or the chunk has no such row.
    fn refused(&self, chunk: &Chunk, cell: OutsideCell) -> DataError {
        let spec = FeatureSpec { outside: Outside::Error, ..self.specs[cell.feature].clone() };
        let row = chunk.slice(cell.row..cell.row + 1);
        let mut cells = Cells::new(&spec, &row);
        let encoded =
            self.encode_feature(&self.fitted[cell.feature], &mut cells, &mut EncodedChunk::of_rows(1));
        let unclear =
            || chunk.bad_cell(cell.row, &spec.column, "another value".to_owned(), "what it was before");
        encoded.err().unwrap_or_else(unclear)
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
