//! The state of a training at a step, from which it goes on as if it had not stopped.
//!
//! A checkpoint is a folder `step-N` of three files:
//!
//! | file | what |
//! | --- | --- |
//! | `learner.safetensors` | every tensor of the model and of the tables' optimizer, by its place in the module |
//! | `optimizer.bin` | the state of the towers' optimizer, as Burn records it |
//! | `state.json` | where the training stands, with a format version, and size and checksum of everything |
//!
//! Nothing else is random or remembered: learning rate, dropout masks and the order of rows are functions of seed,
//! step and pass. A checkpoint is written under another name, synced and renamed, and the one before stays: whatever
//! happens at whatever moment, one whole checkpoint is there.

mod folder;
mod manifest;
mod summed;
mod tensors;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use burn::module::ParamId;
use burn::optim::Optimizer;
use burn::record::{BinBytesRecorder, FullPrecisionSettings, Recorder};
use esmm_core::TrainBackend;
use serde::{Deserialize, Serialize};

use self::folder::Folder;
use self::manifest::{Contents, Manifest};
use crate::device::still_works;
use crate::error::TrainError;
use crate::learner::EsmmLearner;
use crate::optimizer::SharedOptimizer;

pub use manifest::FORMAT_VERSION;

const LEARNER_FILE: &str = "learner.safetensors";
const OPTIMIZER_FILE: &str = "optimizer.bin";

/// Where a training stands.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TrainingState {
    /// Steps done.
    pub step: u64,
    /// Epochs done.
    pub epochs_done: u64,
    /// Batches done of the epoch that is under way.
    pub batches_done: u64,
    /// Rows of the training split: a training cannot go on with other data.
    pub train_rows: u64,
    /// Validations done.
    pub validations: u64,
    /// The best validation so far.
    pub best: Option<BestState>,
    /// Validations since the best one.
    pub stale: u64,
    /// Whether the validation that is due at this step was interrupted: it comes first when the training goes on.
    #[serde(default, skip_serializing_if = "is_false")]
    pub validation_due: bool,
}

/// The best validation of a training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BestState {
    /// Epoch that was under way or just done, from 1.
    pub epoch: u64,
    /// Steps done.
    pub step: u64,
    /// Value of the selection metric; `None` where it could not be measured.
    pub value: Option<f64>,
}

/// The checkpoints of one run directory: the newest, and the one before it.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    folder: Folder,
    /// The newest checkpoint that is known to be whole.
    whole: Arc<Mutex<Option<(PathBuf, TrainingState)>>>,
}

type Learner<B> = EsmmLearner<B>;
type Towers<B> = SharedOptimizer<EsmmLearner<B>, B>;
type TowersRecord<B> = <Towers<B> as Optimizer<Learner<B>, B>>::Record;

impl Checkpoints {
    /// Checkpoints in a folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder: Folder::new(folder), whole: Arc::default() }
    }

    /// Saves the state of a training. Large tensors go to the file from where they lie.
    ///
    /// # Errors
    /// A disk that refuses; the checkpoint before is then still there.
    pub fn save<B>(
        &self,
        learner: &Learner<B>,
        optimizer: &Towers<B>,
        state: &TrainingState,
    ) -> Result<(), TrainError>
    where
        B: TrainBackend,
    {
        let mut whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        if whole.as_ref().is_some_and(|(_, saved)| saved == state) {
            return Ok(());
        }
        let keep = whole.as_ref().map(|(path, _)| path.as_path());
        let path = self.folder.add(state.step, keep, |folder| write(folder, learner, optimizer, state))?;
        *whole = Some((path, state.clone()));
        Ok(())
    }

    /// Where the newest checkpoint stands, by its manifest; its files are looked at when it is loaded.
    pub fn newest(&self) -> Option<TrainingState> {
        let manifests = self.folder.newest_first().into_iter().filter_map(|path| Manifest::read(&path).ok());
        manifests.map(|contents| contents.state).next()
    }

    /// Loads the newest whole checkpoint into a learner, in place, and its optimizer; the learner as it came and `None` where
    /// there is none at all.
    ///
    /// A checkpoint that is damaged is passed over with a warning that says which file, if an older one is whole.
    ///
    /// # Errors
    /// Checkpoints of which none can be used.
    pub fn load<B>(
        &self,
        mut learner: Learner<B>,
        optimizer: &Towers<B>,
        device: &B::Device,
    ) -> Result<(Learner<B>, Option<TrainingState>), TrainError>
    where
        B: TrainBackend,
    {
        let mut reasons = Vec::new();
        for path in self.folder.newest_first() {
            let (read_into, state) = read(&path, learner, optimizer, device);
            learner = read_into;
            match state {
                Ok(state) => {
                    for reason in reasons {
                        log::warn!("{reason}; going on from the checkpoint before it");
                    }
                    *self.whole.lock().unwrap_or_else(PoisonError::into_inner) = Some((path, state.clone()));
                    return Ok((learner, Some(state)));
                }
                Err(error) => reasons.push(error.to_string()),
            }
        }
        if reasons.is_empty() {
            return Ok((learner, None));
        }
        let advice = "no checkpoint can be used, start the training again with --overwrite";
        Err(TrainError::Training(format!("{}; {advice}", reasons.join("; "))))
    }
}

fn write<B>(
    folder: &Path,
    learner: &Learner<B>,
    optimizer: &Towers<B>,
    state: &TrainingState,
) -> Result<(), TrainError>
where
    B: TrainBackend,
{
    let refused =
        |path: PathBuf| move |error: std::io::Error| TrainError::caused(&path, "cannot be written", error);
    let path = folder.join(LEARNER_FILE);
    let learner_sum = tensors::write::<B, _>(&path, learner).map_err(refused(path))?;
    let path = folder.join(OPTIMIZER_FILE);
    let bytes = Recorder::<B>::record(&Bytes::default(), optimizer.to_record(), ())
        .map_err(|error| TrainError::caused(&path, "cannot be written", error))?;
    let optimizer_sum = summed::write(&path, &bytes).map_err(refused(path))?;
    // What was read from a device that has failed is no state of the training.
    still_works()?;
    let parameters = tensors::entries::<B, _>(learner).into_iter().map(|entry| (entry.name, entry.id));
    Manifest::new(Contents {
        state: state.clone(),
        parameters: parameters.map(|(name, id)| (name, id.serialize())).collect(),
        files: [(LEARNER_FILE, learner_sum), (OPTIMIZER_FILE, optimizer_sum)]
            .map(|(name, sum)| (name.to_owned(), sum))
            .into(),
    })?
    .write(folder)
}

/// Reads a checkpoint into a learner, in place, and its optimizer. After an error the learner is in between.
fn read<B>(
    folder: &Path,
    learner: Learner<B>,
    optimizer: &Towers<B>,
    device: &B::Device,
) -> (Learner<B>, Result<TrainingState, TrainError>)
where
    B: TrainBackend,
{
    let (contents, record) = match read_optimizer::<B>(folder, device) {
        Ok(read) => read,
        Err(error) => return (learner, Err(error)),
    };
    let (path, sum) = match contents.file(folder, LEARNER_FILE) {
        Ok(file) => file,
        Err(error) => return (learner, Err(error)),
    };
    let (learner, result) = tensors::read::<B, _>(&path, sum, learner);
    if let Err(reason) = result {
        return (learner, Err(TrainError::file(&path, reason)));
    }
    // Burn keeps the optimizer's state under the parameters' identities, which are others in every process.
    let entries = tensors::entries::<B, _>(&learner).into_iter();
    let renamed: std::collections::HashMap<ParamId, ParamId> = entries
        .filter_map(|entry| {
            Some((ParamId::try_deserialize(contents.parameters.get(&entry.name)?)?, entry.id))
        })
        .collect();
    let record = record.into_iter().filter_map(|(id, state)| Some((*renamed.get(&id)?, state)));
    let _ = optimizer.clone().load_record(record.collect());
    learner.steps().set(contents.state.step);
    (learner, Ok(contents.state))
}

/// What a checkpoint says of itself, and the state of the towers' optimizer.
fn read_optimizer<B>(folder: &Path, device: &B::Device) -> Result<(Contents, TowersRecord<B>), TrainError>
where
    B: TrainBackend,
{
    let contents = Manifest::read(folder)?;
    let (path, sum) = contents.file(folder, OPTIMIZER_FILE)?;
    let bytes = summed::read(&path, sum).map_err(|reason| TrainError::file(&path, reason))?;
    let record = Recorder::<B>::load(&Bytes::default(), bytes, device);
    let record =
        record.map_err(|error| TrainError::file(&path, one_line(&format!("is damaged: {error}"))))?;
    Ok((contents, record))
}

/// A due validation is named only where there is one, so that the checksums of states written before stay as they are.
fn is_false(value: &bool) -> bool {
    !value
}

type Bytes = BinBytesRecorder<FullPrecisionSettings>;

fn one_line(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join(" ")
}
