//! `[train]`: passes, batches, seeds, and what is kept and recorded.

use esmm_core::Precision;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::refuse::{positive, refuse};
use super::schedule::{self, ScheduleConfig, ScheduleSection};
use super::tables::{self, TableOptimizerConfig, TableSection};
use super::towers::{self, TowerOptimizerConfig, TowerSection};
use crate::error::RunError;

/// The training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSection {
    /// Passes over the training split.
    #[schemars(range(min = 1))]
    pub epochs: u64,
    /// Rows of a batch.
    #[schemars(range(min = 1, max = 4_294_967_295_u64))]
    pub batch_size: usize,
    /// Seed of initial values, order and dropout.
    pub seed: u64,
    /// Models of so many seeds, from `seed` on, at most 100. Their pCTR and pCTCVR are averaged, pCVR is the quotient.
    #[schemars(range(min = 1, max = 100))]
    pub seeds: u64,
    /// What the factors of the hidden layers' matmuls are rounded to, in training, on GPUs that have it.
    pub precision: Precision,
    /// Largest norm of all gradients together: larger ones are scaled down to it. Unless said: no limit.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub clip_norm: Option<f64>,
    /// Weight of each stage's loss, at least 0. Unless said: 1 each.
    pub task_weights: Option<Vec<f64>>,
    /// The validation metric that selects the best weights: a task (`ctr`, `cvr`, `ctcvr`, or a stage of a longer funnel)
    /// and `auc`, `gauc`, `log_loss`, `normalized_entropy` or `calibration`; where the true CVR is known also
    /// `entire_space.cvr_auc` and `entire_space.cvr_calibration`. Unless said: the AUC of the last stage, `ctcvr.auc` of two.
    pub select: Option<String>,
    /// Stop after so many validations without a better one. Unless said: after the last epoch.
    pub patience: Option<u64>,
    /// Validate after every so many steps as well as after every epoch. Unless said: after epochs only.
    #[schemars(range(min = 1))]
    pub validate_every: Option<u64>,
    /// Save a checkpoint after every so many steps as well as after every epoch. Unless said: after epochs only.
    #[schemars(range(min = 1))]
    pub checkpoint_every: Option<u64>,
    /// Every so many steps losses and rates are recorded.
    #[schemars(range(min = 1))]
    pub log_every: u64,
    /// Whether TensorBoard event files are written.
    pub tensorboard: bool,
    /// The towers' optimizer.
    pub towers: TowerSection,
    /// The tables' optimizer.
    pub tables: TableSection,
    /// The learning rate over the steps.
    pub schedule: ScheduleSection,
}

impl Default for TrainSection {
    fn default() -> Self {
        Self {
            epochs: 3,
            batch_size: 1024,
            seed: 1,
            seeds: 1,
            precision: Precision::F32,
            clip_norm: None,
            task_weights: None,
            select: None,
            patience: None,
            validate_every: None,
            checkpoint_every: None,
            log_every: 20,
            tensorboard: false,
            towers: TowerSection::default(),
            tables: TableSection::default(),
            schedule: ScheduleSection::default(),
        }
    }
}

/// The training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingConfig {
    /// Passes over the training split.
    pub epochs: u64,
    /// Rows of a batch.
    pub batch_size: usize,
    /// Seed of initial values, order and dropout.
    pub seed: u64,
    /// Models of so many seeds, from `seed` on, whose probabilities are averaged.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub seeds: u64,
    /// Precision of the matmuls of hidden layers, in training.
    #[serde(default)]
    pub precision: Precision,
    /// Largest norm of all gradients together.
    pub clip_norm: Option<f64>,
    /// One weight a stage.
    pub task_weights: Vec<f64>,
    /// The validation metric that selects the best weights.
    pub select: String,
    /// Stop after so many validations without a better one.
    pub patience: Option<u64>,
    /// Validate after every so many steps as well as after every epoch.
    #[serde(default)]
    pub validate_every: Option<u64>,
    /// Save a checkpoint after every so many steps as well as after every epoch.
    #[serde(default)]
    pub checkpoint_every: Option<u64>,
    /// Every so many steps losses and rates are recorded.
    pub log_every: u64,
    /// Whether TensorBoard event files are written.
    #[serde(default)]
    pub tensorboard: bool,
    /// The towers' optimizer.
    pub towers: TowerOptimizerConfig,
    /// The tables' optimizer.
    pub tables: TableOptimizerConfig,
    /// The towers' learning rate over the steps.
    pub schedule: ScheduleConfig,
}

/// What configurations that were saved without the key trained.
fn one() -> u64 {
    1
}

fn is_one(seeds: &u64) -> bool {
    *seeds == 1
}

/// Rows of a batch at most: places in a batch are numbers of 32 bits.
const LARGEST_BATCH: usize = u32::MAX as usize;
/// Models of one run directory at most.
const MOST_SEEDS: u64 = 100;

/// The training of a funnel with stages in these columns.
pub(super) fn resolve(section: &TrainSection, columns: &[String]) -> Result<TrainingConfig, RunError> {
    let stages = columns.len();
    if section.epochs == 0 {
        return refuse("train.epochs", 0, "it must be at least 1");
    }
    if !(1..=LARGEST_BATCH).contains(&section.batch_size) {
        let allowed = format!("it must be at least 1 and at most {LARGEST_BATCH}");
        return refuse("train.batch_size", section.batch_size, &allowed);
    }
    for (key, every) in
        [("validate_every", section.validate_every), ("checkpoint_every", section.checkpoint_every)]
    {
        if every == Some(0) {
            return refuse(&format!("train.{key}"), 0, "it must be at least 1");
        }
    }
    if section.log_every == 0 {
        return refuse("train.log_every", 0, "it must be at least 1");
    }
    if !(1..=MOST_SEEDS).contains(&section.seeds) {
        let allowed = format!("it must be at least 1 and at most {MOST_SEEDS}");
        return refuse("train.seeds", section.seeds, &allowed);
    }
    let task_weights = section.task_weights.clone().unwrap_or_else(|| vec![1.0; stages]);
    if task_weights.len() != stages || !task_weights.iter().all(|weight| *weight >= 0.0 && weight.is_finite())
    {
        let allowed = format!("one finite weight of at least 0 for each of the {stages} stages");
        return refuse("train.task_weights", format!("{task_weights:?}"), &allowed);
    }
    positive("train.clip_norm", section.clip_norm.unwrap_or(1.0))?;
    let schedule = schedule::resolve(&section.schedule, section.towers.learning_rate)?;
    Ok(TrainingConfig {
        epochs: section.epochs,
        batch_size: section.batch_size,
        seed: section.seed,
        seeds: section.seeds,
        precision: section.precision,
        clip_norm: section.clip_norm,
        task_weights,
        select: section.select.clone().unwrap_or_else(|| last_auc(columns)),
        patience: section.patience,
        validate_every: section.validate_every,
        checkpoint_every: section.checkpoint_every,
        log_every: section.log_every,
        tensorboard: section.tensorboard,
        towers: towers::resolve(&section.towers)?,
        tables: tables::resolve(&section.tables, schedule.learning_rate)?,
        schedule,
    })
}

/// Name of the metric that selects the best weights where nobody says another: the AUC of reaching the last stage from an
/// impression.
pub fn last_auc(columns: &[String]) -> String {
    match columns {
        [.., last] if columns.len() > 2 => format!("{last}.auc"),
        _ => "ctcvr.auc".to_owned(),
    }
}
