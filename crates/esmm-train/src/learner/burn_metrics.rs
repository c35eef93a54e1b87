//! The metrics as Burn's event processor wants them, for its dashboard and curves.

use std::sync::Arc;

use burn::train::metric::{
    Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes, NumericEntry,
    SerializedEntry,
};

use esmm_metrics::{auc, weighted_auc};
use esmm_run::evaluation::HostScores;

use super::output::StepReport;

/// Loss of one task, or of all: mean over the rows of the epoch so far (a short last batch counts by its rows).
#[derive(Debug, Clone)]
pub struct StepLoss {
    name: Arc<String>,
    task: Option<usize>,
    sum: f64,
    rows: usize,
    last: f64,
    last_rows: usize,
}

impl StepLoss {
    /// The total and one for each stage.
    pub fn all(stages: &[String]) -> Vec<Self> {
        let tasks = stages.iter().enumerate().map(|(task, stage)| (format!("Loss {stage}"), Some(task)));
        std::iter::once(("Loss".to_owned(), None))
            .chain(tasks)
            .map(|(name, task)| Self::new(name, task))
            .collect()
    }

    fn new(name: String, task: Option<usize>) -> Self {
        Self { name: Arc::new(name), task, sum: 0.0, rows: 0, last: f64::NAN, last_rows: 0 }
    }
}

impl Metric for StepLoss {
    type Input = StepReport;

    fn name(&self) -> MetricName {
        self.name.clone()
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes { unit: None, higher_is_better: false }.into()
    }

    fn update(&mut self, step: &StepReport, _: &MetricMetadata) -> SerializedEntry {
        let loss = self.task.map_or(step.total, |task| step.tasks[task]);
        self.sum += loss * step.rows as f64;
        self.rows += step.rows;
        (self.last, self.last_rows) = (loss, step.rows);
        entry(self.running_value().current(), &self.value())
    }

    fn clear(&mut self) {
        *self = Self { name: self.name.clone(), ..Self::new(String::new(), self.task) };
    }
}

impl Numeric for StepLoss {
    fn value(&self) -> NumericEntry {
        NumericEntry::Aggregated { aggregated_value: self.last, count: self.last_rows }
    }

    fn running_value(&self) -> NumericEntry {
        NumericEntry::Aggregated { aggregated_value: self.sum / self.rows.max(1) as f64, count: self.rows }
    }
}

/// Exact AUC of a task over all rows of the epoch so far, where Burn's own averages over batches.
///
/// It is computed anew when the rows have grown by a quarter and at the end of the epoch, so that its cost stays in
/// proportion to the rows.
#[derive(Debug, Clone)]
pub struct ExactAuc {
    name: Arc<String>,
    task: AucTask,
    scores: Vec<f32>,
    labels: Vec<bool>,
    /// One for each score, once a row weighs something else than 1.
    weights: Option<Vec<f32>>,
    computed_at: usize,
    value: f64,
}

#[derive(Debug, Clone, Copy)]
enum AucTask {
    /// Reaching a stage, over all rows.
    Reach(usize),
    /// A stage given the one before, over the rows that reached that one.
    Conditional(usize),
}

impl ExactAuc {
    /// One for each task of a funnel: for two stages CTR, CVR and CTCVR.
    pub fn all(stages: &[String]) -> Vec<Self> {
        let mut tasks = vec![AucTask::Reach(0)];
        for stage in 1..stages.len() {
            tasks.extend([AucTask::Conditional(stage), AucTask::Reach(stage)]);
        }
        let names: Vec<String> = match stages.len() {
            2 => ["CTR", "CVR", "CTCVR"].map(|task| format!("{task} AUC")).to_vec(),
            _ => tasks.iter().map(|task| task.name(stages)).collect(),
        };
        tasks.into_iter().zip(names).map(|(task, name)| Self::new(Arc::new(name), task)).collect()
    }

    fn new(name: Arc<String>, task: AucTask) -> Self {
        Self {
            name,
            task,
            scores: Vec::new(),
            labels: Vec::new(),
            weights: None,
            computed_at: 0,
            value: f64::NAN,
        }
    }

    fn push(&mut self, scores: &HostScores, weights: Option<&[f32]>) {
        let stages = scores.stages();
        if weights.is_some() && self.weights.is_none() {
            self.weights = Some(vec![1.0; self.scores.len()]);
        }
        for (row, &depth) in scores.labels.depth.iter().enumerate() {
            let depth = usize::from(depth);
            let is_open = scores.labels.counts.is_open(row);
            let (score, stage) = match self.task {
                AucTask::Reach(stage) if stage == 0 || !is_open => (&scores.log_reach, stage),
                AucTask::Conditional(stage) if depth >= stage && !is_open => (&scores.conditional, stage),
                AucTask::Reach(_) | AucTask::Conditional(_) => continue,
            };
            self.scores.push(score[row * stages + stage]);
            self.labels.push(depth > stage);
            if let Some(own) = &mut self.weights {
                own.push(weights.map_or(1.0, |weights| weights[row]));
            }
        }
    }
}

impl AucTask {
    fn name(self, stages: &[String]) -> String {
        match self {
            Self::Reach(stage) => format!("{} AUC", stages[stage]),
            Self::Conditional(stage) => format!("{}|{} AUC", stages[stage], stages[stage - 1]),
        }
    }
}

impl Metric for ExactAuc {
    type Input = StepReport;

    fn name(&self) -> MetricName {
        self.name.clone()
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes { unit: None, higher_is_better: true }.into()
    }

    fn update(&mut self, step: &StepReport, metadata: &MetricMetadata) -> SerializedEntry {
        if let Some(scores) = &step.scores {
            self.push(scores, step.weights.as_ref().map(|weights| weights.as_slice()));
        }
        let complete = metadata.progress.items_processed >= metadata.progress.items_total;
        if complete || self.scores.len() > self.computed_at + self.computed_at / 4 {
            self.computed_at = self.scores.len();
            let found = match &self.weights {
                None => auc(&self.scores, &self.labels),
                Some(weights) => weighted_auc(&self.scores, &self.labels, weights),
            };
            self.value = found.map_or(f64::NAN, |auc| auc.value);
        }
        entry(self.value, &self.value())
    }

    fn clear(&mut self) {
        *self = Self::new(self.name.clone(), self.task);
    }
}

impl Numeric for ExactAuc {
    fn value(&self) -> NumericEntry {
        NumericEntry::Value(self.value)
    }

    fn running_value(&self) -> NumericEntry {
        NumericEntry::Value(self.value)
    }
}

fn entry(shown: f64, saved: &NumericEntry) -> SerializedEntry {
    SerializedEntry::new(format!("{shown:.4}"), saved.serialize())
}
