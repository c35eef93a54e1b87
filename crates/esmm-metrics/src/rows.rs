//! Scored rows, as the evaluator takes them.

use crate::entire_space::TruthRows;

/// What a model says about B impressions of a funnel of K stages, and what happened. Matrices are row-major.
#[derive(Debug, Clone, Copy)]
pub struct EvaluationRows<'a> {
    /// `log P(reach stage k)`, `[B, K]`.
    pub log_reach: &'a [f32],
    /// `log(1 - P(reach stage k))`, `[B, K]`.
    pub log_not_reach: &'a [f32],
    /// Logit of reaching stage k given the one before, `[B, K]`.
    pub conditional_logit: &'a [f32],
    /// Number of stages that the impression reached, 0 to K, `[B]`.
    pub depth: &'a [u8],
    /// The group for GAUC, `[B]`; [`NO_GROUP`](crate::NO_GROUP) where there is none.
    pub group: Option<&'a [u64]>,
    /// The true probabilities.
    pub truth: Option<TruthRows<'a>>,
    /// Rows whose outcome after the first stage is still open, `[B]`: the tasks of later stages are not measured on them.
    pub open: Option<&'a [bool]>,
}
