//! Rows of a dataset, copied out.

use std::borrow::Cow;

use super::user_groups::{Sides, UserGroups};
use super::{Dataset, Truth};

impl Dataset {
    /// A copy of some rows, in the order given.
    pub fn take(&self, rows: &[u32]) -> Self {
        let (users, groups) = self.users.as_ref().map(|users| users.take(rows)).unzip();
        Self { users, ..self.copied(rows, &groups.unwrap_or_default()) }
    }

    /// The rows, each with all of its features: all rows where they have them, or else copies of the first `most`.
    pub(crate) fn written_out(&self, most: usize) -> Cow<'_, Self> {
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
            counts: self.counts.take(rows),
            users: None,
        }
    }
}
