//! What a model is worth: exact metrics in f64 over whole splits, never averages over batches.
//!
//! | metric | over | undefined when |
//! | --- | --- | --- |
//! | AUC, with DeLong's interval | rows of a task | one class is missing |
//! | log loss | rows of a task | there is no row, or what happened had probability 0 |
//! | normalized entropy | rows of a task | one class is missing |
//! | calibration | rows of a task | there is no event |
//! | GAUC | rows of a task, by group | no group has both classes |
//! | entire-space CVR: AUC, calibration | all impressions, against the true CVR | the truth is 0 everywhere |
//!
//! The rows of a reach task (CTR, CTCVR) are all impressions, those of a conditional task (CVR) the impressions that
//! reached the stage before. An undefined metric is an [`Undefined`] that says why, `null` and a reason in JSON; it
//! is never 0.5 and never NaN.
//!
//! What is drawn of a task (ROC, precision and recall, calibration by decile, histograms) comes from the same scores:
//! [`Evaluator::curves`].

#![forbid(unsafe_code)]

mod auc;
mod calibration;
mod curves;
mod entire_space;
mod evaluator;
mod goal;
mod group_auc;
mod log_loss;
mod placements;
mod report;
mod rows;
mod task;
mod task_scores;
mod undefined;
mod weighted;

pub use auc::{Auc, auc};
pub use calibration::{Calibration, calibration, soft_calibration};
pub use curves::{Histogram, Link, Ranking, ReliabilityBin, TaskCurves, ThresholdCounts, wilson};
pub use entire_space::{TruthRows, soft_auc};
pub use evaluator::Evaluator;
pub use goal::{Goal, MetricError};
pub use group_auc::{GroupAuc, NO_GROUP, group_auc};
pub use log_loss::{LogLoss, log_loss, normalized_entropy};
pub use placements::{AucDifference, Placements};
pub use report::{BestReachable, EntireSpaceMetrics, GroupMetrics, SplitMetrics, TaskMetrics};
pub use rows::EvaluationRows;
pub use task_scores::TaskScores;
pub use undefined::Undefined;
pub use weighted::weighted_auc;
