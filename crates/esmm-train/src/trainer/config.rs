//! What a training is asked for, on what, and how it ends.

use esmm_core::{EsmmConfig, Precision};
use esmm_data::SplitRows;
use esmm_data::loader::{BatchLoaderConfig, Purpose, UnknownShares};
use esmm_run::BestWeights;
use esmm_run::config::{TrainConfig, last_auc};

use crate::learner::{EsmmLearnerConfig, EsmmLoss};
use crate::optimizer::{Decay, Schedule, TableOptimizerConfig, TableRule, TowerOptimizerConfig};

/// Everything that fixes a training but its data.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainerConfig {
    /// What lines about this training begin with, such as `seed 3: `; empty where it is the only one.
    pub label: String,
    /// The model.
    pub model: EsmmConfig,
    /// Names of the stages, as the labels are called.
    pub stages: Vec<String>,
    /// Loss, tables, clipping.
    pub learner: EsmmLearnerConfig,
    /// The towers' optimizer.
    pub towers: TowerOptimizerConfig,
    /// The learning rate; `total_steps` is set by the trainer.
    pub schedule: Schedule,
    /// Passes over the training split.
    pub epochs: u64,
    /// Rows of a training batch.
    pub batch_size: usize,
    /// Seed of the order of rows.
    pub seed: u64,
    /// Precision of the matmuls of hidden layers while it learns; it is always measured in f32.
    pub precision: Precision,
    /// Logits at which the last biases of the towers start, one a stage; `None`: where the model's seed puts them.
    pub prior: Option<Vec<f64>>,
    /// The ids that are taken as unknown.
    pub unknown: UnknownShares,
    /// The validation metric that selects the best weights, such as `ctcvr.auc`.
    pub select: String,
    /// Stop after so many validations without a better one.
    pub patience: Option<u64>,
    /// Validate after every so many steps as well as after every epoch.
    pub validate_every: Option<u64>,
    /// Save a checkpoint after every so many steps as well as after every epoch.
    pub checkpoint_every: Option<u64>,
    /// Every so many steps the observers get a record.
    pub log_every: u64,
}

/// How a training ended.
#[must_use = "a training that was interrupted has not finished"]
#[derive(Debug, Clone, PartialEq)]
pub enum TrainingEnd {
    /// All epochs are done, or no better weights were in sight.
    Finished {
        /// Where the best weights come from.
        best: BestWeights,
        /// Whether patience ran out.
        stopped_early: bool,
    },
    /// The interrupter asked for it; the checkpoint is saved.
    Interrupted {
        /// Steps done.
        step: u64,
    },
}

/// The data of a training.
#[derive(Debug, Clone)]
pub struct TrainingData {
    /// Learned from.
    pub train: SplitRows,
    /// Selects the best weights. Without it the last weights count as the best.
    pub valid: Option<SplitRows>,
}

impl TrainerConfig {
    /// The defaults of a run file, for a model and the names of its stages: three epochs in batches of 1024, Adam at 1e-3 for
    /// towers and tables, the best weights by the AUC of the last stage.
    ///
    /// # Examples
    /// The example `in_memory` trains so.
    pub fn new(model: EsmmConfig, stages: Vec<String>) -> Self {
        let beta_1 = 0.9;
        let beta_2 = 0.999;
        let epsilon = 1e-8;
        let seed = 1;
        Self {
            learner: EsmmLearnerConfig {
                loss: EsmmLoss::new(stages.len()),
                tables: TableOptimizerConfig {
                    rule: TableRule::LazyAdam { beta_1, beta_2, epsilon },
                    learning_rate_ratio: 1.0,
                    l2: 0.0,
                },
                clip_norm: None,
                seed,
            },
            towers: TowerOptimizerConfig::Adam { beta_1, beta_2, epsilon, weight_decay: 0.0 },
            schedule: Schedule {
                base: 1e-3,
                warmup_steps: 0,
                decay: Decay::Constant,
                final_factor: 1.0,
                total_steps: 0,
                step: 0,
            },
            epochs: 3,
            batch_size: 1024,
            seed,
            precision: Precision::F32,
            prior: None,
            select: last_auc(&stages),
            patience: None,
            validate_every: None,
            checkpoint_every: None,
            log_every: 20,
            label: String::new(),
            unknown: UnknownShares::default(),
            model,
            stages,
        }
    }

    /// The trainer of a resolved configuration, for a model.
    pub fn of(config: &TrainConfig, model: &EsmmConfig) -> Self {
        let train = &config.train;
        let schedule = train.schedule;
        Self {
            label: String::new(),
            model: model.clone(),
            stages: config.labels.columns.clone(),
            learner: EsmmLearnerConfig {
                loss: EsmmLoss {
                    task_weights: train.task_weights.clone(),
                    negative_rate: config.negative_rate,
                },
                tables: train.tables,
                clip_norm: train.clip_norm,
                seed: train.seed,
            },
            towers: train.towers,
            schedule: Schedule {
                base: schedule.learning_rate,
                warmup_steps: schedule.warmup_steps,
                decay: schedule.decay,
                final_factor: schedule.final_factor,
                total_steps: 0,
                step: 0,
            },
            epochs: train.epochs,
            batch_size: train.batch_size,
            seed: train.seed,
            precision: train.precision,
            prior: None,
            unknown: UnknownShares::default(),
            select: train.select.clone(),
            patience: train.patience,
            validate_every: train.validate_every,
            checkpoint_every: train.checkpoint_every,
            log_every: train.log_every,
        }
    }

    /// Whether a batch is too short to learn from: under batch norm one row has no variance (PyTorch refuses it).
    pub(super) fn leaves_out(&self, rows: usize) -> bool {
        let towers = &self.model.towers;
        rows == 1 && towers.batch_norm && !towers.hidden.is_empty()
    }

    pub(super) fn loader(&self, batch_size: usize, purpose: Purpose) -> BatchLoaderConfig {
        BatchLoaderConfig {
            schema: self.model.schema.clone(),
            stages: self.stages.len(),
            batch_size,
            purpose,
            unknown: self.unknown.clone(),
        }
    }
}
