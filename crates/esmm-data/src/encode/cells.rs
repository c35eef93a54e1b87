//! The cells of one feature, encoded one by one and counted.

use esmm_core::Pooling;

use super::dense::{BadValue, DenseEncoder};
use super::feature::{FeatureKind, FeatureSpec, Outside};
use super::pieces::Pieces;
use super::quantile::Quantiles;
use super::table::TableEncoder;
use super::unknown_row::MISSING;
use super::vocabulary::Vocabulary;
use crate::column::bag::{Bags, row_of};
use crate::column::key::Key;
use crate::column::key_column::KeyColumn;
use crate::column::real::{FINITE, RealColumn};
use crate::dataset::{FeatureCounts, SparseColumn};
use crate::error::DataError;
use crate::read::chunk::Chunk;

/// The cells of one feature, and what they were to its encoder.
pub(super) struct Cells<'a> {
    spec: &'a FeatureSpec,
    chunk: &'a Chunk,
    pub(super) counts: FeatureCounts,
    /// Rows of cells for which something stood in.
    pub(super) outside: Vec<usize>,
}

impl<'a> Cells<'a> {
    pub(super) fn new(spec: &'a FeatureSpec, chunk: &'a Chunk) -> Self {
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

pub(super) fn encode_dense(encoder: &DenseEncoder, cells: &mut Cells<'_>) -> Result<Vec<f32>, DataError> {
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

pub(super) fn encode_pieces(
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

pub(super) fn encode_sparse(table: &TableEncoder, cells: &mut Cells<'_>) -> Result<SparseColumn, DataError> {
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
