//! Rows that share their user, whose features are then held once for all of them.

use std::sync::Arc;

use esmm_core::RowGroups;

/// Which rows share their user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserGroups {
    /// Number of groups.
    pub count: usize,
    /// The group of each row.
    pub of_rows: Vec<u32>,
    /// Which columns have an entry a group.
    pub sides: Arc<Sides>,
}

/// Which columns of a dataset are the user's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sides {
    /// For each sparse feature.
    pub sparse: Vec<bool>,
    /// For each dense feature.
    pub dense: Vec<bool>,
}

impl UserGroups {
    /// No rows.
    pub(crate) fn empty(sides: Arc<Sides>) -> Self {
        Self { count: 0, of_rows: Vec::new(), sides }
    }

    /// Adds some rows of others, in ascending order, with their groups. Returns the groups that were added, as numbered there.
    pub(crate) fn append(&mut self, other: &Self, rows: &[usize]) -> Vec<usize> {
        let mut added: Vec<usize> = Vec::new();
        for &row in rows {
            let group = other.of_rows[row] as usize;
            if added.last() != Some(&group) {
                added.push(group);
            }
            self.of_rows.push((self.count + added.len() - 1) as u32);
        }
        self.count += added.len();
        added
    }

    /// Some rows in the order given, and the groups that they have, in order of appearance.
    pub(crate) fn take(&self, rows: &[u32]) -> (Self, Vec<u32>) {
        let mut places = vec![u32::MAX; self.count];
        let mut taken = Vec::new();
        let of_rows = rows.iter().map(|&row| {
            let group = self.of_rows[row as usize];
            let place = &mut places[group as usize];
            if *place == u32::MAX {
                *place = taken.len() as u32;
                taken.push(group);
            }
            *place
        });
        let of_rows = of_rows.collect();
        (Self { count: taken.len(), of_rows, sides: self.sides.clone() }, taken)
    }

    /// As the core reads them.
    pub fn as_input(&self) -> RowGroups<'_> {
        RowGroups { count: self.count, of_rows: &self.of_rows }
    }
}
