//! The columns of a batch as a caller gives them, and whether they fit the schema.

use crate::error::EsmmError;

/// The ids of one sparse feature for the rows of a batch. Ids are rows of the feature's own table.
///
/// # Examples
/// ```
/// use esmm_core::SparseInput;
///
/// // One id for each of three rows.
/// let user = SparseInput::Single(&[17, 4, 17]);
/// // Two ids in row 0, none in row 1, one in row 2; all of weight 1.
/// let history = SparseInput::Bag { offsets: &[0, 2, 2, 3], ids: &[5, 8, 5], weights: None };
/// # let _ = (user, history);
/// ```
#[derive(Debug, Clone, Copy)]
pub enum SparseInput<'a> {
    /// One id a row, `[B]`.
    Single(&'a [u32]),
    /// Any number of ids a row: row `i` owns `ids[offsets[i]..offsets[i + 1]]`.
    Bag {
        /// `[B + 1]`, from 0, never falling.
        offsets: &'a [usize],
        /// All ids of the batch.
        ids: &'a [u32],
        /// One weight an id, or 1 for all.
        weights: Option<&'a [f32]>,
    },
}

/// Rows that share their user: impressions of one request, or all of one user in a log.
///
/// With groups the columns of [`Side::User`](crate::Side::User) have one entry a group, G in all, and not one a row.
/// The model then pools these features and multiplies them with the first layer's weights once a group. The result is
/// the one that the same columns give when they are written out for every row, but for the rounding of sums.
///
/// # Examples
/// ```
/// use esmm_core::{BatchBuilder, BatchInput, Feature, FeatureSchema, RowGroups, Side, SparseInput};
///
/// # fn main() -> Result<(), esmm_core::EsmmError> {
/// let schema = FeatureSchema::new(vec![
///     Feature::sparse("user", Side::User, 1000),
///     Feature::sparse("item", Side::Item, 500),
/// ])?;
/// // Four impressions of two users: each user is named once.
/// let input = BatchInput {
///     rows: 4,
///     sparse: &[SparseInput::Single(&[17, 4]), SparseInput::Single(&[3, 9, 9, 1])],
///     dense: &[],
///     groups: Some(RowGroups { count: 2, of_rows: &[0, 0, 0, 1] }),
/// };
/// assert_eq!(BatchBuilder::new(&schema).build(input)?.num_groups(), Some(2));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct RowGroups<'a> {
    /// Number of groups, G.
    pub count: usize,
    /// Group of each row, `[B]`, below G, in any order. A group may have no row.
    pub of_rows: &'a [u32],
}

/// The columns of a batch, in schema order.
#[derive(Debug, Clone, Copy)]
pub struct BatchInput<'a> {
    /// Rows, B.
    pub rows: usize,
    /// One entry a sparse feature.
    pub sparse: &'a [SparseInput<'a>],
    /// One slice of B values a dense feature: numbers, or positions among its bins.
    pub dense: &'a [&'a [f32]],
    /// Rows that share their user: columns of user features then have G entries. `None`: all columns have B.
    pub groups: Option<RowGroups<'a>>,
}

impl<'a> SparseInput<'a> {
    /// Number of entries in the column: rows or groups.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Single(ids) => ids.len(),
            Self::Bag { offsets, .. } => offsets.len().saturating_sub(1),
        }
    }

    /// All ids.
    pub(crate) fn ids(&self) -> &'a [u32] {
        match *self {
            Self::Single(ids) | Self::Bag { ids, .. } => ids,
        }
    }

    /// Places in [`ids`](Self::ids) of an entry of the column.
    pub(crate) fn range(&self, entry: usize) -> std::ops::Range<usize> {
        match self {
            Self::Single(_) => entry..entry + 1,
            Self::Bag { offsets, .. } => offsets[entry]..offsets[entry + 1],
        }
    }

    /// The weights of the ids, if they have any.
    pub(crate) fn weights(&self) -> Option<&'a [f32]> {
        match *self {
            Self::Single(_) => None,
            Self::Bag { weights, .. } => weights,
        }
    }

    /// Checks a column of `entries` entries.
    pub(crate) fn check(&self, entries: usize, name: &str, is_bag: bool) -> Result<(), EsmmError> {
        let shape = |what: &str, found: String, expected: String| EsmmError::BatchShape {
            what: format!("feature `{name}`, {what}"),
            found,
            expected,
        };
        match *self {
            Self::Single(_) if is_bag => Err(shape("input", "single ids".into(), "bags".into())),
            Self::Bag { .. } if !is_bag => Err(shape("input", "bags".into(), "single ids".into())),
            Self::Single(ids) => expect_len(&format!("feature `{name}`, ids"), ids.len(), entries),
            Self::Bag { offsets, ids, weights } => {
                expect_len(&format!("feature `{name}`, offsets"), offsets.len(), entries + 1)?;
                let rising = offsets[0] == 0 && offsets.windows(2).all(|pair| pair[0] <= pair[1]);
                if !rising || offsets[entries] != ids.len() {
                    let expected = format!("numbers rising from 0 to {}", ids.len());
                    return Err(shape("offsets", "others".into(), expected));
                }
                weights.map_or(Ok(()), |weights| {
                    expect_len(&format!("feature `{name}`, weights"), weights.len(), ids.len())
                })
            }
        }
    }
}

impl RowGroups<'_> {
    /// Checks the groups of a batch of `rows` rows.
    pub(crate) fn check(&self, rows: usize) -> Result<(), EsmmError> {
        expect_len("groups of rows", self.of_rows.len(), rows)?;
        let beyond = self.of_rows.iter().position(|&group| group as usize >= self.count);
        beyond.map_or(Ok(()), |row| {
            Err(EsmmError::BatchShape {
                what: format!("row {row}, group"),
                found: self.of_rows[row].to_string(),
                expected: format!("below {}", self.count),
            })
        })
    }
}

/// An error that names both numbers, unless they are equal.
pub(crate) fn expect_len(what: &str, found: usize, expected: usize) -> Result<(), EsmmError> {
    if found == expected {
        return Ok(());
    }
    Err(EsmmError::BatchShape { what: what.into(), found: found.to_string(), expected: expected.to_string() })
}
