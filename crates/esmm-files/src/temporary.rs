//! Names of what is not finished, and the end of what a killed process left under them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::lock::LOCK_FILE;

/// What the names of temporary files and folders begin with.
pub(crate) const PREFIX: &str = ".esmm-";

/// Removes the temporary files and folders that killed processes left in a folder. Those that a living one writes are locked,
/// and stay.
pub fn remove_leftovers(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    for entry in entries.filter(|entry| is_temporary(&entry.file_name())) {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        // What cannot be removed does no harm.
        let _ = match kind.is_dir() {
            false if kind.is_file() && is_free(&path) => fs::remove_file(path),
            true if is_free(&path.join(LOCK_FILE)) => fs::remove_dir_all(path),
            _ => Ok(()),
        };
    }
}

/// The same, the first time that this process asks for it in a folder.
pub(crate) fn remove_leftovers_once(folder: &Path) {
    static DONE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    if DONE.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_owned()) {
        remove_leftovers(folder);
    }
}

/// Whether a file is there, and no process holds its lock.
fn is_free(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file.try_lock().is_ok())
}

/// Whether a name is that of a temporary file or folder.
pub fn is_temporary(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
}

/// The folder that a file is in.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the names of a folder's files as durable as the files.
///
/// # Errors
/// A disk that refuses.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    // Elsewhere a folder cannot be opened as a file, and renaming is durable or not as the system decides.
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}
