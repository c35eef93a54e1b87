//! The model with its loss and table optimizer: what Burn's Learner trains.

mod burn_metrics;
mod handover;
mod loss;
mod output;

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use burn::module::{AutodiffModule, Module};
use burn::optim::{GradientsParams, Optimizer};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::train::{InferenceStep, TrainOutput, TrainStep};
use esmm_core::{DropoutKey, Esmm, EsmmBackend, StateTensor, TableGrads, TrainBackend};
use esmm_data::loader::EsmmBatch;
use esmm_run::evaluation::{HostScores, ScoreBatch};

use self::handover::Handover;
use crate::optimizer::{GradientNorms, TableOptimizer, TableOptimizerConfig, clip_global_norm};

pub use burn_metrics::{ExactAuc, StepLoss};
pub use loss::{EsmmLoss, FunnelLoss, LossOutput};
pub use output::{InferenceOutput, StepReport, Touched, TrainStepOutput};

/// How an [`EsmmLearner`] trains.
#[derive(Debug, Clone, PartialEq)]
pub struct EsmmLearnerConfig<L = EsmmLoss> {
    /// The loss.
    pub loss: L,
    /// The tables' optimizer.
    pub tables: TableOptimizerConfig,
    /// Largest norm of all gradients together, or no clipping.
    pub clip_norm: Option<f64>,
    /// Seed of the dropout.
    pub seed: u64,
}

/// A model with its loss and its tables' optimizer. `DLRM` is to `DLRMTrain` in torchrec what [`Esmm`] is to this: the model
/// knows no label, this one does.
///
/// Works with Burn's [`Learner`](burn::train::Learner) or in a loop of your own: [`step`](TrainStep::step), then
/// [`optimize`](TrainStep::optimize), which updates tables and towers. An optimizer's own `step` would update the towers
/// alone, and panics. The gradients of several steps before one `optimize` are added up.
///
/// A clone is a copy: keep the best weights with `let best = learner.clone()` (or `learner.valid()`) between two steps. The
/// tables are copied in memory when the training goes on, so that a clone which is dropped before costs nothing. Between
/// `step` and `optimize` Burn's Learner replaces a learner by its clone; tables then go over to the clone without a copy,
/// and the learner that made the step cannot be used any more (it says so).
///
/// # Examples
/// [`FunnelLoss`] has a loop with a loss of your own.
#[derive(Module, Debug)]
pub struct EsmmLearner<B: Backend, L = EsmmLoss> {
    /// The model.
    pub model: Esmm<B>,
    /// State of the tables' optimizer.
    pub tables: TableOptimizer<B>,
    #[module(skip)]
    config: EsmmLearnerConfig<L>,
    #[module(skip)]
    steps: StepCounter,
    #[module(skip)]
    measured: MeasureSwitch,
    #[module(skip)]
    waiting: Handover,
}

/// The gradients of a step that wait for its update, and the tables that it read. A clone has handles to the same tables.
#[derive(Debug)]
struct WaitingRows<B: TrainBackend> {
    grads: TableGrads<B::InnerBackend>,
    /// The tables of the learner that made the step, and the state of their optimizer.
    table: StateTensor<B, 2>,
    moments: TableOptimizer<B>,
}

impl<B: TrainBackend> Clone for WaitingRows<B> {
    fn clone(&self) -> Self {
        Self { grads: self.grads.clone(), table: self.table.share(), moments: self.moments.share() }
    }
}

/// Steps done by a learner. A clone counts on its own.
#[derive(Debug, Default)]
pub struct StepCounter(AtomicU64);

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

impl Clone for StepCounter {
    fn clone(&self) -> Self {
        Self(AtomicU64::new(self.get()))
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

impl<L: FunnelLoss> EsmmLearnerConfig<L> {
    /// Wraps a model.
    pub fn init<B: Backend>(self, model: Esmm<B>) -> EsmmLearner<B, L> {
        let tables = TableOptimizer::new(&self.tables, &model.embeddings);
        EsmmLearner {
            model,
            tables,
            config: self,
            steps: StepCounter::default(),
            measured: MeasureSwitch::default(),
            waiting: Handover::default(),
        }
    }
}

impl<B: Backend, L: FunnelLoss> EsmmLearner<B, L> {
    /// Steps done.
    pub fn steps(&self) -> &StepCounter {
        &self.steps
    }

    /// Whether steps measure the norms of their gradients.
    pub fn measured(&self) -> &MeasureSwitch {
        &self.measured
    }
}

impl<B: TrainBackend, L: FunnelLoss> TrainStep for EsmmLearner<B, L> {
    type Input = EsmmBatch<B>;
    type Output = TrainStepOutput<B::InnerBackend>;

    fn step(&self, batch: EsmmBatch<B>) -> TrainOutput<Self::Output> {
        let key = DropoutKey { seed: self.config.seed, step: self.steps.get() };
        let forward = self.model.forward_train(&batch.features, key);
        let loss = FunnelLoss::forward(&self.config.loss, &forward.logits, &batch);
        let mut grads = loss.backward();
        let touched = Touched::of(&forward.touched);
        let mut tables = forward.touched.take_grads(&mut grads);
        let mut grads = GradientsParams::from_grads(grads, self);
        let measure = self.measured.is_on() || self.config.clip_norm.is_some();
        let norms = measure.then(|| GradientNorms::of::<B, _>(self, &grads, tables.as_ref()));
        if let Some((max_norm, norms)) = self.config.clip_norm.zip(norms.as_ref()) {
            tables = clip_global_norm::<B, _>(self, &mut grads, tables, norms, max_norm);
        }
        if let Some(grads) = tables {
            let table = self.model.embeddings.table.share();
            self.waiting.put(WaitingRows::<B> { grads, table, moments: self.tables.share() });
        }
        let rows = batch.features.rows;
        let weighted = loss.weighted.inner();
        let tasks = loss.tasks.inner();
        let item = TrainStepOutput { weighted, tasks, rows, touched, norms };
        TrainOutput { grads, item }
    }

    /// Updates the tables with the gradients of all steps since the last update, then the towers with `grads`.
    fn optimize<A, O>(mut self, optim: &mut O, lr: f64, grads: GradientsParams) -> Self
    where
        A: AutodiffBackend,
        O: Optimizer<Self, A>,
        Self: AutodiffModule<A>,
    {
        let step = self.steps.get() + 1;
        let mut grads_of_steps = Vec::new();
        for waiting in self.waiting.take::<WaitingRows<B>>() {
            // Without this a clone of the learner that made the step would copy the tables before it changes them.
            waiting.table.hand_over(&self.model.embeddings.table);
            waiting.moments.hand_over(&self.tables);
            grads_of_steps.push(waiting.grads);
        }
        if let Some(tables) = TableGrads::sum(grads_of_steps) {
            self.tables.step(&self.model.embeddings, tables, lr, step);
        }
        self.steps.set(step);
        optim.step(lr, self, grads)
    }
}

impl<B: EsmmBackend, L: FunnelLoss> InferenceStep for EsmmLearner<B, L> {
    type Input = EsmmBatch<B>;
    type Output = InferenceOutput;

    fn step(&self, batch: EsmmBatch<B>) -> InferenceOutput {
        InferenceOutput { scores: self.score(batch), negative_rate: self.config.loss.negative_rate() }
    }
}

impl<B: EsmmBackend, L: FunnelLoss> ScoreBatch<B> for EsmmLearner<B, L> {
    fn score(&self, batch: EsmmBatch<B>) -> HostScores {
        self.model.score(batch)
    }
}
