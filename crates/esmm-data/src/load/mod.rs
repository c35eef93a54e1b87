//! From sources to the rows of each split, in memory or in files.

pub(crate) mod files;
pub(crate) mod memory;
pub(crate) mod report;
mod roles;
pub(crate) mod rows;
pub(crate) mod spec;
mod users;
