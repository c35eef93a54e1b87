//! The sections `[model]` and `[train]` of a run file, with their defaults.

use esmm_core::Precision;
use serde::Deserialize;

use super::optimizer::Decay;

/// `[model]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSection {
    /// Width of every embedding.
    pub embedding_dim: usize,
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// Behind every hidden product.
    pub activation: ActivationName,
    /// Slope of the leaky ReLU below zero.
    pub negative_slope: f64,
    /// Whether hidden layers have a batch norm.
    pub batch_norm: bool,
    /// One probability for all hidden layers, or one each.
    pub dropout: DropoutSection,
    /// `false`: each tower has tables of its own.
    pub shared_embeddings: bool,
    /// Standard deviation of the first embedding values.
    pub embedding_init_std: f64,
}

impl Default for ModelSection {
    fn default() -> Self {
        Self {
            embedding_dim: 16,
            hidden: vec![64, 32],
            activation: ActivationName::Relu,
            negative_slope: 0.01,
            batch_norm: true,
            dropout: DropoutSection::All(0.0),
            shared_embeddings: true,
            embedding_init_std: 0.01,
        }
    }
}

/// One probability for all hidden layers, or one each.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum DropoutSection {
    /// For all.
    All(f64),
    /// One each.
    Each(Vec<f64>),
}

/// An activation by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActivationName {
    /// Identity.
    None,
    /// ReLU.
    Relu,
    /// Leaky ReLU.
    #[serde(rename = "leaky_relu")]
    LeakyRelu,
    /// PReLU.
    Prelu,
}

/// `[train]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSection {
    /// Passes over the training split.
    pub epochs: u64,
    /// Rows of a batch.
    pub batch_size: usize,
    /// Seed of first values, order and dropout.
    pub seed: u64,
    /// Numbers of the products of hidden layers.
    pub precision: Precision,
    /// Largest norm of all gradients together.
    pub clip_norm: Option<f64>,
    /// One weight a stage, 1 each unless given.
    pub task_weights: Option<Vec<f64>>,
    /// The validation metric that selects the best weights.
    pub select: String,
    /// Stop after so many validations without a better one.
    pub patience: Option<u64>,
    /// Validate after every so many steps as well as after every epoch.
    pub validate_every: Option<u64>,
    /// Save a checkpoint after every so many steps as well as after every epoch.
    pub checkpoint_every: Option<u64>,
    /// Every so many steps losses and rates are recorded.
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
            precision: Precision::F32,
            clip_norm: None,
            task_weights: None,
            select: "ctcvr.auc".into(),
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

/// `[train.towers]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TowerSection {
    /// Which one.
    pub optimizer: TowerOptimizerName,
    /// After the warm-up.
    pub learning_rate: f64,
    /// Adam, AdamW: decay of the first moment.
    pub beta_1: f64,
    /// Adam, AdamW: decay of the second moment.
    pub beta_2: f64,
    /// Adam, AdamW: added to the root of the second moment.
    pub epsilon: f64,
    /// SGD: momentum.
    pub momentum: f64,
    /// L2 penalty; AdamW: decoupled.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TowerOptimizerName {
    /// Adam.
    Adam,
    /// AdamW.
    AdamW,
    /// SGD.
    Sgd,
}

/// `[train.tables]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TableSection {
    /// Which one.
    pub optimizer: TableOptimizerName,
    /// After the warm-up.
    pub learning_rate: f64,
    /// Lazy and row-wise Adam: decay of the first moment.
    pub beta_1: f64,
    /// Lazy and row-wise Adam: decay of the second moment.
    pub beta_2: f64,
    /// Both kinds of Adam and Adagrad: keeps steps finite.
    pub epsilon: f64,
    /// L2 penalty on touched rows.
    pub l2: f64,
}

impl Default for TableSection {
    fn default() -> Self {
        let (beta_1, beta_2, epsilon) = (0.9, 0.999, 1e-8);
        Self {
            optimizer: TableOptimizerName::LazyAdam,
            learning_rate: 1e-3,
            beta_1,
            beta_2,
            epsilon,
            l2: 0.0,
        }
    }
}

/// An optimizer of the tables by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableOptimizerName {
    /// Adam on touched rows.
    LazyAdam,
    /// The same with one second moment a row.
    RowWiseAdam,
    /// Row-wise Adagrad.
    Adagrad,
    /// SGD.
    Sgd,
}

/// `[train.schedule]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleSection {
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// What follows.
    pub decay: Decay,
    /// Share of the learning rate at the last step.
    pub final_factor: f64,
}

impl Default for ScheduleSection {
    fn default() -> Self {
        Self { warmup_steps: 0, decay: Decay::Constant, final_factor: 0.01 }
    }
}
