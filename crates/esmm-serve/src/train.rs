//! Something to serve for who has nothing yet: a model of the built-in funnel, and its items.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Int64Type};
use burn::backend::Autodiff;
use burn_ndarray::NdArray;
use esmm_train::TrainError;
use esmm_train::config::{RunFile, TrainConfig};
use esmm_train::data::synthetic::{SyntheticConfig, SyntheticFunnel, write_parquet};
use esmm_train::experiment::Experiment;
use esmm_train::run_dir::{Existing, RunDir, write_atomic};
use esmm_train::trainer::{TrainingControl, TrainingEnd};

use crate::options::FUNNEL_ITEMS;

const RUN_FILE: &str = include_str!("funnel.toml");
/// Impressions of the funnel.
const ROWS: usize = 100_000;

/// Trains a model of the built-in funnel into a directory, unless a finished one is there. One that was begun and killed is
/// begun anew.
///
/// # Errors
/// A directory with something else in it, or in which another training works; a disk that refuses. One line.
pub fn train_if_missing(run_dir: &Path) -> Result<(), String> {
    let is_finished = RunDir::open(run_dir).is_ok_and(|run| run.metrics().exists());
    if is_finished {
        return Ok(());
    }
    tracing::info!(run_dir = %run_dir.display(), "training on the built-in funnel, as no run directory was named");
    train(run_dir).map_err(|error| error.to_string())
}

fn train(folder: &Path) -> Result<(), TrainError> {
    let run = RunDir::create(folder, Existing::Overwrite)?;
    let data = folder.join("data.parquet");
    let funnel = SyntheticConfig { rows: ROWS, ..SyntheticConfig::default() };
    let failed = |error: &dyn std::fmt::Display| TrainError::Training(error.to_string());
    write_parquet(funnel.clone(), &data).map_err(|error| failed(&error))?;
    let text = RUN_FILE.replace("data.parquet", &data.display().to_string().replace('\\', "/"));
    let file = RunFile::parse(&text, "the built-in run file", &[])?;
    let experiment = Experiment::load(TrainConfig::resolve(&file)?)?;
    experiment.save(&run)?;
    let items = items(SyntheticFunnel::new(funnel).map_err(|error| failed(&error))?);
    write_atomic(&folder.join(FUNNEL_ITEMS), items.as_bytes())?;
    let (device, control) = (Default::default(), TrainingControl::default());
    match experiment.train::<Autodiff<NdArray>>(&run, &device, &control)? {
        // Writes the metrics, which say that all of it is there.
        TrainingEnd::Finished { best, .. } => {
            experiment.evaluate::<NdArray>(&run, &device, best, &control.observers).map(|_| ())
        }
        TrainingEnd::Interrupted { .. } => {
            Err(TrainError::Training("the training was interrupted".to_owned()))
        }
    }
}

/// The items of the funnel as CSV, each with its first price.
fn items(funnel: SyntheticFunnel) -> String {
    let mut items: BTreeMap<i64, String> = BTreeMap::new();
    for batch in funnel {
        let column = |name: &str| batch.column_by_name(name);
        let (Some(ids), Some(categories), Some(prices), Some(ratings)) =
            (column("item_id"), column("category"), column("price"), column("rating"))
        else {
            continue;
        };
        let (ids, categories) = (ids.as_primitive::<Int64Type>(), categories.as_string::<i32>());
        let (prices, ratings) = (prices.as_primitive::<Float64Type>(), ratings.as_primitive::<Float64Type>());
        for row in 0..batch.num_rows() {
            let (category, price, rating) = (categories.value(row), prices.value(row), ratings.value(row));
            let line = || format!("{},{category},{price},{rating}\n", ids.value(row));
            items.entry(ids.value(row)).or_insert_with(line);
        }
    }
    let lines: String = items.into_values().collect();
    format!("item_id,category,price,rating\n{lines}")
}
