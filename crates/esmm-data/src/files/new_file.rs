//! One way of writing: under a temporary name beside the target, synced, renamed.

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::unfinished::Unfinished;

/// What the names of temporary files begin with.
const PREFIX: &str = ".esmm-";
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
    /// A new file beside `target`. Where that is a symbolic link, the file that it leads to is the target.
    ///
    /// # Errors
    /// A folder that refuses.
    pub fn beside(target: &Path) -> io::Result<Self> {
        let target = fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
        let folder = folder_of(&target);
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

/// Removes the temporary files that killed processes left in a folder. Those that a living one writes are locked, and stay.
pub fn remove_leftovers(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    for entry in entries.filter(|entry| is_temporary(&entry.file_name())) {
        let path = entry.path();
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
            // What cannot be removed does no harm.
            let _ = fs::remove_file(path);
        }
    }
}

/// Whether a name is that of a temporary file.
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

/// A temporary file that will have the permissions of an ordinary one.
fn temporary_in(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
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
