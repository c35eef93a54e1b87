//! A file that appears whole or not at all: written under a temporary name beside its target, synced, renamed.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::temporary::{PREFIX, folder_of, remove_leftovers_once, sync_folder};
use crate::unfinished::Unfinished;

/// How often a temporary file is made anew because somebody took it for a leftover.
const TRIES: usize = 8;

/// A file under a temporary name, which [`finish`](Self::finish) renames to its target. Dropped before, it is gone.
///
/// It is locked while it is written, so that what a killed process left can be told from what a living one writes.
#[derive(Debug)]
pub struct NewFile {
    listed: Unfinished,
    temporary: NamedTempFile,
    target: PathBuf,
}

impl NewFile {
    /// A new file beside `target`. Where that is a symbolic link, the file that it leads to is the target. What killed
    /// processes left in that folder goes with the first file of this one.
    ///
    /// # Errors
    /// A folder that refuses, and a target that is there and may not be written to, which renaming would not heed.
    pub fn beside(target: &Path) -> io::Result<Self> {
        let target = fs::canonicalize(target).unwrap_or_else(|_| end_of_links(target));
        if target.metadata().is_ok_and(|metadata| metadata.permissions().readonly()) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the file that is there is read-only",
            ));
        }
        let folder = folder_of(&target);
        remove_leftovers_once(folder);
        for _ in 0..TRIES {
            let temporary = temporary_in(folder)?;
            let listed = Unfinished::file(temporary.path());
            if !is_taken(&temporary) {
                if let Ok(metadata) = target.metadata() {
                    temporary.as_file().set_permissions(metadata.permissions())?;
                }
                return Ok(Self { listed, temporary, target });
            }
        }
        Err(io::Error::other("temporary files vanish as soon as they are made"))
    }

    /// The file, to be written to.
    pub fn file(&self) -> &File {
        self.temporary.as_file()
    }

    /// Its temporary path.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// The file once more, for a writer that wants to own it.
    ///
    /// # Errors
    /// A system that refuses.
    pub fn reopen(&self) -> io::Result<File> {
        self.temporary.reopen()
    }

    /// Syncs the file, gives it its name, and syncs the folder.
    ///
    /// # Errors
    /// A disk that refuses; a file of that name is then as it was.
    pub fn finish(self) -> io::Result<()> {
        let Self { listed, temporary, target } = self;
        temporary.as_file().sync_all()?;
        temporary.persist(&target).map_err(|error| error.error)?;
        listed.keep();
        sync_folder(folder_of(&target))
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.temporary.as_file_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temporary.as_file_mut().flush()
    }
}

/// A temporary file with the permissions of an ordinary one. Made by hand: the errors of `tempfile_in` say the temporary
/// name, which says nothing to anybody.
fn temporary_in(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX);
    builder.make_in(folder, |path| File::options().read(true).write(true).create_new(true).open(path))
}

/// Where links lead whose end is not there yet.
fn end_of_links(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    // As many as Linux follows.
    for _ in 0..40 {
        match fs::read_link(&path) {
            Ok(next) => path = folder_of(&path).join(next),
            Err(_) => break,
        }
    }
    path
}

/// Locks a temporary file; `true` where another process took it for a leftover in the moment before.
fn is_taken(temporary: &NamedTempFile) -> bool {
    match temporary.as_file().try_lock() {
        Ok(()) => !temporary.path().exists(),
        Err(TryLockError::WouldBlock) => true,
        // A file system without locks: nobody takes anything for a leftover there.
        Err(TryLockError::Error(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remove_leftovers;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        fs::write(&target, "old").unwrap();
        let mut new = NewFile::beside(&target).unwrap();
        new.write_all(b"new").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "old");
        drop(new);
        assert_eq!(names(folder.path()), ["target"]);
        let mut new = NewFile::beside(&target).unwrap();
        new.write_all(b"new").unwrap();
        new.finish().unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
        assert_eq!(names(folder.path()), ["target"]);
    }

    #[test]
    fn leftovers_of_the_dead_go_and_files_of_the_living_stay() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".esmm-dead"), "half").unwrap();
        fs::write(folder.path().join(".other"), "").unwrap();
        let living = NewFile::beside(&folder.path().join("target")).unwrap();
        remove_leftovers(folder.path());
        let name = living.path().file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(names(folder.path()), [name, ".other".to_owned()]);
        living.finish().unwrap();
        assert_eq!(names(folder.path()), [".other", "target"]);
    }

    #[test]
    fn a_read_only_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        fs::write(&target, "old").unwrap();
        let mut permissions = target.metadata().unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&target, permissions).unwrap();
        let error = NewFile::beside(&target).unwrap_err();
        assert_eq!(error.to_string(), "the file that is there is read-only");
        assert_eq!((fs::read_to_string(&target).unwrap(), names(folder.path()).len()), ("old".to_owned(), 1));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_file_that_is_not_there_yet_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("far")).unwrap();
        std::os::unix::fs::symlink("far/second", path("first")).unwrap();
        std::os::unix::fs::symlink("target", path("far/second")).unwrap();
        NewFile::beside(&path("first")).unwrap().finish().unwrap();
        assert!(path("first").is_symlink() && path("far/second").is_symlink());
        assert!(path("far/target").is_file());
    }

    #[test]
    fn a_folder_that_is_not_there_is_told_without_the_temporary_name() {
        let folder = tempfile::tempdir().unwrap();
        let error = NewFile::beside(&folder.path().join("none/target")).unwrap_err();
        assert_eq!(error.to_string(), io::Error::from_raw_os_error(2).to_string());
    }

    #[cfg(unix)]
    #[test]
    fn links_lead_to_the_target_and_permissions_stay() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::write(&target, "old").unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("target", &link).unwrap();
        let mut new = NewFile::beside(&link).unwrap();
        new.write_all(b"new").unwrap();
        new.finish().unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
        assert_eq!(target.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    }
}
