//! What is made of a column: a feature with its encoding, or the reason to leave it out.

use esmm_core::Side;

use super::list::ListForm;

/// What is made of a column.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Choice {
    Feature(Box<FeatureGuess>),
    LeaveOut(LeftOut),
}

/// A column that is left out.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LeftOut {
    pub(super) column: String,
    /// The kind of reason, to list columns that have it in common.
    pub(super) kind: &'static str,
    /// The reason.
    pub(super) why: String,
    /// Whether a person should look at it.
    pub(super) unsure: bool,
}

/// A feature of the run file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FeatureGuess {
    pub(super) column: String,
    pub(super) side: Option<Side>,
    pub(super) encoding: Encoding,
    pub(super) bag: Option<BagGuess>,
    pub(super) why: String,
    pub(super) alternative: Option<String>,
    pub(super) unsure: Option<String>,
}

/// How values are encoded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Encoding {
    Vocabulary { min_count: u64 },
    Hash { buckets: u64 },
    Quantile { buckets: u64 },
    Dense { encode: &'static str, missing: Option<f64> },
}

impl Encoding {
    /// Whether it makes numbers.
    pub(super) fn is_dense(self) -> bool {
        matches!(self, Self::Dense { .. })
    }

    /// Whether it makes ids with a vocabulary.
    pub(super) fn is_vocabulary(self) -> bool {
        matches!(self, Self::Vocabulary { .. })
    }
}

/// A feature of lists.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct BagGuess {
    pub(super) form: Option<ListForm>,
    pub(super) weighted: bool,
    pub(super) weights_column: Option<String>,
    pub(super) shares: Option<String>,
}
