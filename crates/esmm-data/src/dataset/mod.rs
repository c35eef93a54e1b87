//! Encoded rows in memory, column by column.

mod counts;
mod encoded;
mod outcome;
mod row_counts;
mod sparse_column;
mod take;
mod user_groups;

pub use counts::{FeatureCounts, OutsideCell, ValueCounts};
pub use encoded::EncodedChunk;
pub(crate) use outcome::Outcome;
pub use outcome::Truth;
pub use row_counts::RowCounts;
pub use sparse_column::SparseColumn;
pub use user_groups::{Sides, UserGroups};

/// Encoded impressions with what is known of their outcome.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Dataset {
    /// Number of rows.
    pub rows: usize,
    /// One entry for each sparse feature, in schema order.
    pub sparse: Vec<SparseColumn>,
    /// Numbers or positions among bins, one entry for each dense feature in schema order, each as long as there are rows.
    pub dense: Vec<Vec<f32>>,
    /// Stages that each impression reached, 0 to K.
    pub depth: Vec<u8>,
    /// Hash of each row's group, for GAUC; [`NO_GROUP`](crate::NO_GROUP) where it has none.
    pub group: Option<Vec<u64>>,
    /// True probabilities, of synthetic data.
    pub truth: Option<Truth>,
    /// How each row counts.
    pub counts: RowCounts,
    /// Rows that share their user: columns of user features then have an entry for each group.
    pub users: Option<UserGroups>,
}

impl Dataset {
    /// Bytes that the rows take.
    pub(crate) fn bytes(&self) -> usize {
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
        sparse.sum::<usize>() + dense + self.rows + group + truth + self.counts.bytes()
    }

    /// Makes room for so many rows, but for the ids of bags and what groups share.
    pub(crate) fn reserve(&mut self, rows: usize) {
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
    ///
    /// # Panics
    /// When only one of the two has groups: both come from the same source.
    pub(crate) fn append(&mut self, chunk: &EncodedChunk, outcome: &Outcome, rows: &[usize]) {
        self.rows += rows.len();
        let groups = match (&mut self.users, &chunk.users) {
            (Some(users), Some(more)) => users.append(more, rows),
            (None, None) => Vec::new(),
            (Some(_), None) => panic!("rows without groups cannot follow rows with groups"),
            (None, Some(_)) => panic!("rows with groups cannot follow rows without groups"),
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
        self.counts.append(&outcome.counts, rows);
    }
}
