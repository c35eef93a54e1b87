//! The exact curves of the pictures: what a report or a dashboard draws of one task.
//!
//! A [`Ranking`] holds the measured rows of a task in the order of their scores; everything else is read off it in one
//! pass, in f64, and its totals are those of the [metrics](super): the area of the whole ROC curve is the AUC, the mean of
//! the deciles' predictions over the observed rate is the calibration.
//!
//! ```
//! use esmm_metrics::{Link, Ranking};
//!
//! # fn main() -> Result<(), esmm_metrics::Undefined> {
//! let ranking = Ranking::new(&[2.0, -1.0], &[true, false], Link::Logit)?;
//! assert_eq!(ranking.roc(200)?, [[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]]); // false positive rate, true positive rate
//! # Ok(())
//! # }
//! ```

mod histogram;
mod precision_recall;
mod ranking;
mod reliability;
mod roc;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use histogram::Histogram;
pub use precision_recall::ThresholdCounts;
pub use ranking::{Link, Ranking};
pub use reliability::{ReliabilityBin, wilson};

use super::report::{Reasons, defined};
use super::undefined::Undefined;

/// Points that a curve is thinned to, at most about this many.
const POINTS: usize = 240;
/// Bins of the calibration.
const BINS: usize = 10;
/// Bins of the histogram at most.
const HISTOGRAM_BINS: usize = 48;

/// The curves of one task on one split. All are exact but for the thinning of `roc` and `pr`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskCurves {
    /// Rows that the task is measured on.
    pub rows: u64,
    /// Positive ones among them.
    pub positives: u64,
    /// What the rows weigh; `None` where they have no weights. All but `histogram` counts weights then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// What the positive rows weigh; `None` where they have no weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positive_weight: Option<f64>,
    /// `[false positive rate, true positive rate]` from (0, 0) to (1, 1): [`Ranking::roc`]. `None` where undefined.
    pub roc: Option<Vec<[f64; 2]>>,
    /// `[recall, precision]` by rising recall: [`Ranking::precision_recall`]. `None` where undefined.
    pub pr: Option<Vec<[f64; 2]>>,
    /// Area under the unthinned precision-recall steps: [`Ranking::average_precision`].
    pub average_precision: Option<f64>,
    /// Predicted and observed rates by decile of the score, lowest first: [`Ranking::reliability`].
    pub deciles: Vec<ReliabilityBin>,
    /// The scores by label: [`Ranking::histogram`].
    pub histogram: Histogram,
    /// Why a value above is `None`, by its name; `scores` when none of them could be had.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub undefined: BTreeMap<String, String>,
}

impl TaskCurves {
    /// The curves of a ranking, or the reason why there is none.
    pub fn of(ranking: Result<Ranking, Undefined>) -> Self {
        let mut undefined = Reasons::new();
        let Some(ranking) = defined(&mut undefined, "scores", ranking) else {
            return Self { undefined, ..Self::default() };
        };
        Self {
            rows: ranking.positives() + ranking.negatives(),
            positives: ranking.positives(),
            weight: ranking.is_weighted().then(|| ranking.positive_weight() + ranking.negative_weight()),
            positive_weight: ranking.is_weighted().then(|| ranking.positive_weight()),
            roc: defined(&mut undefined, "roc", ranking.roc(POINTS)),
            pr: defined(&mut undefined, "pr", ranking.precision_recall(POINTS)),
            average_precision: defined(&mut undefined, "average_precision", ranking.average_precision()),
            deciles: ranking.reliability(BINS),
            histogram: ranking.histogram(HISTOGRAM_BINS),
            undefined,
        }
    }

    /// The share of positive rows, or of what they weigh; 0 without any.
    pub fn base_rate(&self) -> f64 {
        let all = self.weight.unwrap_or(self.rows as f64);
        let positives = self.positive_weight.unwrap_or(self.positives as f64);
        if all > 0.0 { positives / all } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::{Link, Ranking, TaskCurves, Undefined};

    #[test]
    fn undefined_says_why_and_json_comes_back() {
        let none = TaskCurves::of(Err(Undefined::NotANumber { row: 3 }));
        assert_eq!(none.undefined["scores"], "row 3: the score is not a number");
        let negatives = TaskCurves::of(Ranking::new(&[0.5, -1.0], &[false; 2], Link::Logit));
        assert_eq!((negatives.rows, negatives.positives, &negatives.roc), (2, 0, &None));
        assert_eq!(negatives.undefined["pr"], "none of the 2 rows is positive");
        assert_eq!(negatives.deciles.iter().map(|bin| bin.rows).sum::<u64>(), 2);
        let both = TaskCurves::of(Ranking::new(&[0.5, -1.0, 3.0], &[false, true, true], Link::Logit));
        assert!(both.undefined.is_empty());
        for curves in [none, negatives, both] {
            let json = serde_json::to_string(&curves).unwrap();
            assert_eq!(serde_json::from_str::<TaskCurves>(&json).unwrap(), curves);
        }
    }
}
