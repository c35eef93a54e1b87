//! `[model]`: widths, layers and initial values of the model.

use esmm_core::{Activation, EsmmError, MOST_WIDE, TowersConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::refuse::refuse;
use crate::error::RunError;

/// The model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSection {
    /// Width of every embedding.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub embedding_dim: usize,
    /// Widths of the hidden layers of every tower, from the input on, each 1 to 1048576.
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
#[serde(
    untagged,
    expecting = "it must be a number from 0 on and below 1, or a list of one for each hidden layer"
)]
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

/// The model, but for the sizes of its tables, which come from the data.
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

/// The model.
pub(super) fn resolve(section: &ModelSection) -> Result<ModelConfig, RunError> {
    let activation = match section.activation {
        ActivationName::None => Activation::None,
        ActivationName::Relu => Activation::Relu,
        ActivationName::LeakyRelu => Activation::LeakyRelu { negative_slope: section.negative_slope },
        ActivationName::Prelu => Activation::Prelu,
    };
    let dropout = match &section.dropout {
        DropoutSection::All(probability) => vec![*probability; section.hidden.len()],
        DropoutSection::Each(probabilities) => probabilities.clone(),
    };
    if !(1..=MOST_WIDE).contains(&section.embedding_dim) {
        let allowed = format!("it must be at least 1 and at most {MOST_WIDE}");
        return refuse("model.embedding_dim", section.embedding_dim, &allowed);
    }
    let init_std = section.embedding_init_std;
    if !(init_std >= 0.0 && init_std.is_finite()) {
        return refuse("model.embedding_init_std", init_std, "it must be finite and at least 0");
    }
    let hidden = section.hidden.clone();
    let towers = TowersConfig { hidden, activation, batch_norm: section.batch_norm, dropout };
    towers.validate().map_err(in_run_file)?;
    Ok(ModelConfig {
        embedding_dim: section.embedding_dim,
        towers,
        shared_embeddings: section.shared_embeddings,
        embedding_init_std: section.embedding_init_std,
        prior: section.prior,
    })
}

/// An error of the towers under the keys that a run file has for them.
fn in_run_file(error: EsmmError) -> RunError {
    match error {
        EsmmError::Config { key, found, allowed } => {
            let key = key.replace("towers.", "model.");
            RunError::Config(format!("{key} = {found}: {allowed}"))
        }
        other => other.into(),
    }
}
