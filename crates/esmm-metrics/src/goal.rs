//! Metrics by name, for early stopping: `ctcvr.auc`, `cvr.log_loss`, `entire_space.cvr_auc`.

use crate::report::{SplitMetrics, TaskMetrics};

/// When one value of a metric is better than another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Higher is better.
    Maximize,
    /// Lower is better.
    Minimize,
    /// Nearer to 1 is better, by ratio: 0.5 and 2 are equally far.
    NearOne,
}

/// A metric that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricError {
    /// A name that belongs to no metric.
    #[error("metric `{name}` is unknown, allowed are {allowed}")]
    Unknown {
        /// The name.
        name: String,
        /// All names, separated by commas.
        allowed: String,
    },
    /// A metric without a value on this split.
    #[error("metric `{name}` is undefined: {reason}")]
    Undefined {
        /// The name.
        name: String,
        /// Why.
        reason: String,
    },
    /// Too few or too many stages.
    #[error("a funnel of {found} stages, allowed are 2 to 255")]
    Stages {
        /// Number of stages.
        found: usize,
    },
    /// A stage whose name, or a task whose name, stands for something else in the report.
    #[error("stage `{stage}`: the report needs `{key}` for something else, rename the stage")]
    StageName {
        /// The stage.
        stage: String,
        /// The key that would be there twice.
        key: String,
    },
    /// A true CVR with more than two stages.
    #[error("a true CVR needs a funnel of 2 stages, found {found}")]
    Truth {
        /// Number of stages.
        found: usize,
    },
}

const TASK_METRICS: [&str; 4] = ["auc", "log_loss", "normalized_entropy", "calibration"];
const ENTIRE_SPACE_METRICS: [&str; 2] = ["cvr_auc", "cvr_calibration"];

impl Goal {
    /// What is better for the metric `name`, by what follows its last dot. `None` for a name that is no metric's.
    pub fn of(name: &str) -> Option<Self> {
        match name.rsplit_once('.')?.1 {
            "auc" | "gauc" | "cvr_auc" => Some(Self::Maximize),
            "log_loss" | "normalized_entropy" => Some(Self::Minimize),
            "calibration" | "cvr_calibration" => Some(Self::NearOne),
            _ => None,
        }
    }

    /// Whether `candidate` is better than `best`. Equal values are not better, and anything is better than NaN.
    ///
    /// # Examples
    /// ```
    /// use esmm_metrics::Goal;
    ///
    /// let goal = Goal::of("ctcvr.calibration");
    /// assert_eq!(goal, Some(Goal::NearOne));
    /// assert!(Goal::NearOne.improves(1.1, 0.5));
    /// assert!(Goal::of("ctcvr.accuracy").is_none());
    /// ```
    #[must_use]
    pub fn improves(self, candidate: f64, best: f64) -> bool {
        match self {
            _ if best.is_nan() => !candidate.is_nan(),
            Self::Maximize => candidate > best,
            Self::Minimize => candidate < best,
            Self::NearOne => candidate.ln().abs() < best.ln().abs(),
        }
    }
}

/// The names of all metrics of a split with these tasks.
pub(crate) fn names<'a>(tasks: impl Iterator<Item = &'a str>, gauc: bool, entire_space: bool) -> Vec<String> {
    let mut names = Vec::new();
    for task in tasks {
        let fields = TASK_METRICS.iter().chain(gauc.then_some(&"gauc"));
        names.extend(fields.map(|field| format!("{task}.{field}")));
    }
    if entire_space {
        names.extend(ENTIRE_SPACE_METRICS.map(|field| format!("entire_space.{field}")));
    }
    names
}

impl SplitMetrics {
    /// The names that [`SplitMetrics::metric`] knows, in order.
    pub fn metric_names(&self) -> Vec<String> {
        let gauc = self.tasks.iter().any(|(_, task)| task.gauc.is_some());
        let tasks = self.tasks.iter().map(|(name, _)| name.as_str());
        names(tasks, gauc, self.entire_space.is_some())
    }

    /// Whether `candidate` is a better value of the metric `name` than `best` ([`Goal::improves`]). Never for a name
    /// that is no metric's.
    pub fn is_better(name: &str, candidate: f64, best: f64) -> bool {
        Goal::of(name).is_some_and(|goal| goal.improves(candidate, best))
    }

    /// The value of a metric by its name, such as `ctcvr.auc`.
    ///
    /// # Errors
    /// An unknown name (the error lists the known ones), an undefined value (the error says why).
    pub fn metric(&self, name: &str) -> Result<f64, MetricError> {
        let (value, reason) = self.find(name).ok_or_else(|| MetricError::Unknown {
            name: name.to_owned(),
            allowed: self.metric_names().join(", "),
        })?;
        value.ok_or_else(|| MetricError::Undefined {
            name: name.to_owned(),
            reason: reason.map_or("no reason given", String::as_str).to_owned(),
        })
    }

    /// Value and reason; `None` for an unknown name.
    fn find(&self, name: &str) -> Option<(Option<f64>, Option<&String>)> {
        let (owner, field) = name.rsplit_once('.')?;
        if owner != "entire_space" {
            let task = self.task(owner)?;
            return Some((task_value(task, field)?, task.undefined.get(field)));
        }
        let metrics = self.entire_space.as_ref()?;
        let value = match field {
            "cvr_auc" => metrics.cvr_auc,
            "cvr_calibration" => metrics.cvr_calibration,
            _ => return None,
        };
        Some((value, metrics.undefined.get(field)))
    }
}

fn task_value(task: &TaskMetrics, field: &str) -> Option<Option<f64>> {
    match field {
        "auc" => Some(task.auc),
        "log_loss" => Some(task.log_loss),
        "normalized_entropy" => Some(task.normalized_entropy),
        "calibration" => Some(task.calibration),
        "gauc" => task.gauc.as_ref().map(|gauc| gauc.value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Goal, SplitMetrics, TaskMetrics};
    use crate::{EntireSpaceMetrics, GroupMetrics};

    fn split() -> SplitMetrics {
        let reasons = [("calibration".to_owned(), "there are no rows".to_owned())];
        let task = TaskMetrics {
            auc: Some(0.75),
            log_loss: Some(0.5),
            normalized_entropy: Some(0.25),
            gauc: Some(GroupMetrics {
                value: Some(0.625),
                groups_used: 1,
                groups_skipped: 0,
                rows_without_group: 0,
            }),
            undefined: reasons.into(),
            ..TaskMetrics::default()
        };
        let space = EntireSpaceMetrics {
            cvr_auc: Some(0.875),
            cvr_calibration: Some(2.0),
            ..EntireSpaceMetrics::default()
        };
        SplitMetrics {
            tasks: vec![("a.b|c".to_owned(), task)],
            entire_space: Some(space),
            ..SplitMetrics::default()
        }
    }

    #[test]
    fn every_name_has_a_value_and_a_goal() {
        let split = split();
        let values = split.metric_names().into_iter().map(|name| {
            assert!(Goal::of(&name).is_some(), "{name}");
            split.metric(&name).ok()
        });
        let expected = [Some(0.75), Some(0.5), Some(0.25), None, Some(0.625), Some(0.875), Some(2.0)];
        assert_eq!(values.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn errors_say_what_is_allowed_and_why() {
        let split = split();
        let undefined = split.metric("a.b|c.calibration").unwrap_err().to_string();
        assert_eq!(undefined, "metric `a.b|c.calibration` is undefined: there are no rows");
        for name in ["auc", "x.auc", "a.b|c.rows", "entire_space.auc"] {
            let unknown = split.metric(name).unwrap_err().to_string();
            let start = format!("metric `{name}` is unknown, allowed are a.b|c.auc, a.b|c.log_loss,");
            assert!(
                unknown.starts_with(&start) && unknown.ends_with(", entire_space.cvr_calibration"),
                "{unknown}"
            );
        }
    }

    #[test]
    fn goals() {
        assert!(Goal::Maximize.improves(0.6, 0.5) && !Goal::Maximize.improves(0.5, 0.5));
        assert!(Goal::Minimize.improves(0.4, 0.5) && !Goal::Minimize.improves(0.6, 0.5));
        assert!(Goal::NearOne.improves(1.5, 0.5) && Goal::NearOne.improves(0.75, 1.5));
        assert!(!Goal::NearOne.improves(0.0, 3.0) && !Goal::NearOne.improves(0.5, 2.0));
        assert!(Goal::Minimize.improves(0.5, f64::NAN) && !Goal::Maximize.improves(f64::NAN, 0.5));
        assert!(
            SplitMetrics::is_better("cvr.log_loss", 0.4, 0.5)
                && !SplitMetrics::is_better("cvr.auc", 0.4, 0.5)
        );
        assert_eq!(Goal::of("ctcvr.auc"), Some(Goal::Maximize));
        assert_eq!(Goal::of("cvr.log_loss"), Some(Goal::Minimize));
        assert_eq!(Goal::of("ctr.calibration"), Some(Goal::NearOne));
        assert_eq!(Goal::of("auc"), None);
    }
}
