//! Predicted and observed events of the tasks over some rows.

use super::ValueTask;
use super::binned_auc::BinnedAuc;
use crate::evaluation::HostScores;

/// The tasks of a row: one for each stage, and from the second stage on one given the stage before, in the order of the
/// metrics.
#[derive(Debug, Clone)]
pub(super) struct RowTasks {
    tasks: Vec<TaskKind>,
    row: Vec<Option<TaskRow>>,
}

#[derive(Debug, Clone, Copy)]
struct TaskKind {
    stage: usize,
    conditional: bool,
}

/// A row as one task sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct TaskRow {
    pub(super) probability: f64,
    pub(super) logit: f64,
    pub(super) positive: bool,
}

/// Sums over rows, one task's.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Sums {
    rows: u32,
    positives: u32,
    predicted: f64,
    variance: f64,
}

impl RowTasks {
    /// The tasks of a funnel of `stages` stages.
    pub(super) fn new(stages: usize) -> Self {
        let of_stage = |stage: usize| {
            let conditional = (stage > 0).then_some(TaskKind { stage, conditional: true });
            conditional.into_iter().chain([TaskKind { stage, conditional: false }])
        };
        let tasks: Vec<TaskKind> = (0..stages).flat_map(of_stage).collect();
        Self { row: vec![None; tasks.len()], tasks }
    }

    /// Number of tasks.
    pub(super) fn count(&self) -> usize {
        self.tasks.len()
    }

    /// The `row`-th row of a batch: one entry a task, `None` where the task is not measured on it.
    pub(super) fn of(&mut self, scores: &HostScores, row: usize) -> &[Option<TaskRow>] {
        let stages = scores.stages();
        let depth = usize::from(scores.labels.depth[row]);
        let is_open = scores.labels.counts.is_open(row);
        for (task, seen) in self.tasks.iter().zip(&mut self.row) {
            let cell = row * stages + task.stage;
            let measured = (!task.conditional || depth >= task.stage) && (task.stage == 0 || !is_open);
            *seen = measured.then(|| {
                let (probability, logit) = match task.conditional {
                    true => {
                        let logit = f64::from(scores.conditional[cell]);
                        (1.0 / (1.0 + (-logit).exp()), logit)
                    }
                    false => {
                        let log_p = f64::from(scores.log_reach[cell]);
                        (log_p.exp(), log_p - f64::from(scores.log_not_reach[cell]))
                    }
                };
                TaskRow { probability, logit, positive: depth > task.stage }
            });
        }
        &self.row
    }
}

impl Sums {
    /// One more row.
    pub(super) fn add(&mut self, row: TaskRow) {
        self.rows += 1;
        self.positives += u32::from(row.positive);
        self.predicted += row.probability;
        self.variance += row.probability * (1.0 - row.probability);
    }

    pub(super) fn rows(&self) -> u64 {
        u64::from(self.rows)
    }

    pub(super) fn positives(&self) -> u64 {
        u64::from(self.positives)
    }

    /// Predicted or observed events, whichever are more: how much there is to judge by.
    pub(super) fn events(&self) -> f64 {
        self.predicted.max(f64::from(self.positives))
    }

    /// See [`ValueTask::deviation`].
    pub(super) fn deviation(&self) -> Option<f64> {
        let deviation = (self.predicted - f64::from(self.positives)) / self.variance.sqrt();
        deviation.is_finite().then_some(deviation)
    }

    pub(super) fn finish(&self, auc: Option<&BinnedAuc>) -> ValueTask {
        ValueTask {
            rows: self.rows(),
            positives: self.positives(),
            predicted: self.predicted,
            deviation: self.deviation(),
            auc: auc.and_then(BinnedAuc::value),
        }
    }
}
