//! Folders of checkpoints: each appears whole, and an older one is there until it does.

use std::fs;
use std::path::{Path, PathBuf};

use esmm_run::files::sync_folder;

use crate::error::TrainError;

/// A checkpoint's folder begins with this; its step follows.
const PREFIX: &str = "step-";
/// Where a checkpoint is written before it gets its name.
const UNFINISHED: &str = "unfinished";

/// The folder of all checkpoints.
#[derive(Debug, Clone)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The checkpoints, newest first.
    pub(super) fn newest_first(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.0).into_iter().flatten();
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let mut found: Vec<PathBuf> = paths.filter(|path| is_checkpoint(path)).collect();
        found.sort();
        found.reverse();
        found
    }

    /// Adds a checkpoint that `write` fills, and removes all others but `keep`: before, so that a disk with room for two
    /// is enough.
    pub(super) fn add(
        &self,
        step: u64,
        keep: Option<&Path>,
        write: impl FnOnce(&Path) -> Result<(), TrainError>,
    ) -> Result<PathBuf, TrainError> {
        let failed = |error: std::io::Error| TrainError::caused(&self.0, "cannot take a checkpoint", error);
        for path in self.newest_first().iter().filter(|path| Some(path.as_path()) != keep) {
            fs::remove_dir_all(path).map_err(failed)?;
        }
        let unfinished = self.0.join(UNFINISHED);
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).map_err(failed)?;
        }
        fs::create_dir_all(&unfinished).map_err(failed)?;
        write(&unfinished)?;
        sync_folder(&unfinished).map_err(failed)?;
        let target = self.free_name(step);
        fs::rename(&unfinished, &target).map_err(failed)?;
        sync_folder(&self.0).map_err(failed)?;
        Ok(target)
    }

    /// `step-N`, or a name that sorts after that of the newest one, if that is of the same step.
    fn free_name(&self, step: u64) -> PathBuf {
        let mut name = format!("{PREFIX}{step:012}");
        while self.0.join(&name).exists() {
            name.push('+');
        }
        self.0.join(name)
    }
}

fn is_checkpoint(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX))
}
