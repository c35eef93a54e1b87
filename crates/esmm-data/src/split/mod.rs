//! Which rows train, validate and test.

pub(crate) mod divider;
pub(crate) mod spec;
pub(crate) mod time;
pub(crate) mod window;
