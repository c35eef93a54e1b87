//! The ids of one sparse feature.

use esmm_core::SparseInput;

/// The ids of one sparse feature: rows of its table, 0 for missing values.
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

impl SparseColumn {
    pub(crate) fn empty(bag: bool, weighted: bool) -> Self {
        match bag {
            false => Self::Single(Vec::new()),
            true => Self::Bag { offsets: vec![0], ids: Vec::new(), weights: weighted.then(Vec::new) },
        }
    }

    /// All ids, those of bags one after another.
    pub fn ids(&self) -> &[u32] {
        let (Self::Single(ids) | Self::Bag { ids, .. }) = self;
        ids
    }

    pub(crate) fn ids_mut(&mut self) -> &mut [u32] {
        let (Self::Single(ids) | Self::Bag { ids, .. }) = self;
        ids
    }

    /// How many of its ids are this row of the table.
    pub fn count(&self, row: u32) -> usize {
        self.ids().iter().filter(|id| **id == row).count()
    }

    pub(super) fn append(&mut self, other: &Self, rows: &[usize]) {
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
    pub(crate) fn without_weightless_bags(self) -> Self {
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

    pub(crate) fn take(&self, rows: &[u32]) -> Self {
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
