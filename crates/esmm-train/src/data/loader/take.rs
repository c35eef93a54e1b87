//! Rows of a dataset, copied out and made a batch.

use std::borrow::Cow;

use esmm_core::{BatchBuilder, BatchInput, HostBatch, SparseInput};

use super::{BatchLoaderConfig, EncodedRows, Purpose, RowLabels};
use crate::data::{Dataset, Sides, SparseColumn, Truth, UserGroups};

impl Dataset {
    /// A copy of some rows, in the order given.
    pub fn take(&self, rows: &[u32]) -> Self {
        let (users, groups) = self.users.as_ref().map(|users| users.take(rows)).unzip();
        Self { users, ..self.copied(rows, &groups.unwrap_or_default()) }
    }

    /// The rows, each with all of its features: all rows where they have them, or else copies of the first `most`.
    pub(in crate::data) fn written_out(&self, most: usize) -> Cow<'_, Self> {
        let Some(users) = &self.users else { return Cow::Borrowed(self) };
        let rows: Vec<u32> = (0..self.rows.min(most) as u32).collect();
        Cow::Owned(self.copied(&rows, &users.of_rows[..rows.len()]))
    }

    /// Some rows; of the columns with an entry a group the entries of `groups`.
    fn copied(&self, rows: &[u32], groups: &[u32]) -> Self {
        let entries = |user: fn(&Sides) -> &[bool], column: usize| match &self.users {
            Some(UserGroups { sides, .. }) if user(sides)[column] => groups,
            _ => rows,
        };
        let pick = |values: &[f32], rows: &[u32]| -> Vec<f32> {
            rows.iter().map(|&row| values[row as usize]).collect()
        };
        let sparse = self.sparse.iter().enumerate();
        let dense = self.dense.iter().enumerate();
        Self {
            rows: rows.len(),
            sparse: sparse
                .map(|(number, column)| column.take(entries(|sides| &sides.sparse, number)))
                .collect(),
            dense: dense
                .map(|(number, column)| pick(column, entries(|sides| &sides.dense, number)))
                .collect(),
            depth: rows.iter().map(|&row| self.depth[row as usize]).collect(),
            group: self.group.as_ref().map(|group| rows.iter().map(|&row| group[row as usize]).collect()),
            truth: self.truth.as_ref().map(|truth| Truth {
                ctr: pick(&truth.ctr, rows),
                cvr: pick(&truth.cvr, rows),
                ctcvr: truth.ctcvr.as_deref().map(|ctcvr| pick(ctcvr, rows)),
            }),
            users: None,
        }
    }

    /// The rows as a batch with their labels.
    pub(super) fn host_batch(
        &self,
        rows: &[u32],
        config: &BatchLoaderConfig,
        builder: &mut BatchBuilder,
    ) -> (HostBatch, RowLabels) {
        let part = self.take(rows);
        let sparse: Vec<SparseInput<'_>> = part.sparse.iter().map(SparseColumn::as_input).collect();
        let dense: Vec<&[f32]> = part.dense.iter().map(Vec::as_slice).collect();
        let groups = part.users.as_ref().map(UserGroups::as_input);
        let input = BatchInput { rows: part.rows, sparse: &sparse, dense: &dense, groups };
        let batch = match config.purpose {
            Purpose::Training { .. } => builder.build(input),
            Purpose::Scoring => builder.build_for_inference(input),
        };
        let batch = batch.unwrap_or_else(|error| {
            panic!("the dataset does not fit the schema {:?}: {error}", config.schema)
        });
        let scored = config.purpose == Purpose::Scoring;
        let encoded = scored
            .then(|| Box::new(EncodedRows { sparse: part.sparse, dense: part.dense, users: part.users }));
        (batch, RowLabels { depth: part.depth, group: part.group, truth: part.truth, encoded })
    }
}

impl SparseColumn {
    /// The column as the core reads it.
    pub fn as_input(&self) -> SparseInput<'_> {
        match self {
            Self::Single(ids) => SparseInput::Single(ids),
            Self::Bag { offsets, ids, weights } => {
                SparseInput::Bag { offsets, ids, weights: weights.as_deref() }
            }
        }
    }

    pub(in crate::data) fn take(&self, rows: &[u32]) -> Self {
        match self {
            Self::Single(ids) => Self::Single(rows.iter().map(|&row| ids[row as usize]).collect()),
            Self::Bag { offsets, ids, weights } => {
                let ranges = || rows.iter().map(|&row| offsets[row as usize]..offsets[row as usize + 1]);
                let mut taken = Vec::with_capacity(rows.len() + 1);
                taken.push(0);
                taken.extend(ranges().scan(0, |total, range| {
                    *total += range.len();
                    Some(*total)
                }));
                Self::Bag {
                    offsets: taken,
                    ids: ranges().flat_map(|range| ids[range].iter().copied()).collect(),
                    weights: weights
                        .as_ref()
                        .map(|weights| ranges().flat_map(|range| weights[range].iter().copied()).collect()),
                }
            }
        }
    }
}
