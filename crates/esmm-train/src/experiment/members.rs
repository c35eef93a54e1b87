//! Several models of one configuration, each with a seed of its own, trained side by side.

use std::collections::BTreeMap;

use esmm_core::{Esmm, EsmmBackend, TrainBackend};
use esmm_run::RunError;
use esmm_run::evaluation::evaluate;
use esmm_run::metrics::MemberMetrics;
use esmm_run::observe::{EvaluationRecord, Moment};
use esmm_run::run_dir::RunDir;

use super::{Experiment, plan};
use crate::device::{Device, OnDevice};
use crate::error::TrainError;
use crate::side_by_side::side_by_side;
use crate::trainer::{BestWeights, TrainerConfig, TrainingControl, TrainingEnd, train};

/// One of several models.
struct Member<'a> {
    experiment: &'a Experiment,
    run: RunDir,
    seed: u64,
    control: TrainingControl,
}

/// How the training of one model ended, with its metrics when it was not interrupted.
type MemberEnd = (TrainingEnd, Option<MemberMetrics>);

impl Experiment {
    /// Trains all models and measures each of them. What the first came to, or that one was interrupted.
    pub(super) fn train_members(
        &self,
        run: &RunDir,
        device: &Device,
        control: &TrainingControl,
    ) -> Result<(TrainingEnd, Vec<MemberMetrics>), TrainError> {
        let at_once = plan::at_once(&self.model, &self.config, device.is_cpu());
        let members = (0..).zip(run.members(self.config.train.seeds));
        let members: Vec<Member<'_>> = members
            .map(|(place, run)| Member {
                experiment: self,
                run,
                seed: self.config.train.seed.wrapping_add(place),
                control: TrainingControl {
                    // One line is drawn for all that train at the same time.
                    display: control.display.clone().filter(|_| (place as usize).is_multiple_of(at_once)),
                    observers: control.members.get(place as usize).cloned().unwrap_or_default(),
                    members: Vec::new(),
                    ..control.clone()
                },
            })
            .collect();
        let ends = side_by_side(members, at_once, |member| {
            let interrupter = control.interrupter.clone();
            if interrupter.should_stop() {
                return Ok((TrainingEnd::Interrupted { step: 0 }, None));
            }
            let end = device.run(member);
            if end.is_err() {
                // The others would train for nothing; they save what they have.
                interrupter.stop(Some("the training of another model failed"));
            }
            end
        });
        let ends: Vec<MemberEnd> = ends.into_iter().collect::<Result<_, _>>()?;
        let steps = ends.iter().filter_map(|(end, _)| match end {
            TrainingEnd::Interrupted { step } => Some(*step),
            TrainingEnd::Finished { .. } => None,
        });
        if let Some(step) = steps.max() {
            return Ok((TrainingEnd::Interrupted { step }, Vec::new()));
        }
        let nothing = || TrainError::Training("no model was trained".to_owned());
        let first = ends.first().map(|(end, _)| end.clone()).ok_or_else(nothing)?;
        Ok((first, ends.into_iter().filter_map(|(_, metrics)| metrics).collect()))
    }

    /// The trainer of one of the models.
    fn trainer_of(&self, seed: u64) -> TrainerConfig {
        let mut config = self.trainer();
        config.label = format!("seed {seed}: ");
        config.seed = seed;
        config.learner.seed = seed;
        config.model.seed = seed;
        config
    }

    /// Measures one of the models on all splits; [`RunError::Interrupted`] where it is stopped meanwhile.
    fn measure_member<B: EsmmBackend>(
        &self,
        run: &RunDir,
        seed: u64,
        device: &B::Device,
        best: BestWeights,
        control: &TrainingControl,
    ) -> Result<MemberMetrics, TrainError> {
        let model: Esmm<B> = self.model.load(&run.weights(), device)?;
        let mut splits = BTreeMap::new();
        for (split, rows) in self.splits() {
            let (stages, rate) = (&self.config.labels.columns, self.config.negative_rate);
            let measured = evaluate(&model, &self.model, stages, rows, rate, device, |_| control.go_on())?;
            control.observers.evaluation(&EvaluationRecord {
                split,
                moment: Moment::End,
                step: best.step,
                epoch: best.epoch,
                metrics: &measured.metrics,
                scores: &measured.scores,
                tables: &[],
            });
            splits.insert(split.to_owned(), measured.metrics);
        }
        Ok(MemberMetrics { seed, step: best.step, epoch: best.epoch, splits })
    }
}

impl OnDevice for Member<'_> {
    type Output = MemberEnd;

    fn run<B>(self, device: B::Device) -> Result<MemberEnd, TrainError>
    where
        B: TrainBackend,
    {
        let Self { experiment, run, seed, control } = self;
        let end = train::<B>(&experiment.trainer_of(seed), &experiment.data(), &run, &device, &control)?;
        let metrics = match &end {
            TrainingEnd::Interrupted { .. } => None,
            TrainingEnd::Finished { best, stopped_early } => {
                let why = if *stopped_early { "stopped early" } else { "all epochs done" };
                log::info!(
                    "seed {seed}: {why}; kept the weights of step {}, epoch {}",
                    best.step,
                    best.epoch
                );
                let measured =
                    experiment.measure_member::<B::InnerBackend>(&run, seed, &device, *best, &control);
                match measured {
                    // The training is saved; a resumed one measures.
                    Err(TrainError::Run(RunError::Interrupted)) => {
                        return Ok((TrainingEnd::Interrupted { step: best.step }, None));
                    }
                    measured => Some(measured?),
                }
            }
        };
        Ok((end, metrics))
    }
}
