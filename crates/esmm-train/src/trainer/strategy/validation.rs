//! What is measured and kept while a training runs: exact metrics of the validation split, and the best weights.

use burn::module::AutodiffModule;
use burn::train::{EventProcessorTraining, LearnerEvent, TrainingItem, ValidLoader};
use esmm_core::{TrainBackend, one_line};
use esmm_metrics::{Goal, MetricError, SplitMetrics};
use esmm_run::RunError;
use esmm_run::manifest::Manifest;
use esmm_run::observe::{EvaluationRecord, Moment, TableNorms};

use super::passes::Passes;
use super::{Components, StrategyParts};
use crate::checkpoint::BestState;
use crate::device::still_works;
use crate::error::TrainError;
use crate::learner::InferenceOutput;
use crate::trainer::control::go_on;

/// How a validation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Validation {
    /// All rows are measured.
    Done,
    /// Someone said stop.
    Interrupted,
}

impl<B> Passes<'_, B>
where
    B: TrainBackend,
{
    /// Measures the validation split, and keeps the weights when they are the best so far. Interrupted, it counts as not begun.
    pub(super) fn validate(
        &mut self,
        loader: &ValidLoader<Components<B>>,
        epoch: u64,
    ) -> Result<Validation, TrainError> {
        let (step, select) = (self.state.step, self.config().select.clone());
        let label = self.config().label.clone();
        if !self.strategy.has_valid {
            self.save_weights()?;
            self.state.best = Some(BestState { step, epoch, value: None });
            return Ok(Validation::Done);
        }
        let metrics = match self.evaluate(loader, epoch) {
            Err(TrainError::Run(RunError::Interrupted)) => {
                self.state.validation_due = true;
                return Ok(Validation::Interrupted);
            }
            metrics => metrics?,
        };
        self.state.validation_due = false;
        self.state.validations += 1;
        let value = match metrics.metric(&select) {
            Ok(value) => Some(value),
            Err(MetricError::Undefined { .. }) => {
                log::warn!(
                    "{label}epoch {epoch}, step {step}: {select} cannot be measured on the valid split: \
                     these weights count as the best"
                );
                None
            }
            Err(error) => return Err(TrainError::config(format!("train.select: {error}"))),
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
        let measured = one_line(&format!("valid {}; {verdict} by {select}", brief(&metrics)));
        log::info!("{label}epoch {epoch}, step {step}: {measured}");
        Ok(Validation::Done)
    }

    fn evaluate(
        &mut self,
        loader: &ValidLoader<Components<B>>,
        epoch: u64,
    ) -> Result<SplitMetrics, TrainError> {
        let learner = self.learner.model().valid();
        let epochs = self.epochs(epoch);
        let step = self.state.step;
        let events = &mut self.events;
        let interrupter = &self.interrupter;
        let strategy = self.strategy;
        let each = |scores, progress| {
            let item = TrainingItem::new(
                InferenceOutput { scores, negative_rate: strategy.plan.negative_rate },
                progress,
                epochs.clone(),
                Some(step as usize),
                None,
            );
            events.process_valid(LearnerEvent::ProcessedItem(item));
            go_on(interrupter)
        };
        let evaluation = strategy.plan.evaluate(&learner, loader.as_ref(), &strategy.parts.valid, each)?;
        // Metrics of a device that has failed would choose the weights that are kept.
        still_works()?;
        self.events.process_valid(LearnerEvent::EndEpoch(self.state.validations as usize + 1));
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
        let run = &self.strategy.run;
        let dict = self.learner.model().model.state_dict();
        still_works()?;
        if let Some(name) = dict.first_not_finite() {
            let step = self.state.step;
            let advice =
                "lower train.towers.learning_rate or train.tables.learning_rate, or set train.clip_norm";
            let label = &self.strategy.parts.config.label;
            return Err(TrainError::Training(format!(
                "{label}step {step}: weight `{name}` is not finite; {advice}"
            )));
        }
        Ok(Manifest::replace_weights(run, &dict)?)
    }
}

/// `AUC ctr 0.7421, cvr 0.7012, ctcvr 0.7633`
fn brief(metrics: &SplitMetrics) -> String {
    let area = |auc: Option<f64>| auc.map_or_else(|| "-".to_owned(), |auc| format!("{auc:.4}"));
    let areas: Vec<String> =
        metrics.tasks.iter().map(|(task, metrics)| format!("{task} {}", area(metrics.auc))).collect();
    format!("AUC {}", areas.join(", "))
}
