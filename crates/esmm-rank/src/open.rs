//! A model from the run directory of its training.

use std::path::Path;

use esmm_core::StateDict;
use esmm_data::FittedEncoders;
use esmm_run::run_dir::RunDir;

use crate::error::RankError;
use crate::model::{ModelParts, RankModel};

impl ModelParts {
    /// Reads a run directory, its best weights among what is read.
    ///
    /// # Errors
    /// A file that is missing, damaged or of another version.
    pub fn read(run_dir: &Path) -> Result<Self, RankError> {
        let run = RunDir::open(run_dir)?;
        let saved = run.read_config()?;
        Ok(Self {
            config: run.read_model()?,
            encoders: FittedEncoders::load(&run.encoders())?,
            weights: StateDict::read(&run.weights())?,
            lists: saved.data.train_source().lists,
            stages: saved.labels.columns,
        })
    }
}

impl RankModel {
    /// Opens a run directory. `per_candidate`: see [`RankModel::new`].
    ///
    /// # Errors
    /// As [`ModelParts::read`] and [`RankModel::new`].
    pub fn open(run_dir: &Path, per_candidate: &[String]) -> Result<Self, RankError> {
        Self::new(ModelParts::read(run_dir)?, per_candidate)
    }
}
