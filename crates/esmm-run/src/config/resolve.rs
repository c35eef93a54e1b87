//! From a run file to a configuration without gaps: every default filled in, every contradiction refused.

use esmm_core::{EsmmConfig, FeatureSchema, Precision, TowersConfig};
use esmm_data::{FeatureSpec, LabelSpec, Orphans, SplitSpec, TruthSpec};
use serde::{Deserialize, Serialize};

use super::optimizer::{Decay, TableOptimizerConfig, TowerOptimizerConfig};
use super::resolve_data::{feature, reading, split, truth};
use super::resolve_train::{model, training};
use super::run_file::{OrphanPolicy, RunFile};
use super::version::FORMAT_VERSION;
use crate::error::RunError;

/// A resolved configuration: `config.json` of a run directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainConfig {
    /// Layout of this file.
    pub format_version: u32,
    /// Where the impressions are, and how they are split.
    pub data: SplitSpec,
    /// The features, in the order of the model's input.
    pub features: Vec<FeatureSpec>,
    /// The stages of the funnel.
    pub labels: LabelSpec,
    /// The column whose values are the groups of GAUC.
    pub group: Option<String>,
    /// Columns with true rates.
    pub truth: Option<TruthSpec>,
    /// The model.
    pub model: ModelConfig,
    /// The training.
    pub train: TrainingConfig,
    /// How the impressions are read.
    #[serde(default)]
    pub reading: ReadingConfig,
}

/// How the impressions are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReadingConfig {
    /// Whether every pass reads the rows from their files; `None` until the files were looked at.
    pub streaming: Option<bool>,
    /// Bytes that encoded rows may take in memory.
    pub memory: u64,
    /// Streaming: rows that are shuffled together at most.
    pub shuffle_rows: usize,
    /// Data with groups: whether rows of one group stay together, and what they share is held once.
    pub by_group: bool,
}

impl Default for ReadingConfig {
    fn default() -> Self {
        Self { streaming: None, memory: 4 << 30, shuffle_rows: 1_000_000, by_group: true }
    }
}

/// The model, but for the sizes of its tables, which the data gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Width of every embedding.
    pub embedding_dim: usize,
    /// Shape of every tower.
    pub towers: TowersConfig,
    /// Whether the towers read the same tables.
    pub shared_embeddings: bool,
    /// Standard deviation of the first embedding values.
    pub embedding_init_std: f64,
}

/// The training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingConfig {
    /// Passes over the training split.
    pub epochs: u64,
    /// Rows of a batch.
    pub batch_size: usize,
    /// Seed of first values, order and dropout.
    pub seed: u64,
    /// Numbers of the products of hidden layers.
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

impl TrainConfig {
    /// Fills in defaults and checks ranges; files are not opened yet.
    ///
    /// # Errors
    /// One line that names the key, its value and what is allowed.
    pub fn resolve(file: &RunFile) -> Result<Self, RunError> {
        let orphans = match file.labels.orphan_conversions {
            OrphanPolicy::Error => Orphans::Error,
            OrphanPolicy::Drop => Orphans::Drop,
        };
        let labels = LabelSpec { columns: file.labels.stages.clone(), orphan_conversions: orphans };
        let features: Result<Vec<_>, _> = file.features.iter().map(feature).collect();
        let config = Self {
            format_version: FORMAT_VERSION,
            data: split(&file.data)?,
            reading: reading(&file.data)?,
            features: features?,
            group: file.metrics.group.clone(),
            truth: truth(&file.metrics),
            model: model(&file.model)?,
            train: training(&file.train, labels.columns.len())?,
            labels,
        };
        config.model.towers.validate()?;
        Ok(config)
    }

    /// The model for a schema.
    ///
    /// # Errors
    /// Sizes out of range.
    pub fn model(&self, schema: FeatureSchema) -> Result<EsmmConfig, RunError> {
        let config = EsmmConfig {
            schema,
            embedding_dim: self.model.embedding_dim,
            towers: self.model.towers.clone(),
            stages: self.labels.columns.len(),
            shared_embeddings: self.model.shared_embeddings,
            embedding_init_std: self.model.embedding_init_std,
            seed: self.train.seed,
        };
        config.validate()?;
        Ok(config)
    }

    /// This saved configuration with the epochs, the patience and the records of another one.
    ///
    /// # Errors
    /// Another one that differs in anything else: a training cannot go on as a different one.
    pub fn extended_to(&self, other: Self) -> Result<Self, RunError> {
        let mut extended = self.clone();
        extended.train.epochs = other.train.epochs;
        extended.train.patience = other.train.patience;
        extended.train.log_every = other.train.log_every;
        extended.train.tensorboard = other.train.tensorboard;
        // A run file that leaves the choice open asks for no other one.
        let streaming = other.reading.streaming.or(self.reading.streaming);
        let other = Self { reading: ReadingConfig { streaming, ..other.reading }, ..other };
        if extended == other {
            return Ok(extended);
        }
        let message = "--resume: the run file differs from the saved config.json in more than train.epochs, \
                       train.patience, train.log_every and train.tensorboard; start a new run directory instead";
        Err(RunError::Config(message.into()))
    }
}

/// An error that names the key, its value and what is allowed.
pub(super) fn refuse<T>(key: &str, found: impl std::fmt::Display, allowed: &str) -> Result<T, RunError> {
    Err(RunError::Config(format!("{key} = {found}: {allowed}")))
}
