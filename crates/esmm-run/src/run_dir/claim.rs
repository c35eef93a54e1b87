//! How a training takes a directory: checked, locked, and an earlier run removed where it is to be.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{MEMBERS, RunDir, WEIGHTS, read_json};
use crate::error::RunError;
use crate::files::{
    FolderLock, LOCK_FILE, LockError, Unfinished, is_temporary, make_folders, remove_leftovers,
};

/// The command that locks run directories.
const COMMAND: &str = "esmm train";

/// Files that a run writes.
const FILES: [&str; 9] = [
    "config.json",
    "calibration.json",
    "manifest.json",
    "schema.json",
    WEIGHTS,
    "metrics.json",
    "history.jsonl",
    "analysis.json",
    "train.log",
];
/// Folders that a run writes; `curves` did earlier versions.
const FOLDERS: [&str; 5] = ["encoders", "checkpoint", MEMBERS, "tensorboard", "curves"];

/// What to do with a directory that is not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Refuse.
    Refuse,
    /// Remove what an earlier run left.
    Overwrite,
    /// Go on from its checkpoint.
    Resume,
}

/// A directory in which a training may begin: checked, locked, and otherwise as it was.
///
/// Dropped before [`begin`](Self::begin), it leaves nothing: neither the lock nor the folders that were made for it.
#[derive(Debug)]
pub struct RunClaim {
    // Goes first: the folders must be empty to go.
    run: RunDir,
    existing: Existing,
    made: Vec<Unfinished>,
}

impl RunClaim {
    /// The directory, to read from.
    pub fn run(&self) -> &RunDir {
        &self.run
    }

    /// Takes a file away again where the training does not begin.
    pub fn remove_unless_begun(&mut self, path: &Path) {
        // Before the folder that it is in.
        self.made.insert(0, Unfinished::file(path));
    }

    /// Checks that what is to be read will still be there when an earlier run is gone.
    ///
    /// # Errors
    /// The first file that `--overwrite` would remove.
    pub fn check_inputs(&self, files: &[PathBuf]) -> Result<(), RunError> {
        if self.existing != Existing::Overwrite {
            return Ok(());
        }
        let removed: Vec<PathBuf> =
            FILES.iter().chain(&FOLDERS).map(|name| self.run.path.join(name)).collect();
        let removed: Vec<PathBuf> = removed.iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
        let is_removed = |file: &&PathBuf| {
            fs::canonicalize(file).is_ok_and(|file| removed.iter().any(|path| file.starts_with(path)))
        };
        match files.iter().find(is_removed) {
            None => Ok(()),
            Some(file) => {
                let (file, run) = (file.display(), self.run.path.display());
                let reason = format!("--overwrite would remove {file}, which the training reads");
                Err(RunError::Config(format!("{run}: {reason}")))
            }
        }
    }

    /// Begins: an earlier run goes where it is to be overwritten.
    ///
    /// # Errors
    /// A disk that refuses.
    pub fn begin(self) -> Result<RunDir, RunError> {
        let Self { run, existing, made } = self;
        made.into_iter().for_each(Unfinished::keep);
        match existing {
            Existing::Overwrite => run.clear()?,
            Existing::Refuse | Existing::Resume => {}
        }
        run.remove_leftovers();
        Ok(run)
    }
}

impl RunDir {
    /// Takes a directory for a training and begins in it: [`claim`](Self::claim), then [`begin`](RunClaim::begin).
    ///
    /// # Errors
    /// As both of them.
    pub fn create(path: &Path, existing: Existing) -> Result<Self, RunError> {
        Self::claim(path, existing)?.begin()
    }

    /// Checks that a training may begin in a directory, and locks it. Nothing that is there is changed.
    ///
    /// # Errors
    /// A directory that is not empty, unless `existing` allows it; one without a run when resuming; one that is no run's
    /// when overwriting; one in which another training works; a disk that refuses.
    pub fn claim(path: &Path, existing: Existing) -> Result<RunClaim, RunError> {
        Self::claim_for(path, existing, COMMAND)
    }

    /// As [`claim`](Self::claim), for a command other than `esmm train`, which others that want to work there are told.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub fn claim_for(path: &Path, existing: Existing, command: &str) -> Result<RunClaim, RunError> {
        let failed =
            |error: std::io::Error| RunError::caused(path, "cannot be used as a run directory", error);
        let made = make_folders(path).map_err(failed)?;
        let lock = FolderLock::take(path, command).map_err(|error| match error {
            LockError::Held(_) => RunError::file(path, error.to_string()),
            LockError::Refused(error) => failed(error),
        })?;
        let run = Self { path: path.to_owned(), member: None, _lock: Some(Arc::new(lock)) };
        let claim = RunClaim { run, existing, made };
        let refuse = |reason: &str| Err(RunError::Config(format!("{}: {reason}", path.display())));
        let found = claim.run.entries().map_err(failed)?;
        match existing {
            Existing::Refuse if !found.is_empty() => {
                refuse("is not empty: choose another --run-dir, or say --overwrite or --resume")
            }
            Existing::Resume if !claim.run.config().exists() => {
                refuse("has nothing to resume (no config.json)")
            }
            Existing::Overwrite => match claim.run.foreign(&found) {
                Some(name) => refuse(&format!(
                    "is no run directory (it holds {name} and no config.json of a training), and --overwrite \
                     replaces nothing else"
                )),
                None => Ok(claim),
            },
            Existing::Refuse | Existing::Resume => Ok(claim),
        }
    }

    /// Removes the temporary files of a process that was killed while it wrote.
    fn remove_leftovers(&self) {
        let members = fs::read_dir(self.path.join(MEMBERS)).into_iter().flatten();
        let members = members.filter_map(|entry| Some(entry.ok()?.path()));
        for folder in [self.path.clone(), self.encoders()].into_iter().chain(members) {
            remove_leftovers(&folder);
        }
        // Weights that an older version was writing; what cannot be removed does no harm.
        let _ = fs::remove_file(self.path.join("model.safetensors.tmp"));
    }

    /// Names of what is there, but for the lock and temporary files.
    fn entries(&self) -> std::io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            if name != OsStr::new(LOCK_FILE) && !is_temporary(&name) {
                names.push(name.to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// What of these is not a run's, in a directory that has no `config.json` of a run.
    fn foreign<'a>(&self, entries: &'a [String]) -> Option<&'a String> {
        #[derive(serde::Deserialize)]
        struct OfARun {
            #[serde(rename = "format_version")]
            _format_version: u32,
            #[serde(rename = "labels")]
            _labels: serde_json::Value,
        }
        let is_run = read_json::<OfARun>(&self.config()).is_ok();
        let is_damaged = self.config().exists() && !self.encoders().exists();
        let is_known =
            |name: &str| FILES.contains(&name) || FOLDERS.contains(&name) || name == "data.parquet";
        let is_foreign = |name: &&String| !is_known(name) || is_damaged && *name == "config.json";
        entries.iter().filter(|_| !is_run).find(is_foreign)
    }

    /// Removes what a run writes, and nothing else. Without its first file it is no run any more.
    fn clear(&self) -> Result<(), RunError> {
        let failed = |path: &Path, error: std::io::Error| RunError::caused(path, "cannot be removed", error);
        for path in FILES.map(|name| self.path.join(name)) {
            if path.exists() {
                fs::remove_file(&path).map_err(|error| failed(&path, error))?;
            }
        }
        for path in FOLDERS.map(|name| self.path.join(name)) {
            if path.exists() {
                fs::remove_dir_all(&path).map_err(|error| failed(&path, error))?;
            }
        }
        Ok(())
    }
}
