//! Something to serve for who has nothing yet: a model of the built-in funnel.

use std::fs;
use std::path::{Path, PathBuf};

use burn::backend::Autodiff;
use burn_ndarray::NdArray;
use esmm_train::TrainError;
use esmm_train::config::{RunFile, TrainConfig};
use esmm_train::data::synthetic::{SyntheticConfig, write_parquet};
use esmm_train::experiment::Experiment;
use esmm_train::run_dir::{Existing, RunDir};
use esmm_train::trainer::{TrainingControl, TrainingEnd};

const RUN_FILE: &str = include_str!("funnel.toml");
/// Impressions of the funnel.
const ROWS: usize = 100_000;

/// Trains a model of the built-in funnel into a directory, unless there is something already. The directory appears whole
/// or not at all.
///
/// # Errors
/// A disk that refuses, one line.
pub fn train_if_missing(run_dir: &Path) -> Result<(), String> {
    if run_dir.exists() {
        return Ok(());
    }
    tracing::info!(run_dir = %run_dir.display(), "there is no run directory: training on the built-in funnel");
    let unfinished = unfinished(run_dir);
    let _ = fs::remove_dir_all(&unfinished);
    train(&unfinished).map_err(|error| error.to_string())?;
    fs::rename(&unfinished, run_dir).map_err(|error| format!("{}: {error}", run_dir.display()))
}

fn unfinished(run_dir: &Path) -> PathBuf {
    let mut name = run_dir.as_os_str().to_owned();
    name.push(".unfinished");
    PathBuf::from(name)
}

fn train(folder: &Path) -> Result<(), TrainError> {
    let run = RunDir::create(folder, Existing::Refuse)?;
    let data = folder.join("data.parquet");
    let funnel = SyntheticConfig { rows: ROWS, ..SyntheticConfig::default() };
    write_parquet(funnel, &data).map_err(|error| TrainError::Training(error.to_string()))?;
    let text = RUN_FILE.replace("data.parquet", &data.display().to_string().replace('\\', "/"));
    let file = RunFile::parse(&text, "the built-in run file", &[])?;
    let experiment = Experiment::load(TrainConfig::resolve(&file)?)?;
    experiment.save(&run)?;
    let (device, control) = (Default::default(), TrainingControl::default());
    if let TrainingEnd::Finished { best, .. } =
        experiment.train::<Autodiff<NdArray>>(&run, &device, &control)?
    {
        experiment.evaluate::<NdArray>(&run, &device, best, &control.observers)?;
    }
    Ok(())
}
