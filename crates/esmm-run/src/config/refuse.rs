//! How values of a run file are checked and refused.

use crate::error::RunError;

/// An error that names the key, its value and what is allowed.
pub(super) fn refuse<T>(key: &str, found: impl std::fmt::Display, allowed: &str) -> Result<T, RunError> {
    Err(RunError::Config(format!("{key} = {found}: {allowed}")))
}

/// A value that is finite and above 0.
pub(super) fn positive(key: &str, value: f64) -> Result<f64, RunError> {
    if value > 0.0 && value.is_finite() {
        Ok(value)
    } else {
        refuse(key, value, "it must be finite and above 0")
    }
}

/// A value from 0 on and below 1.
pub(super) fn share(key: &str, value: f64) -> Result<f64, RunError> {
    if (0.0..1.0).contains(&value) { Ok(value) } else { refuse(key, value, "it must be in [0, 1)") }
}
