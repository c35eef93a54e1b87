//! `[train.tables]`: the optimizer of the tables.

use std::borrow::Cow;

pub use esmm_core::TableRule;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use super::refuse::{positive, refuse, share};
use crate::error::RunError;

/// The tables' optimizer, which updates the rows that a batch touches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TableSection {
    /// Which one.
    pub optimizer: NamedRule,
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
        let beta_1 = 0.9;
        let beta_2 = 0.999;
        let epsilon = 1e-8;
        let optimizer = NamedRule(TableRule::LazyAdam { beta_1, beta_2, epsilon });
        Self { optimizer, learning_rate: 1e-3, beta_1, beta_2, epsilon, l2: 0.0 }
    }
}

/// A table rule as a run file says it: by its name alone. Its constants stand beside it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NamedRule(pub TableRule);

/// The names of all rules, in the order of [`TableRule::ALL`].
const NAMES: [&str; TableRule::ALL.len()] = {
    let mut names = [""; TableRule::ALL.len()];
    let mut place = 0;
    while place < names.len() {
        names[place] = TableRule::ALL[place].name();
        place += 1;
    }
    names
};

impl Serialize for NamedRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name())
    }
}

impl<'de> Deserialize<'de> for NamedRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let rule = TableRule::ALL.into_iter().find(|rule| rule.name() == name);
        rule.map(Self).ok_or_else(|| D::Error::unknown_variant(&name, &NAMES))
    }
}

impl JsonSchema for NamedRule {
    fn schema_name() -> Cow<'static, str> {
        "TableOptimizerName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let choice = |rule: TableRule| json!({ "type": "string", "const": rule.name(), "description": rule.summary() });
        let choices: Vec<Value> = TableRule::ALL.map(choice).to_vec();
        json_schema!({ "description": "An optimizer of the tables by name.", "oneOf": choices })
    }
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
    let NamedRule(rule) = section.optimizer;
    let rule = rule.with_constants([section.beta_1, section.beta_2], epsilon);
    if let Some([beta_1, beta_2]) = rule.decays() {
        share("train.tables.beta_1", beta_1)?;
        share("train.tables.beta_2", beta_2)?;
    }
    let l2 = section.l2;
    if !(l2 >= 0.0 && l2.is_finite()) {
        return refuse("train.tables.l2", l2, "it must be finite and at least 0");
    }
    let rate = positive("train.tables.learning_rate", section.learning_rate)?;
    Ok(TableOptimizerConfig { rule, learning_rate_ratio: rate / towers_rate, l2 })
}
