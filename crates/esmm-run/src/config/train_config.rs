//! The resolved configuration: `config.json` of a run directory.

use esmm_core::{Precision, TowersConfig};
use esmm_data::{CountSpec, FeatureSpec, LabelSpec, SplitSpec, TruthSpec};
use serde::{Deserialize, Serialize};

use super::negative_rate::NegativeRate;
use super::optimizer::{Decay, TableOptimizerConfig, TowerOptimizerConfig};

/// A resolved configuration: `config.json` of a run directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainConfig {
    /// Layout of this file.
    pub format_version: u32,
    /// The folder in which relative paths of the data begin; `None` in what older versions saved: wherever one stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// Where the impressions are, and how they are split.
    pub data: SplitSpec,
    /// The features, in the order of the model's input.
    pub features: Vec<FeatureSpec>,
    /// The least share of the values of each vocabulary that training takes as unknown; 0: none, and unknown values share
    /// the row of missing ones, as in what older versions saved.
    #[serde(default)]
    pub unknown_share: f64,
    /// The stages of the funnel.
    pub labels: LabelSpec,
    /// The share of the impressions without a click that the data still holds; `None`: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative_rate: Option<NegativeRate>,
    /// Columns that say how each row counts.
    #[serde(default, skip_serializing_if = "CountSpec::is_empty")]
    pub counting: CountSpec,
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
    /// Whether each tower's last bias starts at the logit of its stage's conditional training rate. A configuration
    /// that was saved without the key began without.
    #[serde(default)]
    pub prior: bool,
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
