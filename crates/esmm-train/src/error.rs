//! The errors of training, evaluation and prediction.

use std::error::Error;
use std::path::{Path, PathBuf};

use esmm_core::EsmmError;
use esmm_data::{Cause, DataError};
use esmm_run::RunError;

/// Everything that can go wrong outside of the model. Each message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
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
    /// A device that does not exist, is too small, or failed.
    #[error("{0}")]
    Device(String),
    /// The training itself.
    #[error("{0}")]
    Training(String),
    /// Someone said stop before all rows were measured.
    #[error("interrupted before all rows were measured")]
    Interrupted,
}

impl TrainError {
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
            _ => false,
        }
    }
}

impl From<RunError> for TrainError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Data(error) => Self::Data(error),
            RunError::Model(error) => Self::Model(error),
            RunError::File { path, reason, source } => Self::File { path, reason, source },
            RunError::Config(message) => Self::Config(message),
            RunError::Closed => Self::Closed,
            RunError::Scoring(message) => Self::Training(message),
            RunError::Interrupted => Self::Interrupted,
        }
    }
}
