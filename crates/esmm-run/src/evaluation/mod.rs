//! Scores of a labelled split, measured: the one pass that validation, `evaluate` and the final report share.

use std::ops::ControlFlow;

use burn::data::dataloader::{DataLoader, Progress};
use esmm_core::{Esmm, EsmmBackend, EsmmConfig};
use esmm_data::SplitRows;
use esmm_data::loader::{BatchLoader, BatchLoaderConfig, EsmmBatch, LoaderHandle, Purpose, UnknownShares};
use esmm_metrics::{Evaluator, SplitMetrics};

use crate::analysis::Drift;
use crate::config::NegativeRate;
use crate::error::RunError;
mod host_scores;

pub use host_scores::HostScores;

/// Rows of a batch when nothing is learned from it.
pub const EVALUATION_BATCH: usize = 8192;

/// What is asked of a split besides the metrics that every split has.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluationPlan {
    /// Names of the stages.
    pub stages: Vec<String>,
    /// Whether the rows have groups, for GAUC.
    pub with_group: bool,
    /// Whether the rows have true rates.
    pub with_truth: bool,
    /// The share of impressions without a click that the rows still hold; `None`: all of them.
    pub negative_rate: Option<NegativeRate>,
}

/// The metrics of a split, with what they were computed from.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// The metrics.
    pub metrics: SplitMetrics,
    /// The scores and labels that they were computed from.
    pub scores: Evaluator,
    /// Standard deviation of the logits of the second stage (pCVR) over all rows: near 0 when it has collapsed.
    pub cvr_spread: f64,
    /// How the rows differ from the training rows, where that was looked at.
    pub drift: Option<Drift>,
}

/// Scores labelled batches, as a model does.
pub trait ScoreBatch<B: EsmmBackend> {
    /// Scores of a batch.
    fn score(&self, batch: EsmmBatch<B>) -> HostScores;
}

impl<B: EsmmBackend> ScoreBatch<B> for Esmm<B> {
    fn score(&self, batch: EsmmBatch<B>) -> HostScores {
        HostScores::new(&self.forward(&batch.features), batch.labels)
    }
}

impl EvaluationPlan {
    /// What the labels of a split allow.
    pub fn of(stages: &[String], rows: &SplitRows, negative_rate: Option<NegativeRate>) -> Self {
        let (with_group, with_truth) = (rows.has_group(), rows.has_truth());
        Self { stages: stages.to_vec(), with_group, with_truth, negative_rate }
    }

    /// Scores and measures all rows of a loader; `each` sees the scores of every batch and says whether to go on. `handle`
    /// is the loader's.
    ///
    /// # Errors
    /// Stages whose names the report cannot hold, rows that the loader could not read, and [`RunError::Interrupted`] where
    /// `each` said stop.
    pub fn evaluate<B: EsmmBackend>(
        &self,
        model: &impl ScoreBatch<B>,
        loader: &dyn DataLoader<B, EsmmBatch<B>>,
        handle: &LoaderHandle,
        mut each: impl FnMut(HostScores, Progress) -> ControlFlow<()>,
    ) -> Result<Evaluation, RunError> {
        let evaluator = Evaluator::new(&self.stages, self.with_group, self.with_truth);
        let mut evaluator = evaluator.map_err(|error| RunError::Config(error.to_string()))?;
        if self.negative_rate.is_some() {
            evaluator = evaluator.weighted();
        }
        let mut spread = Spread::default();
        let mut batches = loader.iter();
        while let Some(batch) = batches.next() {
            let scores = model.score(batch);
            match scores.weights(self.negative_rate) {
                None => evaluator.push(scores.rows()),
                Some(weights) => evaluator.push_weighted(scores.rows(), &weights),
            }
            spread.push(&scores);
            if each(scores, batches.progress()).is_break() {
                return Err(RunError::Interrupted);
            }
        }
        handle.check()?;
        if evaluator.is_weighted() && evaluator.total_weight() == 0.0 {
            return Err(RunError::Scoring("all rows have the weight 0: there is nothing to measure".into()));
        }
        let metrics = evaluator.metrics();
        Ok(Evaluation { metrics, scores: evaluator, cvr_spread: spread.value(), drift: None })
    }
}

/// Measures a model on a split; `each` sees the scores of every batch and says whether to go on.
///
/// # Errors
/// Stages whose names the report cannot hold, rows that cannot be read, and [`RunError::Interrupted`] where `each` said stop.
pub fn evaluate<B: EsmmBackend>(
    model: &impl ScoreBatch<B>,
    config: &EsmmConfig,
    stages: &[String],
    rows: &SplitRows,
    negative_rate: Option<NegativeRate>,
    device: &<B as burn::tensor::backend::BackendTypes>::Device,
    mut each: impl FnMut(&HostScores) -> ControlFlow<()>,
) -> Result<Evaluation, RunError> {
    let loader = BatchLoaderConfig {
        schema: config.schema.clone(),
        stages: stages.len(),
        batch_size: EVALUATION_BATCH,
        purpose: Purpose::Scoring,
        unknown: UnknownShares::default(),
    };
    let loader: BatchLoader<B> = loader.init(rows.clone(), device);
    let plan = EvaluationPlan::of(stages, rows, negative_rate);
    plan.evaluate(model, &loader, &loader.handle(), |scores, _| each(&scores))
}

#[derive(Default)]
struct Spread {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Spread {
    fn push(&mut self, scores: &HostScores) {
        let stages = scores.stages();
        for logits in scores.conditional.chunks_exact(stages) {
            self.count += 1.0;
            let distance = f64::from(logits[1]) - self.mean;
            self.mean += distance / self.count;
            self.squares += distance * (f64::from(logits[1]) - self.mean);
        }
    }

    fn value(&self) -> f64 {
        (self.squares / self.count.max(1.0)).sqrt()
    }
}
