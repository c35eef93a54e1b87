//! `[data]`: where the impressions are, and how they are read.

use esmm_data::{CsvOptions, ListFormat, SourceSpec, Spelling, SplitSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::memory::bytes;
use super::refuse::refuse;
use super::split::{self, SplitSection};
use crate::error::RunError;

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
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
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
#[serde(untagged, expecting = "it must be a path as text, or a list of paths")]
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

/// Where the impressions are, and how they are split.
pub(super) fn split(data: &DataSection) -> Result<SplitSpec, RunError> {
    let csv = CsvOptions { delimiter: data.delimiter, quote: data.quote };
    let lists = ListFormat { separator: data.list_separator, weight_separator: data.weight_separator };
    let spelling = Spelling {
        trim: data.trim,
        null: data.null.clone(),
        decimal: data.decimal,
        thousands: data.thousands,
        time_zone: data.time_zone.clone(),
        exact_keys: false,
    };
    let source = |paths: Vec<String>| SourceSpec {
        paths,
        csv,
        lists,
        spelling: spelling.clone(),
        groups: data.groups.clone(),
    };
    for (key, paths) in
        [("train", &data.train), ("valid", &data.valid), ("test", &data.test), ("path", &data.path)]
    {
        if paths.to_vec().iter().any(|path| path.trim().is_empty()) {
            return refuse(&format!("data.{key}"), "\"\"", "it must name a file, a glob or a folder");
        }
    }
    let given = |paths: Vec<String>| (!paths.is_empty()).then(|| source(paths));
    let train = data.train.to_vec();
    let valid = data.valid.to_vec();
    let test = data.test.to_vec();
    let path = data.path.to_vec();
    match (train.is_empty(), path.is_empty()) {
        (true, true) => {
            Err(RunError::Config("[data] names no file: give `train`, or `path` with `split`".into()))
        }
        (false, false) => Err(RunError::Config("[data] has both `train` and `path`: one of them".into())),
        (false, true) if data.split.is_some() => {
            Err(RunError::Config("[data.split] goes with `path`, not with `train`".into()))
        }
        (false, true) => {
            Ok(SplitSpec::Files { train: source(train), valid: given(valid), test: given(test) })
        }
        (true, false) if !valid.is_empty() || !test.is_empty() => {
            Err(RunError::Config("[data] `valid` and `test` go with `train`, not with `path`".into()))
        }
        (true, false) => split::resolve(data.split.as_ref(), source(path)),
    }
}

/// How they are read.
pub(super) fn reading(data: &DataSection) -> Result<ReadingConfig, RunError> {
    if data.shuffle_rows == 0 {
        return refuse("data.shuffle_rows", 0, "it must be at least 1");
    }
    Ok(ReadingConfig {
        streaming: data.streaming,
        memory: bytes("data.memory", &data.memory)?,
        shuffle_rows: data.shuffle_rows,
        by_group: data.by_group,
    })
}

/// The share of unknown values.
pub(super) fn unknown_share(share: f64) -> Result<f64, RunError> {
    match (0.0..1.0).contains(&share) {
        true => Ok(share),
        false => refuse("data.unknown_share", share, "it must be 0 or more and less than 1"),
    }
}
