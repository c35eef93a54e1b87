//! How far a preparation is: said every few seconds, and the place where it can be stopped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::AliCcpError;

/// Between two reports.
const INTERVAL: Duration = Duration::from_secs(3);

/// How far it is.
#[derive(Debug, Clone, PartialEq)]
pub struct PrepareProgress {
    /// `train` or `test`.
    pub split: &'static str,
    /// What is being done.
    pub step: &'static str,
    /// Rows of this step so far.
    pub rows: u64,
    /// Rows a second, in this step.
    pub rows_per_second: f64,
    /// Share of all work that is done, 0 to 1.
    pub done: f64,
    /// Estimated seconds to the end of everything.
    pub seconds_left: f64,
}

/// Who wants to know, and who may say stop.
pub(crate) struct Meter<'a> {
    say: &'a mut dyn FnMut(&PrepareProgress),
    stop: &'a AtomicBool,
    started: Instant,
    said: Instant,
    /// Work of all steps, and of those that are over.
    total: f64,
    over: f64,
    step: Step,
}

/// A step: what a byte of its input costs, relative to the other steps, and where it is.
#[derive(Debug, Clone, Copy)]
struct Step {
    split: &'static str,
    name: &'static str,
    cost: f64,
    bytes: u64,
    started: Instant,
    rows: u64,
}

/// What the steps cost for each byte that they read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepKind {
    /// Finding the groups.
    Scan,
    /// Common features, sorted.
    Common,
    /// Impressions, written with their groups.
    Convert,
}

impl StepKind {
    fn name(self) -> &'static str {
        match self {
            Self::Scan => "finding groups",
            Self::Common => "reading common features",
            Self::Convert => "writing impressions and groups",
        }
    }

    /// As measured on one core with plain files.
    fn cost(self) -> f64 {
        match self {
            Self::Scan => 0.05,
            Self::Common => 0.3,
            Self::Convert => 1.0,
        }
    }
}

impl<'a> Meter<'a> {
    /// Before the first step. `work` is the bytes that each step will read.
    pub(crate) fn new(
        say: &'a mut dyn FnMut(&PrepareProgress),
        stop: &'a AtomicBool,
        work: impl Iterator<Item = (StepKind, u64)>,
    ) -> Self {
        let now = Instant::now();
        let total: f64 = work.map(|(kind, bytes)| kind.cost() * bytes as f64).sum();
        let step = Step { split: "", name: "", cost: 0.0, bytes: 0, started: now, rows: 0 };
        Self { say, stop, started: now, said: now, total, over: 0.0, step }
    }

    /// Begins the next step.
    pub(crate) fn begin(&mut self, split: &'static str, kind: StepKind, bytes: u64) {
        self.over += self.step.cost * self.step.bytes as f64;
        let started = Instant::now();
        self.step = Step { split, name: kind.name(), cost: kind.cost(), bytes, started, rows: 0 };
    }

    /// Some more rows are done, and the input is read up to a byte.
    ///
    /// # Errors
    /// Someone said stop.
    pub(crate) fn advance(&mut self, rows: u64, read: u64) -> Result<(), AliCcpError> {
        self.step.rows += rows;
        if self.stop.load(Ordering::Relaxed) {
            return Err(AliCcpError::Interrupted);
        }
        if self.said.elapsed() >= INTERVAL {
            self.said = Instant::now();
            let done = (self.over + self.step.cost * read as f64) / self.total.max(1.0);
            let elapsed = self.started.elapsed().as_secs_f64();
            let progress = PrepareProgress {
                split: self.step.split,
                step: self.step.name,
                rows: self.step.rows,
                rows_per_second: self.step.rows as f64 / self.step.started.elapsed().as_secs_f64().max(1e-9),
                done: done.min(1.0),
                seconds_left: elapsed / done.max(1e-9) * (1.0 - done).max(0.0),
            };
            (self.say)(&progress);
        }
        Ok(())
    }
}
