//! The version of `config.json`.

use serde_json::Value;

/// Version of the saved configuration.
pub const FORMAT_VERSION: u32 = 1;

/// Checks that a saved file is not newer than this program.
///
/// # Errors
/// One that is: what was found and what is allowed, to be put after the name of the file.
pub fn check_version(json: &Value) -> Result<(), String> {
    newer_than(json, FORMAT_VERSION)
}

/// As [`check_version`], of a file whose newest version is `known`.
///
/// # Errors
/// As [`check_version`].
pub fn newer_than(json: &Value, known: u32) -> Result<(), String> {
    match json.get("format_version").and_then(Value::as_u64) {
        Some(found) if found > u64::from(known) => Err(format!(
            "has format version {found}, this program reads {known}: install the esmm that wrote it"
        )),
        _ => Ok(()),
    }
}
