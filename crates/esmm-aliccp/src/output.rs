//! The output folder: whole or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use esmm_files::{LockError, NewFolder};

use crate::error::AliCcpError;

/// Who writes, for others that want to.
const COMMAND: &str = "esmm aliccp prepare";

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

/// A folder beside the output, which becomes the output or vanishes.
#[derive(Debug)]
pub(crate) struct PartialOutput {
    target: PathBuf,
    new: NewFolder,
}

impl PartialOutput {
    /// Makes the folder. One that a killed preparation left is emptied.
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
        if occupied {
            check_own(target)?;
        }
        if target.file_name().is_none() {
            return Err(AliCcpError::Setting(format!("{}: does not name a folder", target.display())));
        }
        let new = NewFolder::beside(target, COMMAND).map_err(|error| match error {
            LockError::Held(_) => AliCcpError::file(target, error),
            LockError::Refused(error) => AliCcpError::io(target, &error),
        })?;
        Ok(Self { target: target.to_owned(), new })
    }

    /// Where to write.
    pub(crate) fn folder(&self) -> &Path {
        self.new.path()
    }

    /// Makes a folder in it.
    pub(crate) fn subfolder(&self, name: &str) -> Result<PathBuf, AliCcpError> {
        let folder = self.folder().join(name);
        fs::create_dir_all(&folder).map_err(|error| AliCcpError::io(&folder, &error))?;
        Ok(folder)
    }

    /// Empties it.
    pub(crate) fn clear(&self) -> Result<(), AliCcpError> {
        self.new.clear().map_err(|error| AliCcpError::io(self.folder(), &error))
    }

    /// Gives everything its name. What an earlier preparation left there is replaced, and nothing else.
    pub(crate) fn finish(self) -> Result<(), AliCcpError> {
        let Self { target, new } = self;
        new.move_into(&target, &ENTRIES).map_err(|error| AliCcpError::io(&target, &error))
    }
}

/// Checks that nothing that is read is in a folder that the output replaces.
pub(crate) fn check_inputs<'a>(
    target: &Path,
    mut inputs: impl Iterator<Item = &'a PathBuf>,
) -> Result<(), AliCcpError> {
    let replaced: Vec<PathBuf> =
        ENTRIES.iter().filter_map(|name| fs::canonicalize(target.join(name)).ok()).collect();
    let is_replaced = |file: &&PathBuf| {
        fs::canonicalize(file).is_ok_and(|file| replaced.iter().any(|path| file.starts_with(path)))
    };
    match inputs.find(is_replaced) {
        None => Ok(()),
        Some(file) => Err(AliCcpError::Setting(format!(
            "{}: would replace {}, which is read: choose another folder",
            target.display(),
            file.display()
        ))),
    }
}

/// Checks that what would be replaced is an earlier preparation's.
fn check_own(target: &Path) -> Result<(), AliCcpError> {
    let Some(name) = ENTRIES.iter().find(|name| target.join(name).exists()) else { return Ok(()) };
    let report = fs::read(target.join(REPORT_FILE)).ok();
    let report = report.and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
    match report.is_some_and(|report| report["format_version"].is_u64()) {
        true => Ok(()),
        false => Err(AliCcpError::Setting(format!(
            "{}: holds {name} but no {REPORT_FILE} of a preparation, and --overwrite replaces nothing else: choose another \
             folder",
            target.display()
        ))),
    }
}
