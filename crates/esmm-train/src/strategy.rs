//! The training loop: a strategy for Burn's `SupervisedTraining`.
//!
//! Burn's own strategy selects checkpoints by metrics averaged over batches and cannot stop and go on inside an epoch.
//! This one drives the same [`Learner`] and reports to the same event processor, but validates with the exact
//! [`Evaluator`](crate::metric::Evaluator), keeps the best weights, and saves checkpoints from which a later run goes on at any step.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use burn::data::dataloader::Progress;
use burn::module::AutodiffModule;
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use burn::train::{
    EventProcessorTraining, Interrupter, Learner, LearnerEvent, LearningComponentsMarker,
    SupervisedLearningStrategy, SupervisedTrainingEventProcessor, TrainLoader, TrainingComponents,
    TrainingItem, ValidLoader,
};
use esmm_core::EsmmBackend;

use crate::checkpoint::{BestState, Checkpoints, TrainingState};
use crate::error::TrainError;
use crate::evaluation::EvaluationPlan;
use crate::learner::EsmmLearner;
use crate::metric::{Goal, MetricError, SplitMetrics};
use crate::observe::{EvaluationRecord, Moment, Observers, StepRecord};
use crate::optimizer::{Schedule, SharedOptimizer};
use crate::output::TrainStepOutput;
use crate::run_dir::RunDir;
use crate::trainer::{BestWeights, TrainerConfig, TrainingData, TrainingEnd};

/// Burn's component types of this training.
pub type Components<B> =
    LearningComponentsMarker<B, Schedule, EsmmLearner<B>, SharedOptimizer<EsmmLearner<B>, B>>;

/// See the [module](self).
pub struct EsmmStrategy<B>
where
    B: AutodiffBackend + EsmmBackend,
    B::InnerBackend: EsmmBackend,
{
    config: TrainerConfig,
    plan: EvaluationPlan,
    has_valid: bool,
    weights: PathBuf,
    checkpoints: Checkpoints,
    optimizer: SharedOptimizer<EsmmLearner<B>, B>,
    observers: Observers,
    first: TrainingState,
    end: Mutex<Option<Result<TrainingEnd, TrainError>>>,
}

/// What the loop works with.
struct Loop<'a, B>
where
    B: AutodiffBackend + EsmmBackend,
    B::InnerBackend: EsmmBackend,
{
    strategy: &'a EsmmStrategy<B>,
    learner: Learner<Components<B>>,
    events: SupervisedTrainingEventProcessor<Components<B>>,
    interrupter: Interrupter,
    state: TrainingState,
    pace: Pace,
}

/// Rows and times since the last record.
struct Pace {
    since: Instant,
    rows: usize,
    waiting: Duration,
}

impl<B> EsmmStrategy<B>
where
    B: AutodiffBackend + EsmmBackend,
    B::InnerBackend: EsmmBackend,
{
    /// A strategy that goes on from `first`.
    pub fn new(
        config: &TrainerConfig,
        data: &TrainingData,
        run: &RunDir,
        checkpoints: Checkpoints,
        optimizer: SharedOptimizer<EsmmLearner<B>, B>,
        observers: Observers,
        first: TrainingState,
    ) -> Self {
        let plan = EvaluationPlan::of(&config.stages, data.valid.as_ref().unwrap_or(&data.train));
        let (config, weights, end) = (config.clone(), run.weights(), Mutex::new(None));
        let has_valid = data.valid.is_some();
        Self { config, plan, has_valid, weights, checkpoints, optimizer, observers, first, end }
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
    B: AutodiffBackend + EsmmBackend,
    B::InnerBackend: EsmmBackend,
{
    fn fit(
        &self,
        components: TrainingComponents<Components<B>>,
        learner: Learner<Components<B>>,
        train: TrainLoader<Components<B>>,
        valid: ValidLoader<Components<B>>,
        _starting_epoch: usize,
    ) -> (EsmmLearner<B>, SupervisedTrainingEventProcessor<Components<B>>) {
        let (events, interrupter) = (components.event_processor, components.interrupter);
        let (state, pace) = (self.first.clone(), Pace::new());
        let mut work = Loop { strategy: self, learner, events, interrupter, state, pace };
        let end = work.run(&train, &valid);
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
        (work.learner.model(), work.events)
    }
}

impl<B> Loop<'_, B>
where
    B: AutodiffBackend + EsmmBackend,
    B::InnerBackend: EsmmBackend,
{
    fn run(
        &mut self,
        train: &TrainLoader<Components<B>>,
        valid: &ValidLoader<Components<B>>,
    ) -> Result<TrainingEnd, TrainError> {
        while self.state.epochs_done < self.strategy.config.epochs {
            if self.out_of_patience() {
                break;
            }
            let epoch = self.state.epochs_done + 1;
            if self.train_epoch(train, epoch)? {
                self.save()?;
                return Ok(TrainingEnd::Interrupted { step: self.state.step });
            }
            (self.state.epochs_done, self.state.batches_done) = (epoch, 0);
            self.validate(valid, epoch)?;
            self.save()?;
        }
        let last = BestWeights { step: self.state.step, epoch: self.state.epochs_done };
        let best = self.state.best.as_ref();
        let best = best.map_or(last, |best| BestWeights { step: best.step, epoch: best.epoch });
        let stopped_early = self.state.epochs_done < self.strategy.config.epochs;
        Ok(TrainingEnd::Finished { best, stopped_early })
    }

    fn out_of_patience(&self) -> bool {
        self.strategy.config.patience.is_some_and(|patience| self.state.stale >= patience)
    }

    /// Runs an epoch, or the rest of one; `true` when it was interrupted.
    fn train_epoch(&mut self, loader: &TrainLoader<Components<B>>, epoch: u64) -> Result<bool, TrainError> {
        let mut batches = loader.iter();
        let mut sum: Option<Tensor<B::InnerBackend, 1>> = None;
        self.pace = Pace::new();
        while let Some(batch) = self.pace.wait_for(|| batches.next()) {
            self.learner.lr_step();
            let step = self.learner.train_step(batch);
            self.learner.optimizer_step(step.grads);
            self.state.step += 1;
            self.state.batches_done += 1;
            self.record(&step.item, epoch);
            let loss = step.item.total.clone();
            sum = Some(match sum {
                Some(sum) => sum + loss,
                None => loss,
            });
            let lr = Some(self.learner.lr_current());
            let (progress, epochs) = (batches.progress(), self.epochs(epoch));
            let item = TrainingItem::new(step.item, progress, epochs, Some(self.state.step as usize), lr);
            self.events.process_train(LearnerEvent::ProcessedItem(item));
            if self.interrupter.should_stop() {
                return Ok(true);
            }
        }
        self.events.process_train(LearnerEvent::EndEpoch(epoch as usize));
        let loss = sum.map_or(0.0, |sum| sum.into_data().iter::<f64>().sum());
        if loss.is_finite() {
            return Ok(false);
        }
        let advice = "lower train.towers.learning_rate or train.tables.learning_rate, or set train.clip_norm";
        Err(TrainError::Training(format!("epoch {epoch}: the loss is {loss}; {advice}")))
    }

    /// Tells the observers of a step when it is one of those that are recorded.
    fn record(&mut self, item: &TrainStepOutput<B::InnerBackend>, epoch: u64) {
        self.pace.rows += item.rows;
        let (config, observers) = (&self.strategy.config, &self.strategy.observers);
        if !self.state.step.is_multiple_of(config.log_every) || observers.is_empty() {
            return;
        }
        let report = item.report();
        let pace = std::mem::replace(&mut self.pace, Pace::new());
        let seconds = pace.since.elapsed().as_secs_f64().max(1e-9);
        let rate = self.learner.lr_current();
        observers.step(&StepRecord {
            step: self.state.step,
            epoch,
            rows: report.rows,
            loss: report.total,
            task_losses: report.tasks,
            tower_learning_rate: rate,
            table_learning_rate: rate * config.learner.tables.learning_rate_ratio,
            rows_per_second: pace.rows as f64 / seconds,
            waiting: (pace.waiting.as_secs_f64() / seconds).min(1.0),
        });
    }

    fn epochs(&self, epoch: u64) -> Progress {
        Progress::new(epoch as usize, self.strategy.config.epochs as usize)
    }

    fn validate(&mut self, loader: &ValidLoader<Components<B>>, epoch: u64) -> Result<(), TrainError> {
        let select = &self.strategy.config.select;
        if !self.strategy.has_valid {
            self.state.best = Some(BestState { step: self.state.step, epoch, value: None });
            return self.save_weights();
        }
        let metrics = self.evaluate(loader, epoch)?;
        let value = metrics.metric(select);
        if let Err(MetricError::Undefined { .. }) = &value {
            log::warn!(
                "epoch {epoch}: {select} cannot be measured on the valid split: these weights count as the best"
            );
        }
        let value = match value {
            Ok(value) => Some(value),
            Err(MetricError::Undefined { .. }) => None,
            Err(error) => return Err(TrainError::Config(format!("train.select: {error}"))),
        };
        let goal = Goal::of(select).unwrap_or(Goal::Maximize);
        let best = self.state.best.as_ref().and_then(|best| best.value);
        let better = value.zip(best).is_none_or(|(value, best)| goal.improves(value, best));
        if better {
            self.save_weights()?;
            self.state.best = Some(BestState { step: self.state.step, epoch, value });
            self.state.stale = 0;
        } else {
            self.state.stale += 1;
        }
        let best = self.state.best.as_ref().map_or(epoch, |best| best.epoch);
        let verdict = if better { "the best so far".to_owned() } else { format!("the best is epoch {best}") };
        log::info!("epoch {epoch}: valid {}; {verdict} by {select}", brief(&metrics));
        Ok(())
    }

    fn evaluate(
        &mut self,
        loader: &ValidLoader<Components<B>>,
        epoch: u64,
    ) -> Result<SplitMetrics, TrainError> {
        let (learner, epochs, step) = (self.learner.model().valid(), self.epochs(epoch), self.state.step);
        let events = &mut self.events;
        let evaluation = self.strategy.plan.evaluate(&learner, loader.as_ref(), |scores, progress| {
            let item = TrainingItem::new(scores, progress, epochs.clone(), Some(step as usize), None);
            events.process_valid(LearnerEvent::ProcessedItem(item));
        })?;
        self.events.process_valid(LearnerEvent::EndEpoch(epoch as usize));
        self.strategy.observers.evaluation(&EvaluationRecord {
            split: "valid",
            moment: Moment::Validation,
            step,
            epoch,
            metrics: &evaluation.metrics,
            scores: &evaluation.scores,
        });
        Ok(evaluation.metrics)
    }

    fn save_weights(&self) -> Result<(), TrainError> {
        let dict = self.learner.model().model.state_dict(&self.strategy.config.model);
        Ok(dict.write_safetensors(&self.strategy.weights)?)
    }

    fn save(&self) -> Result<(), TrainError> {
        self.strategy.checkpoints.save(&self.learner.model(), &self.strategy.optimizer, &self.state)
    }
}

impl Pace {
    fn new() -> Self {
        Self { since: Instant::now(), rows: 0, waiting: Duration::ZERO }
    }

    /// What `next` gives, its time counted as waiting.
    fn wait_for<T>(&mut self, next: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let next = next();
        self.waiting += start.elapsed();
        next
    }
}

/// `AUC ctr 0.7421, cvr 0.7012, ctcvr 0.7633`
fn brief(metrics: &SplitMetrics) -> String {
    let area = |auc: Option<f64>| auc.map_or_else(|| "-".to_owned(), |auc| format!("{auc:.4}"));
    let areas: Vec<String> =
        metrics.tasks.iter().map(|(task, metrics)| format!("{task} {}", area(metrics.auc))).collect();
    format!("AUC {}", areas.join(", "))
}
