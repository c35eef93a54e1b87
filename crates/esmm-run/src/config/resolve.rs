//! From a run file to a configuration without gaps: every default filled in, every contradiction refused.

use esmm_core::{EsmmConfig, FeatureSchema};
use esmm_data::{DataSpec, LabelSpec, Orphans};

use super::resolve_data::{feature, reading, split, truth};
use super::resolve_train::{model, training};
use super::run_file::{OrphanPolicy, RunFile};
use super::train_config::{ReadingConfig, TrainConfig};
use super::version::FORMAT_VERSION;
use crate::error::RunError;

impl TrainConfig {
    /// Fills in defaults and checks ranges; files are not opened yet.
    ///
    /// # Errors
    /// One line that names the key, its value and what is allowed.
    pub fn resolve(file: &RunFile) -> Result<Self, RunError> {
        let orphans = match file.labels.orphan_conversions {
            OrphanPolicy::Error => Orphans::Error,
            OrphanPolicy::Drop => Orphans::Drop,
        };
        let labels = LabelSpec { columns: file.labels.stages.clone(), orphan_conversions: orphans };
        let features: Result<Vec<_>, _> = file.features.iter().map(feature).collect();
        let config = Self {
            format_version: FORMAT_VERSION,
            data: split(&file.data)?,
            reading: reading(&file.data)?,
            features: features?,
            group: file.metrics.group.clone(),
            truth: truth(&file.metrics),
            model: model(&file.model)?,
            train: training(&file.train, labels.columns.len())?,
            labels,
        };
        config.model.towers.validate()?;
        Ok(config)
    }

    /// The model for a schema.
    ///
    /// # Errors
    /// Sizes out of range.
    pub fn model(&self, schema: FeatureSchema) -> Result<EsmmConfig, RunError> {
        let config = EsmmConfig {
            schema,
            embedding_dim: self.model.embedding_dim,
            towers: self.model.towers.clone(),
            stages: self.labels.columns.len(),
            shared_embeddings: self.model.shared_embeddings,
            embedding_init_std: self.model.embedding_init_std,
            seed: self.train.seed,
        };
        config.validate()?;
        Ok(config)
    }

    /// What is read for the training.
    pub fn data_spec(&self) -> DataSpec {
        DataSpec {
            split: self.data.clone(),
            features: self.features.clone(),
            labels: self.labels.clone(),
            group: self.group.clone(),
            truth: self.truth.clone(),
        }
    }

    /// This saved configuration with the epochs, the patience and the records of another one.
    ///
    /// # Errors
    /// Another one that differs in anything else: a training cannot go on as a different one.
    pub fn extended_to(&self, other: Self) -> Result<Self, RunError> {
        let mut extended = self.clone();
        extended.train.epochs = other.train.epochs;
        extended.train.patience = other.train.patience;
        extended.train.log_every = other.train.log_every;
        extended.train.tensorboard = other.train.tensorboard;
        // A run file that leaves the choice open asks for no other one.
        let streaming = other.reading.streaming.or(self.reading.streaming);
        let other = Self { reading: ReadingConfig { streaming, ..other.reading }, ..other };
        if extended == other {
            return Ok(extended);
        }
        let message = "--resume: the run file differs from the saved config.json in more than train.epochs, \
                       train.patience, train.log_every and train.tensorboard; start a new run directory instead";
        Err(RunError::Config(message.into()))
    }
}
