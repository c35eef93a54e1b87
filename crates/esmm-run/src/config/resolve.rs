//! From a run file to a configuration without gaps: every default filled in, every contradiction refused.

use esmm_core::{EsmmConfig, FeatureSchema};
use esmm_data::DataSpec;
use esmm_metrics::Evaluator;

use super::data::{self, ReadingConfig, UNKNOWN_SHARE};
use super::model::{self, ModelConfig};
use super::parse::did_you_mean;
use super::refuse::refuse;
use super::run_file::RunFile;
use super::saved::here;
use super::train_config::TrainConfig;
use super::version::FORMAT_VERSION;
use super::{features, labels, metrics, train};
use crate::error::RunError;

impl TrainConfig {
    /// Fills in defaults and checks ranges; files are not opened yet.
    ///
    /// # Errors
    /// One line that names the key, its value and what is allowed.
    pub fn resolve(file: &RunFile) -> Result<Self, RunError> {
        let labels = labels::stages(&file.labels);
        let negative_rate = labels::negative_rate(&file.labels)?;
        let data = data::split(&file.data)?;
        let features: Result<Vec<_>, _> = file.features.iter().map(features::resolve).collect();
        let config = Self {
            format_version: FORMAT_VERSION,
            folder: here(),
            counting: labels::counting(&file.labels, data.column())?,
            data,
            reading: data::reading(&file.data)?,
            features: features?,
            unknown_share: data::unknown_share(file.data.unknown_share)?,
            negative_rate,
            group: file.metrics.group.clone(),
            truth: metrics::truth(&file.metrics),
            model: model::resolve(&file.model)?,
            train: train::resolve(&file.train, &labels.columns)?,
            labels,
        };
        config.data_spec().validate()?;
        config.check_select()?;
        config.check_batch_norm()?;
        Ok(config)
    }

    /// A metric that no validation will measure would be found after the first epoch only.
    fn check_select(&self) -> Result<(), RunError> {
        let stages = &self.labels.columns;
        let evaluator = Evaluator::new(stages, self.group.is_some(), self.truth.is_some())
            .map_err(|error| RunError::Config(format!("labels.stages: {error}")))?;
        let select = &self.train.select;
        let names = evaluator.metric_names();
        if names.contains(select) {
            return Ok(());
        }
        let hint = match select.rsplit_once('.') {
            Some((_, "gauc")) if self.group.is_none() => " (GAUC needs metrics.group)".to_owned(),
            _ => did_you_mean(select, names.iter().map(String::as_str)),
        };
        refuse("train.select", format!("\"{select}\"{hint}"), &format!("one of {}", names.join(", ")))
    }

    /// One row has no variance.
    fn check_batch_norm(&self) -> Result<(), RunError> {
        let towers = &self.model.towers;
        match towers.batch_norm && !towers.hidden.is_empty() && self.train.batch_size == 1 {
            true => refuse(
                "train.batch_size",
                1,
                "batch norm needs at least 2 rows (or say model.batch_norm = false)",
            ),
            false => Ok(()),
        }
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
            unknown_share: self.unknown_share,
            labels: self.labels.clone(),
            group: self.group.clone(),
            truth: self.truth.clone(),
            counting: self.counting.clone(),
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
        // Where the biases started matters no more once a training has begun.
        let model = ModelConfig { prior: self.model.prior, ..other.model };
        // A run file that leaves the choice open asks for no other one.
        let streaming = other.reading.streaming.or(self.reading.streaming);
        let reading = ReadingConfig { streaming, ..other.reading };
        let mut other = Self { format_version: self.format_version, model, reading, ..other };
        // Nor does it ask for unknown values where the run began without them.
        if self.unknown_share == 0.0 && other.unknown_share == UNKNOWN_SHARE {
            other.unknown_share = 0.0;
        }
        if extended.absolute() == other.absolute() {
            return Ok(extended);
        }
        let message = "--resume: the run file differs from the saved config.json in more than train.epochs, \
                       train.patience, train.log_every and train.tensorboard; start a new run directory instead";
        Err(RunError::Config(message.into()))
    }
}
