//! The errors of training.

use std::error::Error;
use std::path::Path;

use esmm_core::EsmmError;
use esmm_data::DataError;
use esmm_run::RunError;

/// Everything that can go wrong in a training. Each message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// What goes wrong without a training as well: data, model, files of the run directory, what a person typed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A device that does not exist, is too small, or failed.
    #[error("{0}")]
    Device(String),
    /// A device that refused memory in the middle of its work: it has too little of it, or others have taken it.
    #[error("{0}")]
    DeviceOutOfMemory(String),
    /// The training itself.
    #[error("{0}")]
    Training(String),
}

impl TrainError {
    /// An error of what a person typed: the run file, an override, a flag.
    pub fn config(message: impl Into<String>) -> Self {
        RunError::Config(message.into()).into()
    }

    /// An error of a file.
    pub fn file(path: &Path, reason: impl Into<String>) -> Self {
        RunError::file(path, reason).into()
    }

    /// An error of a file: what it led to, and its cause.
    pub fn caused(path: &Path, what: &str, cause: impl Error + Send + Sync + 'static) -> Self {
        RunError::caused(path, what, cause).into()
    }

    /// Whether the caller should exit with 2 (usage or configuration) instead of 1 (failed).
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Run(error) => error.is_usage(),
            Self::Device(_) | Self::DeviceOutOfMemory(_) | Self::Training(_) => false,
        }
    }

    /// The same; one of memory that a device refused is told with what the work takes and what there is to do.
    #[must_use]
    pub fn with_needs(self, needs: &str) -> Self {
        match self {
            Self::DeviceOutOfMemory(reason) => Self::DeviceOutOfMemory(format!("{reason}; {needs}")),
            Self::Run(_) | Self::Device(_) | Self::Training(_) => self,
        }
    }
}

impl From<DataError> for TrainError {
    fn from(error: DataError) -> Self {
        RunError::from(error).into()
    }
}

impl From<EsmmError> for TrainError {
    fn from(error: EsmmError) -> Self {
        RunError::from(error).into()
    }
}
