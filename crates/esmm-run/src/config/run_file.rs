//! The run file: what a person types. Strict: an unknown key is an error that names the nearest one.

use esmm_core::{Pooling, Side};
use esmm_data::{CsvOptions, ListFormat, Spelling};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sections::{ModelSection, TrainSection};
use super::train_config::ReadingConfig;

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

/// Where the impressions are, and how they are split: either `train` with `valid` and `test`, or `path` with `split`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DataSection {
    /// Files, globs or folders of the training split. Either this or `path` is needed.
    pub train: Paths,
    /// Files or globs of the validation split; with `train`.
    pub valid: Paths,
    /// Files or globs of the test split; with `train`.
    pub test: Paths,
    /// Files or globs that `split` divides. Without `split` all of their rows train.
    pub path: Paths,
    /// Parquet: the name of the file, in the folder of each file of impressions, that holds the columns of their groups.
    pub groups: Option<String>,
    /// How `path` is divided.
    pub split: Option<SplitSection>,
    /// Whether every pass reads the rows from their files. Unless said: when they would take more than `memory`.
    pub streaming: Option<bool>,
    /// What encoded rows may take in memory: a number with a unit, such as `512MiB` or `10GB`.
    pub memory: String,
    /// Streaming: how many rows are shuffled together at most.
    #[schemars(range(min = 1))]
    pub shuffle_rows: usize,
    /// Data with `groups`: whether rows of one group stay together, so that what they share is read, held and computed
    /// once; `false` shuffles single rows.
    pub by_group: bool,
    /// CSV: between the fields of a line. Unless said: a tab in `.tsv` files, otherwise a comma. A tab is written `\t`.
    pub delimiter: Option<char>,
    /// CSV: around fields that hold a delimiter.
    pub quote: char,
    /// CSV: between the ids of a list, `a|b|c`.
    pub list_separator: char,
    /// CSV: between an id and its weight, `a:0.7|b:0.3`.
    pub weight_separator: char,
    /// Whether blanks around cells, and around the names of a CSV's columns, are left out.
    pub trim: bool,
    /// Words that stand for a missing value, beside the empty cell.
    pub null: Vec<String>,
    /// Text: between the whole part and the fraction of a number, `.` or `,`.
    pub decimal: char,
    /// Text: between groups of three digits of a number; nothing unless said.
    pub thousands: Option<char>,
    /// The IANA zone of times that name neither zone nor offset, such as `Europe/Berlin`. Unless said: UTC.
    pub time_zone: Option<String>,
    /// The least share of the values of each vocabulary that training takes as unknown, so that new users and items are
    /// scored with a row that was trained; every pass takes others, by `train.seed`. With 0 none are taken, and unknown
    /// values share the row of missing ones.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub unknown_share: f64,
}

/// [`DataSection::unknown_share`] unless said.
pub(super) const UNKNOWN_SHARE: f64 = 0.01;

/// [`ReadingConfig::memory`] of a run file that does not say it, as a person writes it.
const MEMORY: &str = "4GiB";

impl Default for DataSection {
    fn default() -> Self {
        let reading = ReadingConfig::default();
        let lists = ListFormat::default();
        let spelling = Spelling::default();
        Self {
            train: Paths::default(),
            valid: Paths::default(),
            test: Paths::default(),
            path: Paths::default(),
            groups: None,
            split: None,
            streaming: reading.streaming,
            memory: MEMORY.into(),
            shuffle_rows: reading.shuffle_rows,
            by_group: reading.by_group,
            delimiter: CsvOptions::default().delimiter,
            quote: CsvOptions::default().quote,
            list_separator: lists.separator,
            weight_separator: lists.weight_separator,
            trim: spelling.trim,
            null: spelling.null,
            decimal: spelling.decimal,
            thousands: spelling.thousands,
            time_zone: spelling.time_zone,
            unknown_share: UNKNOWN_SHARE,
        }
    }
}

/// One path or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

/// How rows are divided. The rows that are in neither share train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitSection {
    /// What divides them.
    pub by: SplitBy,
    /// The column of a split by time (numbers, timestamps or ISO dates) or by hash.
    pub column: Option<String>,
    /// Share of the validation split, of all rows; by hash, of the values of `column`.
    #[serde(default)]
    pub valid: f64,
    /// Share of the test split. Both shares together are below 1.
    #[serde(default)]
    pub test: f64,
    /// Seed of a split by hash or at random.
    #[serde(default)]
    pub seed: u64,
    /// By time, instead of shares: the first moment of the validation split, as the column has them: a date, a date with a
    /// time, or a number.
    pub valid_from: Option<Instant>,
    /// By time, instead of shares: the first moment of the test split.
    pub test_from: Option<Instant>,
}

/// A moment as a person writes it: `"2024-05-01"`, `"2024-05-01 12:00+02:00"`, `1714521600`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Instant {
    /// A date, with or without a time.
    Text(String),
    /// A whole number.
    Whole(i64),
    /// Another number.
    Real(f64),
}

impl std::fmt::Display for Instant {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => formatter.write_str(text),
            Self::Whole(number) => number.fmt(formatter),
            Self::Real(number) => number.fmt(formatter),
        }
    }
}

/// What divides rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SplitBy {
    /// The latest rows test, those before them validate, the earliest train.
    Time,
    /// All rows with one value of the column go to one side.
    Hash,
    /// Each row for itself.
    Random,
}

/// The stages of the funnel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LabelSection {
    /// Columns of the stages, in order, at least 2. A cell is 0 or 1.
    pub stages: Vec<String>,
    /// What happens to a row that reached a stage but not the one before, as a conversion without a click.
    pub orphan_conversions: OrphanPolicy,
    /// Words for 1, beside `1` and `true`.
    pub positive: Vec<String>,
    /// Words for 0, beside `0` and `false`.
    pub negative: Vec<String>,
    /// What a missing label of a later stage means where the stage before was not reached; elsewhere it is an error.
    pub missing: MissingPolicy,
    /// The share of the impressions without a click that the data still holds, in (0, 1], or the column that holds it for
    /// each row, clicked ones too. Probabilities and metrics are then those of the full log. Unless said: all.
    pub negative_rate: Option<NegativeRateSetting>,
    /// The column with the weight of each row, in the loss and in the metrics: finite and not negative. Unless said: 1.
    pub weight: Option<String>,
    /// How long a conversion may take: a number with a unit, such as `7d` or `36h`, or for a column of numbers a number in
    /// its unit. Rows that are younger when the log ends count for the first stage only.
    pub conversion_window: Option<Instant>,
    /// With `conversion_window`: the column with the time of each row. Unless said: the one of a split by time.
    pub time: Option<String>,
    /// With `conversion_window`: when the log ends, as the column has it. Unless said: at the newest time of the data.
    pub conversions_until: Option<Instant>,
}

/// A share for all rows, or a column with one for each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum NegativeRateSetting {
    /// `negative_rate = 0.1`
    Share(f64),
    /// `negative_rate = "kept"`
    Column(String),
}

impl Default for LabelSection {
    fn default() -> Self {
        Self {
            stages: vec!["click".into(), "conversion".into()],
            orphan_conversions: OrphanPolicy::Error,
            positive: Vec::new(),
            negative: Vec::new(),
            missing: MissingPolicy::Error,
            negative_rate: None,
            weight: None,
            conversion_window: None,
            time: None,
            conversions_until: None,
        }
    }
}

/// What a missing label means where the stage before was not reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MissingPolicy {
    /// It is an error.
    #[default]
    Error,
    /// The stage was not reached.
    Zero,
}

/// What happens to a conversion without a click.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OrphanPolicy {
    /// It is an error.
    #[default]
    Error,
    /// The row is dropped and counted.
    Drop,
}

/// A feature: a column and how its values become ids or real values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeatureSection {
    /// Its name; no other feature has it.
    pub name: String,
    /// The column that it reads. Unless said: the one of its name.
    pub column: Option<String>,
    /// Whom it describes.
    #[serde(default = "context")]
    pub side: Side,
    /// How its values become ids or real values.
    #[serde(default)]
    pub encode: Encode,
    /// `vocabulary`: values that the training rows hold less often are unknown. Unless said: 1.
    pub min_count: Option<u64>,
    /// `hash`, `quantile`: the number of buckets, which they need.
    pub buckets: Option<usize>,
    /// `ple`: the number of bins. Unless said: 16.
    pub bins: Option<usize>,
    /// `raw`: the number of ids, which it needs. Ids are whole numbers below it.
    pub num_embeddings: Option<usize>,
    /// Makes a sparse feature a list of any number of ids a row, and says how their embeddings become one.
    pub pooling: Option<Pooling>,
    /// With `pooling`: whether ids have weights.
    #[serde(default)]
    pub weighted: bool,
    /// With `weighted`, Parquet: the list column with the weights, as long as the list of ids in every row.
    pub weights_column: Option<String>,
    /// Sparse: the feature whose table this one uses. The table is fitted on the values of both.
    pub shares: Option<String>,
    /// Dense: what stands for a missing value, before the transform. Unless said: a missing value is an error.
    pub missing: Option<f32>,
    /// What happens to a value that the encoding does not take, such as a negative one under `log1p` or an id beyond
    /// `num_embeddings`, in rows that nothing is learned from. It is counted and said. In training rows it is an error.
    #[serde(default)]
    pub outside: OutsidePolicy,
}

/// What happens to a value that an encoding does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutsidePolicy {
    /// The nearest value that is taken stands in; an id is missing. Where no value is the nearest it is an error.
    #[default]
    Clip,
    /// It is missing. So is a text that is no number, where a number is expected.
    Missing,
    /// It is an error.
    Error,
}

fn context() -> Side {
    Side::Context
}

/// How values become ids (sparse) or real values (dense).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encode {
    /// Sparse: the values of the training rows, each with a row of the table.
    #[default]
    Vocabulary,
    /// Sparse: values hashed into `buckets`; unrelated ones may meet.
    Hash,
    /// Sparse: whole numbers from 0, used as they are.
    Raw,
    /// Sparse: real values, cut where the training rows fall into `buckets` of about equal size.
    Quantile,
    /// Dense: the value as it is.
    Dense,
    /// Dense: minus the mean of the training rows, over their standard deviation.
    Standardize,
    /// Dense: `ln(1 + x)` of a value that is not negative.
    Log1p,
    /// Dense, piecewise linear: the filled share of each of `bins` bins of about equal count in the training rows.
    Ple,
}

impl Encode {
    /// Its name in a run file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Vocabulary => "vocabulary",
            Self::Hash => "hash",
            Self::Raw => "raw",
            Self::Quantile => "quantile",
            Self::Dense => "dense",
            Self::Standardize => "standardize",
            Self::Log1p => "log1p",
            Self::Ple => "ple",
        }
    }

    /// Whether values become numbers.
    pub(crate) fn is_dense(self) -> bool {
        match self {
            Self::Vocabulary | Self::Hash | Self::Raw | Self::Quantile => false,
            Self::Dense | Self::Standardize | Self::Log1p | Self::Ple => true,
        }
    }
}

/// What is measured beyond the metrics that need labels only.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MetricSection {
    /// The column whose values are the groups of GAUC.
    pub group: Option<String>,
    /// Column with the true CTR; with `true_cvr`.
    pub true_ctr: Option<String>,
    /// Column with the true CVR, over all impressions; with `true_ctr`.
    pub true_cvr: Option<String>,
    /// Column with the true CTCVR, where hidden causes keep it from being true CTR x true CVR.
    pub true_ctcvr: Option<String>,
}
