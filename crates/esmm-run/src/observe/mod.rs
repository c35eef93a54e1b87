//! What a training tells its observers: steps and evaluations, in host memory.
//!
//! An observer changes nothing: a training with and without it ends with the same bytes. What it may cost is reading the
//! losses back from the device, which happens at every [`log_every`](crate::config::TrainingConfig::log_every)-th step
//! only, and only when there is an observer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use esmm_metrics::{Evaluator, SplitMetrics};

mod table_norms;

pub use table_norms::TableNorms;

/// Observes a training without changing it. Called in the training's thread, in order; it should return quickly.
///
/// It cannot fail: what goes wrong inside (a full disk) is its own to report, and the training goes on.
pub trait TrainingObserver: Send {
    /// The training begins, or goes on after `step` steps: records of later steps that an earlier process left are void.
    fn on_start(&mut self, _step: u64) {}

    /// Whether evaluations should bring [`EvaluationRecord::tables`], which costs a pass over the tables.
    fn wants_tables(&self) -> bool {
        false
    }

    /// A step that is recorded.
    fn on_step(&mut self, _record: &StepRecord) {}

    /// All steps are done and their state is saved; all splits are about to be measured with the best weights.
    fn on_trained(&mut self) {}

    /// A split was measured: while the training runs, or at its end with the best weights.
    fn on_evaluation(&mut self, _record: &EvaluationRecord<'_>) {}
}

/// A recorded step.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRecord {
    /// Steps done, this one included.
    pub step: u64,
    /// Epoch under way, from 1.
    pub epoch: u64,
    /// Rows of this step's batch.
    pub rows: usize,
    /// Weighted loss of the batch, in nats a row.
    pub loss: f64,
    /// Loss of each stage on the batch, unweighted, in nats a row, `[K]`.
    pub task_losses: Vec<f64>,
    /// The towers' learning rate in this step.
    pub tower_learning_rate: f64,
    /// The tables' learning rate in this step.
    pub table_learning_rate: f64,
    /// Norm of the towers' gradients before clipping.
    pub tower_gradient_norm: f64,
    /// Norm of the touched rows' gradients before clipping.
    pub table_gradient_norm: f64,
    /// Distinct table rows that the batch read and updated, over all copies of the tables.
    pub touched_rows: usize,
    /// Rows trained on a second, since the record before.
    pub rows_per_second: f64,
    /// Share of the time since the record before that was spent waiting for a batch, 0 to 1.
    pub waiting: f64,
}

/// A measured split.
#[derive(Debug, Clone, Copy)]
pub struct EvaluationRecord<'a> {
    /// `train`, `valid` or `test`.
    pub split: &'a str,
    /// When it was measured.
    pub moment: Moment,
    /// Steps that the weights have seen.
    pub step: u64,
    /// Epoch of that step, from 1.
    pub epoch: u64,
    /// The metrics.
    pub metrics: &'a SplitMetrics,
    /// The scores and labels that they were computed from.
    pub scores: &'a Evaluator,
    /// The norms of the tables' rows at a validation, or without a valid split at the end with `train`; empty unless an
    /// observer [wants](TrainingObserver::wants_tables) them.
    pub tables: &'a [TableNorms],
}

/// When a split is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// While the training runs, with the weights of that step.
    Validation,
    /// At the end, with the best weights.
    End,
}

/// All observers of a training, shared by the loop and by the evaluation at the end.
#[derive(Clone, Default)]
pub struct Observers(Arc<Mutex<Vec<Box<dyn TrainingObserver>>>>);

impl Observers {
    /// Some observers, called in this order.
    pub fn new(observers: Vec<Box<dyn TrainingObserver>>) -> Self {
        Self(Arc::new(Mutex::new(observers)))
    }

    /// Whether there is no observer.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Whether one of them wants the norms of the tables' rows.
    pub fn want_tables(&self) -> bool {
        self.lock().iter().any(|observer| observer.wants_tables())
    }

    /// See [`TrainingObserver::on_start`].
    pub fn start(&self, step: u64) {
        self.lock().iter_mut().for_each(|observer| observer.on_start(step));
    }

    /// See [`TrainingObserver::on_step`].
    pub fn step(&self, record: &StepRecord) {
        self.lock().iter_mut().for_each(|observer| observer.on_step(record));
    }

    /// See [`TrainingObserver::on_trained`].
    pub fn trained(&self) {
        self.lock().iter_mut().for_each(|observer| observer.on_trained());
    }

    /// See [`TrainingObserver::on_evaluation`].
    pub fn evaluation(&self, record: &EvaluationRecord<'_>) {
        self.lock().iter_mut().for_each(|observer| observer.on_evaluation(record));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Box<dyn TrainingObserver>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Observers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Observers({})", self.lock().len())
    }
}
