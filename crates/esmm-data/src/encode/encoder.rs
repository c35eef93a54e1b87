//! Fitted encoders: from a chunk of raw columns to table rows and numbers.

use std::collections::HashSet;
use std::sync::Arc;

use esmm_core::{FeatureSchema, Pooling, Side};

use super::dense::{BadValue, DenseEncoder};
use super::feature::{FeatureKind, FeatureSpec, Outside};
use super::pieces::Pieces;
use super::quantile::Quantiles;
use super::table::TableEncoder;
use super::unknown_row::{MISSING, UnknownRow};
use super::users::users_stand_apart;
use super::vocabulary::Vocabulary;
use crate::column::bag::{Bags, Weights, row_of};
use crate::column::key::Key;
use crate::column::key_column::KeyColumn;
use crate::column::real::{FINITE, RealColumn};
use crate::dataset::{EncodedChunk, FeatureCounts, OutsideCell, Sides, SparseColumn, UserGroups};
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

/// The cells of one feature, and what they were to its encoder.
struct Cells<'a> {
    spec: &'a FeatureSpec,
    chunk: &'a Chunk,
    counts: FeatureCounts,
    /// Rows of cells for which something stood in.
    outside: Vec<usize>,
}

impl<'a> Cells<'a> {
    fn new(spec: &'a FeatureSpec, chunk: &'a Chunk) -> Self {
        Self { spec, chunk, counts: FeatureCounts::of(&spec.name), outside: Vec::new() }
    }

    /// Something stands in for a value of this row.
    fn stood_in(&mut self, row: usize) {
        self.counts.outside += 1;
        self.outside.push(row);
    }

    fn bad(&self, row: usize, bad: BadValue) -> DataError {
        self.chunk.bad_cell(row, &self.spec.column, bad.found, bad.allowed)
    }

    /// The real value of each row.
    fn reals(&self) -> Result<RealColumn, DataError> {
        RealColumn::of(self.chunk, &self.spec.column)
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

fn encode_dense(encoder: &DenseEncoder, cells: &mut Cells<'_>) -> Result<Vec<f32>, DataError> {
    let reals = cells.reals()?;
    let mut numbers = Vec::with_capacity(cells.chunk.rows());
    let mut missing = 0;
    for row in 0..cells.chunk.rows() {
        let cell = reals.value(row);
        if let Ok(value) = cell {
            missing += u64::from(value.is_none());
            if let Ok(number) = encoder.apply(value) {
                numbers.push(number);
                continue;
            }
        }
        let number = encoder.apply_within(cell, cells.spec.outside);
        let (number, stood_in) = number.map_err(|bad| cells.bad(row, bad))?;
        if stood_in {
            cells.stood_in(row);
        }
        numbers.push(number);
    }
    cells.counts.values = numbers.len() as u64;
    cells.counts.missing = missing;
    Ok(numbers)
}

fn encode_pieces(
    encoder: &DenseEncoder,
    pieces: &Pieces,
    cells: &mut Cells<'_>,
) -> Result<Vec<f32>, DataError> {
    let reals = cells.reals()?;
    let rows = cells.chunk.rows();
    let mut positions = Vec::with_capacity(rows);
    for row in 0..rows {
        let cell = reals.value(row);
        cells.counts.missing += u64::from(matches!(cell, Ok(None)));
        let value = encoder.fill_within(cell, cells.spec.outside);
        let (value, stood_in) = value.map_err(|bad| cells.bad(row, bad))?;
        if stood_in {
            cells.stood_in(row);
        }
        positions.push(pieces.position(value) as f32);
    }
    cells.counts.values = rows as u64;
    Ok(positions)
}

fn encode_sparse(table: &TableEncoder, cells: &mut Cells<'_>) -> Result<SparseColumn, DataError> {
    match (&cells.spec.kind, table) {
        (FeatureKind::Sparse { bag: Some(pooling), .. }, _) => encode_bag(table, *pooling, cells),
        (_, TableEncoder::Quantile(quantiles)) => encode_quantiles(quantiles, cells),
        _ => {
            let keys = KeyColumn::read(cells.chunk, &cells.spec.column)?;
            let rows = cells.chunk.rows();
            Ok(SparseColumn::Single(encode_keys(table, &keys, cells, rows, |row| row)?))
        }
    }
}

fn encode_quantiles(quantiles: &Quantiles, cells: &mut Cells<'_>) -> Result<SparseColumn, DataError> {
    let reals = cells.reals()?;
    let mut ids = Vec::with_capacity(cells.chunk.rows());
    for row in 0..cells.chunk.rows() {
        let id = match (reals.value(row), cells.spec.outside) {
            (Ok(Some(value)), _) => quantiles.bucket(value) + 1,
            (Ok(None), _) => {
                cells.counts.missing += 1;
                MISSING
            }
            (Err(_), Outside::Missing) => {
                cells.stood_in(row);
                MISSING
            }
            (Err(found), Outside::Clip | Outside::Error) => {
                return Err(cells.bad(row, BadValue { found, allowed: FINITE }));
            }
        };
        ids.push(id);
    }
    cells.counts.values = ids.len() as u64;
    Ok(SparseColumn::Single(ids))
}

fn encode_bag(
    table: &TableEncoder,
    pooling: Pooling,
    cells: &mut Cells<'_>,
) -> Result<SparseColumn, DataError> {
    let Bags { offsets, keys, weights } = Bags::read(cells.chunk, &cells.spec.column, cells.spec.weights())?;
    let items = offsets.last().copied().unwrap_or(0);
    let ids = encode_keys(table, &keys, cells, items, |item| row_of(&offsets, item))?;
    let bag = SparseColumn::Bag { offsets, ids, weights };
    Ok(match pooling {
        Pooling::Sum => bag,
        Pooling::Mean => bag.without_weightless_bags(),
    })
}

fn encode_keys(
    table: &TableEncoder,
    keys: &KeyColumn,
    cells: &mut Cells<'_>,
    count: usize,
    row_of: impl Fn(usize) -> usize,
) -> Result<Vec<u32>, DataError> {
    if let TableEncoder::Vocabulary(vocabulary) = table {
        return Ok(look_up(vocabulary, keys, cells, count));
    }
    let mut ids = Vec::with_capacity(count);
    let mut missing = 0;
    for index in 0..count {
        let Some(key) = keys.key(index) else {
            missing += 1;
            ids.push(MISSING);
            continue;
        };
        match table.row(key) {
            Ok(row) => ids.push(row),
            Err(_) if becomes_missing(key, cells.spec.outside) => {
                cells.stood_in(row_of(index));
                ids.push(MISSING);
            }
            Err(allowed) => {
                return Err(cells.chunk.bad_cell(row_of(index), &cells.spec.column, key.quoted(), &allowed));
            }
        }
    }
    cells.counts.values = count as u64;
    cells.counts.missing = missing;
    Ok(ids)
}

/// The rows of keys in a vocabulary, which takes all of them.
fn look_up(vocabulary: &Vocabulary, keys: &KeyColumn, cells: &mut Cells<'_>, count: usize) -> Vec<u32> {
    let mut missing = 0;
    let mut row = |index: usize| match keys.key(index) {
        Some(key) => vocabulary.row(key),
        None => {
            missing += 1;
            MISSING
        }
    };
    let ids: Vec<u32> = (0..count).map(&mut row).collect();
    let unknown_row = vocabulary.unknown_row().row();
    let unknown = ids.iter().filter(|id| **id == unknown_row).count() as u64;
    cells.counts.values = count as u64;
    cells.counts.missing = missing;
    cells.counts.unknown = if unknown_row == MISSING { unknown - missing } else { unknown };
    ids
}

/// Whether a key that a table does not take counts as missing. No number is near a text.
fn becomes_missing(key: Key<'_>, outside: Outside) -> bool {
    match (outside, key) {
        (Outside::Missing, _) | (Outside::Clip, Key::Int(_)) => true,
        (Outside::Clip, Key::Text(_)) | (Outside::Error, _) => false,
    }
}
