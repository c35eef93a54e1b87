//! One training of a tuning, measured on the rows that validate.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use burn::train::Interrupter;
use esmm_core::{Esmm, TrainBackend};
use esmm_run::RunError;
use esmm_run::evaluation::{Evaluation, HostScores, evaluate};
use esmm_run::run_dir::{Existing, RunDir};

use crate::device::{Device, OnDevice};
use crate::error::TrainError;
use crate::experiment::Experiment;
use crate::trainer::{TrainingControl, TrainingEnd};

/// Numbers of folders.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Trains with a seed and measures the validation rows with the best weights; `None` when it was interrupted. What is written
/// goes into a folder below `work`, and away again.
pub(super) fn trained(
    experiment: &mut Experiment,
    seed: u64,
    device: &Device,
    work: &Path,
    interrupter: &Interrupter,
) -> Result<Option<Evaluation>, TrainError> {
    experiment.config.train.seed = seed;
    experiment.model.seed = seed;
    device.check_training(&experiment.model, &experiment.config, experiment.training_rows())?;
    let folder = Removed(work.join(NEXT.fetch_add(1, Ordering::Relaxed).to_string()));
    let run = RunDir::create(&folder.0, Existing::Refuse)?;
    let control = TrainingControl { interrupter: interrupter.clone(), ..TrainingControl::default() };
    let needs = device.training_needs(&experiment.model, &experiment.config, experiment.training_rows());
    let trained = device.run(Trial { experiment, run: &run, control: &control });
    trained.map_err(|error| error.with_needs(&needs))
}

/// A folder that goes.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Trial<'a> {
    experiment: &'a Experiment,
    run: &'a RunDir,
    control: &'a TrainingControl,
}

impl OnDevice for Trial<'_> {
    type Output = Option<Evaluation>;

    fn run<B>(self, device: B::Device) -> Result<Option<Evaluation>, TrainError>
    where
        B: TrainBackend,
    {
        let Self { experiment, run, control } = self;
        if let TrainingEnd::Interrupted { .. } = experiment.train::<B>(run, &device, control)? {
            return Ok(None);
        }
        let rows = experiment.splits().find(|(split, _)| *split == "valid").map(|(_, rows)| rows);
        let rows = rows.ok_or_else(|| TrainError::config("a window has no validation rows"))?;
        let model: Esmm<B::InnerBackend> = experiment.model.load(&run.weights(), &device)?;
        let stages = &experiment.config.labels.columns;
        let rate = experiment.config.negative_rate;
        let go_on = |_: &HostScores| control.go_on();
        match evaluate(&model, &experiment.model, stages, rows, rate, &device, go_on) {
            Err(RunError::Interrupted) => Ok(None),
            evaluation => Ok(Some(evaluation?)),
        }
    }
}
