//! `history.jsonl` of a run directory: what a training recorded while it ran, one JSON object a line.
//!
//! ```text
//! {"kind":"start","format_version":1,"program":"0.1.0","device":"ndarray","step":0,"unix_seconds":1767225600}
//! {"kind":"step","step":20,"epoch":1,"rows":1024,"loss":0.61,"task_losses":[0.5,0.11],...,"seconds":0.4}
//! {"kind":"evaluation","split":"valid","moment":"validation","step":391,"epoch":1,"metrics":{...},"seconds":7.9}
//! ```
//!
//! [`HistoryWriter`] appends and flushes line by line; a training that goes on cuts the file back to its checkpoint first,
//! so that no step is there twice. [`History::read`] takes a file that is still being written: a line that was cut is
//! left out, and said so.

mod reader;
mod writer;

use serde::{Deserialize, Serialize};

pub use reader::History;
pub use writer::HistoryWriter;

use esmm_metrics::SplitMetrics;

use crate::observe::{Moment, StepRecord};

/// Version of the file.
pub const FORMAT_VERSION: u32 = 1;

/// A line of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line {
    Start(Start),
    Step(Step),
    Evaluation(Evaluation),
}

/// A process began to train, or went on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// Version of the file.
    pub format_version: u32,
    /// Version of the program.
    pub program: String,
    /// What computes.
    pub device: String,
    /// Steps done before.
    pub step: u64,
    /// When, in seconds since 1970.
    pub unix_seconds: u64,
}

/// A recorded step: see [`StepRecord`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Steps done.
    pub step: u64,
    /// Epoch under way, from 1.
    pub epoch: u64,
    /// Rows of the batch.
    pub rows: usize,
    /// Weighted loss of the batch, in nats a row; `None` when it is no finite number.
    pub loss: Option<f64>,
    /// Loss of each stage, in nats a row.
    pub task_losses: Vec<Option<f64>>,
    /// The towers' learning rate.
    pub tower_learning_rate: f64,
    /// The tables' learning rate.
    pub table_learning_rate: f64,
    /// Rows a second since the record before.
    pub rows_per_second: f64,
    /// Share of the time spent waiting for data, 0 to 1.
    pub waiting: f64,
    /// Seconds since the start line.
    pub seconds: f64,
}

/// A measured split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// `train`, `valid` or `test`.
    pub split: String,
    /// While the training ran, or at its end with the best weights.
    pub moment: EvaluationMoment,
    /// Steps that the weights have seen.
    pub step: u64,
    /// Epoch of that step, from 1.
    pub epoch: u64,
    /// The metrics.
    pub metrics: SplitMetrics,
    /// Seconds since the start line.
    pub seconds: f64,
}

/// [`Moment`] in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvaluationMoment {
    /// While the training ran.
    Validation,
    /// At its end.
    End,
}

impl From<Moment> for EvaluationMoment {
    fn from(moment: Moment) -> Self {
        match moment {
            Moment::Validation => Self::Validation,
            Moment::End => Self::End,
        }
    }
}

impl Step {
    fn of(record: &StepRecord, seconds: f64) -> Self {
        let finite = |value: f64| value.is_finite().then_some(value);
        Self {
            step: record.step,
            epoch: record.epoch,
            rows: record.rows,
            loss: finite(record.loss),
            task_losses: record.task_losses.iter().copied().map(finite).collect(),
            tower_learning_rate: record.tower_learning_rate,
            table_learning_rate: record.table_learning_rate,
            rows_per_second: record.rows_per_second,
            waiting: record.waiting,
            seconds,
        }
    }
}
