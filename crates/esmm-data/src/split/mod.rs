//! Which rows train, validate and test.

pub(crate) mod spec;
mod time;
pub(crate) mod window;
