//! A model from the run directory of its training.

use std::path::Path;

use esmm_core::StateDict;
use esmm_data::FittedEncoders;
use esmm_run::RunError;
use esmm_run::correction::CalibrationRecord;
use esmm_run::files::FileSum;
use esmm_run::manifest::{Manifest, Trust};
use esmm_run::run_dir::RunDir;

use crate::error::RankError;
use crate::model::{ModelParts, RankModel};

impl ModelParts {
    /// Reads a run directory, its best weights among what is read, all of it as the training wrote it.
    ///
    /// # Errors
    /// A file that is missing, damaged, of another version, or another one than the training wrote.
    pub fn read(run_dir: &Path) -> Result<Self, RankError> {
        Self::read_trusting(run_dir, Trust::Nothing)
    }

    /// As [`read`](Self::read), with weights that were replaced on purpose.
    ///
    /// # Errors
    /// As [`read`](Self::read), but for weights that the training did not write.
    pub fn read_trusting(run_dir: &Path, trust: Trust) -> Result<Self, RankError> {
        let run = RunDir::open(run_dir)?;
        let saved = run.read_config()?;
        Manifest::check(&run, trust)?;
        let members = run.members(saved.train.seeds).into_iter();
        let weights = members.map(|member| StateDict::read(&member.weights())).collect::<Result<_, _>>()?;
        Ok(Self {
            config: run.read_model()?,
            encoders: FittedEncoders::load(&run.encoders())?,
            weights,
            format: saved.data.train_source().clone(),
            stages: saved.labels.columns,
            correction: CalibrationRecord::read(&run)?.map(|record| record.correction()),
        })
    }
}

impl RankModel {
    /// Opens a run directory. `per_candidate`: see [`RankModel::new`].
    ///
    /// # Errors
    /// As [`ModelParts::read`] and [`RankModel::new`].
    pub fn open(run_dir: &Path, per_candidate: &[String]) -> Result<Self, RankError> {
        Self::open_trusting(run_dir, per_candidate, Trust::Nothing)
    }

    /// As [`open`](Self::open), with weights that were replaced on purpose.
    ///
    /// # Errors
    /// As [`open`](Self::open), but for weights that the training did not write.
    pub fn open_trusting(run_dir: &Path, per_candidate: &[String], trust: Trust) -> Result<Self, RankError> {
        Self::new(ModelParts::read_trusting(run_dir, trust)?, per_candidate)
    }
}

/// Digits that tell models apart: a checksum of the schema, the encoders, the weights and the correction of a run directory.
///
/// # Errors
/// A file that cannot be read.
pub fn version(run_dir: &Path) -> Result<String, RankError> {
    let run = RunDir::open(run_dir)?;
    let members = run.members(run.read_config()?.train.seeds);
    let mut sums = String::new();
    let calibration = run.calibration();
    let files = [run.schema(), run.encoders().join("features.json")];
    let files = files.into_iter().chain(calibration.exists().then_some(calibration));
    for path in files.chain(members.iter().map(RunDir::weights)) {
        let sum =
            FileSum::of(&path).map_err(|error| RunError::file(&path, format!("cannot be read: {error}")))?;
        sums.push_str(&sum.xxh64);
    }
    Ok(FileSum::of_bytes(sums.as_bytes()).xxh64)
}
