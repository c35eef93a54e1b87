//! The errors of a run directory: its configuration, its files, what is scored with it.

use std::error::Error;
use std::path::{Path, PathBuf};

use esmm_core::EsmmError;
use esmm_data::{Cause, DataError};

/// Everything that can go wrong outside of the model. Each message is one line.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The model or its weights.
    #[error(transparent)]
    Model(#[from] EsmmError),
    /// A file of the run directory.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, the words of the cause included.
        reason: String,
        /// The error that caused it.
        source: Option<Cause>,
    },
    /// What a person typed: the run file, an override, a flag.
    #[error("{0}")]
    Config(String),
    /// Whoever read the output has gone: nothing is wrong, and there is nothing more to do.
    #[error("nobody reads the output any more")]
    Closed,
    /// Scores that cannot be put together.
    #[error("{0}")]
    Scoring(String),
    /// Someone said stop before all rows were measured.
    #[error("interrupted before all rows were measured")]
    Interrupted,
}

impl RunError {
    /// An error of a file.
    pub fn file(path: &Path, reason: impl Into<String>) -> Self {
        Self::File { path: path.to_owned(), reason: reason.into(), source: None }
    }

    /// An error of a file: what it led to, and its cause.
    pub fn caused(path: &Path, what: &str, cause: impl Error + Send + Sync + 'static) -> Self {
        let reason = format!("{what}: {cause}");
        Self::File { path: path.to_owned(), reason, source: Some(Box::new(cause)) }
    }

    /// Whether the caller should exit with 2 (usage or configuration) instead of 1 (failed).
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Config(_) | Self::Model(EsmmError::Config { .. }) => true,
            Self::Data(error) => error.is_setting(),
            Self::Model(_) | Self::File { .. } | Self::Closed | Self::Scoring(_) | Self::Interrupted => false,
        }
    }
}
