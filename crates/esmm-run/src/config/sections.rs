//! The sections `[model]` and `[train]` of a run file, with their defaults.

use esmm_core::Precision;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::optimizer::Decay;

/// The model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSection {
    /// Width of every embedding.
    #[schemars(range(min = 1))]
    pub embedding_dim: usize,
    /// Widths of the hidden layers of every tower, from the input on, each at least 1.
    pub hidden: Vec<usize>,
    /// After every hidden matmul and its batch norm.
    pub activation: ActivationName,
    /// `leaky_relu`: its slope below zero.
    pub negative_slope: f64,
    /// Whether hidden layers have a batch norm.
    pub batch_norm: bool,
    /// Probability that an activation is dropped in training, in [0, 1): one for all hidden layers, or one each.
    pub dropout: DropoutSection,
    /// Whether the towers read the same tables; `false` gives each tower tables of its own (ESMM-NS).
    pub shared_embeddings: bool,
    /// Standard deviation of the initial embeddings.
    #[schemars(range(min = 0.0))]
    pub embedding_init_std: f64,
    /// Whether each tower's last bias starts at the logit of its stage's conditional rate in the training rows.
    pub prior: bool,
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
            prior: true,
        }
    }
}

/// One probability for all hidden layers, or one each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum DropoutSection {
    /// For all.
    All(f64),
    /// One each.
    Each(Vec<f64>),
}

/// An activation by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

/// The training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSection {
    /// Passes over the training split.
    #[schemars(range(min = 1))]
    pub epochs: u64,
    /// Rows of a batch.
    #[schemars(range(min = 1))]
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
