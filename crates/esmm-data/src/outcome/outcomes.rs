//! What is read beside the features: labels, groups, true rates, and how rows count.

use std::sync::Arc;

use super::counting::{CountSpec, Counting};
use super::label::LabelSpec;
use super::truth::TruthSpec;
use crate::column::key::{KEY_HASH_SEED, Key};
use crate::column::key_column::KeyColumn;
use crate::dataset::{Dataset, Outcome, Sides, SparseColumn, Truth, UserGroups};
use crate::encode::encoder::FittedEncoders;
use crate::encode::feature::FeatureKind;
use crate::error::DataError;
use crate::read::chunk::Chunk;
use crate::read::pieces::Piece;
use crate::read::source::SourceSpec;

/// Where the outcome of an impression stands.
#[derive(Debug, Clone)]
pub(crate) struct Outcomes {
    pub(crate) labels: LabelSpec,
    pub(crate) group: Option<String>,
    pub(crate) truth: Option<TruthSpec>,
    pub(crate) counting: Counting,
}

/// The group of a row that has none: its column is missing there. GAUC leaves such rows out.
pub const NO_GROUP: u64 = u64::MAX;

/// The group of each row of a chunk.
fn group_of(chunk: &Chunk, column: &str) -> Result<Vec<u64>, DataError> {
    let keys = KeyColumn::read(chunk, column)?;
    // No hash of a group is that of none.
    let hash = |key: Key<'_>| key.hash(KEY_HASH_SEED).min(NO_GROUP - 1);
    Ok((0..chunk.rows()).map(|row| keys.key(row).map_or(NO_GROUP, hash)).collect())
}

impl Outcomes {
    /// Checks the settings.
    pub(crate) fn new(
        labels: &LabelSpec,
        group: Option<&str>,
        truth: Option<&TruthSpec>,
        counting: &CountSpec,
    ) -> Result<Self, DataError> {
        labels.validate()?;
        truth.map_or(Ok(()), TruthSpec::validate)?;
        counting.validate()?;
        let counting = counting.resolve(&[])?;
        Ok(Self { labels: labels.clone(), group: group.map(str::to_owned), truth: truth.cloned(), counting })
    }

    /// The same, knowing which rows of these sources are open; a pass over their times where that is asked for.
    pub(crate) fn resolved(self, sources: &[&SourceSpec]) -> Result<Self, DataError> {
        Ok(Self { counting: self.counting.spec.resolve(sources)?, ..self })
    }

    /// The columns.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &str> {
        let truth = self.truth.iter().flat_map(TruthSpec::columns);
        let counting = self.counting.spec.columns();
        self.labels
            .columns
            .iter()
            .map(String::as_str)
            .chain(self.group.as_deref())
            .chain(truth)
            .chain(counting)
    }

    /// Those that stand with the impressions where users stand apart.
    pub(crate) fn columns_of_impressions(&self) -> impl Iterator<Item = &str> {
        let truth = self.truth.iter().flat_map(TruthSpec::columns);
        self.labels.columns.iter().map(String::as_str).chain(truth).chain(self.counting.spec.columns())
    }

    /// The outcome of each row of a chunk.
    pub(crate) fn read(&self, chunk: &Chunk) -> Result<Outcome, DataError> {
        Ok(Outcome {
            depth: self.labels.read(chunk)?,
            group: self.group.as_ref().map(|column| group_of(chunk, column)).transpose()?,
            truth: self.truth.as_ref().map(|truth| truth.read(chunk)).transpose()?,
            counts: self.counting.read(chunk)?,
        })
    }

    /// The outcome of each row of a piece.
    pub(crate) fn read_piece(&self, piece: &Piece) -> Result<Outcome, DataError> {
        match piece {
            Piece::Rows(chunk) => self.read(chunk),
            Piece::Groups(segment) => {
                self.read_beside(&segment.impressions, &segment.groups, &segment.group_of)
            }
        }
    }

    /// The outcome of each impression, where the column of the group may stand beside them, once a group.
    pub(crate) fn read_beside(
        &self,
        impressions: &Chunk,
        groups: &Chunk,
        of_rows: &[u32],
    ) -> Result<Outcome, DataError> {
        let column = self.group.as_ref().filter(|column| groups.column(column).is_ok());
        let Some(column) = column else {
            return self.read(impressions);
        };
        let hashes = group_of(groups, column)?;
        let group = of_rows.iter().map(|&group| hashes[group as usize]).collect();
        let others = Self { group: None, ..self.clone() };
        Ok(Outcome { group: Some(group), ..others.read(impressions)? })
    }

    /// A dataset without rows of what these encoders make; with `by_group` what users have goes in once a group.
    pub(crate) fn empty_dataset(&self, encoders: &FittedEncoders, by_group: bool) -> Dataset {
        let sparse = encoders.specs().iter().filter_map(|spec| match &spec.kind {
            FeatureKind::Dense { .. } => None,
            FeatureKind::Sparse { bag, weighted, weights_column, .. } => {
                Some(SparseColumn::empty(bag.is_some(), *weighted || weights_column.is_some()))
            }
        });
        Dataset {
            sparse: sparse.collect(),
            dense: vec![Vec::new(); encoders.schema().num_dense()],
            group: self.group.as_ref().map(|_| Vec::new()),
            truth: self
                .truth
                .as_ref()
                .map(|truth| Truth { ctcvr: truth.ctcvr.as_ref().map(|_| Vec::new()), ..Truth::default() }),
            counts: self.counting.empty(),
            users: by_group.then(|| UserGroups::empty(Arc::new(Sides::of(encoders.specs())))),
            ..Dataset::default()
        }
    }
}
