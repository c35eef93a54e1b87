//! What can go wrong with a synthetic funnel.

use std::path::{Path, PathBuf};

/// An error in one line: where, what was found, what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyntheticError {
    /// A configuration value outside its range.
    #[error("synthetic funnel: {key} = {value}, allowed: {allowed}")]
    BadValue {
        /// The configuration key.
        key: &'static str,
        /// What was found.
        value: String,
        /// What is allowed, in words.
        allowed: String,
    },
    /// The file cannot be written. Nothing is left under its name that was not there before.
    #[error("{}: cannot write the synthetic funnel: {reason}", path.display())]
    Write {
        /// The file asked for.
        path: PathBuf,
        /// What the system or the format's writer said.
        reason: String,
    },
}

impl SyntheticError {
    /// A [`SyntheticError::Write`] about `path`.
    pub(super) fn write(path: &Path, reason: impl ToString) -> Self {
        Self::Write { path: path.to_owned(), reason: reason.to_string() }
    }
}
