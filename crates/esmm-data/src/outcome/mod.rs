//! What is read beside the features: labels, groups, true rates, and how rows count.

pub(crate) mod counting;
pub(crate) mod label;
pub(crate) mod outcomes;
pub(crate) mod truth;
