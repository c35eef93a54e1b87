//! The training loop: a strategy for Burn's `SupervisedTraining`.
//!
//! Burn's own strategy selects checkpoints by metrics averaged over batches and cannot stop and go on inside an epoch.
//! This one drives the same [`Learner`] and reports to the same event processor, but validates with the exact
//! [`Evaluator`](crate::metric::Evaluator), keeps the best weights, and saves checkpoints from which a later run goes on at any step.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

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
use crate::data::loader::LoaderHandle;
use crate::error::TrainError;
use crate::evaluation::EvaluationPlan;
use crate::learner::{EsmmLearner, MeasureSwitch};
use crate::metric::{Goal, MetricError, SplitMetrics};
use crate::observe::{EvaluationRecord, Moment, Observers, StepRecord};
use crate::optimizer::{GradientNorms, Schedule, SharedOptimizer};
use crate::output::TrainStepOutput;
use crate::pace::Pace;
use crate::run_dir::{RunDir, sync_folder};
use crate::table_norms::TableNorms;
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
    parts: StrategyParts<B>,
    plan: EvaluationPlan,
    has_valid: bool,
    weights: PathBuf,
    first: TrainingState,
    end: Mutex<Option<Result<TrainingEnd, TrainError>>>,
}

/// What a strategy is made of besides configuration and data.
pub struct StrategyParts<B>
where
    B: AutodiffBackend + EsmmBackend,
    B::InnerBackend: EsmmBackend,
{
    /// What is trained, and how.
    pub config: TrainerConfig,
    /// Where the state is saved.
    pub checkpoints: Checkpoints,
    /// The other handle to the Learner's optimizer.
    pub optimizer: SharedOptimizer<EsmmLearner<B>, B>,
    /// Who looks on.
    pub observers: Observers,
    /// The loader of the training rows.
    pub train: Arc<LoaderHandle>,
    /// The loader of the validation rows.
    pub valid: Arc<LoaderHandle>,
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
    /// Sum of the losses since it was last looked at.
    loss: Option<Tensor<B::InnerBackend, 1>>,
    measured: MeasureSwitch,
    /// Since the last record.
    pace: Pace,
    /// Since the epoch began.
    epoch_pace: Pace,
}

/// Why a pass over the training rows ended.
#[derive(PartialEq, Eq)]
enum PassEnd {
    AllRows,
    OutOfPatience,
    Interrupted,
}

impl<B> EsmmStrategy<B>
where
    B: AutodiffBackend + EsmmBackend,
    B::InnerBackend: EsmmBackend,
{
    /// A strategy that goes on from `first`.
    pub fn new(parts: StrategyParts<B>, data: &TrainingData, run: &RunDir, first: TrainingState) -> Self {
        let plan = EvaluationPlan::of(&parts.config.stages, data.valid.as_ref().unwrap_or(&data.train));
        let (weights, has_valid) = (run.weights(), data.valid.is_some());
        Self { parts, plan, has_valid, weights, first, end: Mutex::new(None) }
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
        let mut work = Loop {
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
        while self.state.epochs_done < self.config().epochs && !self.out_of_patience() {
            let epoch = self.state.epochs_done + 1;
            match self.train_epoch(train, valid, epoch)? {
                PassEnd::AllRows => {
                    (self.state.epochs_done, self.state.batches_done) = (epoch, 0);
                    self.validate(valid, epoch)?;
                }
                PassEnd::OutOfPatience => {}
                PassEnd::Interrupted => {
                    self.save()?;
                    return Ok(TrainingEnd::Interrupted { step: self.state.step });
                }
            }
            self.save()?;
        }
        let last = BestWeights { step: self.state.step, epoch: self.state.epochs_done };
        let best = self.state.best.as_ref();
        let best = best.map_or(last, |best| BestWeights { step: best.step, epoch: best.epoch });
        let stopped_early = self.state.epochs_done < self.config().epochs;
        Ok(TrainingEnd::Finished { best, stopped_early })
    }

    fn config(&self) -> &TrainerConfig {
        &self.strategy.parts.config
    }

    fn out_of_patience(&self) -> bool {
        self.config().patience.is_some_and(|patience| self.state.stale >= patience)
    }

    /// Runs an epoch, or the rest of one.
    fn train_epoch(
        &mut self,
        loader: &TrainLoader<Components<B>>,
        valid: &ValidLoader<Components<B>>,
        epoch: u64,
    ) -> Result<PassEnd, TrainError> {
        let handle = self.strategy.parts.train.clone();
        (self.pace, self.epoch_pace) = (Pace::start(&handle), Pace::start(&handle));
        let mut batches = loader.iter();
        while let Some(batch) = batches.next() {
            self.learner.lr_step();
            self.measured.set(self.is_recorded(self.state.step + 1));
            let step = self.learner.train_step(batch);
            self.learner.optimizer_step(step.grads);
            self.state.step += 1;
            self.state.batches_done += 1;
            self.record(&step.item, epoch);
            let loss = step.item.total.clone();
            self.loss = Some(match self.loss.take() {
                Some(sum) => sum + loss,
                None => loss,
            });
            let lr = Some(self.learner.lr_current());
            let (progress, epochs) = (batches.progress(), self.epochs(epoch));
            if self.is_shown(&progress) {
                let item = TrainingItem::new(step.item, progress, epochs, Some(self.state.step as usize), lr);
                self.events.process_train(LearnerEvent::ProcessedItem(item));
            }
            if self.interrupter.should_stop() {
                return Ok(PassEnd::Interrupted);
            }
            if self.state.batches_done < self.batches_of_epoch() && self.inside_epoch(valid, epoch)? {
                return Ok(PassEnd::OutOfPatience);
            }
        }
        handle.check()?;
        self.events.process_train(LearnerEvent::EndEpoch(epoch as usize));
        self.check_loss(epoch)?;
        let (rate, waiting) = (self.epoch_pace.rows_per_second(), 100.0 * self.epoch_pace.waiting(&handle));
        log::info!("epoch {epoch}: {rate:.0} rows/s, waiting for data {waiting:.1}% of the time");
        Ok(PassEnd::AllRows)
    }

    fn batches_of_epoch(&self) -> u64 {
        self.state.train_rows.div_ceil(self.config().batch_size as u64)
    }

    /// Validates and saves when it is time for it; `true` when patience has run out.
    fn inside_epoch(&mut self, valid: &ValidLoader<Components<B>>, epoch: u64) -> Result<bool, TrainError> {
        let is_due = |every: Option<u64>| every.is_some_and(|every| self.state.step.is_multiple_of(every));
        let validates = self.strategy.has_valid && is_due(self.config().validate_every);
        let saves = is_due(self.config().checkpoint_every);
        if !validates && !saves {
            return Ok(false);
        }
        let start = Instant::now();
        self.check_loss(epoch)?;
        if validates {
            self.validate(valid, epoch)?;
        }
        if saves {
            self.save()?;
        }
        self.pace.leave_out(start.elapsed());
        self.epoch_pace.leave_out(start.elapsed());
        Ok(validates && self.out_of_patience())
    }

    /// Refuses to go on with a loss that is no number.
    fn check_loss(&mut self, epoch: u64) -> Result<(), TrainError> {
        let loss = self.loss.take().map_or(0.0, |sum| sum.into_data().iter::<f64>().sum());
        if loss.is_finite() {
            return Ok(());
        }
        let step = self.state.step;
        let advice = "lower train.towers.learning_rate or train.tables.learning_rate, or set train.clip_norm";
        Err(TrainError::Training(format!("epoch {epoch}, step {step}: the loss is {loss}; {advice}")))
    }

    /// Whether Burn's metrics get to see the step under way. They read its losses, for which a GPU would have to catch up:
    /// there only the steps that are recorded and the last one of an epoch are shown.
    fn is_shown(&self, rows: &Progress) -> bool {
        let is_recorded = self.state.step.is_multiple_of(self.strategy.parts.config.log_every);
        !B::QUEUES_WORK || is_recorded || rows.items_processed == rows.items_total
    }

    /// Whether somebody gets to know of a step.
    fn is_recorded(&self, step: u64) -> bool {
        step.is_multiple_of(self.config().log_every) && !self.strategy.parts.observers.is_empty()
    }

    /// Tells the observers of a step when it is one of those that are recorded.
    fn record(&mut self, item: &TrainStepOutput<B::InnerBackend>, epoch: u64) {
        self.pace.rows += item.rows;
        self.epoch_pace.rows += item.rows;
        if !self.is_recorded(self.state.step) {
            return;
        }
        let (parts, report) = (&self.strategy.parts, item.report());
        let [tower_gradient_norm, table_gradient_norm] =
            item.norms.as_ref().map_or([f64::NAN; 2], GradientNorms::read);
        let pace = std::mem::replace(&mut self.pace, Pace::start(&parts.train));
        let rate = self.learner.lr_current();
        parts.observers.step(&StepRecord {
            step: self.state.step,
            epoch,
            rows: report.rows,
            loss: report.total,
            task_losses: report.tasks,
            tower_learning_rate: rate,
            table_learning_rate: rate * parts.config.learner.tables.learning_rate_ratio,
            tower_gradient_norm,
            table_gradient_norm,
            touched_rows: item.touched,
            rows_per_second: pace.rows_per_second(),
            waiting: pace.waiting(&parts.train),
        });
    }

    fn epochs(&self, epoch: u64) -> Progress {
        Progress::new(epoch as usize, self.config().epochs as usize)
    }

    fn validate(&mut self, loader: &ValidLoader<Components<B>>, epoch: u64) -> Result<(), TrainError> {
        let (step, select) = (self.state.step, self.config().select.clone());
        if !self.strategy.has_valid {
            self.save_weights()?;
            self.state.best = Some(BestState { step, epoch, value: None });
            return Ok(());
        }
        self.state.validations += 1;
        let metrics = self.evaluate(loader, epoch)?;
        let value = match metrics.metric(&select) {
            Ok(value) => Some(value),
            Err(MetricError::Undefined { .. }) => {
                log::warn!(
                    "epoch {epoch}, step {step}: {select} cannot be measured on the valid split: \
                     these weights count as the best"
                );
                None
            }
            Err(error) => return Err(TrainError::Config(format!("train.select: {error}"))),
        };
        let goal = Goal::of(&select).unwrap_or(Goal::Maximize);
        let best = self.state.best.as_ref().and_then(|best| best.value);
        let better = value.zip(best).is_none_or(|(value, best)| goal.improves(value, best));
        if better {
            self.save_weights()?;
            self.state.best = Some(BestState { step, epoch, value });
            self.state.stale = 0;
        } else {
            self.state.stale += 1;
        }
        let best = self.state.best.as_ref().map_or(step, |best| best.step);
        let verdict = if better { "the best so far".to_owned() } else { format!("the best is step {best}") };
        log::info!("epoch {epoch}, step {step}: valid {}; {verdict} by {select}", brief(&metrics));
        Ok(())
    }

    fn evaluate(
        &mut self,
        loader: &ValidLoader<Components<B>>,
        epoch: u64,
    ) -> Result<SplitMetrics, TrainError> {
        let (learner, epochs, step) = (self.learner.model().valid(), self.epochs(epoch), self.state.step);
        let (events, strategy) = (&mut self.events, self.strategy);
        let each = |scores, progress| {
            let item = TrainingItem::new(scores, progress, epochs.clone(), Some(step as usize), None);
            events.process_valid(LearnerEvent::ProcessedItem(item));
        };
        let evaluation = strategy.plan.evaluate(&learner, loader.as_ref(), &strategy.parts.valid, each)?;
        self.events.process_valid(LearnerEvent::EndEpoch(self.state.validations as usize));
        let StrategyParts { config, observers, .. } = &strategy.parts;
        let norms = || TableNorms::of(&learner.model.embeddings, &config.model, &config.stages);
        let tables = observers.want_tables().then(norms).unwrap_or_default();
        observers.evaluation(&EvaluationRecord {
            split: "valid",
            moment: Moment::Validation,
            step,
            epoch,
            metrics: &evaluation.metrics,
            scores: &evaluation.scores,
            tables: &tables,
        });
        Ok(evaluation.metrics)
    }

    /// Saves the weights as the best ones, durably: the next checkpoint will say that they are there.
    fn save_weights(&self) -> Result<(), TrainError> {
        let path = &self.strategy.weights;
        let dict = self.learner.model().model.state_dict(&self.config().model);
        dict.write_safetensors(path)?;
        let folder = path.parent().unwrap_or(path);
        sync_folder(folder).map_err(|error| TrainError::file(folder, format!("cannot be synced: {error}")))
    }

    fn save(&self) -> Result<(), TrainError> {
        let parts = &self.strategy.parts;
        parts.checkpoints.save(&self.learner.model(), &parts.optimizer, &self.state)
    }
}

/// `AUC ctr 0.7421, cvr 0.7012, ctcvr 0.7633`
fn brief(metrics: &SplitMetrics) -> String {
    let area = |auc: Option<f64>| auc.map_or_else(|| "-".to_owned(), |auc| format!("{auc:.4}"));
    let areas: Vec<String> =
        metrics.tasks.iter().map(|(task, metrics)| format!("{task} {}", area(metrics.auc))).collect();
    format!("AUC {}", areas.join(", "))
}
