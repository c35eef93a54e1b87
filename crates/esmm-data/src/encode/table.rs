//! From a key to a row of one feature's table.

use super::feature::SparseEncoding;
use super::quantile::Quantiles;
use super::unknown_row::{MISSING, UnknownRow};
use super::vocabulary::Vocabulary;
use crate::column::key::{KEY_HASH_SEED, Key};

/// A fitted table. Row 0 is for missing values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TableEncoder {
    Vocabulary(Vocabulary),
    Hash { buckets: u64 },
    Raw { num_embeddings: u64 },
    Quantile(Quantiles),
}

impl TableEncoder {
    /// A table that needs no data; `None` when the encoding is fitted.
    pub(crate) fn unfitted(encoding: SparseEncoding) -> Option<Self> {
        match encoding {
            SparseEncoding::Hash { buckets } => Some(Self::Hash { buckets: buckets as u64 }),
            SparseEncoding::Raw { num_embeddings } => {
                Some(Self::Raw { num_embeddings: num_embeddings as u64 })
            }
            SparseEncoding::Vocabulary { .. } | SparseEncoding::Quantile { .. } => None,
        }
    }

    /// Rows of the table, those that stand for no value included.
    pub(crate) fn num_embeddings(&self) -> usize {
        let values = match self {
            Self::Vocabulary(vocabulary) => vocabulary.entries().len(),
            Self::Hash { buckets } => *buckets as usize,
            Self::Raw { num_embeddings } => *num_embeddings as usize,
            Self::Quantile(quantiles) => quantiles.edges().len() + 1,
        };
        self.first_value() as usize + values
    }

    /// The first row that stands for a value.
    pub(crate) fn first_value(&self) -> u32 {
        self.unknown_row().map_or(MISSING, UnknownRow::row) + 1
    }

    /// Where unknown values have their row; `None` where no value is unknown.
    pub(crate) fn unknown_row(&self) -> Option<UnknownRow> {
        match self {
            Self::Vocabulary(vocabulary) => Some(vocabulary.unknown_row()),
            Self::Hash { .. } | Self::Raw { .. } | Self::Quantile(_) => None,
        }
    }

    /// The row of a key, or what would have been allowed in its place.
    ///
    /// Quantile tables have no keys, their values are real: all keys count as missing.
    #[inline]
    pub(crate) fn row(&self, key: Key<'_>) -> Result<u32, String> {
        match (self, key) {
            (Self::Quantile(_), _) => Ok(MISSING),
            (Self::Vocabulary(vocabulary), key) => Ok(vocabulary.row(key)),
            (Self::Hash { buckets }, key) => Ok((key.hash(KEY_HASH_SEED) % buckets) as u32 + 1),
            (Self::Raw { num_embeddings }, Key::Int(id)) if (0..*num_embeddings as i64).contains(&id) => {
                Ok(id as u32 + 1)
            }
            (Self::Raw { num_embeddings }, _) => {
                Err(format!("a whole number from 0 to {}", num_embeddings.saturating_sub(1)))
            }
        }
    }
}
