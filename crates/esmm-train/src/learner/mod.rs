//! The model with its loss and table optimizer: what Burn's Learner trains.

mod burn_metrics;
mod handover;
mod loss;
mod output;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use burn::module::{AutodiffModule, Module};
use burn::optim::{GradientsParams, Optimizer};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::train::{InferenceStep, TrainOutput, TrainStep};
use esmm_core::{DropoutKey, Esmm, EsmmBackend, RowGrads, TrainBackend};
use esmm_data::loader::EsmmBatch;
use esmm_run::evaluation::{HostScores, ScoreBatch};

use self::handover::Handover;
use crate::optimizer::{GradientNorms, TableOptimizer, TableOptimizerConfig, clip_global_norm};

pub use burn_metrics::{ExactAuc, StepLoss};
pub use loss::{EsmmLoss, LossOutput};
pub use output::{InferenceOutput, StepReport, TrainStepOutput};

/// How an [`EsmmLearner`] trains.
#[derive(Debug, Clone, PartialEq)]
pub struct EsmmLearnerConfig {
    /// The loss.
    pub loss: EsmmLoss,
    /// The tables' optimizer.
    pub tables: TableOptimizerConfig,
    /// Largest norm of all gradients together, or no clipping.
    pub clip_norm: Option<f64>,
    /// Seed of the dropout.
    pub seed: u64,
}

/// `DLRM` is to `DLRMTrain` in torchrec what [`Esmm`] is to this: the model knows no label, this one does.
///
/// Works with Burn's [`Learner`](burn::train::Learner) or in a loop of your own: `step`, then `optimize`.
#[derive(Module, Debug)]
pub struct EsmmLearner<B: Backend> {
    /// The model.
    pub model: Esmm<B>,
    /// State of the tables' optimizer.
    pub tables: TableOptimizer<B>,
    #[module(skip)]
    config: EsmmLearnerConfig,
    #[module(skip)]
    steps: StepCounter,
    #[module(skip)]
    measured: MeasureSwitch,
    #[module(skip)]
    rows: Handover,
}

/// Steps done, shared by all clones of a learner.
#[derive(Debug, Clone, Default)]
pub struct StepCounter(Arc<AtomicU64>);

impl StepCounter {
    /// Steps done.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Goes on from a step, when a training is resumed.
    pub fn set(&self, steps: u64) {
        self.0.store(steps, Ordering::Relaxed);
    }
}

/// Whether the next step measures the norms of its gradients, which costs a pass over them. Shared by all clones of a
/// learner, off at first.
#[derive(Debug, Clone, Default)]
pub struct MeasureSwitch(Arc<AtomicBool>);

impl MeasureSwitch {
    /// Whether it is on.
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Switches it.
    pub fn set(&self, on: bool) {
        self.0.store(on, Ordering::Relaxed);
    }
}

impl EsmmLearnerConfig {
    /// Wraps a model.
    pub fn init<B: Backend>(self, model: Esmm<B>) -> EsmmLearner<B> {
        let tables = TableOptimizer::new(&self.tables, &model.embeddings);
        EsmmLearner {
            model,
            tables,
            config: self,
            steps: StepCounter::default(),
            measured: MeasureSwitch::default(),
            rows: Handover::default(),
        }
    }
}

impl<B: Backend> EsmmLearner<B> {
    /// Steps done.
    pub fn steps(&self) -> &StepCounter {
        &self.steps
    }

    /// Whether steps measure the norms of their gradients.
    pub fn measured(&self) -> &MeasureSwitch {
        &self.measured
    }
}

impl<B: TrainBackend> TrainStep for EsmmLearner<B> {
    type Input = EsmmBatch<B>;
    type Output = TrainStepOutput<B::InnerBackend>;

    fn step(&self, batch: EsmmBatch<B>) -> TrainOutput<Self::Output> {
        let key = DropoutKey { seed: self.config.seed, step: self.steps.get() };
        let forward = self.model.forward_train(&batch.features, key);
        let loss = self.config.loss.of_rows(&forward.logits, batch.reached, &batch.labels.counts);
        let mut grads = loss.total.backward();
        let mut rows = forward.touched.take_grads(&mut grads);
        let mut grads = GradientsParams::from_grads(grads, self);
        let measure = self.measured.is_on() || self.config.clip_norm.is_some();
        let norms = measure.then(|| GradientNorms::of::<B, _>(self, &grads, rows.as_ref()));
        if let Some((max_norm, norms)) = self.config.clip_norm.zip(norms.as_ref()) {
            rows = clip_global_norm::<B, _>(self, &mut grads, rows, norms, max_norm);
        }
        if let Some(rows) = rows {
            self.rows.put(rows);
        }
        let (rows, touched) = (batch.features.rows, forward.touched.rows.len());
        let (total, tasks) = (loss.total.inner(), loss.tasks.inner());
        let item = TrainStepOutput { total, tasks, rows, touched, norms };
        TrainOutput { grads, item }
    }

    /// Updates the tables, then the towers.
    fn optimize<A, O>(self, optim: &mut O, lr: f64, grads: GradientsParams) -> Self
    where
        A: AutodiffBackend,
        O: Optimizer<Self, A>,
        Self: AutodiffModule<A>,
    {
        let step = self.steps.get() + 1;
        if let Some(rows) = self.rows.take::<RowGrads<B::InnerBackend>>() {
            self.tables.step(&self.model.embeddings, rows, lr, step);
        }
        self.steps.set(step);
        optim.step(lr, self, grads)
    }
}

impl<B: EsmmBackend> InferenceStep for EsmmLearner<B> {
    type Input = EsmmBatch<B>;
    type Output = InferenceOutput;

    fn step(&self, batch: EsmmBatch<B>) -> InferenceOutput {
        InferenceOutput { scores: self.score(batch), negative_rate: self.config.loss.negative_rate }
    }
}

impl<B: EsmmBackend> ScoreBatch<B> for EsmmLearner<B> {
    fn score(&self, batch: EsmmBatch<B>) -> HostScores {
        self.model.score(batch)
    }
}
