//! A configuration with its data: loaded, checked, trained, measured, saved.

use std::sync::Arc;

use burn::tensor::backend::AutodiffBackend;
use esmm_core::{Esmm, EsmmBackend, EsmmConfig};
use serde::{Deserialize, Serialize};

use crate::config::TrainConfig;
use crate::data::loader::{BatchLoader, BatchLoaderConfig, Purpose};
use crate::data::{Dataset, FittedEncoders, LoadReport, load_splits};
use crate::error::TrainError;
use crate::evaluation::{Evaluation, EvaluationPlan};
use crate::guard::{self, Names};
use crate::metric::SplitMetrics;
use crate::observe::{EvaluationRecord, Moment, Observers};
use crate::run_dir::{RunDir, write_json};
use crate::trainer::{BestWeights, EVALUATION_BATCH, TrainingControl, TrainingData, TrainingEnd, train};

/// A configuration with its data.
#[derive(Debug)]
pub struct Experiment {
    /// The configuration.
    pub config: TrainConfig,
    /// What was fitted on the training split.
    pub encoders: FittedEncoders,
    /// The model, its tables as large as the vocabularies.
    pub model: EsmmConfig,
    /// What was read.
    pub report: LoadReport,
    train: Arc<Dataset>,
    valid: Option<Arc<Dataset>>,
    test: Option<Arc<Dataset>>,
}

/// `metrics.json`: every split that was given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunMetrics {
    /// What was learned from.
    pub train: SplitMetrics,
    /// What selected the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid: Option<SplitMetrics>,
    /// What neither did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<SplitMetrics>,
}

impl Experiment {
    /// Reads, splits and encodes the data.
    ///
    /// # Errors
    /// Whatever is wrong with the data, with file and line; a configuration that does not fit it.
    pub fn load(config: TrainConfig) -> Result<Self, TrainError> {
        let (group, truth) = (config.group.as_deref(), config.truth.as_ref());
        let loaded = load_splits(&config.data, &config.features, &config.labels, group, truth)?;
        let model = config.model(loaded.encoders.schema().clone())?;
        Ok(Self {
            model,
            encoders: loaded.encoders,
            report: loaded.report,
            train: Arc::new(loaded.train),
            valid: loaded.valid.map(Arc::new),
            test: loaded.test.map(Arc::new),
            config,
        })
    }

    /// What the guard rails say about the data.
    pub fn warnings(&self) -> Vec<String> {
        let sparse: Vec<String> = self.model.schema.sparse().map(|feature| feature.name.clone()).collect();
        let dense: Vec<String> = self.model.schema.dense().map(|feature| feature.name.clone()).collect();
        let stages = &self.config.labels.columns;
        let mut warnings =
            guard::check_features(&self.train, Names { sparse: &sparse, dense: &dense, stages });
        for (split, data) in self.splits() {
            warnings.extend(guard::check_labels(split, data, stages));
            if split != "train" {
                warnings.extend(guard::check_unknown(split, data, &sparse));
            }
        }
        warnings
    }

    /// The splits that there are, by name.
    pub fn splits(&self) -> impl Iterator<Item = (&'static str, &Arc<Dataset>)> {
        let others = [("valid", &self.valid), ("test", &self.test)];
        let others = others.into_iter().filter_map(|(name, data)| Some((name, data.as_ref()?)));
        std::iter::once(("train", &self.train)).chain(others)
    }

    /// Writes configuration, schema and encoders: all that a later command needs besides the weights.
    ///
    /// # Errors
    /// A disk that refuses.
    pub fn save(&self, run: &RunDir) -> Result<(), TrainError> {
        let folder = run.encoders();
        std::fs::create_dir_all(&folder)
            .map_err(|error| TrainError::file(&folder, format!("cannot be created: {error}")))?;
        self.encoders.save(&folder)?;
        write_json(&run.schema(), &self.model)?;
        write_json(&run.config(), &self.config)
    }

    /// Trains; the best weights are then in the run directory.
    ///
    /// # Errors
    /// As [`train`].
    pub fn train<B>(
        &self,
        run: &RunDir,
        device: &B::Device,
        control: &TrainingControl,
    ) -> Result<TrainingEnd, TrainError>
    where
        B: AutodiffBackend + EsmmBackend,
        B::InnerBackend: EsmmBackend,
    {
        let data = TrainingData { train: self.train.clone(), valid: self.valid.clone() };
        train::<B>(&self.config.trainer(&self.model), &data, run, device, control)
    }

    /// Measures all splits with the best weights, tells the observers, and writes `metrics.json`.
    ///
    /// # Errors
    /// Weights that cannot be read, a disk that refuses.
    pub fn evaluate<B: EsmmBackend>(
        &self,
        run: &RunDir,
        device: &B::Device,
        best: BestWeights,
        observers: &Observers,
    ) -> Result<RunMetrics, TrainError> {
        let model: Esmm<B> = self.model.load(&run.weights(), device)?;
        let measure = |split: &str, data: &Arc<Dataset>| {
            let measured = evaluate(&model, &self.model, &self.config.labels.columns, data, device)?;
            observers.evaluation(&EvaluationRecord {
                split,
                moment: Moment::End,
                step: best.step,
                epoch: best.epoch,
                metrics: &measured.metrics,
                scores: &measured.scores,
            });
            Ok::<_, TrainError>((measured.metrics, measured.cvr_spread))
        };
        let (train, cvr_spread) = measure("train", &self.train)?;
        if let Some(warning) = guard::check_collapse(cvr_spread) {
            log::warn!("{warning}");
        }
        let other = |split: &str, data: &Option<Arc<Dataset>>| {
            data.as_ref().map(|data| measure(split, data).map(|(metrics, _)| metrics)).transpose()
        };
        let metrics =
            RunMetrics { train, valid: other("valid", &self.valid)?, test: other("test", &self.test)? };
        write_json(&run.metrics(), &metrics)?;
        Ok(metrics)
    }
}

/// Measures a model on a dataset.
///
/// # Errors
/// Stages whose names the report cannot hold.
pub fn evaluate<B: EsmmBackend>(
    model: &Esmm<B>,
    config: &EsmmConfig,
    stages: &[String],
    data: &Arc<Dataset>,
    device: &<B as burn::tensor::backend::BackendTypes>::Device,
) -> Result<Evaluation, TrainError> {
    let loader = BatchLoaderConfig {
        schema: config.schema.clone(),
        stages: stages.len(),
        batch_size: EVALUATION_BATCH,
        purpose: Purpose::Scoring,
    };
    let loader: BatchLoader<B> = loader.init(data.clone(), device);
    EvaluationPlan::of(stages, data).evaluate(model, &loader, |_, _| {})
}
