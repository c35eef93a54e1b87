//! `[train.schedule]`: the learning rate over the steps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::refuse::positive;
use crate::error::RunError;

/// The learning rate over the steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleSection {
    /// Steps of linear warm-up, the first at `1 / warmup_steps` of the learning rate.
    pub warmup_steps: u64,
    /// How the learning rate falls after the warm-up.
    pub decay: Decay,
    /// Share of the learning rate that is left at the last step; `constant` has none.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub final_factor: f64,
}

impl Default for ScheduleSection {
    fn default() -> Self {
        Self { warmup_steps: 0, decay: Decay::Constant, final_factor: 0.01 }
    }
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

/// The learning rate over the steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ScheduleConfig {
    /// The towers' learning rate after the warm-up.
    pub learning_rate: f64,
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// What follows.
    pub decay: Decay,
    /// Share of the learning rate at the last step.
    pub final_factor: f64,
}

/// The schedule of a learning rate, which stands with the towers.
pub(super) fn resolve(section: &ScheduleSection, learning_rate: f64) -> Result<ScheduleConfig, RunError> {
    positive("train.schedule.final_factor", section.final_factor)?;
    Ok(ScheduleConfig {
        learning_rate: positive("train.towers.learning_rate", learning_rate)?,
        warmup_steps: section.warmup_steps,
        decay: section.decay,
        final_factor: section.final_factor,
    })
}
