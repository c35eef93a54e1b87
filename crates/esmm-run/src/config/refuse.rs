//! How a value of a run file is refused.

use crate::error::RunError;

/// An error that names the key, its value and what is allowed.
pub(super) fn refuse<T>(key: &str, found: impl std::fmt::Display, allowed: &str) -> Result<T, RunError> {
    Err(RunError::Config(format!("{key} = {found}: {allowed}")))
}
