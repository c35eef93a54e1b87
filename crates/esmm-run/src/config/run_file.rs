//! The run file: what a person types. Strict: an unknown key is an error that names the nearest one.

use esmm_core::{Pooling, Side};
use serde::Deserialize;

use super::sections::{ModelSection, TrainSection};

/// A run file. Only `data`, `labels` and `features` are needed; everything else has a default.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunFile {
    /// Where the impressions are, and how they are split.
    pub data: DataSection,
    /// The stages of the funnel.
    #[serde(default)]
    pub labels: LabelSection,
    /// The features, in the order of the model's input.
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

/// `[data]`: either `train` with `valid` and `test`, or `path` with `split`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataSection {
    /// Files or globs of the training split.
    pub train: Paths,
    /// Files or globs of the validation split.
    pub valid: Paths,
    /// Files or globs of the test split.
    pub test: Paths,
    /// Files or globs that `split` divides.
    pub path: Paths,
    /// Parquet: the file in the folder of each file of impressions that holds the columns of their groups.
    pub groups: Option<String>,
    /// How `path` is divided.
    pub split: Option<SplitSection>,
    /// Whether every pass reads the rows from their files. Unless said: when they would take more than `memory`.
    pub streaming: Option<bool>,
    /// What encoded rows may take in memory, `4GiB` unless said.
    pub memory: Option<String>,
    /// Streaming: how many rows are shuffled together at most, 1,000,000 unless said.
    pub shuffle_rows: Option<usize>,
    /// Data with `groups`: whether rows of one group stay together, so that what they share is read, held and
    /// computed once; they do unless said.
    pub by_group: Option<bool>,
    /// Between the fields of a CSV line, `,` unless said. A tab is written `\t`.
    pub delimiter: Option<char>,
    /// Around CSV fields that hold a delimiter, `"` unless said.
    pub quote: Option<char>,
    /// Between the ids of a list in a CSV field, `|` unless said.
    pub list_separator: Option<char>,
    /// Between an id and its weight in a CSV field, `:` unless said.
    pub weight_separator: Option<char>,
}

/// One path or several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Paths {
    /// `path = "a.csv"`
    One(String),
    /// `path = ["a.csv", "b/*.parquet"]`
    Many(Vec<String>),
}

impl Default for Paths {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Paths {
    /// All of them.
    pub fn to_vec(&self) -> Vec<String> {
        match self {
            Self::One(path) => vec![path.clone()],
            Self::Many(paths) => paths.clone(),
        }
    }
}

/// `[data.split]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitSection {
    /// How rows are divided.
    pub by: SplitBy,
    /// The column of a split by time or hash.
    pub column: Option<String>,
    /// Share of the validation split.
    #[serde(default)]
    pub valid: f64,
    /// Share of the test split.
    #[serde(default)]
    pub test: f64,
    /// Seed of a split by hash or at random.
    #[serde(default)]
    pub seed: u64,
}

/// How rows are divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitBy {
    /// The latest rows test, those before them validate.
    Time,
    /// All rows with one value of the column go to one side.
    Hash,
    /// Each row for itself.
    Random,
}

/// `[labels]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LabelSection {
    /// Columns of the stages, in order.
    pub stages: Vec<String>,
    /// What happens to a row with a stage but not the one before.
    pub orphan_conversions: OrphanPolicy,
}

impl Default for LabelSection {
    fn default() -> Self {
        Self { stages: vec!["click".into(), "conversion".into()], orphan_conversions: OrphanPolicy::Error }
    }
}

/// What happens to a conversion without a click.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrphanPolicy {
    /// It is an error.
    #[default]
    Error,
    /// The row is dropped and counted.
    Drop,
}

/// One entry of `features`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureSection {
    /// Name, and the column unless `column` is given.
    pub name: String,
    /// The column.
    pub column: Option<String>,
    /// Whom it describes.
    #[serde(default = "context")]
    pub side: Side,
    /// How values become ids or numbers.
    #[serde(default)]
    pub encode: Encode,
    /// Vocabulary: values seen less often are unknown.
    pub min_count: Option<u64>,
    /// Hash and quantile: number of buckets.
    pub buckets: Option<usize>,
    /// Raw: number of ids.
    pub num_embeddings: Option<usize>,
    /// Any number of ids a row, pooled like this.
    pub pooling: Option<Pooling>,
    /// Whether the ids of a bag have weights.
    #[serde(default)]
    pub weighted: bool,
    /// Parquet: the list column with the weights.
    pub weights_column: Option<String>,
    /// Use the table of this feature.
    pub shares: Option<String>,
    /// Dense: what stands for a missing value. Without it a missing value is an error.
    pub missing: Option<f32>,
}

fn context() -> Side {
    Side::Context
}

/// How values become ids or numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encode {
    /// Ids: the values seen in training.
    #[default]
    Vocabulary,
    /// Ids: hashed into buckets.
    Hash,
    /// Ids: they are row numbers already.
    Raw,
    /// Ids: numbers cut into buckets of equal size.
    Quantile,
    /// Numbers as they are.
    Dense,
    /// Numbers, mean 0 and standard deviation 1.
    Standardize,
    /// Numbers, log(1 + x).
    Log1p,
}

/// `[metrics]`
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricSection {
    /// The column whose values are the groups of GAUC.
    pub group: Option<String>,
    /// Column with the true CTR.
    pub true_ctr: Option<String>,
    /// Column with the true CVR over all impressions.
    pub true_cvr: Option<String>,
    /// Column with the true CTCVR.
    pub true_ctcvr: Option<String>,
}
