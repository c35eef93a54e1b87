//! The version of `config.json`.

use serde_json::Value;

/// Version of the saved configuration.
///
/// Programs pass over keys that they do not know. So the version is raised with every key that changes what is scored or
/// measured: a program that does not know it must refuse the file, and would not notice otherwise. A key whose absence
/// means what older programs did leaves their files readable. Version 2: how cells are spelled, sampled negatives, words of
/// labels, unknown values apart, values outside.
pub const FORMAT_VERSION: u32 = 2;

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
