//! What is inspected: a run directory or a run file.

use std::collections::BTreeMap;
use std::path::Path;

use esmm_core::{EsmmConfig, Feature, FeatureSchema};
use esmm_data::{DataError, FeatureSpec, FittedEncoders, SparseColumn};
use esmm_run::config::{RunFile, TrainConfig};
use esmm_run::run_dir::RunDir;
use serde::Serialize;

use super::facts::RunFacts;
use super::layers::{LayerCost, StepCost, layers};
use super::memory::{Sizes, TrainingMemory};
use crate::error::TrainError;
use crate::experiment::Experiment;
use crate::sizes;

/// Rows from which the lengths of lists are told.
const ROWS: usize = 50_000;

/// A model with its costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// The layers.
    pub layers: Vec<LayerCost>,
    /// Learned parameters; a lower bound when tables are not known.
    pub parameters: u64,
    /// Bytes of all weights; a lower bound when tables are not known.
    pub weight_bytes: u64,
    /// Tables whose size only the data tells.
    pub unknown_tables: Vec<String>,
    /// Mean number of ids of each list, where it was measured; elsewhere one id is counted.
    pub list_lengths: BTreeMap<String, f64>,
    /// Lists whose length is not known.
    pub unknown_lists: Vec<String>,
    /// What a step costs.
    pub step: StepCost,
    /// The memory that a training needs.
    pub memory: TrainingMemory,
    /// What a run directory tells besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<RunFacts>,
}

/// What is known of a target.
struct Known {
    config: TrainConfig,
    model: EsmmConfig,
    unknown: Vec<String>,
    lengths: BTreeMap<String, f64>,
    rows: Option<Vec<u64>>,
    run: Option<RunFacts>,
}

/// Inspects a run directory or a run file. The data is read only when `read_data` is set: all of it to size the tables of
/// a run file, some rows to tell the lengths of lists.
///
/// # Errors
/// A target that cannot be read, or data that cannot.
pub fn inspect(target: &Path, read_data: bool) -> Result<Inspection, TrainError> {
    let known = match target.is_dir() {
        true => of_run_dir(&RunDir::open(target)?, read_data)?,
        false => of_run_file(target, read_data)?,
    };
    Ok(known.inspection())
}

fn of_run_dir(run: &RunDir, read_data: bool) -> Result<Known, TrainError> {
    let config = run.read_config()?;
    let model = run.read_model()?;
    let facts = RunFacts::read(run, &config)?;
    let lengths = match read_data {
        true => list_lengths(&config, &FittedEncoders::load(&run.encoders())?)?,
        false => BTreeMap::new(),
    };
    let rows: Vec<u64> = facts.splits.iter().map(|split| split.metrics.rows).collect();
    let rows = (!rows.is_empty()).then_some(rows);
    Ok(Known { config, model, unknown: Vec::new(), lengths, rows, run: Some(facts) })
}

fn of_run_file(path: &Path, read_data: bool) -> Result<Known, TrainError> {
    let config = TrainConfig::resolve(&RunFile::read(path, &[])?)?;
    config.data.check_apart()?;
    if read_data {
        let experiment = Experiment::load(config)?;
        let lengths = list_lengths(&experiment.config, &experiment.encoders)?;
        let rows = experiment.report.splits().map(|(_, split)| split.rows).collect();
        let config = experiment.config;
        let model = experiment.model;
        return Ok(Known { config, model, unknown: Vec::new(), lengths, rows: Some(rows), run: None });
    }
    let unknown = config.features.iter().filter(|spec| spec.has_unknown_rows());
    let unknown = unknown.map(|spec| spec.name.clone()).collect();
    let features: Vec<Feature> = config.features.iter().map(FeatureSpec::with_known_rows).collect();
    let model = config.model(FeatureSchema::new(features)?)?;
    Ok(Known { config, model, unknown, lengths: BTreeMap::new(), rows: None, run: None })
}

/// The mean number of ids of each list, over the first rows of the training's source.
fn list_lengths(config: &TrainConfig, encoders: &FittedEncoders) -> Result<BTreeMap<String, f64>, DataError> {
    let mut rows = 0;
    let mut counts = BTreeMap::<String, usize>::new();
    for chunk in config.data.train_source().open(&encoders.required_columns())? {
        let encoded = encoders.encode(&chunk?)?;
        for (feature, column) in encoders.schema().sparse().zip(&encoded.sparse) {
            if let SparseColumn::Bag { ids, .. } = column {
                *counts.entry(feature.name.clone()).or_default() += ids.len();
            }
        }
        rows += encoded.rows;
        if rows >= ROWS {
            break;
        }
    }
    let mean = |(name, count)| (name, count as f64 / f64::max(rows as f64, 1.0));
    Ok(counts.into_iter().map(|(name, count): (String, usize)| mean((name, count))).collect())
}

impl Known {
    fn inspection(self) -> Inspection {
        let training_rows = self.rows.as_ref().and_then(|rows| rows.first()).copied();
        let batch_size = sizes::batch(&self.config, training_rows);
        let layers = layers(&self.model, &self.unknown, &self.lengths, batch_size);
        let memory = TrainingMemory::of(&Sizes {
            config: &self.config,
            model: &self.model,
            tables_known: self.unknown.is_empty(),
            lengths: &self.lengths,
            rows: self.rows,
        });
        let lists = self.model.schema.sparse().filter(|feature| feature.bag.is_some());
        let unknown_lists = lists.map(|feature| feature.name.clone());
        Inspection {
            parameters: layers.iter().filter_map(|layer| layer.parameters).sum(),
            weight_bytes: layers.iter().filter_map(|layer| layer.bytes).sum(),
            unknown_lists: unknown_lists.filter(|name| !self.lengths.contains_key(name)).collect(),
            unknown_tables: self.unknown,
            list_lengths: self.lengths,
            step: StepCost::of(&layers, batch_size),
            layers,
            memory,
            run: self.run,
        }
    }
}
