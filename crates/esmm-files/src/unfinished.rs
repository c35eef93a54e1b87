//! What must go when a process ends before its work is done: temporary files, locks, folders made for a run.
//!
//! Where a value is dropped, its path goes. Where a signal ends the process nothing is dropped, so that all paths stand
//! in one list, which [`remove_unfinished`] works off. What a killed process leaves is the business of
//! [`remove_leftovers`](crate::remove_leftovers) and of the lock's next holder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

static LISTED: Mutex<Vec<(Kind, PathBuf)>> = Mutex::new(Vec::new());

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    /// Goes if nothing is in it.
    Folder,
    /// Goes with all that is in it.
    Tree,
}

/// A path that is removed when this is dropped, and by [`remove_unfinished`].
#[derive(Debug)]
pub struct Unfinished {
    kind: Kind,
    path: PathBuf,
}

impl Unfinished {
    /// A file.
    pub fn file(path: &Path) -> Self {
        Self::list(Kind::File, path)
    }

    /// A folder, which stays if something is in it.
    pub fn folder(path: &Path) -> Self {
        Self::list(Kind::Folder, path)
    }

    /// A folder with all that is in it.
    pub fn tree(path: &Path) -> Self {
        Self::list(Kind::Tree, path)
    }

    fn list(kind: Kind, path: &Path) -> Self {
        let unfinished = Self { kind, path: path.to_owned() };
        LISTED.lock().unwrap_or_else(PoisonError::into_inner).push((kind, path.to_owned()));
        unfinished
    }

    /// Lets the path be.
    pub fn keep(self) {
        self.unlist();
        std::mem::forget(self);
    }

    fn unlist(&self) {
        let mut listed = LISTED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = listed.iter().rposition(|(kind, path)| *kind == self.kind && *path == self.path)
        {
            listed.remove(place);
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        remove(self.kind, &self.path);
        self.unlist();
    }
}

fn remove(kind: Kind, path: &Path) {
    // What cannot be removed is found by the next command.
    let _ = match kind {
        Kind::File => fs::remove_file(path),
        Kind::Folder => fs::remove_dir(path),
        Kind::Tree => fs::remove_dir_all(path),
    };
}

/// Removes what this process has not finished, the newest first. For a process that is about to end: nothing new can be
/// begun afterwards.
pub fn remove_unfinished() {
    let mut listed = LISTED.lock().unwrap_or_else(PoisonError::into_inner);
    while let Some((kind, path)) = listed.pop() {
        remove(kind, &path);
    }
    // Never let go of: who wants to begin something waits until the process ends.
    std::mem::forget(listed);
}

/// Makes a folder and those that it is in. Returns what was made, the innermost first: dropped, they go where nothing is in
/// them.
///
/// # Errors
/// A disk that refuses.
pub fn make_folders(path: &Path) -> io::Result<Vec<Unfinished>> {
    let missing: Vec<&Path> =
        path.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists()).collect();
    let mut made = Vec::new();
    for folder in missing.into_iter().rev() {
        match fs::create_dir(folder) {
            Ok(()) => made.insert(0, Unfinished::folder(folder)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_goes_and_what_is_kept_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["dropped", "kept"] {
            fs::write(path(name), "").unwrap();
        }
        for name in ["empty", "full", "tree"] {
            fs::create_dir(path(name)).unwrap();
        }
        for name in ["full", "tree"] {
            fs::write(path(name).join("file"), "").unwrap();
        }
        drop(Unfinished::file(&path("dropped")));
        drop(Unfinished::folder(&path("empty")));
        drop(Unfinished::folder(&path("full")));
        drop(Unfinished::tree(&path("tree")));
        Unfinished::file(&path("kept")).keep();
        let left = ["dropped", "kept", "empty", "full", "tree"].map(|name| path(name).exists());
        assert_eq!(left, [false, true, false, true, false]);
    }
}
