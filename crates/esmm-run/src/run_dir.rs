//! The run directory: everything that one training leaves behind, each file written whole or not at all.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use esmm_core::EsmmConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::{self, TrainConfig};
use crate::error::RunError;

/// What the names of temporary files begin with.
const TEMPORARY: &str = ".esmm-";

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
/// | `curves/` | loss and AUC over the steps |
/// | `tensorboard/` | event files, one folder a split, where they were asked for |
/// | `train.log` | what was said |
#[derive(Debug, Clone)]
pub struct RunDir {
    path: PathBuf,
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

impl RunDir {
    /// Makes or takes a directory for a new training.
    ///
    /// # Errors
    /// A directory that is not empty, unless `existing` allows it; one without a run when resuming; a disk that refuses.
    pub fn create(path: &Path, existing: Existing) -> Result<Self, RunError> {
        let run = Self { path: path.to_owned() };
        let failed = |error: std::io::Error| {
            RunError::file(path, format!("cannot be used as a run directory: {error}"))
        };
        let occupied = match fs::read_dir(path) {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(error) => return Err(failed(error)),
        };
        match existing {
            Existing::Refuse if occupied => {
                let reason = "is not empty: choose another --run-dir, or say --overwrite or --resume";
                return Err(RunError::Config(format!("{}: {reason}", path.display())));
            }
            Existing::Resume if !run.config().exists() => {
                let reason = "has nothing to resume (no config.json)";
                return Err(RunError::Config(format!("{}: {reason}", path.display())));
            }
            Existing::Overwrite if occupied => run.clear()?,
            Existing::Resume => run.remove_leftovers(),
            _ => {}
        }
        fs::create_dir_all(path).map_err(failed)?;
        Ok(run)
    }

    /// Takes the directory of an earlier training.
    ///
    /// # Errors
    /// No directory, or one that holds no run.
    pub fn open(path: &Path) -> Result<Self, RunError> {
        let run = Self { path: path.to_owned() };
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
        serde_json::from_value(json).map_err(|error| RunError::file(&path, format!("is damaged: {error}")))
    }

    /// Reads `schema.json`.
    ///
    /// # Errors
    /// A file that cannot be read or is damaged.
    pub fn read_model(&self) -> Result<EsmmConfig, RunError> {
        read_json(&self.schema())
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
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
        self.path.join("model.safetensors")
    }

    /// State for going on.
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint")
    }

    /// The metrics.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.json")
    }

    /// What was recorded while it ran.
    pub fn history(&self) -> PathBuf {
        self.path.join("history.jsonl")
    }

    /// What the final evaluation found beyond the metrics.
    pub fn analysis(&self) -> PathBuf {
        self.path.join("analysis.json")
    }

    /// Loss and AUC over the steps.
    pub fn curves(&self) -> PathBuf {
        self.path.join("curves")
    }

    /// TensorBoard's event files.
    pub fn tensorboard(&self) -> PathBuf {
        self.path.join("tensorboard")
    }

    /// What was said.
    pub fn log(&self) -> PathBuf {
        self.path.join("train.log")
    }

    /// Removes the temporary files of a process that was killed while it wrote. What cannot be removed does no harm.
    fn remove_leftovers(&self) {
        for folder in [&self.path, &self.encoders()] {
            let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
            let temporary = |name: &str| name.starts_with(TEMPORARY) || name == "model.safetensors.tmp";
            for entry in entries.filter(|entry| entry.file_name().to_str().is_some_and(temporary)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Removes what a run writes, and nothing else.
    fn clear(&self) -> Result<(), RunError> {
        let failed =
            |path: &Path, error: std::io::Error| RunError::file(path, format!("cannot be removed: {error}"));
        for path in [
            self.config(),
            self.schema(),
            self.weights(),
            self.metrics(),
            self.history(),
            self.analysis(),
            self.log(),
        ] {
            if path.exists() {
                fs::remove_file(&path).map_err(|error| failed(&path, error))?;
            }
        }
        for path in [self.encoders(), self.checkpoint(), self.curves(), self.tensorboard()] {
            if path.exists() {
                fs::remove_dir_all(&path).map_err(|error| failed(&path, error))?;
            }
        }
        Ok(())
    }
}

/// Writes a file under a temporary name in its folder, syncs it, renames it and syncs the folder.
///
/// # Errors
/// A disk that refuses; the file is then as it was.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        let mut file = temporary_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        sync_folder(folder)
    };
    write().map_err(|error| RunError::file(path, format!("cannot be written: {error}")))
}

/// Makes the names of a folder's files as durable as the files.
///
/// # Errors
/// A disk that refuses.
pub fn sync_folder(folder: &Path) -> std::io::Result<()> {
    // Elsewhere a folder cannot be opened as a file, and renaming is durable or not as the system decides.
    #[cfg(unix)]
    fs::File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// A temporary file that will have the permissions of an ordinary one.
///
/// # Errors
/// A folder that refuses.
pub(crate) fn temporary_in(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
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
    let text = fs::read(path).map_err(|error| RunError::file(path, format!("cannot be read: {error}")))?;
    serde_json::from_slice(&text).map_err(|error| RunError::file(path, format!("is damaged: {error}")))
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
            "config.json: has format version 99, this program reads 1: install the esmm that wrote it";
        assert!(error.ends_with(expected), "{error}");

        fs::write(run.config(), "{}").unwrap();
        let error = run.read_config().unwrap_err().to_string();
        assert!(error.contains("config.json: is damaged: missing field `format_version`"), "{error}");
    }
}
