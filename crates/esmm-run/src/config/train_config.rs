//! The resolved configuration: `config.json` of a run directory.

use esmm_data::{CountSpec, FeatureSpec, LabelSpec, SplitSpec, TruthSpec};
use serde::{Deserialize, Serialize};

use super::data::ReadingConfig;
use super::model::ModelConfig;
use super::negative_rate::NegativeRate;
use super::train::TrainingConfig;

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
