//! What a request may cost.

use std::time::Duration;

/// Limits of the service; beyond them a request is refused, it never waits in a queue that grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a body.
    pub body: usize,
    /// Candidates of a body, all of its requests together.
    pub candidates: usize,
    /// From a request's first byte to its answer.
    pub time: Duration,
    /// Requests that are computed at once; more are answered with 503.
    pub requests: usize,
    /// Open connections; more wait to be accepted.
    pub connections: usize,
    /// Without a request under way a connection is closed after this.
    pub idle: Duration,
    /// How long an end of the service waits for requests under way.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 8 << 20,
            candidates: 10_000,
            time: Duration::from_secs(5),
            requests: 64,
            connections: 20_000,
            idle: Duration::from_secs(60),
            drain: Duration::from_secs(20),
        }
    }
}
