//! What a training ended with: `metrics.json`, and where its weights come from.

use esmm_metrics::SplitMetrics;
use serde::{Deserialize, Serialize};

/// `metrics.json`: every split that was given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunMetrics {
    /// What was learned from.
    pub train: SplitMetrics,
    /// What selected the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid: Option<SplitMetrics>,
    /// What neither did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<SplitMetrics>,
}

/// Where the weights come from that a training keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BestWeights {
    /// Steps that they have seen.
    pub step: u64,
    /// Epoch of that step, from 1.
    pub epoch: u64,
}
