//! What became of an impression.

use super::impression::Impression;
use super::quadrature::Truth;

/// An impression with what came of it.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    /// Number from 0.
    pub(super) id: usize,
    pub(super) impression: Impression,
    pub(super) click: bool,
    /// Only ever true with `click`.
    pub(super) conversion: bool,
    pub(super) truth: Truth,
}
