//! What can be known of a training before anything is made, removed or read at length.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use esmm_core::{EsmmConfig, ModelSummary};
use esmm_data::SourceSpec;
use esmm_files::FileIdentity;
use esmm_run::config::{TrainConfig, TrainingConfig};
use esmm_run::wording;

use super::memory;
use crate::device::DeviceInfo;
use crate::error::TrainError;
use crate::sizes;

/// Checks that every file of the configuration is there, for one split only, and has the columns that are asked for. Reads
/// their headers only.
///
/// # Errors
/// A file that is missing, damaged, in two splits, or without a column; the error names the nearest one.
pub fn check_files(config: &TrainConfig) -> Result<(), TrainError> {
    let spec = config.data_spec();
    spec.validate()?;
    let columns = columns(config);
    for source in config.data.sources() {
        source.open(&columns).map_err(|error| spec.with_key(error))?;
    }
    Ok(config.data.check_apart()?)
}

/// All columns that a training reads.
fn columns(config: &TrainConfig) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    let features = config.features.iter().flat_map(|feature| feature.columns());
    let labels = config.labels.columns.iter().map(String::as_str);
    let truth = config.truth.iter().flat_map(|truth| truth.columns());
    let others = config.group.as_deref().into_iter().chain(config.data.column()).chain(truth);
    let others = others.chain(config.counting.columns());
    for column in features.chain(labels).chain(others) {
        if !columns.iter().any(|known| known == column) {
            columns.push(column.to_owned());
        }
    }
    columns
}

/// The files of a configuration, as they are now.
///
/// # Errors
/// As [`SourceSpec::files`].
pub fn files(config: &TrainConfig) -> Result<Vec<PathBuf>, TrainError> {
    let mut files = Vec::new();
    for source in config.data.sources() {
        files.extend(SourceSpec::files(source)?.into_iter().map(|file| file.path().to_owned()));
    }
    Ok(files)
}

/// The files that a configuration was trained on, those of groups too, as far as they are there. Standard input is none: that of this process is
/// another one.
pub fn files_there(config: &TrainConfig) -> Vec<PathBuf> {
    let sources = config.data.sources();
    let with_groups = |source: &SourceSpec| {
        let mut paths = source.paths_there();
        paths.extend(source.groups_beside(&paths));
        paths
    };
    sources.into_iter().flat_map(with_groups).collect()
}

/// Files among `data` whose rows a model of this configuration has learned from, all or some of them.
pub fn learned_from(config: &TrainConfig, data: &SourceSpec) -> Vec<PathBuf> {
    let identity = |path: &PathBuf| FileIdentity::of(path);
    let learned: HashSet<FileIdentity> =
        config.data.train_source().paths_there().iter().filter_map(identity).collect();
    let asked = data.paths_there().into_iter();
    asked.filter(|path| identity(path).is_some_and(|file| learned.contains(&file))).collect()
}

/// Checks that a disk has room for what a training of a model must write: the weights, and two states of the training at a
/// time, each with what the optimizers remember.
///
/// # Errors
/// A disk with too little room: how much is needed, how much there is.
pub fn check_disk(run: &Path, model: &EsmmConfig, config: &TrainConfig) -> Result<(), TrainError> {
    let Some(free) = free_bytes(run) else { return Ok(()) };
    let needed = config.train.seeds * (sizes::VALUE * weights(model) + 2 * state_bytes(model, config));
    if needed <= free {
        return Ok(());
    }
    let [needed, free] = [needed, free].map(wording::memory);
    let reason = format!(
        "the disk has {free} left, the weights and two checkpoints take {needed}: choose a --run-dir on another disk"
    );
    Err(TrainError::file(run, reason))
}

/// Checks that the weights and what the optimizers remember of them fit into memory; a warning where they hardly will. On a
/// GPU (`is_cpu` false) they are in its memory.
///
/// # Errors
/// More than `ulimit` allows: a process that asks for more is ended by its runtime, in the middle of its work.
pub fn check_memory(
    model: &EsmmConfig,
    config: &TrainConfig,
    is_cpu: bool,
) -> Result<Option<String>, TrainError> {
    let needed = state_bytes(model, config);
    let reason = |allowed: u64| {
        let [needed, allowed] = [needed, allowed].map(wording::memory);
        format!(
            "the weights and what the optimizers remember of them take {needed}, this process may take {allowed}: lower \
             model.embedding_dim, raise min_count, or say train.tables.optimizer = \"row_wise_adam\""
        )
    };
    if let Some(refused) = memory::refused_beyond().filter(|refused| is_cpu && needed > *refused) {
        return Err(TrainError::Training(reason(refused)));
    }
    Ok(memory::allowed().filter(|allowed| is_cpu && needed > *allowed).map(reason))
}

/// How many of several models (`train.seeds`) are trained at the same time: as many as there are cores, as long as their
/// weights and optimizers take no more than half of the memory. One on a GPU, which one training keeps busy, and one where
/// rows are read from files in every pass, as each training would hold a window of them.
pub fn at_once(model: &EsmmConfig, config: &TrainConfig, is_cpu: bool) -> usize {
    if !is_cpu || config.reading.streaming == Some(true) {
        return 1;
    }
    let fit = memory::allowed().map_or(u64::MAX, |allowed| allowed / 2 / state_bytes(model, config).max(1));
    let cores = rayon::current_num_threads() as u64;
    config.train.seeds.min(cores).min(fit).max(1) as usize
}

/// What several models cost, in a line; `None` of one.
pub fn cost_of_models(
    model: &EsmmConfig,
    config: &TrainConfig,
    device: &DeviceInfo,
    at_once: usize,
) -> Option<String> {
    let TrainingConfig { seeds, seed, .. } = config.train;
    if seeds == 1 {
        return None;
    }
    let last = seed.wrapping_add(seeds - 1);
    let row_bytes = &|width| device.row_bytes(width);
    let weights = sizes::tables(model, row_bytes) + sizes::tower_values(model) * sizes::VALUE;
    let each = wording::memory(weights + sizes::table_state(model, config, row_bytes));
    let rounds = seeds.div_ceil(at_once as u64);
    let side_by_side = match at_once {
        1 => "one after the other: about".to_owned(),
        at_once => format!("{at_once} at a time, which share the cores: at best {rounds}, at most"),
    };
    Some(format!(
        "{seeds} models of seeds {seed} to {last}, {side_by_side} {seeds} times the time of one; each takes {each} for its \
         weights and optimizers while it trains; scoring takes {seeds} times the time of one"
    ))
}

/// Bytes of the weights and of what the optimizers remember of them.
fn state_bytes(model: &EsmmConfig, config: &TrainConfig) -> u64 {
    sizes::VALUE * weights(model) + sizes::table_state(model, config, &sizes::dense_rows)
}

/// Number of weights and running statistics.
fn weights(model: &EsmmConfig) -> u64 {
    ModelSummary::new(model).layers.iter().map(|layer| layer.parameters + layer.buffers).sum()
}

/// Bytes that are free where a path is; `None` where the system does not tell.
#[cfg(unix)]
fn free_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

/// Bytes that are free where a path is; `None` where the system does not tell.
#[cfg(not(unix))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}
