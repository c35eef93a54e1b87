//! What can go wrong in an export.

use std::path::{Path, PathBuf};

use esmm_core::EsmmError;
use esmm_rank::RankError;
use esmm_run::RunError;

/// Everything that an export can refuse. Each message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// The run directory.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The model or its weights.
    #[error(transparent)]
    Model(#[from] EsmmError),
    /// The engine that computes the answer of the golden request.
    #[error(transparent)]
    Rank(#[from] RankError),
    /// A file that cannot be written.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl OnnxError {
    pub(crate) fn file(path: &Path, reason: impl ToString) -> Self {
        Self::File { path: path.to_owned(), reason: reason.to_string() }
    }
}
