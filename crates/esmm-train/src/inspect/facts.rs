//! What a run directory tells about its training.

use std::fs;

use serde::{Deserialize, Serialize};

use esmm_metrics::SplitMetrics;
use esmm_run::config::TrainConfig;
use esmm_run::metrics::RunMetrics;
use esmm_run::run_dir::{RunDir, read_json};

use crate::error::TrainError;

/// What was trained on what, and what came out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunFacts {
    /// Files or globs, by split, or the ones that were divided.
    pub data: Vec<String>,
    /// How rows were divided: `files`, `time`, `hash` or `random`.
    pub split_by: String,
    /// Names of the stages.
    pub stages: Vec<String>,
    /// The splits that were measured; empty before the training has ended.
    pub splits: Vec<SplitFacts>,
    /// Where the saved weights come from; `None` before the first validation, and of several models.
    pub best: Option<SavedWeights>,
    /// Of several models (`train.seeds`): the seed of each, and where its saved weights come from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<(u64, Option<SavedWeights>)>,
    /// The metric that selected them.
    pub select: String,
}

/// A split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SplitFacts {
    /// `train`, `valid` or `test`.
    pub name: &'static str,
    /// Its metrics, with the saved weights.
    pub metrics: SplitMetrics,
}

/// Where the saved weights come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedWeights {
    /// Epoch, from 1.
    pub epoch: u64,
    /// Steps done.
    pub step: Option<u64>,
    /// Value of the selection metric.
    pub value: Option<f64>,
}

/// The part of a checkpoint's state that is of interest here, of any format version.
#[derive(Deserialize)]
struct State {
    best: Option<SavedWeights>,
    contents: Option<Contents>,
}

#[derive(Deserialize)]
struct Contents {
    state: Box<State>,
}

impl RunFacts {
    /// Reads what is there. A training that is under way has no metrics yet.
    ///
    /// # Errors
    /// Metrics that cannot be read.
    pub(super) fn read(run: &RunDir, config: &TrainConfig) -> Result<Self, TrainError> {
        let splits = match run.metrics().exists() {
            true => splits(read_json(&run.metrics())?),
            false => Vec::new(),
        };
        let sources = config.data.sources();
        let (best, models) = match run.members(config.train.seeds).as_slice() {
            [one] => (saved_weights(one), Vec::new()),
            several => {
                let seeds = several.iter().zip(config.train.seed..);
                (None, seeds.map(|(run, seed)| (seed, saved_weights(run))).collect())
            }
        };
        Ok(Self {
            data: sources.iter().flat_map(|source| source.paths.iter().cloned()).collect(),
            split_by: by(config).to_owned(),
            stages: config.labels.columns.clone(),
            splits,
            best,
            models,
            select: config.train.select.clone(),
        })
    }
}

fn splits(metrics: RunMetrics) -> Vec<SplitFacts> {
    let all = [("train", Some(metrics.train)), ("valid", metrics.valid), ("test", metrics.test)];
    all.into_iter().filter_map(|(name, metrics)| Some(SplitFacts { name, metrics: metrics? })).collect()
}

fn by(config: &TrainConfig) -> &'static str {
    use esmm_data::SplitSpec;
    match &config.data {
        SplitSpec::Files { .. } => "files",
        SplitSpec::Time { .. } => "time",
        SplitSpec::Date { .. } => "date",
        SplitSpec::Hash { .. } => "hash",
        SplitSpec::Random { .. } => "random",
        SplitSpec::Window { .. } => "window",
    }
}

/// From the newest checkpoint: a checkpoint that cannot be read is no reason not to show the rest.
fn saved_weights(run: &RunDir) -> Option<SavedWeights> {
    let folders = fs::read_dir(run.checkpoint()).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let named = |path: &std::path::PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("step-"))
    };
    let newest = folders.filter(named).max()?;
    let state: State = read_json(&newest.join("state.json")).ok()?;
    state.contents.map_or(state.best, |contents| contents.state.best)
}
