//! Encoded rows in memory, column by column.

use std::sync::Arc;

use super::encoder::{EncodedChunk, FittedEncoders};
use super::feature::FeatureKind;
use super::outcomes::Outcomes;
use super::user_groups::{Sides, UserGroups};

/// Encoded impressions with what is known of their outcome.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Dataset {
    /// Number of rows.
    pub rows: usize,
    /// One entry for each sparse feature, in schema order.
    pub sparse: Vec<SparseColumn>,
    /// One entry for each dense feature, in schema order, each as long as there are rows.
    pub dense: Vec<Vec<f32>>,
    /// Stages that each impression reached, 0 to K.
    pub depth: Vec<u8>,
    /// Hash of each row's group, for GAUC.
    pub group: Option<Vec<u64>>,
    /// True probabilities, of synthetic data.
    pub truth: Option<Truth>,
    /// Rows that share their user: columns of user features then have an entry for each group.
    pub users: Option<UserGroups>,
}

/// The ids of one sparse feature: rows of its table, 0 for missing and unknown values.
#[derive(Debug, Clone, PartialEq)]
pub enum SparseColumn {
    /// One id for each row.
    Single(Vec<u32>),
    /// Any number of ids for each row.
    Bag {
        /// The ids of row `i` are `offsets[i]..offsets[i + 1]`: one entry more than there are rows, the first is 0.
        offsets: Vec<usize>,
        /// The ids of all rows, one after another.
        ids: Vec<u32>,
        /// Their weights, finite and not negative.
        weights: Option<Vec<f32>>,
    },
}

/// Probabilities that the generator of the data knows, each as long as there are rows and in `[0, 1]`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Truth {
    /// p(click given impression).
    pub ctr: Vec<f32>,
    /// p(conversion given click), whether clicked or not.
    pub cvr: Vec<f32>,
    /// p(click and conversion given impression), where it is not the product of the two.
    pub ctcvr: Option<Vec<f32>>,
}

impl SparseColumn {
    fn empty(bag: bool, weighted: bool) -> Self {
        match bag {
            false => Self::Single(Vec::new()),
            true => Self::Bag { offsets: vec![0], ids: Vec::new(), weights: weighted.then(Vec::new) },
        }
    }

    /// Share of its ids that are missing or unknown, in `[0, 1]`; 0 when it has no ids.
    pub fn unknown_rate(&self) -> f64 {
        let (Self::Single(ids) | Self::Bag { ids, .. }) = self;
        let unknown = ids.iter().filter(|id| **id == 0).count();
        unknown as f64 / ids.len().max(1) as f64
    }

    fn append(&mut self, other: &Self, rows: &[usize]) {
        match (self, other) {
            (Self::Single(ids), Self::Single(more)) => ids.extend(rows.iter().map(|&row| more[row])),
            (
                Self::Bag { offsets, ids, weights },
                Self::Bag { offsets: from, ids: more, weights: heavier },
            ) => {
                for &row in rows {
                    let range = from[row]..from[row + 1];
                    ids.extend_from_slice(&more[range.clone()]);
                    offsets.push(ids.len());
                    if let (Some(weights), Some(heavier)) = (weights.as_mut(), heavier) {
                        weights.extend_from_slice(&heavier[range]);
                    }
                }
            }
            (own, other) => panic!("a column of one kind got rows of another: {own:?} and {other:?}"),
        }
    }

    /// Empties the bags whose weights are all zero: they have no mean.
    pub(super) fn without_weightless_bags(self) -> Self {
        let Self::Bag { offsets, ids, weights: Some(weights) } = self else {
            return self;
        };
        let mut kept = (vec![0], Vec::with_capacity(ids.len()), Vec::with_capacity(ids.len()));
        for bag in offsets.windows(2).map(|pair| pair[0]..pair[1]) {
            if weights[bag.clone()].iter().any(|weight| *weight > 0.0) {
                kept.1.extend_from_slice(&ids[bag.clone()]);
                kept.2.extend_from_slice(&weights[bag]);
            }
            kept.0.push(kept.1.len());
        }
        Self::Bag { offsets: kept.0, ids: kept.1, weights: Some(kept.2) }
    }
}

impl Dataset {
    /// No rows of what these encoders make; with `by_group` what users have goes in once a group.
    pub(super) fn empty(encoders: &FittedEncoders, outcomes: &Outcomes, by_group: bool) -> Self {
        let sparse = encoders.specs().iter().filter_map(|spec| match &spec.kind {
            FeatureKind::Dense { .. } => None,
            FeatureKind::Sparse { bag, weighted, weights_column, .. } => {
                Some(SparseColumn::empty(bag.is_some(), *weighted || weights_column.is_some()))
            }
        });
        Self {
            sparse: sparse.collect(),
            dense: vec![Vec::new(); encoders.schema().num_dense()],
            group: outcomes.group.as_ref().map(|_| Vec::new()),
            truth: outcomes
                .truth
                .as_ref()
                .map(|truth| Truth { ctcvr: truth.ctcvr.as_ref().map(|_| Vec::new()), ..Truth::default() }),
            users: by_group.then(|| UserGroups::empty(Arc::new(Sides::of(encoders.specs())))),
            ..Self::default()
        }
    }

    /// Bytes that the rows take.
    pub(super) fn bytes(&self) -> usize {
        let sparse = self.sparse.iter().map(|column| match column {
            SparseColumn::Single(ids) => size_of_val(ids.as_slice()),
            SparseColumn::Bag { offsets, ids, weights } => {
                let weights = weights.as_ref().map_or(0, |weights| size_of_val(weights.as_slice()));
                size_of_val(offsets.as_slice()) + size_of_val(ids.as_slice()) + weights
            }
        });
        let truth = self.truth.as_ref().map_or(0, |truth| {
            4 * (truth.ctr.len() + truth.cvr.len() + truth.ctcvr.as_ref().map_or(0, Vec::len))
        });
        let group = self.group.as_ref().map_or(0, |group| size_of_val(group.as_slice()));
        let dense: usize = self.dense.iter().map(|column| size_of_val(column.as_slice())).sum();
        sparse.sum::<usize>() + dense + self.rows + group + truth
    }

    /// Makes room for so many rows, but for the ids of bags and what groups share.
    pub(super) fn reserve(&mut self, rows: usize) {
        let shared = |user: fn(&Sides) -> &[bool], column: usize| {
            self.users.as_ref().is_some_and(|users| user(&users.sides)[column])
        };
        for (number, column) in self.sparse.iter_mut().enumerate() {
            match column {
                _ if shared(|sides| &sides.sparse, number) => {}
                SparseColumn::Single(ids) => ids.reserve_exact(rows),
                SparseColumn::Bag { offsets, .. } => offsets.reserve_exact(rows),
            }
        }
        let own =
            self.dense.iter_mut().enumerate().filter(|(number, _)| !shared(|sides| &sides.dense, *number));
        own.for_each(|(_, column)| column.reserve_exact(rows));
        self.depth.reserve_exact(rows);
    }

    /// Adds some rows of a chunk, which must be in ascending order where it has groups.
    pub(super) fn append(&mut self, chunk: &EncodedChunk, outcome: &Outcome, rows: &[usize]) {
        self.rows += rows.len();
        let groups = match (&mut self.users, &chunk.users) {
            (Some(users), Some(more)) => users.append(more, rows),
            (None, None) => Vec::new(),
            (own, _) => panic!("groups on one side only: {own:?}"),
        };
        let sides = self.users.as_ref().map(|users| users.sides.clone());
        let entries = |user: fn(&Sides) -> &[bool], column: usize| match &sides {
            Some(sides) if user(sides)[column] => groups.as_slice(),
            _ => rows,
        };
        for (number, (column, more)) in self.sparse.iter_mut().zip(&chunk.sparse).enumerate() {
            column.append(more, entries(|sides| &sides.sparse, number));
        }
        for (number, (column, more)) in self.dense.iter_mut().zip(&chunk.dense).enumerate() {
            column.extend(entries(|sides| &sides.dense, number).iter().map(|&entry| more[entry]));
        }
        self.depth.extend(rows.iter().filter_map(|&row| outcome.depth[row]));
        if let (Some(group), Some(more)) = (&mut self.group, &outcome.group) {
            group.extend(rows.iter().map(|&row| more[row]));
        }
        if let (Some(truth), Some(more)) = (&mut self.truth, &outcome.truth) {
            truth.append(more, rows);
        }
    }
}

impl Truth {
    fn append(&mut self, other: &Self, rows: &[usize]) {
        self.ctr.extend(rows.iter().map(|&row| other.ctr[row]));
        self.cvr.extend(rows.iter().map(|&row| other.cvr[row]));
        if let (Some(ctcvr), Some(more)) = (&mut self.ctcvr, &other.ctcvr) {
            ctcvr.extend(rows.iter().map(|&row| more[row]));
        }
    }
}

/// What is known about the outcome of a chunk's rows.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Stages reached, `None` for a row that is left out.
    pub(super) depth: Vec<Option<u8>>,
    pub(super) group: Option<Vec<u64>>,
    pub(super) truth: Option<Truth>,
}
