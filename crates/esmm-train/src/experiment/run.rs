//! A training from its data to its metrics, on whichever backend.

use esmm_core::TrainBackend;
use esmm_run::manifest::Manifest;
use esmm_run::metrics::{EnsembleMetrics, RunMetrics};
use esmm_run::run_dir::RunDir;
use esmm_run::{BestWeights, RunError};

use super::{Experiment, create_folder};
use crate::device::{Device, OnDevice};
use crate::error::TrainError;
use crate::trainer::{TrainingControl, TrainingEnd};

/// What a training came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// How it ended; of several models how that of the first seed did, or [`TrainingEnd::Interrupted`] where one was.
    pub end: TrainingEnd,
    /// The metrics of all splits with the best weights; `None` when it was interrupted, if only after its last step.
    pub metrics: Option<RunMetrics>,
}

impl Experiment {
    /// Everything that `esmm train` does with loaded data: saves what a later command needs, trains on a device, and
    /// measures all splits with the best weights; several models where `train.seeds` says so. Compiled once, for all
    /// backends.
    ///
    /// # Errors
    /// A training that does not fit the device, a device that fails; a resumed training whose data has changed; and those of
    /// [`train`](Self::train) and [`evaluate`](Self::evaluate).
    pub fn run(
        &self,
        run: &RunDir,
        device: &Device,
        control: &TrainingControl,
    ) -> Result<Trained, TrainError> {
        device.check_training(&self.model, &self.config, self.training_rows())?;
        let members = run.members(self.config.train.seeds);
        if control.resume {
            run.check_uncalibrated()?;
            self.check_saved(run)?;
            for member in &members {
                create_folder(&member.own_path())?;
            }
            // A training that was killed before it had listed its files.
            if !run.manifest().exists() && !members.iter().any(|member| member.weights().exists()) {
                Manifest::begin(run)?;
            }
        } else {
            self.save(run)?;
        }
        match members.len() {
            1 => device.run(TrainAndMeasure { experiment: self, run, control }),
            _ => self.run_members(run, device, control),
        }
    }

    /// Rows of the training split.
    pub fn training_rows(&self) -> u64 {
        self.report.train.rows
    }

    /// Trains several models, and measures their mean.
    fn run_members(
        &self,
        run: &RunDir,
        device: &Device,
        control: &TrainingControl,
    ) -> Result<Trained, TrainError> {
        let (end, members) = self.train_members(run, device, control)?;
        let TrainingEnd::Finished { best, .. } = end else { return Ok(Trained { end, metrics: None }) };
        control.observers.trained();
        let members = EnsembleMetrics::of(members);
        let measured = device.run(MeasureMean { experiment: self, run, control, best, members });
        Ok(Trained { end, metrics: unless_interrupted(measured)? })
    }
}

struct TrainAndMeasure<'a> {
    experiment: &'a Experiment,
    run: &'a RunDir,
    control: &'a TrainingControl,
}

impl OnDevice for TrainAndMeasure<'_> {
    type Output = Trained;

    fn run<B>(self, device: B::Device) -> Result<Trained, TrainError>
    where
        B: TrainBackend,
    {
        let end = self.experiment.train::<B>(self.run, &device, self.control)?;
        let metrics = match &end {
            TrainingEnd::Interrupted { .. } => None,
            // Asked to stop after the last step: a resumed training measures.
            TrainingEnd::Finished { .. } if self.control.interrupter.should_stop() => None,
            TrainingEnd::Finished { best, .. } => {
                self.control.observers.trained();
                let measured =
                    self.experiment.measure::<B::InnerBackend>(self.run, &device, *best, self.control, None);
                unless_interrupted(measured)?
            }
        };
        Ok(Trained { end, metrics })
    }
}

/// Measures several models as one.
struct MeasureMean<'a> {
    experiment: &'a Experiment,
    run: &'a RunDir,
    control: &'a TrainingControl,
    best: BestWeights,
    members: EnsembleMetrics,
}

impl OnDevice for MeasureMean<'_> {
    type Output = RunMetrics;

    fn run<B>(self, device: B::Device) -> Result<RunMetrics, TrainError>
    where
        B: TrainBackend,
    {
        let Self { experiment, run, control, best, members } = self;
        experiment.measure::<B::InnerBackend>(run, &device, best, control, Some(members))
    }
}

/// What was measured; `None` where someone said stop meanwhile.
fn unless_interrupted<T>(measured: Result<T, TrainError>) -> Result<Option<T>, TrainError> {
    match measured {
        Err(TrainError::Run(RunError::Interrupted)) => Ok(None),
        measured => measured.map(Some),
    }
}
