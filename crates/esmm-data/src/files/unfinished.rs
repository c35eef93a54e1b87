//! What must go when a process ends before its work is done: temporary files, locks, folders made for a run.
//!
//! Where a value is dropped, its path goes. Where a signal ends the process nothing is dropped, so that all paths stand
//! in one list, which [`remove_unfinished`] works off. What a killed process leaves is the business of
//! [`remove_leftovers`](super::remove_leftovers) and of the lock's next holder.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

static LISTED: Mutex<Vec<(Kind, PathBuf)>> = Mutex::new(Vec::new());

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    /// Goes if nothing is in it.
    Folder,
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
        for name in ["empty", "full"] {
            fs::create_dir(path(name)).unwrap();
        }
        fs::write(path("full").join("file"), "").unwrap();
        drop(Unfinished::file(&path("dropped")));
        drop(Unfinished::folder(&path("empty")));
        drop(Unfinished::folder(&path("full")));
        Unfinished::file(&path("kept")).keep();
        let left: Vec<bool> = ["dropped", "kept", "empty", "full"].map(|name| path(name).exists()).to_vec();
        assert_eq!(left, [false, true, false, true]);
    }
}
