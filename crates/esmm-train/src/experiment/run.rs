//! A training from its data to its metrics, on whichever backend.

use esmm_core::TrainBackend;
use esmm_run::manifest::Manifest;
use esmm_run::metrics::RunMetrics;
use esmm_run::run_dir::RunDir;

use super::Experiment;
use crate::device::{Device, OnDevice};
use crate::error::TrainError;
use crate::trainer::{TrainingControl, TrainingEnd};

/// What a training came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// How it ended.
    pub end: TrainingEnd,
    /// The metrics of all splits with the best weights; `None` when it was interrupted.
    pub metrics: Option<RunMetrics>,
}

impl Experiment {
    /// Everything that `esmm train` does with loaded data: saves what a later command needs, trains on a device, and
    /// measures all splits with the best weights. Compiled once, for all backends.
    ///
    /// # Errors
    /// Tables that the device does not hold, a device that fails; a resumed training whose data has changed; and those of
    /// [`train`](Self::train) and [`evaluate`](Self::evaluate).
    pub fn run(
        &self,
        run: &RunDir,
        device: &Device,
        control: &TrainingControl,
    ) -> Result<Trained, TrainError> {
        device.check_model(&self.model)?;
        if control.resume {
            self.check_saved(run)?;
            // A training that was killed before it had listed its files.
            if !run.manifest().exists() && !run.weights().exists() {
                Manifest::begin(run)?;
            }
        } else {
            self.save(run)?;
        }
        device.run(TrainAndMeasure { experiment: self, run, control })
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
            TrainingEnd::Finished { best, .. } => {
                let observers = &self.control.observers;
                Some(self.experiment.evaluate::<B::InnerBackend>(self.run, &device, *best, observers)?)
            }
        };
        Ok(Trained { end, metrics })
    }
}
