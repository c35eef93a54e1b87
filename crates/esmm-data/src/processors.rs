//! How many processors this process may use.

use std::num::NonZero;
use std::thread;

/// The processors; 1 where the system does not tell.
pub(crate) fn processors() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}
