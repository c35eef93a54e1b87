//! How fast a training goes, and how much of the time it waits for data.

use std::time::{Duration, Instant};

use esmm_data::loader::LoaderHandle;

/// Rows and times since some moment.
pub(crate) struct Pace {
    since: Instant,
    waited_before: Duration,
    /// Rows trained on.
    pub(crate) rows: usize,
}

impl Pace {
    /// From now on.
    pub(crate) fn start(loader: &LoaderHandle) -> Self {
        Self { since: Instant::now(), waited_before: loader.waited(), rows: 0 }
    }

    /// Leaves out time that was spent on something else.
    pub(crate) fn leave_out(&mut self, time: Duration) {
        self.since += time;
    }

    /// Rows a second.
    pub(crate) fn rows_per_second(&self) -> f64 {
        self.rows as f64 / self.seconds()
    }

    /// Share of the time that was spent waiting for batches, 0 to 1.
    pub(crate) fn waiting(&self, loader: &LoaderHandle) -> f64 {
        ((loader.waited() - self.waited_before).as_secs_f64() / self.seconds()).min(1.0)
    }

    fn seconds(&self) -> f64 {
        self.since.elapsed().as_secs_f64().max(1e-9)
    }
}
