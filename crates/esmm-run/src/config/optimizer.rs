//! How weights change, as a configuration says it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use esmm_core::TableRule;

/// The optimizer of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TableOptimizerConfig {
    /// The rule.
    #[serde(flatten)]
    pub rule: TableRule,
    /// Learning rate of the tables over that of the towers: the schedule moves both.
    pub learning_rate_ratio: f64,
    /// L2 penalty on touched rows.
    pub l2: f64,
}

/// The optimizer of the towers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "optimizer", rename_all = "lowercase")]
pub enum TowerOptimizerConfig {
    /// Adam; weight decay is added to the gradient.
    Adam {
        /// Decay of the first moment.
        beta_1: f64,
        /// Decay of the second moment.
        beta_2: f64,
        /// Added to the root of the second moment.
        epsilon: f64,
        /// L2 penalty.
        weight_decay: f64,
    },
    /// Adam with decoupled weight decay.
    AdamW {
        /// Decay of the first moment.
        beta_1: f64,
        /// Decay of the second moment.
        beta_2: f64,
        /// Added to the root of the second moment.
        epsilon: f64,
        /// Share of a weight that a learning rate of 1 would remove.
        weight_decay: f64,
    },
    /// Stochastic gradient descent.
    Sgd {
        /// Momentum, 0 for none.
        momentum: f64,
        /// L2 penalty.
        weight_decay: f64,
    },
}

/// How the learning rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Not at all.
    Constant,
    /// Linearly to `final_factor` at the last step.
    Linear,
    /// Along half a cosine to `final_factor` at the last step.
    Cosine,
    /// By the same factor every step, to `final_factor` at the last step.
    Exponential,
}
