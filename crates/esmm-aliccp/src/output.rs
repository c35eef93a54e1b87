//! The output folder: whole or not at all.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::error::AliCcpError;

/// What a preparation writes, in the order in which it gets its name; the report comes last and says that all is there.
const ENTRIES: [&str; 5] = ["train", "test", RUN_FILE, AUTHORS_RUN_FILE, REPORT_FILE];

/// The report.
pub const REPORT_FILE: &str = "report.json";
/// A run file with the paper's settings.
pub const RUN_FILE: &str = "run.toml";
/// A run file with those of the authors' code.
pub const AUTHORS_RUN_FILE: &str = "run-authors.toml";

/// The file of the impressions of a split.
pub const IMPRESSIONS_FILE: &str = "impressions.parquet";
/// The file of their groups.
pub const GROUPS_FILE: &str = "groups.parquet";

/// A folder beside the output, locked, which becomes the output or vanishes.
#[derive(Debug)]
pub(crate) struct PartialOutput {
    target: PathBuf,
    folder: PathBuf,
    overwrite: bool,
    lock: File,
}

impl PartialOutput {
    /// Makes the folder. One that an interrupted preparation left is removed first.
    pub(crate) fn create(target: &Path, overwrite: bool) -> Result<Self, AliCcpError> {
        let occupied = match fs::read_dir(target) {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(error) => return Err(AliCcpError::io(target, &error)),
        };
        if occupied && !overwrite {
            let reason = "is not empty: choose another folder, or say --overwrite";
            return Err(AliCcpError::Setting(format!("{}: {reason}", target.display())));
        }
        let Some(name) = target.file_name() else {
            return Err(AliCcpError::Setting(format!("{}: does not name a folder", target.display())));
        };
        let folder = target.with_file_name(format!(".{}.partial", name.to_string_lossy()));
        fs::create_dir_all(&folder).map_err(|error| AliCcpError::io(&folder, &error))?;
        let lock = File::create(folder.join("lock")).map_err(|error| AliCcpError::io(&folder, &error))?;
        if lock.try_lock().is_err() {
            return Err(AliCcpError::file(target, "another preparation is writing this folder"));
        }
        let partial = Self { target: target.to_owned(), folder, overwrite, lock };
        partial.clear(&["lock"])?;
        Ok(partial)
    }

    /// Where to write.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes a folder in it.
    pub(crate) fn subfolder(&self, name: &str) -> Result<PathBuf, AliCcpError> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).map_err(|error| AliCcpError::io(&folder, &error))?;
        Ok(folder)
    }

    /// Empties it but for some names.
    pub(crate) fn clear(&self, keep: &[&str]) -> Result<(), AliCcpError> {
        let failed = |error: std::io::Error| AliCcpError::io(&self.folder, &error);
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if !keep.iter().any(|name| path.ends_with(name)) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// Gives everything its name. What an earlier preparation left there is replaced, and nothing else.
    pub(crate) fn finish(self) -> Result<(), AliCcpError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error: std::io::Error| AliCcpError::io(&path, &error)
        };
        fs::create_dir_all(&self.target).map_err(failed(&self.target))?;
        if self.overwrite {
            for name in ENTRIES.iter().rev() {
                remove(&self.target.join(name))?;
            }
        }
        for name in ENTRIES {
            let from = self.folder.join(name);
            let to = self.target.join(name);
            if from.exists() {
                fs::rename(&from, &to).map_err(failed(&to))?;
            }
        }
        Ok(())
    }
}

impl Drop for PartialOutput {
    fn drop(&mut self) {
        // A failure to clean up must not hide an error; the next preparation removes what is left.
        let _ = self.lock.unlock();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn remove(path: &Path) -> Result<(), AliCcpError> {
    let removed = match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => return Ok(()),
    };
    removed.map_err(|error| AliCcpError::io(path, &error))
}
