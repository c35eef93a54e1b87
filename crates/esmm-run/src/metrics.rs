//! What a training ended with: `metrics.json`, and where its weights come from.

use std::collections::BTreeMap;

use esmm_metrics::{SplitMetrics, TaskMetrics};
use serde::{Deserialize, Serialize};

/// `metrics.json`: every split that was given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunMetrics {
    /// What was learned from.
    pub train: SplitMetrics,
    /// What selected the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid: Option<SplitMetrics>,
    /// What neither did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<SplitMetrics>,
    /// Of several models: how each of them scores alone. The splits are then measured with their mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ensemble: Option<EnsembleMetrics>,
}

/// How each of several models scores alone, and how far they are apart.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct EnsembleMetrics {
    /// By split, task and metric: `spread["test"]["ctr"]["auc"]`. A metric that one of the models lacks is left out.
    pub spread: BTreeMap<String, BTreeMap<String, BTreeMap<String, Spread>>>,
    /// The models, in the order of their seeds.
    pub members: Vec<MemberMetrics>,
}

/// One of several models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemberMetrics {
    /// Its seed.
    pub seed: u64,
    /// Steps that its weights have seen.
    pub step: u64,
    /// Epoch of that step, from 1.
    pub epoch: u64,
    /// Its metrics, by split: `train`, `valid`, `test`.
    pub splits: BTreeMap<String, SplitMetrics>,
}

/// A metric over several models.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Mean.
    pub mean: f64,
    /// Standard deviation of single models (n - 1 in the denominator).
    pub std: f64,
    /// Least.
    pub min: f64,
    /// Greatest.
    pub max: f64,
}

impl EnsembleMetrics {
    /// Of models with their metrics.
    pub fn of(members: Vec<MemberMetrics>) -> Self {
        let mut spread: BTreeMap<String, BTreeMap<String, BTreeMap<String, Spread>>> = BTreeMap::new();
        for (split, metrics) in members.first().into_iter().flat_map(|first| &first.splits) {
            for (task, _) in &metrics.tasks {
                let alone: Vec<Option<&TaskMetrics>> =
                    members.iter().map(|member| member.splits.get(split)?.task(task)).collect();
                for (name, metric) in METRICS {
                    let values: Option<Vec<f64>> = alone.iter().map(|task| metric((*task)?)).collect();
                    if let Some(found) = values.and_then(|values| Spread::of(&values)) {
                        let tasks = spread.entry(split.clone()).or_default();
                        tasks.entry(task.clone()).or_default().insert(name.to_owned(), found);
                    }
                }
            }
        }
        Self { spread, members }
    }

    /// The spread of a metric.
    pub fn spread(&self, split: &str, task: &str, metric: &str) -> Option<Spread> {
        self.spread.get(split)?.get(task)?.get(metric).copied()
    }
}

/// A metric of a task.
type Metric = fn(&TaskMetrics) -> Option<f64>;

/// The metrics that have a spread, by their names in `metrics.json`.
const METRICS: [(&str, Metric); 5] = [
    ("auc", |task| task.auc),
    ("log_loss", |task| task.log_loss),
    ("normalized_entropy", |task| task.normalized_entropy),
    ("calibration", |task| task.calibration),
    ("gauc", |task| task.gauc.as_ref()?.value),
];

impl Spread {
    /// Of some values; `None` of less than two.
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.len() < 2 {
            return None;
        }
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Some(Self { mean, std: (squares / (count - 1.0)).sqrt(), min, max })
    }
}

/// Where the weights come from that a training keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BestWeights {
    /// Steps that they have seen.
    pub step: u64,
    /// Epoch of that step, from 1.
    pub epoch: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(seed: u64, auc: Option<f64>, log_loss: f64) -> MemberMetrics {
        let task = TaskMetrics { auc, log_loss: Some(log_loss), ..TaskMetrics::default() };
        let split =
            SplitMetrics { rows: 4, tasks: vec![("ctr".to_owned(), task)], ..SplitMetrics::default() };
        MemberMetrics { seed, step: 10, epoch: 1, splits: [("test".to_owned(), split)].into() }
    }

    #[test]
    fn a_spread_is_that_of_single_models() {
        let metrics = EnsembleMetrics::of(vec![member(1, Some(0.6), 1.0), member(2, Some(0.8), 1.0)]);
        let auc = metrics.spread("test", "ctr", "auc").unwrap();
        // Two values at a distance of 0.2: the deviation is 0.2 / sqrt 2.
        assert!((auc.mean - 0.7).abs() < 1e-12 && (auc.std - 0.2 / 2.0_f64.sqrt()).abs() < 1e-12);
        assert_eq!((auc.min, auc.max), (0.6, 0.8));
        assert_eq!(metrics.spread("test", "ctr", "log_loss").unwrap().std, 0.0);
        assert_eq!(metrics.spread("test", "ctr", "calibration"), None);
        assert_eq!(metrics.spread("train", "ctr", "auc"), None);
        assert_eq!(Spread::of(&[1.0]), None);
    }

    #[test]
    fn a_metric_that_one_model_lacks_has_no_spread() {
        let metrics = EnsembleMetrics::of(vec![member(1, Some(0.6), 1.0), member(2, None, 2.0)]);
        assert_eq!(metrics.spread("test", "ctr", "auc"), None);
        assert_eq!(metrics.spread("test", "ctr", "log_loss").unwrap().mean, 1.5);
    }
}
