//! From a key to a row of one feature's table.

use super::feature::SparseEncoding;
use super::quantile::Quantiles;
use super::vocabulary::Vocabulary;
use crate::column::key::{KEY_HASH_SEED, Key};

/// A fitted table. Row 0 is for missing and unknown values.
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

    /// Rows of the table, row 0 included.
    pub(crate) fn num_embeddings(&self) -> usize {
        1 + match self {
            Self::Vocabulary(vocabulary) => vocabulary.entries().len(),
            Self::Hash { buckets } => *buckets as usize,
            Self::Raw { num_embeddings } => *num_embeddings as usize,
            Self::Quantile(quantiles) => quantiles.edges().len() + 1,
        }
    }

    /// The row of a key, or what would have been allowed in its place.
    ///
    /// Quantile tables have no keys, their values are real: all keys are unknown to them.
    #[inline]
    pub(crate) fn row(&self, key: Option<Key<'_>>) -> Result<u32, String> {
        match (self, key) {
            (_, None) | (Self::Quantile(_), _) => Ok(0),
            (Self::Vocabulary(vocabulary), Some(key)) => Ok(vocabulary.row(key)),
            (Self::Hash { buckets }, Some(key)) => Ok((key.hash(KEY_HASH_SEED) % buckets) as u32 + 1),
            (Self::Raw { num_embeddings }, Some(Key::Int(id)))
                if (0..*num_embeddings as i64).contains(&id) =>
            {
                Ok(id as u32 + 1)
            }
            (Self::Raw { num_embeddings }, Some(_)) => {
                Err(format!("a whole number from 0 to {}", num_embeddings.saturating_sub(1)))
            }
        }
    }
}
