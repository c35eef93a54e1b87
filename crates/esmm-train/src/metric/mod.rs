//! The exact metrics of [`esmm_metrics`], and their adapters to Burn's dashboard.

mod adapter;

pub use adapter::{ExactAuc, StepLoss};
pub use esmm_metrics::{
    Auc, BestReachable, Calibration, EntireSpaceMetrics, EvaluationRows, Evaluator, Goal, GroupAuc,
    GroupMetrics, Histogram, Link, LogLoss, MetricError, Ranking, ReliabilityBin, SplitMetrics, TaskCurves,
    TaskMetrics, TaskScores, ThresholdCounts, TruthRows, Undefined, auc, calibration, group_auc, log_loss,
    normalized_entropy, soft_auc, soft_calibration, wilson,
};
