//! A folder that is filled under a temporary name, by one process.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::lock::{FolderLock, LOCK_FILE, LockError};
use crate::temporary::{PREFIX, folder_of, sync_folder};
use crate::unfinished::Unfinished;

/// Characters of a target's name that are part of the temporary one: with what comes before them they must not be too long
/// for a name.
const NAME_LEN: usize = 48;

/// How often a folder of its own is made.
const TRIES: usize = 4;

/// A folder under a temporary name, locked, which gives what is in it to its target or vanishes.
///
/// The name is that of the target: two processes that write the same folder meet, and what a killed one left is emptied by
/// the next one.
#[derive(Debug)]
pub struct NewFolder {
    // Removed first, and let go of then.
    _listed: Unfinished,
    _lock: FolderLock,
    folder: PathBuf,
}

impl NewFolder {
    /// An empty folder beside a target, for a command such as `esmm aliccp prepare`.
    ///
    /// # Errors
    /// A target that another process writes: its number, its command and since when; a folder that refuses.
    pub fn beside(target: &Path, command: &str) -> Result<Self, LockError> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let mut temporary = OsString::from(PREFIX);
        temporary.push(name.chars().take(NAME_LEN).collect::<String>());
        Self::lock(folder_of(target).join(temporary), command)
    }

    /// An empty folder for files that nobody needs after this process, in a folder such as the system's for temporary files.
    ///
    /// # Errors
    /// A folder that refuses.
    pub fn within(parent: &Path, command: &str) -> Result<Self, LockError> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX);
        let take = || {
            let made = builder.make_in(parent, |path| fs::create_dir(path))?;
            let (_, folder) = made.keep().map_err(|error| error.error)?;
            Self::lock(folder, command)
        };
        // Another process may take a folder for a leftover in the moment before it is locked.
        (1..TRIES).find_map(|_| take().ok()).map_or_else(take, Ok)
    }

    fn lock(folder: PathBuf, command: &str) -> Result<Self, LockError> {
        fs::create_dir_all(&folder)?;
        let lock = FolderLock::take(&folder, command).inspect_err(|_| {
            // Goes only where nothing is in it: no other process's.
            let _ = fs::remove_dir(&folder);
        })?;
        let listed = Unfinished::tree(&folder);
        let new = Self { _listed: listed, _lock: lock, folder };
        new.clear()?;
        Ok(new)
    }

    /// Where to write.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Empties it.
    ///
    /// # Errors
    /// A folder that refuses.
    pub fn clear(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if !path.ends_with(LOCK_FILE) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// Moves some of its entries into a folder, which is made where it is missing, one after the other: the last one says that
    /// all are there. Entries of these names that are there are removed before, the last one first; those that this folder
    /// lacks are passed over. What else is in either folder stays there, or goes with this one.
    ///
    /// # Errors
    /// A folder that refuses; some entries may then have moved.
    pub fn move_into(self, target: &Path, entries: &[&str]) -> io::Result<()> {
        fs::create_dir_all(target)?;
        for name in entries.iter().rev() {
            remove(&target.join(name))?;
        }
        for name in entries {
            let from = self.folder.join(name);
            if from.exists() {
                fs::rename(&from, target.join(name))?;
            }
        }
        sync_folder(target)
    }
}

/// Removes a file or a folder with all that is in it, where there is one.
fn remove(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remove_leftovers;

    #[test]
    fn what_is_moved_stays_and_the_rest_goes() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("out");
        fs::create_dir_all(target.join("rows")).unwrap();
        fs::write(target.join("rows/old"), "").unwrap();
        fs::write(target.join("notes"), "mine").unwrap();
        let new = NewFolder::beside(&target, "esmm test").unwrap();
        let folder = new.path().to_owned();
        fs::create_dir(folder.join("rows")).unwrap();
        for name in ["rows/new", "spill", "report"] {
            fs::write(folder.join(name), "").unwrap();
        }
        new.move_into(&target, &["rows", "absent", "report"]).unwrap();
        assert!(!folder.exists());
        assert!(target.join("rows/new").exists() && !target.join("rows/old").exists());
        assert!(target.join("report").exists() && !target.join("spill").exists());
        assert_eq!(fs::read_to_string(target.join("notes")).unwrap(), "mine");
    }

    #[test]
    fn one_process_writes_a_target_and_a_dropped_folder_is_gone() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("x".repeat(255));
        let new = NewFolder::beside(&target, "esmm test").unwrap();
        let refused = NewFolder::beside(&target, "esmm test").unwrap_err().to_string();
        assert!(refused.starts_with("is in use by process "), "{refused}");
        // The refusal has left the other one's folder as it was.
        fs::write(new.path().join("half"), "").unwrap();
        assert!(new.path().join(LOCK_FILE).exists());
        drop(new);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_process_left_is_emptied_or_removed() {
        let place = tempfile::tempdir().unwrap();
        for name in [".esmm-out", ".esmm-abc"] {
            let left = place.path().join(name);
            fs::create_dir_all(left.join("rows")).unwrap();
            fs::write(left.join("rows/half"), "").unwrap();
            fs::write(left.join(LOCK_FILE), "{}").unwrap();
        }
        // A folder that only has such a name is nobody's leftover.
        fs::create_dir(place.path().join(".esmm-mine")).unwrap();
        fs::write(place.path().join(".esmm-mine/notes"), "mine").unwrap();
        let new = NewFolder::beside(&place.path().join("out"), "esmm test").unwrap();
        assert!(!new.path().join("rows").exists());
        let other = NewFolder::within(place.path(), "esmm test").unwrap();
        remove_leftovers(place.path());
        assert!(new.path().exists() && other.path().exists());
        assert!(!place.path().join(".esmm-abc").exists() && place.path().join(".esmm-mine/notes").exists());
    }
}
