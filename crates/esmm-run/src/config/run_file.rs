//! The run file: what a person types. Strict: an unknown key is an error that names the nearest one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::data::DataSection;
use super::features::FeatureSection;
use super::labels::LabelSection;
use super::metrics::MetricSection;
use super::model::ModelSection;
use super::train::TrainSection;

/// A run file: what a person writes about data, features, model and training.
///
/// Only `data` and `features` are needed; everything else has a default.
///
/// # Examples
/// ```
/// use esmm_run::config::RunFile;
///
/// let text = r#"
/// features = [{ name = "user", side = "user" }, { name = "price", encode = "log1p" }]
/// [data]
/// train = "train.csv"
/// "#;
/// let file = RunFile::parse(text, "run.toml", &["train.epochs=5".into()])?;
/// assert_eq!(file.train.epochs, 5);
/// assert_eq!(file.labels.stages, ["click", "conversion"]);
///
/// let error = RunFile::parse(&text.replace("encode", "encoding"), "run.toml", &[]).unwrap_err();
/// assert!(error.to_string().ends_with("(did you mean `encode`?)"));
/// # Ok::<(), esmm_run::RunError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(description = "A run file of `esmm train`: data, features, model and training.")]
pub struct RunFile {
    /// Where the impressions are, and how they are split: either `train` with `valid` and `test`, or `path` with
    /// `split`.
    pub data: DataSection,
    /// The stages of the funnel.
    #[serde(default)]
    pub labels: LabelSection,
    /// The features, in the order of the model's input. A key that goes with one `encode` is refused with another.
    pub features: Vec<FeatureSection>,
    /// The model.
    #[serde(default)]
    pub model: ModelSection,
    /// The training.
    #[serde(default)]
    pub train: TrainSection,
    /// What is measured.
    #[serde(default)]
    pub metrics: MetricSection,
}
