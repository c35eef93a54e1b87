//! Operands of pooling: which rows of a table make up the towers' input.

use std::ops::Range;
use std::sync::Arc;

use super::operands::Operands;
use crate::schema::{FeatureSchema, Side};

/// Bags of table rows, one for each row of a batch and each sparse feature.
///
/// T is the handle of a float tensor, I that of row numbers: [`Indices`](super::Indices), slices, or what a kernel makes
/// of them.
#[derive(Debug, Clone)]
pub struct Bags<T, I> {
    /// Copies of the table, T: 1, or K where towers have their own.
    pub tables: usize,
    /// Rows of the batch, B.
    pub rows: usize,
    /// Sparse features, F.
    pub num_sparse: usize,
    /// Row that each entry reads in every copy of the table, `[N]`.
    pub slots: I,
    /// Bag of each entry, never falling, and its weight, `[N]` each; `None` when entry `i` is bag `i` with weight 1.
    pub weighted: Option<(I, T)>,
    /// Dense values after the bags of each row, `[B, V]`, or with `bins` a number for each dense feature.
    pub dense: Option<T>,
    /// Columns of each dense feature, V together: 1 has the number itself, of more the number is a position among as many
    /// bins, and bin k from 0 has `clamp(position - k, 0, 1)`. `None`: 1 each.
    pub bins: Option<Arc<[usize]>>,
}

/// The bags of the first layer's input: those of each row, and those that groups of rows share.
#[derive(Debug, Clone)]
pub struct InputBags<T, I> {
    /// What each row has of its own: all features, or those that groups do not share.
    pub own: Bags<T, I>,
    /// What groups of rows share.
    pub groups: Option<GroupBags<T, I>>,
}

/// What [`InputBags`] pooled from a table with T copies, or gradients of it.
#[derive(Debug, Clone)]
pub struct Pooled<T> {
    /// What each row has of its own, `[T, B, own columns]`.
    pub own: T,
    /// What each group shares, `[T, G, shared columns]`; `None` where no row is in a group.
    pub shared: Option<T>,
}

/// Features that G groups of rows share.
#[derive(Debug, Clone)]
pub struct GroupBags<T, I> {
    /// Their bags, with groups for rows.
    pub bags: Bags<T, I>,
    /// Group of each row, `[B]`.
    pub of_rows: I,
    /// Which features of the model these are.
    pub features: Arc<SharedFeatures>,
}

/// For each feature of a model, sparse and dense ones in order, whether groups of rows share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedFeatures {
    /// One entry a sparse feature.
    pub sparse: Vec<bool>,
    /// One entry a column of a dense feature.
    pub dense: Vec<bool>,
}

impl<T, I> Bags<T, I> {
    /// The same over other handles.
    pub fn map<U, J>(self, mut floats: impl FnMut(T) -> U, mut ints: impl FnMut(I) -> J) -> Bags<U, J> {
        Bags {
            tables: self.tables,
            rows: self.rows,
            num_sparse: self.num_sparse,
            slots: ints(self.slots),
            weighted: self.weighted.map(|(segments, weights)| (ints(segments), floats(weights))),
            dense: self.dense.map(floats),
            bins: self.bins,
        }
    }

    /// Borrows every handle.
    pub fn as_ref(&self) -> Bags<&T, &I> {
        Bags {
            tables: self.tables,
            rows: self.rows,
            num_sparse: self.num_sparse,
            slots: &self.slots,
            weighted: self.weighted.as_ref().map(|(segments, weights)| (segments, weights)),
            dense: self.dense.as_ref(),
            bins: self.bins.clone(),
        }
    }
}

impl<T, I> InputBags<T, I> {
    /// Bags without groups.
    pub fn of_rows(own: Bags<T, I>) -> Self {
        Self { own, groups: None }
    }

    /// The same for a table with other copies.
    pub fn with_tables(mut self, tables: usize) -> Self {
        self.own.tables = tables;
        if let Some(groups) = &mut self.groups {
            groups.bags.tables = tables;
        }
        self
    }

    /// The same over other handles.
    pub fn map<U, J>(self, mut floats: impl FnMut(T) -> U, mut ints: impl FnMut(I) -> J) -> InputBags<U, J> {
        InputBags {
            own: self.own.map(&mut floats, &mut ints),
            groups: self.groups.map(|groups| groups.map(floats, ints)),
        }
    }

    /// Borrows every handle.
    pub fn as_ref(&self) -> InputBags<&T, &I> {
        InputBags { own: self.own.as_ref(), groups: self.groups.as_ref().map(GroupBags::as_ref) }
    }
}

impl<T, I> InputBags<T, I> {
    /// The bags whose entries read rows of the table: those of rows, then those of groups.
    pub fn parts(&self) -> impl Iterator<Item = &Bags<T, I>> {
        std::iter::once(&self.own).chain(self.groups.as_ref().map(|groups| &groups.bags))
    }
}

impl<T> Pooled<T> {
    /// The same over other handles.
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> Pooled<U> {
        Pooled { own: change(self.own), shared: self.shared.map(change) }
    }

    /// What rows have, then what groups share.
    pub fn parts(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.own).chain(&self.shared)
    }
}

impl<T, I> GroupBags<T, I> {
    /// The same over other handles.
    pub fn map<U, J>(self, floats: impl FnMut(T) -> U, mut ints: impl FnMut(I) -> J) -> GroupBags<U, J> {
        GroupBags {
            bags: self.bags.map(floats, &mut ints),
            of_rows: ints(self.of_rows),
            features: self.features,
        }
    }

    /// Borrows every handle.
    pub fn as_ref(&self) -> GroupBags<&T, &I> {
        GroupBags { bags: self.bags.as_ref(), of_rows: &self.of_rows, features: self.features.clone() }
    }
}

impl<T, I> Operands<T> for Bags<T, I> {
    fn each(&self, see: &mut dyn FnMut(&T)) {
        self.as_ref().map(see, |_| ());
    }
}

impl<T, I> Operands<T> for InputBags<T, I> {
    fn each(&self, see: &mut dyn FnMut(&T)) {
        self.as_ref().map(see, |_| ());
    }
}

impl<T> Operands<T> for Pooled<T> {
    fn each(&self, see: &mut dyn FnMut(&T)) {
        self.parts().for_each(see);
    }
}

impl SharedFeatures {
    /// The features of users.
    pub fn of_users(schema: &FeatureSchema) -> Self {
        let dense = schema.dense();
        let columns = dense.map(|feature| std::iter::repeat_n(feature.side == Side::User, feature.width()));
        Self {
            sparse: schema.sparse().map(|feature| feature.side == Side::User).collect(),
            dense: columns.flatten().collect(),
        }
    }

    /// Whether both groups and rows keep a sparse feature.
    pub fn leave_both_sides(&self) -> bool {
        self.sparse.contains(&true) && self.sparse.contains(&false)
    }

    /// Columns of the towers' input that shared features fill, or those that the others fill; neighbours joined.
    pub fn columns(&self, shared: bool, dim: usize) -> Vec<Range<usize>> {
        let sparse = self.sparse.iter().map(|&is_shared| (is_shared, dim));
        let features = sparse.chain(self.dense.iter().map(|&is_shared| (is_shared, 1)));
        let mut columns: Vec<Range<usize>> = Vec::new();
        let mut start = 0;
        for (is_shared, width) in features {
            let end = start + width;
            if is_shared == shared {
                match columns.last_mut() {
                    Some(last) if last.end == start => last.end = end,
                    Some(_) | None => columns.push(start..end),
                }
            }
            start = end;
        }
        columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_joined() {
        let features =
            SharedFeatures { sparse: vec![true, false, false, true], dense: vec![true, false, true] };
        assert_eq!(features.columns(true, 4), [0..4, 12..17, 18..19]);
        assert_eq!(features.columns(false, 4), [4..12, 17..18]);
    }
}
