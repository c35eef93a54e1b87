//! `[train.towers]`: the optimizer of the towers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::refuse::{positive, refuse, share};
use crate::error::RunError;

/// The towers' optimizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TowerSection {
    /// Which one.
    pub optimizer: TowerOptimizerName,
    /// Learning rate after the warm-up.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub learning_rate: f64,
    /// `adam`, `adamw`: decay of the first moment, in [0, 1).
    pub beta_1: f64,
    /// `adam`, `adamw`: decay of the second moment, in [0, 1).
    pub beta_2: f64,
    /// `adam`, `adamw`: added to the root of the second moment.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub epsilon: f64,
    /// `sgd`: momentum, in [0, 1).
    pub momentum: f64,
    /// L2 penalty on all weights; `adamw`: decoupled from the gradient.
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
}

impl Default for TowerSection {
    fn default() -> Self {
        Self {
            optimizer: TowerOptimizerName::Adam,
            learning_rate: 1e-3,
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-8,
            momentum: 0.0,
            weight_decay: 0.0,
        }
    }
}

/// An optimizer of the towers by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TowerOptimizerName {
    /// Adam.
    Adam,
    /// AdamW.
    AdamW,
    /// SGD.
    Sgd,
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

/// The optimizer.
pub(super) fn resolve(section: &TowerSection) -> Result<TowerOptimizerConfig, RunError> {
    let beta_1 = share("train.towers.beta_1", section.beta_1)?;
    let beta_2 = share("train.towers.beta_2", section.beta_2)?;
    let epsilon = positive("train.towers.epsilon", section.epsilon)?;
    let weight_decay = section.weight_decay;
    if !(weight_decay >= 0.0 && weight_decay.is_finite()) {
        return refuse("train.towers.weight_decay", weight_decay, "it must be finite and at least 0");
    }
    Ok(match section.optimizer {
        TowerOptimizerName::Adam => TowerOptimizerConfig::Adam { beta_1, beta_2, epsilon, weight_decay },
        TowerOptimizerName::AdamW => TowerOptimizerConfig::AdamW { beta_1, beta_2, epsilon, weight_decay },
        TowerOptimizerName::Sgd => TowerOptimizerConfig::Sgd {
            momentum: share("train.towers.momentum", section.momentum)?,
            weight_decay,
        },
    })
}
