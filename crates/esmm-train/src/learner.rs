//! The model with its loss and table optimizer: what Burn's Learner trains.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use burn::module::{AutodiffModule, Module};
use burn::optim::{GradientsParams, Optimizer};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::train::{InferenceStep, TrainOutput, TrainStep};
use esmm_core::{DropoutKey, Esmm, EsmmBackend};

use crate::data::loader::EsmmBatch;
use crate::loss::EsmmLoss;
use crate::optimizer::{TableOptimizer, TableOptimizerConfig, clip_global_norm};
use crate::output::{HostScores, TrainStepOutput};

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

impl EsmmLearnerConfig {
    /// Wraps a model.
    pub fn init<B: Backend>(self, model: Esmm<B>) -> EsmmLearner<B> {
        let tables = self.tables.init(&model.embeddings);
        EsmmLearner { model, tables, config: self, steps: StepCounter::default() }
    }
}

impl<B: Backend> EsmmLearner<B> {
    /// Steps done.
    pub fn steps(&self) -> &StepCounter {
        &self.steps
    }
}

impl<B> TrainStep for EsmmLearner<B>
where
    B: AutodiffBackend + EsmmBackend,
    B::InnerBackend: EsmmBackend,
{
    type Input = EsmmBatch<B>;
    type Output = TrainStepOutput<B::InnerBackend>;

    fn step(&self, batch: EsmmBatch<B>) -> TrainOutput<Self::Output> {
        let key = DropoutKey { seed: self.config.seed, step: self.steps.get() };
        let forward = self.model.forward_train(&batch.features, key);
        let loss = self.config.loss.forward(&forward.logits, batch.reached);
        let mut grads = loss.total.backward();
        let mut rows = forward.touched.take_grads(&mut grads);
        let mut grads = GradientsParams::from_grads(grads, self);
        if let Some(max_norm) = self.config.clip_norm {
            rows = clip_global_norm::<B, _>(self, &mut grads, rows, max_norm);
        }
        if let Some(rows) = rows {
            self.tables.register(rows.into_autodiff());
        }
        let rows = batch.features.rows;
        let item = TrainStepOutput { total: loss.total.inner(), tasks: loss.tasks.inner(), rows };
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
        self.tables.step(&self.model.embeddings, lr, step);
        self.steps.set(step);
        optim.step(lr, self, grads)
    }
}

impl<B: EsmmBackend> InferenceStep for EsmmLearner<B> {
    type Input = EsmmBatch<B>;
    type Output = HostScores;

    fn step(&self, batch: EsmmBatch<B>) -> HostScores {
        HostScores::new(&self.model.forward(&batch.features), batch.labels)
    }
}
