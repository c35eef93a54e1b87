//! What is read beside the features: labels, groups, true rates.

pub(crate) mod label;
pub(crate) mod outcomes;
pub(crate) mod truth;
