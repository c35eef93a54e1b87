//! `manifest.json`: sizes and checksums of all that scoring reads, so that what is scored is what was trained.
//!
//! The weights are written again and again while a training runs. Before new ones get their name the manifest lists
//! them besides the old ones, and the old ones are struck out afterwards: at whatever moment a process is killed, the
//! weights that are there are listed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufWriter};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use esmm_core::StateDict;
use serde::{Deserialize, Serialize};

use crate::error::RunError;
use crate::files::{FileSum, NewFile};
use crate::run_dir::{RunDir, WEIGHTS, read_json, write_atomic, write_json};

/// Version of the file's layout.
const FORMAT_VERSION: u32 = 1;

/// The correction of its probabilities. It need not be there: one that is not counts as an empty file.
const CALIBRATION: &str = "calibration.json";

/// Models of one run directory that are trained side by side change its manifest in turn.
static CHANGES: Mutex<()> = Mutex::new(());

/// Which files of a run directory must be those that the training wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Trust {
    /// All that scoring reads.
    #[default]
    Nothing,
    /// All but the weights, which somebody replaced on purpose.
    Weights,
}

/// The file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    format_version: u32,
    /// xxHash64 of the sums as compact JSON, in hexadecimal digits.
    files_xxh64: String,
    /// What each file may be, by its name with `/` in it. Weights have two sums while they are replaced.
    files: BTreeMap<String, Vec<FileSum>>,
}

/// A file whose version alone is of interest.
#[derive(Deserialize)]
struct Versioned {
    format_version: u32,
}

impl Manifest {
    /// The manifest of a run directory; `None` where it has none, because an older version made it.
    ///
    /// # Errors
    /// A file that is damaged or of another format version.
    pub fn read(run: &RunDir) -> Result<Option<Self>, RunError> {
        let path = run.manifest();
        if !path.exists() {
            return Ok(None);
        }
        let Versioned { format_version } = read_json(&path)?;
        if format_version != FORMAT_VERSION {
            let reason = format!("has format version {format_version}, this program reads {FORMAT_VERSION}");
            return Err(RunError::file(&path, reason));
        }
        let manifest: Self = read_json(&path)?;
        match sum_of(&manifest.files)? == manifest.files_xxh64 {
            true => Ok(Some(manifest)),
            false => Err(RunError::file(&path, "is damaged: its checksum does not fit")),
        }
    }

    /// Writes the manifest of a run directory whose files but the weights are there.
    ///
    /// # Errors
    /// A file that cannot be read, a disk that refuses.
    pub fn begin(run: &RunDir) -> Result<(), RunError> {
        let mut files = BTreeMap::new();
        for name in ["config.json", "schema.json"] {
            files.insert(name.to_owned(), vec![sum(&run.path().join(name))?]);
        }
        let folder = run.encoders();
        let unreadable = |error: std::io::Error| RunError::caused(&folder, "cannot be read", error);
        for entry in fs::read_dir(&folder).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            if let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) {
                files.insert(format!("encoders/{name}"), vec![sum(&folder.join(name))?]);
            }
        }
        Self::of(files)?.write(run)
    }

    /// Writes a file beside those that are listed, and lists it. A run directory without a manifest stays without one.
    ///
    /// # Errors
    /// Those of `write`, and a disk that refuses; the file is then not listed, and so not checked.
    pub fn add(
        run: &RunDir,
        name: &str,
        write: impl FnOnce() -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        let Some(manifest) = Self::read(run)? else { return write() };
        let mut files = manifest.files;
        if files.remove(name).is_some() {
            Self::of(files.clone())?.write(run)?;
        }
        write()?;
        files.insert(name.to_owned(), vec![sum(&run.path().join(name))?]);
        Self::of(files)?.write(run)
    }

    /// Writes weights in the place of the old ones, durably, and lists them. A run directory without a manifest stays without
    /// one.
    ///
    /// # Errors
    /// A disk that refuses; the old weights are then still there, and listed.
    pub fn replace_weights(run: &RunDir, new: &StateDict) -> Result<(), RunError> {
        let weights = run.weights();
        let refused = |error: io::Error| RunError::caused(&weights, "cannot be written", error);
        let mut file = BufWriter::new(NewFile::beside(&weights).map_err(refused)?);
        new.write_to(&mut file).map_err(refused)?;
        let file = file.into_inner().map_err(|error| refused(error.into_error()))?;
        let sum = sum(file.path())?;
        let rename = || file.finish().map_err(refused);
        let name = run.weights_name();
        let _changes = CHANGES.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(manifest) = Self::read(run)? else { return rename() };
        let mut files = manifest.files;
        let sums = files.entry(name.clone()).or_default();
        if !sums.contains(&sum) {
            sums.push(sum.clone());
        }
        Self::of(files.clone())?.write(run)?;
        rename()?;
        files.insert(name, vec![sum]);
        Self::of(files)?.write(run)
    }

    /// Writes `calibration.json`, or takes it away. At whatever moment a process is killed, what is there is listed.
    ///
    /// # Errors
    /// A disk that refuses.
    pub(crate) fn replace_calibration(run: &RunDir, text: Option<&[u8]>) -> Result<(), RunError> {
        let path = run.calibration();
        let replace = || match text {
            Some(text) => write_atomic(&path, text),
            None if !path.exists() => Ok(()),
            None => fs::remove_file(&path)
                .map_err(|error| RunError::file(&path, format!("cannot be removed: {error}"))),
        };
        let Some(manifest) = Self::read(run)? else { return replace() };
        let mut files = manifest.files;
        let new = FileSum::of_bytes(text.unwrap_or_default());
        files.insert(CALIBRATION.to_owned(), vec![sum_or_empty(&path)?, new.clone()]);
        Self::of(files.clone())?.write(run)?;
        replace()?;
        match text {
            Some(_) => files.insert(CALIBRATION.to_owned(), vec![new]),
            None => files.remove(CALIBRATION),
        };
        Self::of(files)?.write(run)
    }

    /// Whether `calibration.json` is to be there.
    pub(crate) fn lists_calibration(run: &RunDir) -> Result<bool, RunError> {
        Ok(Self::read(run)?.is_some_and(|manifest| manifest.files.contains_key(CALIBRATION)))
    }

    /// Checks that the files of a run directory are those that were written. One that an older version made has no manifest:
    /// that is said, and nothing is checked.
    ///
    /// # Errors
    /// The first file that is missing or another one.
    pub fn check(run: &RunDir, trust: Trust) -> Result<(), RunError> {
        Self::check_files(run, trust, true)
    }

    /// The same for a calibration that will be replaced: the one that is there may be any.
    pub(crate) fn check_but_calibration(run: &RunDir, trust: Trust) -> Result<(), RunError> {
        Self::check_files(run, trust, false)
    }

    fn check_files(run: &RunDir, trust: Trust, calibration: bool) -> Result<(), RunError> {
        let Some(manifest) = Self::read(run)? else {
            log::warn!(
                "{}: has no manifest.json, because an older version trained it: damage would go unnoticed",
                run.path().display()
            );
            return Ok(());
        };
        let first = manifest.differing(run, trust, calibration)?;
        // A training that is under way may have replaced its weights, and the manifest, in the meantime.
        let differs = match &first {
            Some(_) => Self::read(run)?
                .filter(|now| *now != manifest)
                .map_or(Ok(first), |now| now.differing(run, trust, calibration))?,
            None => None,
        };
        let Some(name) = differs else { return Ok(()) };
        if name == CALIBRATION {
            let reason = format!(
                "is not what esmm calibrate wrote (its checksum is another one than in manifest.json); calibrate again, or \
                 take it away with: esmm calibrate {} --undo",
                run.path().display()
            );
            return Err(RunError::file(&run.calibration(), reason));
        }
        let advice = match name.ends_with(WEIGHTS) {
            true => "; if it was replaced on purpose, say --accept-weights",
            false => "",
        };
        let reason =
            "is not the file that the training wrote (its checksum is another one than in manifest.json)";
        Err(RunError::file(&run.path().join(name), format!("{reason}{advice}")))
    }

    /// The first file that is none of those that it may be.
    fn differing(
        &self,
        run: &RunDir,
        trust: Trust,
        with_calibration: bool,
    ) -> Result<Option<String>, RunError> {
        let is_checked = |name: &str| trust == Trust::Nothing || !name.ends_with(WEIGHTS);
        let calibration = sum_or_empty(&run.calibration())?;
        let fits = match self.files.get(CALIBRATION) {
            Some(sums) => sums.contains(&calibration),
            None => calibration.bytes == 0,
        };
        if with_calibration && !fits {
            return Ok(Some(CALIBRATION.to_owned()));
        }
        let others = self.files.iter().filter(|(name, _)| *name != CALIBRATION && is_checked(name));
        for (name, sums) in others {
            if !sums.contains(&sum(&run.path().join(name))?) {
                return Ok(Some(name.clone()));
            }
        }
        Ok(None)
    }

    fn of(files: BTreeMap<String, Vec<FileSum>>) -> Result<Self, RunError> {
        Ok(Self { format_version: FORMAT_VERSION, files_xxh64: sum_of(&files)?, files })
    }

    fn write(&self, run: &RunDir) -> Result<(), RunError> {
        write_json(&run.manifest(), self)
    }
}

/// As [`sum`]; a file that is not there counts as empty.
fn sum_or_empty(path: &Path) -> Result<FileSum, RunError> {
    if path.exists() { sum(path) } else { Ok(FileSum::of_bytes(&[])) }
}

fn sum(path: &Path) -> Result<FileSum, RunError> {
    FileSum::of(path).map_err(|error| RunError::caused(path, "cannot be read", error))
}

fn sum_of(files: &BTreeMap<String, Vec<FileSum>>) -> Result<String, RunError> {
    let text = serde_json::to_vec(files).map_err(|error| RunError::Scoring(format!("manifest: {error}")))?;
    Ok(FileSum::of_bytes(&text).xxh64)
}
