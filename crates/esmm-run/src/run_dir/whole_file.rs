//! Files that are written whole or not at all, and JSON in them.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::RunError;
use crate::files::NewFile;

/// Writes a file under a temporary name in its folder, syncs it, renames it and syncs the folder.
///
/// # Errors
/// A disk that refuses; the file is then as it was.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    let write = || -> std::io::Result<()> {
        let mut file = NewFile::beside(path)?;
        file.write_all(bytes)?;
        file.finish()
    };
    write().map_err(|error| RunError::caused(path, "cannot be written", error))
}

/// Writes a value as indented JSON, atomically.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), RunError> {
    let mut text =
        serde_json::to_vec_pretty(value).map_err(|error| RunError::file(path, error.to_string()))?;
    text.push(b'\n');
    write_atomic(path, &text)
}

/// Reads a value from JSON.
///
/// # Errors
/// A file that cannot be read or is no such value.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, RunError> {
    let text = fs::read(path).map_err(|error| RunError::caused(path, "cannot be read", error))?;
    serde_json::from_slice(&text).map_err(|error| RunError::caused(path, "is damaged", error))
}
