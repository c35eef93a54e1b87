//! `[train.tables]`: the optimizer of the tables.

pub use esmm_core::TableRule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::refuse::{positive, refuse, share};
use crate::error::RunError;

/// The tables' optimizer, which updates the rows that a batch touches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TableSection {
    /// Which one.
    pub optimizer: TableOptimizerName,
    /// Learning rate after the warm-up.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub learning_rate: f64,
    /// `lazy_adam`, `row_wise_adam`: decay of the first moment, in [0, 1).
    pub beta_1: f64,
    /// `lazy_adam`, `row_wise_adam`: decay of the second moment, in [0, 1).
    pub beta_2: f64,
    /// All but `sgd`: added to the root of the second moment, or of the sum of squares.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub epsilon: f64,
    /// L2 penalty on touched rows.
    #[schemars(range(min = 0.0))]
    pub l2: f64,
}

impl Default for TableSection {
    fn default() -> Self {
        Self {
            optimizer: TableOptimizerName::LazyAdam,
            learning_rate: 1e-3,
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-8,
            l2: 0.0,
        }
    }
}

/// An optimizer of the tables by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TableOptimizerName {
    /// Adam; its moments take two tables.
    LazyAdam,
    /// Adam with one second moment a row: one table and a value a row.
    RowWiseAdam,
    /// Row-wise Adagrad: one sum of squares a row.
    Adagrad,
    /// SGD.
    Sgd,
}

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

/// The optimizer; its learning rate is saved over that of the towers.
pub(super) fn resolve(section: &TableSection, towers_rate: f64) -> Result<TableOptimizerConfig, RunError> {
    let epsilon = positive("train.tables.epsilon", section.epsilon)?;
    let betas = || {
        let beta_1 = share("train.tables.beta_1", section.beta_1)?;
        Ok::<_, RunError>((beta_1, share("train.tables.beta_2", section.beta_2)?))
    };
    let rule = match section.optimizer {
        TableOptimizerName::Sgd => TableRule::Sgd,
        TableOptimizerName::Adagrad => TableRule::Adagrad { epsilon },
        TableOptimizerName::LazyAdam => {
            let (beta_1, beta_2) = betas()?;
            TableRule::LazyAdam { beta_1, beta_2, epsilon }
        }
        TableOptimizerName::RowWiseAdam => {
            let (beta_1, beta_2) = betas()?;
            TableRule::RowWiseAdam { beta_1, beta_2, epsilon }
        }
    };
    let l2 = section.l2;
    if !(l2 >= 0.0 && l2.is_finite()) {
        return refuse("train.tables.l2", l2, "it must be finite and at least 0");
    }
    let rate = positive("train.tables.learning_rate", section.learning_rate)?;
    Ok(TableOptimizerConfig { rule, learning_rate_ratio: rate / towers_rate, l2 })
}
