//! What is made of a column: a feature with its encoding, or the reason to leave it out.

use esmm_core::Side;

use crate::list::ListForm;

/// What is made of a column.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Choice {
    Feature(Box<FeatureGuess>),
    LeaveOut(LeftOut),
}

/// A column that is left out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LeftOut {
    pub(crate) column: String,
    /// The kind of reason, to list columns that have it in common.
    pub(crate) kind: &'static str,
    /// The reason.
    pub(crate) why: String,
    /// Whether a person should look at it.
    pub(crate) unsure: bool,
}

/// A feature of the run file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FeatureGuess {
    pub(crate) column: String,
    pub(crate) side: Option<Side>,
    pub(crate) encoding: Encoding,
    pub(crate) bag: Option<BagGuess>,
    /// Distinct ids in all rows, about; 0 for numbers.
    pub(crate) ids: u64,
    pub(crate) why: String,
    pub(crate) alternative: Option<String>,
    pub(crate) unsure: Option<String>,
}

/// How values are encoded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Encoding {
    Vocabulary { min_count: u64 },
    Hash { buckets: u64 },
    Ple { bins: usize, missing: Option<f64> },
    Standardize { missing: Option<f64> },
}

impl Encoding {
    /// Whether it makes numbers.
    pub(crate) fn is_dense(self) -> bool {
        matches!(self, Self::Ple { .. } | Self::Standardize { .. })
    }

    /// Whether it makes ids with a vocabulary.
    pub(crate) fn is_vocabulary(self) -> bool {
        matches!(self, Self::Vocabulary { .. })
    }
}

/// A feature of lists.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BagGuess {
    pub(crate) form: Option<ListForm>,
    pub(crate) weighted: bool,
    pub(crate) weights_column: Option<String>,
    pub(crate) shares: Option<String>,
}
