//! What a training and its loader tell each other beside the batches.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::DataError;

/// Where a loader goes on, how long it was waited for, and what went wrong.
#[derive(Debug, Default)]
pub struct LoaderHandle {
    /// Number of the next pass, which seeds its order.
    pass: AtomicU64,
    /// Batches of the next pass that are left out, because they were done before.
    skip: AtomicUsize,
    /// Nanoseconds.
    waited: AtomicU64,
    failure: Mutex<Option<DataError>>,
}

impl LoaderHandle {
    /// Makes the next pass the one of this number, without its first batches.
    pub fn go_on(&self, pass: u64, skip: usize) {
        self.pass.store(pass, Ordering::Relaxed);
        self.skip.store(skip, Ordering::Relaxed);
    }

    /// Time that was spent waiting for batches so far.
    pub fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited.load(Ordering::Relaxed))
    }

    /// Says whether the last pass came to its end.
    ///
    /// # Errors
    /// What cut it short, once.
    pub fn check(&self) -> Result<(), DataError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }

    /// Number of the pass that begins now, and batches to leave out.
    pub(super) fn next_pass(&self) -> (u64, usize) {
        (self.pass.fetch_add(1, Ordering::Relaxed), self.skip.swap(0, Ordering::Relaxed))
    }

    pub(super) fn add_waiting(&self, time: Duration) {
        self.waited.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    pub(super) fn fail(&self, error: DataError) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}
