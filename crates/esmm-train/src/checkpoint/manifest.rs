//! `state.json`: what a checkpoint holds, and how one sees that it still does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;

use esmm_run::run_dir::{read_json, write_json};

use super::TrainingState;
use super::summed::FileSum;
use crate::error::TrainError;

/// Version of the checkpoint's layout.
pub const FORMAT_VERSION: u32 = 2;

const STATE_FILE: &str = "state.json";

/// The file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    format_version: u32,
    /// xxHash64 of the contents as compact JSON, in hexadecimal digits.
    contents_xxh64: String,
    contents: Contents,
}

/// What it says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Contents {
    /// Where the training stands.
    pub(super) state: TrainingState,
    /// Identity under which the towers' optimizer knows each tensor, by the tensor's name.
    pub(super) parameters: BTreeMap<String, String>,
    /// The other files.
    pub(super) files: BTreeMap<String, FileSum>,
}

/// A file whose version alone is of interest.
#[derive(Deserialize)]
struct Versioned {
    format_version: u32,
}

impl Manifest {
    pub(super) fn new(contents: Contents) -> Result<Self, TrainError> {
        let contents_xxh64 = sum(&contents)?;
        Ok(Self { format_version: FORMAT_VERSION, contents_xxh64, contents })
    }

    pub(super) fn write(&self, folder: &Path) -> Result<(), TrainError> {
        Ok(write_json(&folder.join(STATE_FILE), self)?)
    }

    /// Reads the contents.
    ///
    /// # Errors
    /// A file that is missing, damaged or of another format version.
    pub(super) fn read(folder: &Path) -> Result<Contents, TrainError> {
        let path = folder.join(STATE_FILE);
        let Versioned { format_version } = read_json(&path)?;
        if format_version != FORMAT_VERSION {
            let reason = format!("has format version {format_version}, this program reads {FORMAT_VERSION}");
            return Err(TrainError::file(&path, reason));
        }
        let manifest: Self = read_json(&path)?;
        match sum(&manifest.contents)? == manifest.contents_xxh64 {
            true => Ok(manifest.contents),
            false => Err(TrainError::file(&path, "is damaged: its checksum does not fit")),
        }
    }
}

impl Contents {
    /// Path, size and checksum of a file.
    pub(super) fn file(&self, folder: &Path, name: &str) -> Result<(PathBuf, &FileSum), TrainError> {
        let path = folder.join(STATE_FILE);
        let sum = self
            .files
            .get(name)
            .ok_or_else(|| TrainError::file(&path, format!("is damaged: it does not list {name}")))?;
        Ok((folder.join(name), sum))
    }
}

fn sum(contents: &Contents) -> Result<String, TrainError> {
    let text = serde_json::to_vec(contents)
        .map_err(|error| TrainError::Training(format!("state of the training: {error}")))?;
    Ok(format!("{:016x}", XxHash64::oneshot(0, &text)))
}
