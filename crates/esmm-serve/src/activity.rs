//! How long a connection has had nothing to do.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What happens on a connection.
#[derive(Debug)]
pub(crate) struct Activity {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    under_way: usize,
    /// When the newest request ended, or the connection began.
    since: Instant,
}

/// A request under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Activity>);

impl Activity {
    /// A connection that begins now.
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State { under_way: 0, since: Instant::now() }) }
    }

    /// A request begins.
    pub(crate) fn begin(self: &Arc<Self>) -> Busy {
        self.state().under_way += 1;
        Busy(self.clone())
    }

    /// How much longer the connection may be idle: nothing once it has been for as long as `limit`, all of it while a request
    /// is under way.
    pub(crate) fn rest(&self, limit: Duration) -> Duration {
        let state = self.state();
        match state.under_way {
            0 => limit.saturating_sub(state.since.elapsed()),
            _ => limit,
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.under_way -= 1;
        state.since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_rests_from_the_end_of_its_newest_request() {
        let activity = Arc::new(Activity::new());
        let (none, long) = (Duration::ZERO, Duration::from_secs(3600));
        assert!(activity.rest(none).is_zero() && !activity.rest(long).is_zero());
        let (first, second) = (activity.begin(), activity.begin());
        assert_eq!(activity.rest(long), long);
        drop(first);
        assert_eq!(activity.rest(long), long);
        drop(second);
        assert!(activity.rest(long) < long && activity.rest(none).is_zero());
    }
}
