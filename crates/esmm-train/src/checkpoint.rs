//! The newest state of a training: weights, both optimizers, position. Whole or absent.

use std::fs;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::optim::Optimizer;
use burn::record::{BinBytesRecorder, FullPrecisionSettings, Record, Recorder};
use burn::tensor::backend::AutodiffBackend;
use esmm_core::EsmmBackend;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::learner::EsmmLearner;
use crate::optimizer::SharedOptimizer;
use crate::run_dir::{read_json, write_atomic, write_json};

/// Version of the checkpoint's layout.
pub const FORMAT_VERSION: u32 = 1;

/// Where a training stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingState {
    /// Layout of the checkpoint.
    pub format_version: u32,
    /// Steps done.
    pub step: u64,
    /// Epochs done.
    pub epochs_done: u64,
    /// Batches done of the epoch that was under way.
    pub batches_done: u64,
    /// The best validation so far.
    pub best: Option<BestState>,
    /// Validations since the best one.
    pub stale: u64,
}

/// The best validation of a training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BestState {
    /// Steps that the weights had seen.
    pub step: u64,
    /// Epoch, from 1.
    pub epoch: u64,
    /// Value of the selection metric; `None` where it could not be measured.
    pub value: Option<f64>,
}

impl Default for TrainingState {
    fn default() -> Self {
        Self {
            format_version: FORMAT_VERSION,
            step: 0,
            epochs_done: 0,
            batches_done: 0,
            best: None,
            stale: 0,
        }
    }
}

/// The checkpoints of one run directory. Each lies in a folder of its own that is renamed into place when it is whole;
/// then the older ones go.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    folder: PathBuf,
}

impl Checkpoints {
    /// Checkpoints in a folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Saves the state of a training.
    ///
    /// # Errors
    /// A disk that refuses; the checkpoint before is then still there.
    pub fn save<B>(
        &self,
        learner: &EsmmLearner<B>,
        optimizer: &SharedOptimizer<EsmmLearner<B>, B>,
        state: &TrainingState,
    ) -> Result<(), TrainError>
    where
        B: AutodiffBackend + EsmmBackend,
        B::InnerBackend: EsmmBackend,
    {
        let target = self.folder.join(format!("step-{:012}", state.step));
        let temporary = self.folder.join("unfinished");
        let failed = |error: std::io::Error| TrainError::file(&target, format!("cannot be written: {error}"));
        if temporary.exists() {
            fs::remove_dir_all(&temporary).map_err(failed)?;
        }
        fs::create_dir_all(&temporary).map_err(failed)?;
        write_record::<B, _>(&temporary.join("learner.bin"), learner.clone().into_record())?;
        write_record::<B, _>(&temporary.join("optimizer.bin"), optimizer.to_record())?;
        write_json(&temporary.join("state.json"), state)?;
        if target.exists() {
            fs::remove_dir_all(&target).map_err(failed)?;
        }
        fs::rename(&temporary, &target).map_err(failed)?;
        self.remove_others(&target)
    }

    /// The state of the newest checkpoint, if there is one.
    ///
    /// # Errors
    /// A checkpoint that is damaged or of another format version.
    pub fn state(&self) -> Result<Option<TrainingState>, TrainError> {
        let Some(newest) = self.newest() else {
            return Ok(None);
        };
        let path = newest.join("state.json");
        let state: TrainingState = read_json(&path)?;
        if state.format_version == FORMAT_VERSION {
            return Ok(Some(state));
        }
        let reason =
            format!("has format version {}, this program reads {FORMAT_VERSION}", state.format_version);
        Err(TrainError::file(&path, reason))
    }

    /// Loads the newest checkpoint into a learner and its optimizer.
    ///
    /// # Errors
    /// A checkpoint that is damaged.
    pub fn load<B>(
        &self,
        learner: EsmmLearner<B>,
        optimizer: SharedOptimizer<EsmmLearner<B>, B>,
        device: &B::Device,
    ) -> Result<EsmmLearner<B>, TrainError>
    where
        B: AutodiffBackend + EsmmBackend,
        B::InnerBackend: EsmmBackend,
    {
        let Some(newest) = self.newest() else {
            return Err(TrainError::file(&self.folder, "holds no checkpoint to resume from"));
        };
        let state: TrainingState = read_json(&newest.join("state.json"))?;
        let record = read_record::<B, _>(&newest.join("optimizer.bin"), device)?;
        let _ = optimizer.load_record(record);
        let record = read_record::<B, _>(&newest.join("learner.bin"), device)?;
        let learner = learner.load_record(record);
        learner.steps().set(state.step);
        Ok(learner)
    }

    fn newest(&self) -> Option<PathBuf> {
        let entries = fs::read_dir(&self.folder).ok()?;
        let folders = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| is_checkpoint(path));
        folders.max()
    }

    fn remove_others(&self, keep: &Path) -> Result<(), TrainError> {
        let failed =
            |error: std::io::Error| TrainError::file(&self.folder, format!("cannot be cleaned: {error}"));
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path != keep && is_checkpoint(&path) {
                fs::remove_dir_all(&path).map_err(failed)?;
            }
        }
        Ok(())
    }
}

fn is_checkpoint(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("step-"))
}

type BytesRecorder = BinBytesRecorder<FullPrecisionSettings>;

fn write_record<B: AutodiffBackend, R: Record<B>>(path: &Path, record: R) -> Result<(), TrainError> {
    let bytes = Recorder::<B>::record(&BytesRecorder::default(), record, ())
        .map_err(|error| TrainError::file(path, format!("cannot be written: {error}")))?;
    write_atomic(path, &bytes)
}

fn read_record<B: AutodiffBackend, R: Record<B>>(path: &Path, device: &B::Device) -> Result<R, TrainError> {
    let bytes = fs::read(path).map_err(|error| TrainError::file(path, format!("cannot be read: {error}")))?;
    Recorder::<B>::load(&BytesRecorder::default(), bytes, device).map_err(|error| {
        TrainError::file(path, format!("is damaged: {error}").lines().collect::<Vec<_>>().join(" "))
    })
}
