//! The training loop: a strategy for Burn's `SupervisedTraining`.
//!
//! Burn's own strategy selects checkpoints by metrics averaged over batches and cannot stop and go on inside an epoch.
//! This one drives the same [`Learner`] and reports to the same event processor, but validates with the exact
//! [`Evaluator`](esmm_metrics::Evaluator), keeps the best weights, and saves checkpoints from which a later run goes on at
//! any step. `passes` has the loop over the training rows, `validation` what is measured and kept meanwhile.

mod pace;
mod passes;
mod validation;

use std::sync::{Arc, Mutex, PoisonError};

use burn::train::{
    Learner, LearningComponentsMarker, SupervisedLearningStrategy, SupervisedTrainingEventProcessor,
    TrainLoader, TrainingComponents, ValidLoader,
};
use esmm_core::TrainBackend;
use esmm_data::loader::LoaderHandle;
use esmm_run::evaluation::EvaluationPlan;
use esmm_run::observe::Observers;
use esmm_run::run_dir::RunDir;

use self::pace::Pace;
use self::passes::Passes;
use crate::checkpoint::{Checkpoints, TrainingState};
use crate::error::TrainError;
use crate::learner::EsmmLearner;
use crate::optimizer::{Schedule, SharedOptimizer};
use crate::trainer::config::{TrainerConfig, TrainingData, TrainingEnd};

/// Burn's component types of this training.
pub type Components<B> =
    LearningComponentsMarker<B, Schedule, EsmmLearner<B>, SharedOptimizer<EsmmLearner<B>, B>>;

/// See the [module](self).
pub struct EsmmStrategy<B>
where
    B: TrainBackend,
{
    parts: StrategyParts<B>,
    plan: EvaluationPlan,
    has_valid: bool,
    run: RunDir,
    first: TrainingState,
    end: Mutex<Option<Result<TrainingEnd, TrainError>>>,
}

/// What a strategy is made of besides configuration and data.
pub struct StrategyParts<B>
where
    B: TrainBackend,
{
    /// What is trained, and how.
    pub config: TrainerConfig,
    /// Where the state is saved.
    pub checkpoints: Checkpoints,
    /// The other handle to the Learner's optimizer.
    pub optimizer: SharedOptimizer<EsmmLearner<B>, B>,
    /// The observers.
    pub observers: Observers,
    /// The loader of the training rows.
    pub train: Arc<LoaderHandle>,
    /// The loader of the validation rows.
    pub valid: Arc<LoaderHandle>,
}

impl<B> EsmmStrategy<B>
where
    B: TrainBackend,
{
    /// A strategy that goes on from `first`.
    pub fn new(parts: StrategyParts<B>, data: &TrainingData, run: &RunDir, first: TrainingState) -> Self {
        let plan = EvaluationPlan::of(
            &parts.config.stages,
            data.valid.as_ref().unwrap_or(&data.train),
            parts.config.learner.loss.negative_rate,
        );
        let run = run.clone();
        let has_valid = data.valid.is_some();
        Self { parts, plan, has_valid, run, first, end: Mutex::new(None) }
    }

    /// How the training ended.
    ///
    /// # Errors
    /// What made it fail.
    pub fn take_end(&self) -> Result<TrainingEnd, TrainError> {
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner).take();
        end.unwrap_or_else(|| Err(TrainError::Training("the training ended without a result".into())))
    }
}

impl<B> SupervisedLearningStrategy<Components<B>> for EsmmStrategy<B>
where
    B: TrainBackend,
{
    fn fit(
        &self,
        components: TrainingComponents<Components<B>>,
        learner: Learner<Components<B>>,
        train: TrainLoader<Components<B>>,
        valid: ValidLoader<Components<B>>,
        _starting_epoch: usize,
    ) -> (EsmmLearner<B>, SupervisedTrainingEventProcessor<Components<B>>) {
        let mut work = Passes {
            strategy: self,
            measured: learner.model().measured().clone(),
            learner,
            events: components.event_processor,
            interrupter: components.interrupter,
            state: self.first.clone(),
            loss: None,
            pace: Pace::start(&self.parts.train),
            epoch_pace: Pace::start(&self.parts.train),
        };
        let end = work.run(&train, &valid);
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
        (work.learner.model(), work.events)
    }
}
