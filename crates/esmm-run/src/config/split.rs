//! `[data.split]`: how the rows of `data.path` are divided.

use esmm_data::{SourceSpec, SplitSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::instant::Instant;
use super::refuse::refuse;
use crate::error::RunError;

/// How rows are divided. The rows that are in neither share train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitSection {
    /// What divides them.
    pub by: SplitBy,
    /// The column of a split by time (numbers, timestamps or dates) or by hash.
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

/// The split of a source; without a section all of its rows train.
pub(super) fn resolve(section: Option<&SplitSection>, source: SourceSpec) -> Result<SplitSpec, RunError> {
    let Some(split) = section else {
        return Ok(SplitSpec::Files { train: source, valid: None, test: None });
    };
    let valid = split.valid;
    let test = split.test;
    let seed = split.seed;
    let column = |by: &str| match &split.column {
        Some(column) => Ok(column.clone()),
        None => Err(RunError::Config(format!("data.split.by = \"{by}\" needs `column`"))),
    };
    let moments = split.valid_from.is_some() || split.test_from.is_some();
    if moments && split.by != SplitBy::Time {
        return refuse(
            "data.split.by",
            format!("{:?}", split.by),
            "`valid_from` and `test_from` go with \"time\"",
        );
    }
    if moments && (valid > 0.0 || test > 0.0) {
        return refuse(
            "data.split.valid or test",
            "a share",
            "`valid_from` and `test_from` take its place: give one",
        );
    }
    match split.by {
        SplitBy::Time if moments => {
            let text = |moment: &Option<Instant>| moment.as_ref().map(Instant::to_string);
            let valid_from = text(&split.valid_from);
            let test_from = text(&split.test_from);
            Ok(SplitSpec::Date { source, column: column("time")?, valid_from, test_from })
        }
        SplitBy::Time => Ok(SplitSpec::Time { source, column: column("time")?, valid, test }),
        SplitBy::Hash => Ok(SplitSpec::Hash { source, column: column("hash")?, valid, test, seed }),
        SplitBy::Random if split.column.is_some() => refuse(
            "data.split.column",
            "given",
            "a split by \"random\" has no column (do you mean \"hash\"?)",
        ),
        SplitBy::Random => Ok(SplitSpec::Random { source, valid, test, seed }),
    }
}
