//! Passes over the training rows: steps, records, and when it is time to validate, to save or to stop.

use std::time::Instant;

use burn::data::dataloader::Progress;
use burn::tensor::Tensor;
use burn::train::{
    EventProcessorTraining, Interrupter, Learner, LearnerEvent, SupervisedTrainingEventProcessor,
    TrainLoader, TrainingItem, ValidLoader,
};
use esmm_core::TrainBackend;
use esmm_run::BestWeights;
use esmm_run::observe::StepRecord;

use super::pace::Pace;
use super::validation::Validation;
use super::{Components, EsmmStrategy};
use crate::checkpoint::TrainingState;
use crate::device::still_works;
use crate::error::TrainError;
use crate::learner::MeasureSwitch;
use crate::learner::TrainStepOutput;
use crate::optimizer::GradientNorms;
use crate::trainer::config::{TrainerConfig, TrainingEnd};

/// The passes of a training over its rows, and what they work with.
pub(super) struct Passes<'a, B>
where
    B: TrainBackend,
{
    pub(super) strategy: &'a EsmmStrategy<B>,
    pub(super) learner: Learner<Components<B>>,
    pub(super) events: SupervisedTrainingEventProcessor<Components<B>>,
    pub(super) interrupter: Interrupter,
    pub(super) state: TrainingState,
    /// Sum of the losses since it was last looked at.
    pub(super) loss: Option<Tensor<B::InnerBackend, 1>>,
    pub(super) measured: MeasureSwitch,
    /// Since the last record.
    pub(super) pace: Pace,
    /// Since the epoch began.
    pub(super) epoch_pace: Pace,
}

/// Why a pass over the training rows ended.
#[derive(PartialEq, Eq)]
enum PassEnd {
    AllRows,
    OutOfPatience,
    Interrupted,
}

impl<B> Passes<'_, B>
where
    B: TrainBackend,
{
    pub(super) fn run(
        &mut self,
        train: &TrainLoader<Components<B>>,
        valid: &ValidLoader<Components<B>>,
    ) -> Result<TrainingEnd, TrainError> {
        if self.state.validation_due {
            // A checkpoint after an epoch's last batch counts that epoch as done.
            let epoch = self.state.epochs_done + u64::from(self.state.batches_done > 0);
            let validation = self.validate(valid, epoch)?;
            self.save()?;
            if validation == Validation::Interrupted {
                return Ok(self.interrupted());
            }
        }
        while self.state.epochs_done < self.config().epochs && !self.out_of_patience() {
            let epoch = self.state.epochs_done + 1;
            let mut end = self.train_epoch(train, valid, epoch)?;
            if end == PassEnd::AllRows {
                self.state.epochs_done = epoch;
                self.state.batches_done = 0;
                if self.validate(valid, epoch)? == Validation::Interrupted {
                    end = PassEnd::Interrupted;
                }
            }
            self.save()?;
            if end == PassEnd::Interrupted {
                return Ok(self.interrupted());
            }
        }
        let last = BestWeights { step: self.state.step, epoch: self.state.epochs_done };
        let best = self.state.best.as_ref();
        let best = best.map_or(last, |best| BestWeights { step: best.step, epoch: best.epoch });
        let stopped_early = self.state.epochs_done < self.config().epochs;
        Ok(TrainingEnd::Finished { best, stopped_early })
    }

    fn interrupted(&self) -> TrainingEnd {
        TrainingEnd::Interrupted { step: self.state.step }
    }

    pub(super) fn config(&self) -> &TrainerConfig {
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
            if self.config().leaves_out(batch.labels.depth.len()) {
                self.state.batches_done += 1;
                continue;
            }
            self.learner.lr_step();
            self.measured.set(self.is_recorded(self.state.step + 1));
            let step = self.learner.train_step(batch);
            self.learner.optimizer_step(step.grads);
            still_works()?;
            self.state.step += 1;
            self.state.batches_done += 1;
            self.record(&step.item, epoch);
            let loss = step.item.weighted.clone();
            self.loss = Some(match self.loss.take() {
                Some(sum) => sum + loss,
                None => loss,
            });
            let lr = Some(self.learner.lr_current());
            let progress = batches.progress();
            let epochs = self.epochs(epoch);
            if self.is_shown(&progress) {
                let item = TrainingItem::new(step.item, progress, epochs, Some(self.state.step as usize), lr);
                self.events.process_train(LearnerEvent::ProcessedItem(item));
            }
            if self.interrupter.should_stop() {
                return Ok(PassEnd::Interrupted);
            }
            if self.state.batches_done < self.batches_of_epoch()
                && let Some(end) = self.inside_epoch(valid, epoch)?
            {
                return Ok(end);
            }
        }
        handle.check()?;
        self.events.process_train(LearnerEvent::EndEpoch(epoch as usize));
        self.check_loss(epoch)?;
        let (rate, waiting) = (self.epoch_pace.rows_per_second(), 100.0 * self.epoch_pace.waiting(&handle));
        let label = &self.config().label;
        log::info!("{label}epoch {epoch}: {rate:.0} rows/s, waiting for data {waiting:.1}% of the time");
        Ok(PassEnd::AllRows)
    }

    fn batches_of_epoch(&self) -> u64 {
        self.state.train_rows.div_ceil(self.config().batch_size as u64)
    }

    /// Validates and saves when it is time for it; why the pass ends there, where it does.
    fn inside_epoch(
        &mut self,
        valid: &ValidLoader<Components<B>>,
        epoch: u64,
    ) -> Result<Option<PassEnd>, TrainError> {
        let is_due = |every: Option<u64>| every.is_some_and(|every| self.state.step.is_multiple_of(every));
        let validates = self.strategy.has_valid && is_due(self.config().validate_every);
        let saves = is_due(self.config().checkpoint_every);
        if !validates && !saves {
            return Ok(None);
        }
        let start = Instant::now();
        self.check_loss(epoch)?;
        if validates && self.validate(valid, epoch)? == Validation::Interrupted {
            return Ok(Some(PassEnd::Interrupted));
        }
        if saves {
            self.save()?;
        }
        self.pace.leave_out(start.elapsed());
        self.epoch_pace.leave_out(start.elapsed());
        Ok((validates && self.out_of_patience()).then_some(PassEnd::OutOfPatience))
    }

    /// Refuses to go on with a loss that is not finite.
    fn check_loss(&mut self, epoch: u64) -> Result<(), TrainError> {
        let loss = self.loss.take().map_or(0.0, |sum| sum.into_data().iter::<f64>().sum());
        if loss.is_finite() {
            return Ok(());
        }
        let step = self.state.step;
        let advice = "lower train.towers.learning_rate or train.tables.learning_rate, or set train.clip_norm";
        let label = &self.config().label;
        Err(TrainError::Training(format!("{label}epoch {epoch}, step {step}: the loss is {loss}; {advice}")))
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
        let parts = &self.strategy.parts;
        let report = item.report();
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
            touched_rows: item.touched.count(),
            rows_per_second: pace.rows_per_second(),
            waiting: pace.waiting(&parts.train),
        });
    }

    pub(super) fn epochs(&self, epoch: u64) -> Progress {
        Progress::new(epoch as usize, self.config().epochs as usize)
    }

    fn save(&self) -> Result<(), TrainError> {
        let parts = &self.strategy.parts;
        parts.checkpoints.save(&self.learner.model(), &parts.optimizer, &self.state)
    }
}
