//! The run directory: everything that one training leaves, each file written whole or not at all.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use esmm_core::EsmmConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::{self, TrainConfig};
use crate::error::RunError;
use crate::files::{
    FolderLock, LOCK_FILE, LockError, NewFile, Unfinished, is_temporary, make_folders, remove_leftovers,
};

/// The command that locks run directories.
const COMMAND: &str = "esmm train";

/// A run directory.
///
/// | file | what |
/// | --- | --- |
/// | `config.json` | the resolved configuration |
/// | `schema.json` | the model: features, sizes, stages |
/// | `encoders/` | fitted vocabularies and numbers |
/// | `model.safetensors` | the best weights, PyTorch names (`esmm_core`'s documentation lists them) |
/// | `checkpoint/` | the newest state of the training, optimizers included, for `--resume` |
/// | `metrics.json` | metrics of all splits, with the best weights |
/// | `history.jsonl` | losses, rates and validations over the steps ([`history`](crate::history)) |
/// | `analysis.json` | curves, rates by feature value, use of tables ([`analysis`](crate::analysis)) |
/// | `calibration.json` | the correction of its probabilities, where one was fitted ([`correction`](crate::correction)) |
/// | `manifest.json` | checksums of all that scoring reads ([`Manifest`](crate::manifest::Manifest)) |
/// | `tensorboard/` | event files, one folder a split, where they were asked for |
/// | `train.log` | what was said |
/// | `esmm.lock` | while a training runs: who it is, and since when |
/// | `members/N/` | of several models (`train.seeds`): weights, checkpoint, history and event files of each |
#[derive(Debug, Clone)]
pub struct RunDir {
    path: PathBuf,
    /// Of several models the one that weights, checkpoint, history and event files are of, from 1.
    member: Option<u64>,
    /// Of a training: no other one works here as long as it holds this.
    _lock: Option<Arc<FolderLock>>,
}

/// What to do with a directory that is not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Refuse.
    Refuse,
    /// Remove what an earlier run left.
    Overwrite,
    /// Go on from its checkpoint.
    Resume,
}

/// A directory in which a training may begin: checked, locked, and otherwise as it was.
///
/// Dropped before [`begin`](Self::begin), it leaves nothing: neither the lock nor the folders that were made for it.
#[derive(Debug)]
pub struct RunClaim {
    // Goes first: the folders must be empty to go.
    run: RunDir,
    existing: Existing,
    made: Vec<Unfinished>,
}

impl RunClaim {
    /// The directory, to read from.
    pub fn run(&self) -> &RunDir {
        &self.run
    }

    /// Takes a file away again where the training does not begin.
    pub fn remove_unless_begun(&mut self, path: &Path) {
        // Before the folder that it is in.
        self.made.insert(0, Unfinished::file(path));
    }

    /// Checks that what is to be read will still be there when an earlier run is gone.
    ///
    /// # Errors
    /// The first file that `--overwrite` would remove.
    pub fn check_inputs(&self, files: &[PathBuf]) -> Result<(), RunError> {
        if self.existing != Existing::Overwrite {
            return Ok(());
        }
        let removed: Vec<PathBuf> =
            FILES.iter().chain(&FOLDERS).map(|name| self.run.path.join(name)).collect();
        let removed: Vec<PathBuf> = removed.iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
        let is_removed = |file: &&PathBuf| {
            fs::canonicalize(file).is_ok_and(|file| removed.iter().any(|path| file.starts_with(path)))
        };
        match files.iter().find(is_removed) {
            None => Ok(()),
            Some(file) => {
                let (file, run) = (file.display(), self.run.path.display());
                let reason = format!("--overwrite would remove {file}, which the training reads");
                Err(RunError::Config(format!("{run}: {reason}")))
            }
        }
    }

    /// Begins: an earlier run goes where it is to be overwritten.
    ///
    /// # Errors
    /// A disk that refuses.
    pub fn begin(self) -> Result<RunDir, RunError> {
        let Self { run, existing, made } = self;
        made.into_iter().for_each(Unfinished::keep);
        match existing {
            Existing::Overwrite => run.clear()?,
            Existing::Refuse | Existing::Resume => {}
        }
        run.remove_leftovers();
        Ok(run)
    }
}

impl RunDir {
    /// Takes a directory for a training and begins in it: [`claim`](Self::claim), then [`begin`](RunClaim::begin).
    ///
    /// # Errors
    /// As both of them.
    pub fn create(path: &Path, existing: Existing) -> Result<Self, RunError> {
        Self::claim(path, existing)?.begin()
    }

    /// Checks that a training may begin in a directory, and locks it. Nothing that is there is changed.
    ///
    /// # Errors
    /// A directory that is not empty, unless `existing` allows it; one without a run when resuming; one that is no run's
    /// when overwriting; one in which another training works; a disk that refuses.
    pub fn claim(path: &Path, existing: Existing) -> Result<RunClaim, RunError> {
        Self::claim_for(path, existing, COMMAND)
    }

    /// As [`claim`](Self::claim), for a command other than `esmm train`, which others that want to work there are told.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub fn claim_for(path: &Path, existing: Existing, command: &str) -> Result<RunClaim, RunError> {
        let failed =
            |error: std::io::Error| RunError::caused(path, "cannot be used as a run directory", error);
        let made = make_folders(path).map_err(failed)?;
        let lock = FolderLock::take(path, command).map_err(|error| match error {
            LockError::Held(_) => RunError::file(path, error.to_string()),
            LockError::Refused(error) => failed(error),
        })?;
        let run = Self { path: path.to_owned(), member: None, _lock: Some(Arc::new(lock)) };
        let claim = RunClaim { run, existing, made };
        let refuse = |reason: &str| Err(RunError::Config(format!("{}: {reason}", path.display())));
        let found = claim.run.entries().map_err(failed)?;
        match existing {
            Existing::Refuse if !found.is_empty() => {
                refuse("is not empty: choose another --run-dir, or say --overwrite or --resume")
            }
            Existing::Resume if !claim.run.config().exists() => {
                refuse("has nothing to resume (no config.json)")
            }
            Existing::Overwrite => match claim.run.foreign(&found) {
                Some(name) => refuse(&format!(
                    "is no run directory (it holds {name} and no config.json of a training), and --overwrite \
                     replaces nothing else"
                )),
                None => Ok(claim),
            },
            Existing::Refuse | Existing::Resume => Ok(claim),
        }
    }

    /// Takes the directory of an earlier training.
    ///
    /// # Errors
    /// No directory, or one that holds no run.
    pub fn open(path: &Path) -> Result<Self, RunError> {
        let run = Self { path: path.to_owned(), member: None, _lock: None };
        match run.config().exists() {
            true => Ok(run),
            false => Err(RunError::file(path, "is no run directory (it has no config.json)")),
        }
    }

    /// Reads `config.json`.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged, or was written by a newer program.
    pub fn read_config(&self) -> Result<TrainConfig, RunError> {
        let path = self.config();
        let json: serde_json::Value = read_json(&path)?;
        config::check_version(&json).map_err(|reason| RunError::file(&path, reason))?;
        let damaged = |error| RunError::caused(&path, "is damaged", error);
        serde_json::from_value(json).map(TrainConfig::found).map_err(damaged)
    }

    /// Reads `schema.json`.
    ///
    /// # Errors
    /// A file that cannot be read or is damaged.
    pub fn read_model(&self) -> Result<EsmmConfig, RunError> {
        let path = self.schema();
        let model: EsmmConfig = read_json(&path)?;
        model.validate().map_err(|error| RunError::caused(&path, "is damaged", error))?;
        Ok(model)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory as each of `seeds` models sees it, in the order of their seeds: of one model this one.
    pub fn members(&self, seeds: u64) -> Vec<Self> {
        match seeds {
            1 => vec![self.clone()],
            _ => (1..=seeds).map(|member| Self { member: Some(member), ..self.clone() }).collect(),
        }
    }

    /// The folder of what each model has of its own: weights, checkpoint, history and event files.
    pub fn own_path(&self) -> PathBuf {
        match self.member {
            None => self.path.clone(),
            Some(member) => self.path.join(MEMBERS).join(member.to_string()),
        }
    }

    /// The best weights' name in this directory, with `/` in it.
    pub(crate) fn weights_name(&self) -> String {
        match self.member {
            None => WEIGHTS.to_owned(),
            Some(member) => format!("{MEMBERS}/{member}/{WEIGHTS}"),
        }
    }

    /// The resolved configuration.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.json")
    }

    /// The model's configuration.
    pub fn schema(&self) -> PathBuf {
        self.path.join("schema.json")
    }

    /// Fitted vocabularies and numbers.
    pub fn encoders(&self) -> PathBuf {
        self.path.join("encoders")
    }

    /// The best weights.
    pub fn weights(&self) -> PathBuf {
        self.own_path().join(WEIGHTS)
    }

    /// State for going on.
    pub fn checkpoint(&self) -> PathBuf {
        self.own_path().join("checkpoint")
    }

    /// The metrics.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.json")
    }

    /// What was recorded while it ran.
    pub fn history(&self) -> PathBuf {
        self.own_path().join("history.jsonl")
    }

    /// What the final evaluation found beyond the metrics.
    pub fn analysis(&self) -> PathBuf {
        self.path.join("analysis.json")
    }

    /// The correction of its probabilities.
    pub fn calibration(&self) -> PathBuf {
        self.path.join("calibration.json")
    }

    /// Checks that the weights may become others: a correction is one of these weights.
    ///
    /// # Errors
    /// A run that is calibrated.
    pub fn check_uncalibrated(&self) -> Result<(), RunError> {
        if !self.calibration().exists() {
            return Ok(());
        }
        let run = self.path.display();
        Err(RunError::Config(format!(
            "{run}: is calibrated (calibration.json) for weights that a training would replace: take that back first with \
             esmm calibrate {run} --undo"
        )))
    }

    /// Checksums of all that scoring reads.
    pub fn manifest(&self) -> PathBuf {
        self.path.join("manifest.json")
    }

    /// TensorBoard's event files.
    pub fn tensorboard(&self) -> PathBuf {
        self.own_path().join("tensorboard")
    }

    /// What was said.
    pub fn log(&self) -> PathBuf {
        self.path.join("train.log")
    }

    /// Removes the temporary files of a process that was killed while it wrote.
    fn remove_leftovers(&self) {
        let members = fs::read_dir(self.path.join(MEMBERS)).into_iter().flatten();
        let members = members.filter_map(|entry| Some(entry.ok()?.path()));
        for folder in [self.path.clone(), self.encoders()].into_iter().chain(members) {
            remove_leftovers(&folder);
        }
        // Weights that an older version was writing; what cannot be removed does no harm.
        let _ = fs::remove_file(self.path.join("model.safetensors.tmp"));
    }

    /// Names of what is there, but for the lock and temporary files.
    fn entries(&self) -> std::io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            if name != OsStr::new(LOCK_FILE) && !is_temporary(&name) {
                names.push(name.to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// What of these is not a run's, in a directory that has no `config.json` of a run.
    fn foreign<'a>(&self, entries: &'a [String]) -> Option<&'a String> {
        #[derive(serde::Deserialize)]
        struct OfARun {
            #[serde(rename = "format_version")]
            _format_version: u32,
            #[serde(rename = "labels")]
            _labels: serde_json::Value,
        }
        let is_run = read_json::<OfARun>(&self.config()).is_ok();
        let is_damaged = self.config().exists() && !self.encoders().exists();
        let is_known =
            |name: &str| FILES.contains(&name) || FOLDERS.contains(&name) || name == "data.parquet";
        let is_foreign = |name: &&String| !is_known(name) || is_damaged && *name == "config.json";
        entries.iter().filter(|_| !is_run).find(is_foreign)
    }

    /// Removes what a run writes, and nothing else. Without its first file it is no run any more.
    fn clear(&self) -> Result<(), RunError> {
        let failed = |path: &Path, error: std::io::Error| RunError::caused(path, "cannot be removed", error);
        for path in FILES.map(|name| self.path.join(name)) {
            if path.exists() {
                fs::remove_file(&path).map_err(|error| failed(&path, error))?;
            }
        }
        for path in FOLDERS.map(|name| self.path.join(name)) {
            if path.exists() {
                fs::remove_dir_all(&path).map_err(|error| failed(&path, error))?;
            }
        }
        Ok(())
    }
}

/// The best weights: their name, or with several models its end.
pub(crate) const WEIGHTS: &str = "model.safetensors";
/// Several models: the folder of what each has of its own.
const MEMBERS: &str = "members";

/// Files that a run writes.
const FILES: [&str; 9] = [
    "config.json",
    "calibration.json",
    "manifest.json",
    "schema.json",
    WEIGHTS,
    "metrics.json",
    "history.jsonl",
    "analysis.json",
    "train.log",
];
/// Folders that a run writes; `curves` did earlier versions.
const FOLDERS: [&str; 5] = ["encoders", "checkpoint", MEMBERS, "tensorboard", "curves"];

/// Writes a file under a temporary name in its folder, syncs it, renames it and syncs the folder.
///
/// # Errors
/// A disk that refuses; the file is then as it was.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    let write = || -> std::io::Result<()> {
        let mut file = NewFile::beside(path)?;
        file.write_all(bytes)?;
        file.finish()
    };
    write().map_err(|error| RunError::caused(path, "cannot be written", error))
}

/// Writes a value as indented JSON, atomically.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), RunError> {
    let mut text =
        serde_json::to_vec_pretty(value).map_err(|error| RunError::file(path, error.to_string()))?;
    text.push(b'\n');
    write_atomic(path, &text)
}

/// Reads a value from JSON.
///
/// # Errors
/// A file that cannot be read or is no such value.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, RunError> {
    let text = fs::read(path).map_err(|error| RunError::caused(path, "cannot be read", error))?;
    serde_json::from_slice(&text).map_err(|error| RunError::caused(path, "is damaged", error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RunFile;

    #[test]
    fn a_newer_configuration_is_refused_before_it_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(&folder.path().join("run"), Existing::Refuse).unwrap();
        let text = "features = [{ name = \"user\" }]\n[data]\ntrain = \"a.csv\"\n";
        let config = TrainConfig::resolve(&RunFile::parse(text, "run.toml", &[]).unwrap()).unwrap();
        write_json(&run.config(), &config).unwrap();
        assert_eq!(run.read_config().unwrap(), config);

        let mut newer = serde_json::to_value(&config).unwrap();
        newer["format_version"] = 99.into();
        newer["train"] = "said otherwise".into();
        write_json(&run.config(), &newer).unwrap();
        let error = run.read_config().unwrap_err().to_string();
        let expected =
            "config.json: has format version 99, this program reads 2: install the esmm that wrote it";
        assert!(error.ends_with(expected), "{error}");

        fs::write(run.config(), "{}").unwrap();
        let error = run.read_config().unwrap_err().to_string();
        assert!(error.contains("config.json: is damaged: missing field `format_version`"), "{error}");
    }
}
