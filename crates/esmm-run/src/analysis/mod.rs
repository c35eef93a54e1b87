//! `analysis.json` of a run directory: what the final evaluation found beyond the metrics.
//!
//! For each split the exact [curves](TaskCurves) of each task, the share of unknown ids and, for the splits that nothing
//! was learned from, the tasks' rates by feature value; for each embedding table the rows that training never touched.
//! `esmm report` draws it.
//!
//! An [`Analyzer`] watches the batches of the evaluation go by. It keeps 4 bytes a table row to find a value's sums, and
//! sums for the first [`MAX_VALUES`] distinct values of each feature: values that come later are counted together.

mod analyzer;
mod binned_auc;
mod drift;
mod feature;
mod period;
mod run;
mod sums;
mod tables;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use analyzer::{Analyzer, Wanted};
pub use drift::{Drift, FeatureDrift, Moved, RateDrift};
pub use feature::MAX_VALUES;
pub use period::{FeatureDistribution, Period, PeriodCounter, TaskRate};
pub use run::RunAnalyzer;

use esmm_metrics::TaskCurves;

use crate::error::RunError;
use crate::run_dir::{RunDir, read_json, write_atomic};

/// Version of the file.
pub const FORMAT_VERSION: u32 = 1;

/// `analysis.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunAnalysis {
    /// Version of the file.
    pub format_version: u32,
    /// Steps that the measured weights have seen.
    pub step: u64,
    /// Epoch of that step, from 1.
    pub epoch: u64,
    /// The splits, in the order train, valid, test.
    pub splits: Vec<SplitAnalysis>,
    /// The embedding tables, in the order of the schema.
    pub tables: Vec<TableUsage>,
}

/// What was found on one split.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SplitAnalysis {
    /// `train`, `valid` or `test`.
    pub split: String,
    /// Number of impressions.
    pub rows: u64,
    /// Curves of each task, in the order of the metrics.
    pub tasks: Vec<NamedCurves>,
    /// Missing and unknown ids of each sparse feature.
    pub unknown: Vec<UnknownIds>,
    /// Rates by value of each feature. Empty for the training split where there are others.
    pub features: Vec<FeatureAnalysis>,
    /// What its rows are like: rates, and how the values of features are spread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<Period>,
}

/// Curves of a task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NamedCurves {
    /// The task, as in `metrics.json`.
    pub task: String,
    /// Its curves.
    pub curves: TaskCurves,
}

/// How many ids of a sparse feature have no row of their own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UnknownIds {
    /// The feature.
    pub feature: String,
    /// Ids, those of bags one by one.
    pub ids: u64,
    /// Those that are missing; 0 where missing and unknown ids have one row.
    #[serde(default)]
    pub missing: u64,
    /// Those that training does not know; where missing and unknown ids have one row, both.
    pub unknown: u64,
}

/// A feature's values, and how well the tasks are calibrated on the rows that have them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FeatureAnalysis {
    /// The feature.
    pub feature: String,
    /// Whether the values are ranges of a dense feature.
    pub dense: bool,
    /// Distinct values that were seen, but for those counted together.
    pub distinct: u64,
    /// Rows with values that came after [`MAX_VALUES`] others.
    pub uncounted_rows: u64,
    /// The most frequent values and the worst calibrated ones; of a dense feature all ranges, in order.
    pub values: Vec<ValueAnalysis>,
}

/// The rows that have a value. A row with a bag counts for each distinct value in it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ValueAnalysis {
    /// What the data calls it; it may hold any characters.
    pub value: String,
    /// Number of impressions with it.
    pub rows: u64,
    /// The tasks, in the order of the split's `tasks`.
    pub tasks: Vec<ValueTask>,
}

/// One task on the rows that have a value.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ValueTask {
    /// Rows that the task is measured on.
    pub rows: u64,
    /// Positive ones among them.
    pub positives: u64,
    /// Sum of the predicted probabilities: the expected number of positive rows.
    pub predicted: f64,
    /// `(predicted - positives) / sqrt(sum p (1 - p))`: how many standard deviations the prediction is off, if it were
    /// right. `None` when nothing is left to chance.
    pub deviation: Option<f64>,
    /// AUC on these rows, ties within an eighth of a logit counting half. `None` where a class is missing or the value is
    /// not among those that it is kept for.
    pub auc: Option<f64>,
}

/// Use of an embedding table in training.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TableUsage {
    /// The feature that owns it.
    pub table: String,
    /// All features that use it.
    pub features: Vec<String>,
    /// Rows that stand for values: all but those of missing and of unknown values.
    pub rows: u64,
    /// Those among them that no training row has.
    pub never_touched: u64,
    /// Whether the row of unknown values was trained. Where it was not, an unknown id is scored with its initial values.
    pub unknown_trained: bool,
    /// Whether no value of this table is unknown, as of hash buckets and of ranges.
    #[serde(default)]
    pub knows_all: bool,
}

/// Of an analysis the periods alone.
#[derive(Deserialize)]
struct Periods {
    splits: Vec<SplitPeriod>,
}

#[derive(Deserialize)]
struct SplitPeriod {
    split: String,
    #[serde(default)]
    period: Option<Period>,
}

/// What the training rows of a run directory are like; `None` where an older version trained it, or it has no analysis.
///
/// # Errors
/// A file that cannot be read or is damaged.
pub fn training_period(run: &RunDir) -> Result<Option<Period>, RunError> {
    if !run.analysis().exists() {
        return Ok(None);
    }
    let Periods { splits } = read_json(&run.analysis())?;
    Ok(splits.into_iter().find(|split| split.split == "train").and_then(|split| split.period))
}

impl RunAnalysis {
    /// How the rows of a split differ from the training rows; `None` of the training split itself, and where an older version
    /// wrote the analysis.
    pub fn drift(&self, split: &str) -> Option<Drift> {
        let period = |name: &str| self.splits.iter().find(|split| split.split == name)?.period.as_ref();
        if split == "train" {
            return None;
        }
        Some(Drift::between(period("train")?, period(split)?))
    }

    /// Writes the file, in one line: it is for programs.
    ///
    /// # Errors
    /// A disk that refuses.
    pub fn write(&self, path: &Path) -> Result<(), RunError> {
        let text = serde_json::to_vec(self).map_err(|error| RunError::file(path, error.to_string()))?;
        write_atomic(path, &text)
    }
}

impl ValueTask {
    /// Sum of predictions over number of events: 1 is calibrated. `None` without an event.
    pub fn calibration(&self) -> Option<f64> {
        (self.positives > 0).then(|| self.predicted / self.positives as f64)
    }
}
