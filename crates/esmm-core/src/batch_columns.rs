//! The columns that the parts of a batch read: what rows have of their own, and what groups of rows share.

use crate::backend::SharedFeatures;
use crate::batch_input::{BatchInput, SparseInput};
use crate::schema::{DenseFeature, Side};

/// A column, and the entry of it that each row of a part reads: its own, or that of its group.
pub(crate) struct Column<'a, T> {
    pub(crate) feature: usize,
    pub(crate) values: T,
    pub(crate) entry_of: Option<&'a [u32]>,
}

/// The columns of a part of the batch.
pub(crate) struct Columns<'a> {
    pub(crate) rows: usize,
    pub(crate) sparse: Vec<Column<'a, SparseInput<'a>>>,
    pub(crate) dense: Vec<Column<'a, &'a [f32]>>,
}

impl<'a> Columns<'a> {
    /// What rows have of their own, and what groups share with the group of each row. Where the schema leaves no
    /// sparse feature to one of them, rows read the columns of groups as if they were written out.
    pub(crate) fn split(
        input: &BatchInput<'a>,
        users: &SharedFeatures,
        dense: &[DenseFeature],
    ) -> (Self, Option<(Self, &'a [u32])>) {
        let mut own = Columns { rows: input.rows, sparse: Vec::new(), dense: Vec::new() };
        let Some(groups) = input.groups else {
            own.sparse.extend(columns(input.sparse, |_| true, None));
            own.dense.extend(columns(input.dense, |_| true, None));
            return (own, None);
        };
        own.sparse.extend(columns(input.sparse, |feature| !users.sparse[feature], None));
        own.dense.extend(columns(input.dense, |feature| !is_of_users(&dense[feature]), None));
        let written_out = (!users.leave_both_sides()).then_some(groups.of_rows);
        let sparse = columns(input.sparse, |feature| users.sparse[feature], written_out);
        let dense = columns(input.dense, |feature| is_of_users(&dense[feature]), written_out);
        if written_out.is_none() {
            let shared = Columns { rows: groups.count, sparse: sparse.collect(), dense: dense.collect() };
            return (own, Some((shared, groups.of_rows)));
        }
        own.sparse.extend(sparse);
        own.dense.extend(dense);
        own.sparse.sort_by_key(|column| column.feature);
        own.dense.sort_by_key(|column| column.feature);
        (own, None)
    }
}

impl<T> Column<'_, T> {
    /// The entry that a row of the part reads.
    pub(crate) fn entry(&self, row: usize) -> usize {
        self.entry_of.map_or(row, |entry_of| entry_of[row] as usize)
    }
}

/// Whether groups have the values of a dense feature.
pub(crate) fn is_of_users(feature: &DenseFeature) -> bool {
    feature.side == Side::User
}

/// The columns of some features.
fn columns<'a, T: Copy>(
    all: &'a [T],
    which: impl Fn(usize) -> bool,
    entry_of: Option<&'a [u32]>,
) -> impl Iterator<Item = Column<'a, T>> {
    let all = all.iter().enumerate().filter(move |(feature, _)| which(*feature));
    all.map(move |(feature, &values)| Column { feature, values, entry_of })
}
