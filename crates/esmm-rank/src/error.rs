//! What can be wrong with a model, a catalogue or a request.

use esmm_core::EsmmError;
use esmm_data::DataError;
use esmm_run::RunError;

/// Everything that ranking can refuse. Each message is one line: where, what was found, what is allowed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RankError {
    /// The model's configuration or its weights.
    #[error(transparent)]
    Model(#[from] EsmmError),
    /// Files or values that the encoders refuse.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The run directory.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Parts of a run directory that do not belong together.
    #[error("{0}")]
    Mismatch(String),
    /// A request that does not fit the model.
    #[error("{what}: found {found}, allowed is {allowed}")]
    Request {
        /// The part of the request.
        what: String,
        /// What it is.
        found: String,
        /// What it may be.
        allowed: String,
    },
    /// Finite values that drive the model's sums out of the range of f32.
    #[error(
        "candidate {candidate}: its score is no number, because values of its features drive the sums out of the range \
         of 32-bit floats"
    )]
    NotANumber {
        /// Place of the candidate in the request, from 0.
        candidate: usize,
    },
    /// A catalogue that cannot be.
    #[error("{0}")]
    Catalogue(String),
}

impl RankError {
    pub(crate) fn request(what: impl Into<String>, found: impl ToString, allowed: impl Into<String>) -> Self {
        Self::Request { what: what.into(), found: found.to_string(), allowed: allowed.into() }
    }
}
