//! A model that is served: engine, catalogue, version.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use esmm_rank::{Catalogue, ItemSource, Part, RankModel, SharePrecision, version};
use esmm_run::RunError;
use esmm_run::correction::{CalibrationRecord, Platt, StageCorrection};
use esmm_run::manifest::Trust;
use esmm_run::run_dir::RunDir;
use serde_json::{Map, Value, json};

use crate::memory;

/// What is served, and from where.
#[derive(Debug, Clone)]
pub struct ModelSource {
    /// The run directory, or a link to one.
    pub run_dir: PathBuf,
    /// Name of the model in answers and in the paths of the Open Inference Protocol.
    pub name: String,
    /// The items of the catalogue.
    pub items: Option<ItemFiles>,
    /// Features of the context that differ between the candidates of a request.
    pub per_candidate: Vec<String>,
    /// Whether weights that the training did not write are served.
    pub trust: Trust,
}

/// Files with the items of a catalogue.
#[derive(Debug, Clone)]
pub struct ItemFiles {
    /// Files or globs, CSV or Parquet.
    pub paths: Vec<String>,
    /// The column with their ids.
    pub key: String,
    /// Columns of numbers to rank by.
    pub values: Vec<String>,
    /// How the shares lie in memory.
    pub precision: SharePrecision,
}

/// A catalogue and the column of its ids.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) items: Catalogue,
    pub(crate) key: String,
}

/// A model, loaded.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) name: String,
    /// Digits of a checksum of weights, encoders and schema.
    pub(crate) version: String,
    pub(crate) model: RankModel,
    pub(crate) catalogue: Option<Listed>,
    /// `metrics.json`, where there is one.
    pub(crate) metrics: Option<Value>,
    /// What was done to the probabilities: `negative_rate` and `calibration`, null where nothing was.
    pub(crate) corrections: Value,
    pub(crate) loaded_at: SystemTime,
    pub(crate) load_seconds: f64,
    pub(crate) bytes: u64,
}

impl Loaded {
    /// Column of the ids of items.
    pub(crate) fn key(&self) -> Option<&str> {
        self.catalogue.as_ref().map(|catalogue| catalogue.key.as_str())
    }

    /// Place of an item in the catalogue, by its id or by that as people spell it.
    pub(crate) fn place(&self, id: &str) -> Option<u32> {
        self.catalogue.as_ref()?.items.place(id).or_else(|| self.place_as_spelled(id))
    }

    /// Place of an item whose id is spelled otherwise: `42.0` is the item `42`.
    pub(crate) fn place_as_spelled(&self, id: &str) -> Option<u32> {
        self.catalogue.as_ref()?.items.place(&self.model.spelling().key(id)?)
    }

    /// Reads everything, beside a model that may be serving. One line says what is wrong.
    pub(crate) fn load(source: &ModelSource) -> Result<Self, String> {
        let start = Instant::now();
        // A link may move meanwhile: everything is read from where it pointed first.
        let folder = fs::canonicalize(&source.run_dir)
            .map_err(|error| format!("{}: cannot be read: {error}", source.run_dir.display()))?;
        let before = fingerprint(&folder);
        memory::check_model(&folder, &weights(&folder))?;
        let version = version(&folder).map_err(|error| error.to_string())?;
        let model = RankModel::open_trusting(&folder, &source.per_candidate, source.trust)
            .map_err(|error| error.to_string())?;
        let catalogue = match &source.items {
            None => None,
            Some(files) => {
                let items = ItemSource {
                    paths: files.paths.clone(),
                    key: files.key.clone(),
                    values: files.values.clone(),
                    precision: files.precision,
                    memory: memory::available(),
                };
                let items = model.catalogue(&items).map_err(|error| error.to_string())?;
                tracing::info!(items = items.len(), bytes = items.bytes(), "catalogue");
                Some(Listed { items, key: files.key.clone() })
            }
        };
        let corrections = corrections(&folder).map_err(|error| error.to_string())?;
        if fingerprint(&folder) != before {
            return Err(format!("{}: changed while it was read", folder.display()));
        }
        if model.ranker.correction().is_some() {
            tracing::info!("probabilities are calibrated, by calibration.json of the run directory");
        }
        let metrics = fs::read(folder.join("metrics.json")).ok();
        let bytes = model.ranker.bytes() + catalogue.as_ref().map_or(0, |listed| listed.items.bytes());
        let mut loaded = Self {
            name: source.name.clone(),
            version,
            model,
            catalogue,
            metrics: metrics.and_then(|text| serde_json::from_slice(&text).ok()),
            corrections,
            loaded_at: SystemTime::now(),
            load_seconds: 0.0,
            bytes,
        };
        loaded.warm_up()?;
        loaded.load_seconds = start.elapsed().as_secs_f64();
        Ok(loaded)
    }

    /// Ranks for a user of whom nothing is known: touches the weights, and shows that the model answers.
    fn warm_up(&self) -> Result<(), String> {
        use crate::rank::request::Body;
        use crate::rank::run::{Worker, rank};
        let items: Vec<Value> = match &self.catalogue {
            Some(listed) => {
                let ids = (0..listed.items.len().min(1000) as u32).filter_map(|place| listed.items.id(place));
                let pairs = self.blank(Part::Pair);
                let item = |id: &str| match pairs.is_empty() {
                    true => Value::from(id),
                    false => {
                        let mut item = pairs.clone();
                        item.insert(listed.key.clone(), Value::from(id));
                        Value::Object(item)
                    }
                };
                ids.map(item).collect()
            }
            None => {
                let mut item = self.blank(Part::Item);
                item.extend(self.blank(Part::Pair));
                vec![Value::Object(item)]
            }
        };
        let body = json!({ "user": self.blank(Part::Query), "items": items }).to_string();
        let failed = |error: String| format!("the model does not answer: {error}");
        let body: Body<'_> = serde_json::from_str(&body).map_err(|error| failed(error.to_string()))?;
        let (requests, _) = body.requests().map_err(failed)?;
        let mut worker = Worker::default();
        for request in requests.iter().cycle().take(3) {
            rank(self, request, &mut worker).map_err(failed)?;
        }
        Ok(())
    }

    /// A value for every column of a part that every encoder takes.
    pub(crate) fn blank(&self, part: Part) -> Map<String, Value> {
        let mut values = Map::new();
        for (spec, feature) in self.model.features(part) {
            for column in spec.columns() {
                let raw = matches!(
                    &spec.kind,
                    esmm_data::FeatureKind::Sparse {
                        bag: None,
                        encoding: esmm_data::SparseEncoding::Raw { .. },
                        ..
                    }
                );
                let number = matches!(feature, esmm_core::Feature::Dense(_)) || raw;
                let blank = if number { Value::from(0) } else { Value::Null };
                values.entry(column).and_modify(|value| *value = blank.clone()).or_insert(blank.clone());
            }
        }
        values
    }
}

/// What a training and `esmm calibrate` did to the probabilities of a run directory: the share of sampled negatives, or the
/// column that has it, and Platt's correction.
fn corrections(folder: &Path) -> Result<Value, RunError> {
    let run = RunDir::open(folder)?;
    let config = run.read_config()?;
    let rate = config.negative_rate.map(|rate| json!(rate.get()));
    let column = config.counting.negative_rate.map(|column| json!({ "column": column }));
    let calibration = CalibrationRecord::read(&run)?.map(|record| {
        let stage = |stage: &StageCorrection| {
            let Platt { slope, intercept } = stage.platt;
            json!({ "stage": stage.stage, "slope": slope, "intercept": intercept })
        };
        let stages: Vec<Value> = record.stages.iter().map(stage).collect();
        json!({ "method": "platt", "rows": record.rows, "stages": stages })
    });
    Ok(json!({ "negative_rate": rate.or(column), "calibration": calibration }))
}

/// The weights of a run directory: of one model, or of each of several.
fn weights(folder: &Path) -> Vec<PathBuf> {
    const NAME: &str = "model.safetensors";
    let members = fs::read_dir(folder.join("members")).into_iter().flatten().filter_map(Result::ok);
    let mut found: Vec<PathBuf> = members.map(|member| member.path().join(NAME)).collect();
    found.sort();
    if found.is_empty() { vec![folder.join(NAME)] } else { found }
}

/// Identity of the files of a run directory: another one means another model.
pub(crate) fn fingerprint(folder: &Path) -> String {
    let files = ["config.json", "schema.json", "manifest.json", "encoders/features.json", "calibration.json"]
        .map(|name| folder.join(name));
    let mut text = folder.display().to_string();
    for file in files.into_iter().chain(weights(folder)) {
        match fs::metadata(&file) {
            Ok(metadata) => {
                let changed =
                    metadata.modified().ok().and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
                text.push_str(&format!("|{}:{:?}:{}", metadata.len(), changed, identity(&metadata)));
            }
            Err(error) => text.push_str(&format!("|{:?}", error.kind())),
        }
    }
    text
}

#[cfg(unix)]
fn identity(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn identity(_: &fs::Metadata) -> u64 {
    0
}
