//! The run directory: everything that one training leaves, each file written whole or not at all.

mod claim;
mod split_bins;
mod whole_file;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use esmm_core::EsmmConfig;
use esmm_data::FittedEncoders;

use crate::config::{self, TrainConfig};
use crate::error::RunError;
use crate::files::FolderLock;

pub use claim::{Existing, RunClaim};
pub use whole_file::{read_json, write_atomic, write_json};

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

impl RunDir {
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

    /// Reads `schema.json`. One of before numbers had bins there is read as if it had them: the encoders tell.
    ///
    /// # Errors
    /// A file that cannot be read or is damaged.
    pub fn read_model(&self) -> Result<EsmmConfig, RunError> {
        let path = self.schema();
        let model: EsmmConfig = read_json(&path)?;
        model.validate().map_err(|error| RunError::caused(&path, "is damaged", error))?;
        if split_bins::may_be_split(&model.schema) {
            let encoders = FittedEncoders::load(&self.encoders())?;
            if split_bins::is_split(&model.schema, encoders.schema()) {
                let schema = encoders.schema().clone();
                return Ok(EsmmConfig { schema, ..model });
            }
        }
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
}

/// The best weights: their name, or with several models its end.
pub(crate) const WEIGHTS: &str = "model.safetensors";
/// Several models: the folder of what each has of its own.
const MEMBERS: &str = "members";

#[cfg(test)]
mod tests {
    use std::fs;

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
