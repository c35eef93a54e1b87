//! Where a command may write: nowhere that it reads from.

use std::fs;
use std::path::{Path, PathBuf};

use esmm_files::FileIdentity;

use super::{folder_of, is_temporary};
use crate::error::RunError;

/// Files that must stay as they are, each with what it is to the command.
#[derive(Debug, Default)]
pub struct Protected {
    files: Vec<(FileIdentity, PathBuf, &'static str)>,
}

impl Protected {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// And these files, as `an input`, `a file of the run directory`. Paths without a file are passed over.
    pub fn files<P: AsRef<Path>>(mut self, paths: impl IntoIterator<Item = P>, what: &'static str) -> Self {
        for path in paths {
            let path = path.as_ref();
            self.files.extend(FileIdentity::of(path).map(|identity| (identity, path.to_owned(), what)));
        }
        self
    }

    /// And every file below a folder.
    pub fn folder(mut self, path: &Path, what: &'static str) -> Self {
        let entries = fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
        for entry in entries.filter(|entry| !is_temporary(&entry.file_name())) {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            self = match is_folder {
                true => self.folder(&entry.path(), what),
                false => self.files([entry.path()], what),
            };
        }
        self
    }

    /// Checks that a file may be written, or written over: before anything is computed for it. `flag` is what the path
    /// was given with; `extensions` are those that it may have, any where there are none.
    ///
    /// # Errors
    /// One line: a protected file, a folder, another extension, a folder that is not there.
    pub fn check(&self, flag: &str, path: &Path, extensions: &[&str]) -> Result<(), RunError> {
        let refuse = |reason: String| Err(RunError::Config(format!("{flag} {}: {reason}", path.display())));
        if let Some(what) = FileIdentity::of(path).and_then(|identity| self.what(&identity)) {
            return refuse(format!("is {what}, which would be lost: write to another file"));
        }
        let metadata = path.metadata();
        if metadata.as_ref().is_ok_and(fs::Metadata::is_dir) {
            return refuse("is a folder, expected a file".to_owned());
        }
        // Devices and pipes have no extension.
        let is_special = metadata.is_ok_and(|metadata| !metadata.is_file());
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if !is_special && !extensions.is_empty() && !extensions.contains(&extension) {
            let allowed: Vec<String> = extensions.iter().map(|extension| format!(".{extension}")).collect();
            return refuse(format!("the output must end in {}", allowed.join(" or ")));
        }
        let folder = folder_of(path);
        match folder.is_dir() {
            true => Ok(()),
            false => {
                let reason = format!("cannot be written: there is no folder {}", folder.display());
                Err(RunError::file(path, reason))
            }
        }
    }

    fn what(&self, identity: &FileIdentity) -> Option<String> {
        let (_, path, what) = self.files.iter().find(|(known, ..)| known == identity)?;
        Some(format!("{what} ({})", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(protected: &Protected, path: &Path) -> String {
        protected.check("-o", path, &["csv", "parquet"]).unwrap_err().to_string()
    }

    #[test]
    fn what_is_read_is_not_written_under_any_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("run")).unwrap();
        for name in ["input.csv", "run/deep.csv", "free.csv"] {
            fs::write(path(name), "").unwrap();
        }
        fs::hard_link(path("input.csv"), path("hard.csv")).unwrap();
        let protected = Protected::new()
            .files([path("input.csv"), path("missing.csv")], "an input")
            .folder(&path("run"), "a file of the run directory");
        let mut names = vec!["input.csv", "run/../input.csv", "hard.csv", "run/deep.csv"];
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("input.csv", path("link.csv")).unwrap();
            names.push("link.csv");
        }
        for name in names {
            let error = refused(&protected, &path(name));
            assert!(error.contains("which would be lost"), "{name}: {error}");
        }
        for name in ["free.csv", "missing.csv", "run/new.parquet"] {
            protected.check("-o", &path(name), &["csv", "parquet"]).unwrap();
        }
    }

    #[test]
    fn folders_and_extensions_are_looked_at_first() {
        let folder = tempfile::tempdir().unwrap();
        let protected = Protected::new();
        assert!(refused(&protected, folder.path()).ends_with("is a folder, expected a file"));
        let error = refused(&protected, &folder.path().join("scores.txt"));
        assert!(error.ends_with("scores.txt: the output must end in .csv or .parquet"), "{error}");
        let error = refused(&protected, &folder.path().join("nowhere/scores.csv"));
        assert!(error.contains("cannot be written: there is no folder "), "{error}");
    }
}
