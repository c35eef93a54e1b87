//! A folder that one process works in: a lock file that says who, and since when.
//!
//! The operating system keeps the lock and lets go of it with the process, however that ends; the file's contents are for
//! people. So a lock of a dead process holds nobody up.

use std::fs::{self, File, TryLockError};
use std::io::{self, Seek, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::unfinished::Unfinished;

/// Name of the lock file.
pub const LOCK_FILE: &str = "esmm.lock";
/// How often a lock file is taken that was removed in the moment before.
const TRIES: usize = 100;

/// A lock on a folder; gone when it is dropped, or with the process.
#[derive(Debug)]
pub struct FolderLock {
    // Removed first, and let go of then: nobody can lock a file that is about to vanish, and believe in it.
    _listed: Unfinished,
    _file: File,
}

/// Why a folder cannot be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process works there.
    #[error("{0}")]
    Held(String),
    /// The folder refuses.
    #[error("cannot be locked: {0}")]
    Refused(#[from] io::Error),
}

/// Who works in a folder.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    process: u32,
    command: String,
    /// Seconds since 1970.
    since: u64,
}

impl FolderLock {
    /// Takes the lock of a folder that exists, for a command such as `esmm train`.
    ///
    /// # Errors
    /// A folder in which another process works: its number, its command and for how long; a folder that refuses.
    pub fn take(folder: &Path, command: &str) -> Result<Self, LockError> {
        let path = folder.join(LOCK_FILE);
        for _ in 0..TRIES {
            let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
            match file.try_lock() {
                Ok(()) if !is_at(&file, &path) => {}
                Ok(()) => {
                    let listed = Unfinished::file(&path);
                    Holder::this_process(command).write(&mut file)?;
                    return Ok(Self { _listed: listed, _file: file });
                }
                Err(TryLockError::WouldBlock) => return Err(LockError::Held(held_by(&path))),
                Err(TryLockError::Error(error)) => return Err(LockError::Refused(error)),
            }
        }
        Err(LockError::Held("another process comes and goes".to_owned()))
    }
}

impl Holder {
    fn this_process(command: &str) -> Self {
        Self { process: std::process::id(), command: command.to_owned(), since: now() }
    }

    fn write(&self, file: &mut File) -> io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        serde_json::to_writer(&mut *file, self)?;
        file.write_all(b"\n")
    }
}

/// `is in use by process 4711 (esmm train) since 2026-05-01 13:05:12 UTC`
fn held_by(path: &Path) -> String {
    let holder = fs::read(path).ok().and_then(|text| serde_json::from_slice::<Holder>(&text).ok());
    match holder {
        Some(Holder { process, command, since }) => {
            format!("is in use by process {process} ({command}) since {}", utc(since))
        }
        None => "is in use by another process".to_owned(),
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Seconds since 1970 as a date and a time, in the Gregorian calendar: eras of 400 years that begin in March, so that a
/// leap day is the last of its year.
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = (march_month + 2) % 12 + 1;
    let year = days / 146_097 * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// Whether a path still leads to a file, which another process may have removed between opening and locking.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let (file, path) = (file.metadata().map(identity), fs::metadata(path).map(identity));
    file.ok().zip(path.ok()).is_some_and(|(file, path)| file == path)
}

/// Whether a path still leads to a file: an open file cannot be removed here.
#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_the_other_is_told_who() {
        let folder = tempfile::tempdir().unwrap();
        let lock = FolderLock::take(folder.path(), "esmm train").unwrap();
        let refused = FolderLock::take(folder.path(), "esmm train").unwrap_err().to_string();
        let start = format!("is in use by process {} (esmm train) since 20", std::process::id());
        assert!(refused.starts_with(&start), "{refused}");
        drop(lock);
        assert!(!folder.path().join(LOCK_FILE).exists());
        FolderLock::take(folder.path(), "esmm train").unwrap();
    }

    #[test]
    fn moments_have_dates() {
        // As `date -u -d @SECONDS` says.
        let moments = [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_767_225_599, "2025-12-31 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ];
        moments.iter().for_each(|(seconds, text)| assert_eq!(utc(*seconds), *text));
    }

    #[test]
    fn a_lock_of_the_dead_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let holder = "{\"process\":1,\"command\":\"esmm train\",\"since\":0}\n";
        fs::write(folder.path().join(LOCK_FILE), holder).unwrap();
        let lock = FolderLock::take(folder.path(), "esmm train").unwrap();
        let text = fs::read_to_string(folder.path().join(LOCK_FILE)).unwrap();
        assert!(text.contains(&format!("\"process\":{},", std::process::id())), "{text}");
        drop(lock);
    }
}
