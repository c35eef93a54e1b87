//! From a run directory to an ONNX model and the files beside it.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use esmm_data::SourceSpec;
use esmm_rank::{FoldedModel, ModelParts, version};
use esmm_run::files::{NewFile, Protected};
use esmm_run::manifest::Trust;
use esmm_run::run_dir::{RunDir, read_json};
use prost::Message;
use serde_json::{Value, json};

use crate::error::OnnxError;
use crate::golden::golden;
use crate::graph::graph;
use crate::inputs::{Inputs, Who};
use crate::message::{Entry, Graph, Model, OperatorSet};

/// Version of ONNX's operators that the graph is made of.
pub const OPSET: i64 = 17;
/// Version of the format of the file.
const IR_VERSION: i64 = 8;
/// Bytes of weights that a message of Protocol Buffers, which ends at 2 GiB, holds beside the graph.
pub const MOST_INSIDE: u64 = 2_000_000_000;
/// Constants of fewer bytes stay in the model.
const SMALL: usize = 1024;

/// How a model is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportOptions {
    /// With more bytes of weights than these they go into a file of their own, the model's name with `.data`.
    pub most_inside: u64,
    /// Whether weights that the training did not write are exported.
    pub trust: Trust,
    /// Whether the export of another model, or of another version of this one, is replaced.
    pub overwrite: bool,
}

/// What an export wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The model.
    pub model: PathBuf,
    /// Its weights, where they are not in the model.
    pub weights: Option<PathBuf>,
    /// Which feature is where in the inputs, and how values become numbers.
    pub preprocessing: PathBuf,
    /// The keys of all vocabularies: columns feature, row, key, count.
    pub vocabularies: PathBuf,
    /// A request with its answer.
    pub golden: PathBuf,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self { most_inside: MOST_INSIDE, trust: Trust::Nothing, overwrite: false }
    }
}

impl Exported {
    fn beside(model: &Path) -> Self {
        let beside = |name: &str| model.with_file_name(name);
        let mut weights = model.as_os_str().to_owned();
        weights.push(".data");
        Self {
            model: model.to_owned(),
            weights: Some(PathBuf::from(weights)),
            preprocessing: beside("preprocessing.json"),
            vocabularies: beside("vocabularies.parquet"),
            golden: beside("golden.json"),
        }
    }

    fn files(&self) -> impl Iterator<Item = &Path> {
        let beside = [&self.model, &self.preprocessing, &self.vocabularies, &self.golden];
        beside.into_iter().chain(&self.weights).map(PathBuf::as_path)
    }
}

/// Writes the model of a run directory as ONNX to `path`, and beside it `preprocessing.json`, `vocabularies.parquet` and
/// `golden.json`. Where `esmm calibrate` corrected the probabilities, the graph does too.
///
/// # Errors
/// A run directory that cannot be read, or whose files are not those that the training wrote; an output among its files, or
/// in the place of other files than an export of the same model; a disk that refuses. All files are written before the first one gets its
/// name, the model last.
pub fn export(run_dir: &Path, path: &Path, options: &ExportOptions) -> Result<Exported, OnnxError> {
    let run = RunDir::open(run_dir)?;
    let mut exported = Exported::beside(path);
    let ModelParts { config, weights, format, stages, correction, .. } =
        ModelParts::read_trusting(run.path(), options.trust)?;
    let version = version(run.path())?;
    check_output(&run, &exported, Some(version.as_str()).filter(|_| !options.overwrite))?;
    let golden = golden(&config, weights.clone(), &stages, correction.as_ref())?;
    let folded = weights.into_iter().map(|weights| FoldedModel::new(&config, weights));
    let folded = FoldedModel::join(folded.collect::<Result<_, _>>()?);
    let Some(folded) = folded else { return Err(OnnxError::file(run.path(), "has no weights")) };
    let mut graph = graph(&config, folded, &stages, correction.as_ref());
    let inputs: Vec<Value> =
        Who::ALL.into_iter().flat_map(|who| Inputs::of(&config, who).describe(who)).collect();
    let preprocessing = preprocessing(&run, &format, &exported, &version, &inputs, &graph)?;
    let vocabularies = run.encoders().join("vocabularies.parquet");
    let keys = fs::read(&vocabularies).map_err(|error| OnnxError::file(&vocabularies, error))?;
    let bytes: usize =
        graph.initializer.iter().filter_map(|tensor| tensor.raw_data.as_ref()).map(Vec::len).sum();
    let apart = exported.weights.take_if(|_| bytes as u64 > options.most_inside);
    exported.weights.clone_from(&apart);
    let mut new = Vec::new();
    if let Some(data) = &apart {
        new.push((data.as_path(), move_out(&mut graph, data)?));
    }
    for (path, bytes) in [
        (&exported.preprocessing, format!("{preprocessing:#}\n").into_bytes()),
        (&exported.golden, format!("{golden:#}\n").into_bytes()),
        (&exported.vocabularies, keys),
    ] {
        new.push((path, written(path, &bytes)?));
    }
    let model = Model {
        ir_version: IR_VERSION,
        producer_name: "esmm".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(graph),
        opset_import: vec![OperatorSet { domain: String::new(), version: OPSET }],
        metadata_props: vec![
            entry("version", version),
            entry("stages", stages.join(",")),
            entry("preprocessing", "preprocessing.json".to_owned()),
        ],
    };
    new.push((path, written(path, &model.encode_to_vec())?));
    for (path, file) in new {
        file.finish().map_err(|error| refused(path, &error))?;
    }
    Ok(exported)
}

/// A file that waits for its name.
fn written(path: &Path, bytes: &[u8]) -> Result<NewFile, OnnxError> {
    let write = || -> std::io::Result<NewFile> {
        let mut file = NewFile::beside(path)?;
        file.write_all(bytes)?;
        Ok(file)
    };
    write().map_err(|error| refused(path, &error))
}

fn refused(path: &Path, error: &std::io::Error) -> OnnxError {
    OnnxError::file(path, format!("cannot be written: {error}"))
}

fn entry(key: &str, value: String) -> Entry {
    Entry { key: key.to_owned(), value }
}

/// Of a file that would be written over.
const NO_EXPORT: &str = "is no file of an export, and would be lost: write the model into another folder";

/// Nothing of the run directory is written over, and no other model loses what its rows are encoded with. `version` is that of
/// the export that may be replaced; `None`: of any.
fn check_output(run: &RunDir, exported: &Exported, version: Option<&str>) -> Result<(), OnnxError> {
    let protected = Protected::new().folder(run.path(), "a file of the run directory");
    protected.check("-o", &exported.model, &["onnx"])?;
    for path in exported.files() {
        protected.check("-o, beside it", path, &[])?;
    }
    let path = &exported.preprocessing;
    if !path.exists() {
        // Files of an export's names that no export wrote.
        return match exported.files().find(|path| path.exists()) {
            Some(path) => Err(OnnxError::file(path, NO_EXPORT)),
            None => Ok(()),
        };
    }
    let there: Value = read_json(path).unwrap_or_default();
    let Some(name) = there["model"].as_str() else { return Err(OnnxError::file(path, NO_EXPORT)) };
    if name != name_of(&exported.model) {
        let reason = format!("belongs to {name}: write each model into a folder of its own");
        return Err(OnnxError::file(path, reason));
    }
    match version.filter(|version| there["version"] != **version) {
        None => Ok(()),
        Some(version) => {
            let before = there["version"].as_str().unwrap_or("that is not told");
            let reason = format!(
                "is that of another model, or of this one before it was trained or calibrated anew (version {before}, this is \
                 {version}): --overwrite replaces it, -o names another file"
            );
            Err(OnnxError::file(&exported.model, reason))
        }
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What encodes rows for the model.
fn preprocessing(
    run: &RunDir,
    format: &SourceSpec,
    exported: &Exported,
    version: &str,
    inputs: &[Value],
    graph: &Graph,
) -> Result<Value, OnnxError> {
    let encoders: Value = read_json(&run.encoders().join("features.json"))?;
    let outputs: Vec<&String> = graph.output.iter().map(|output| &output.name).collect();
    Ok(json!({
        "model": name_of(&exported.model),
        "version": version,
        "opset": OPSET,
        "inputs": inputs,
        "outputs": outputs,
        "features": encoders["features"],
        "spelling": format.spelling,
        "lists": format.lists,
        "vocabularies": "vocabularies.parquet",
        "unknown_row": if encoders["unknown_row"] == "own" { 1 } else { 0 },
        "rules": RULES,
    }))
}

/// How a value becomes what the graph reads, for whoever encodes rows elsewhere.
const RULES: [&str; 10] = [
    "Inputs name features, in `columns` or `feature`; `features` says for each feature its column of the data and its encoding.",
    "Keys are texts: digits of whole numbers (42 for 42.0), true, false, dates 2024-01-31, moments 2024-01-31T11:30:00 in UTC, \
     other texts without blanks around them. Empty cells, null, NaN and the words of `spelling.null` are missing.",
    "Row 0 of every table stands for missing values; a key that a vocabulary lacks has the row `unknown_row`. A feature with `shares` uses the encoding and the vocabulary \
     of that feature.",
    "vocabulary: the row of the key in vocabularies.parquet.",
    "hash: 1 + xxHash64(the key's text, seed 0x45534D4D) modulo buckets. raw: 1 + the value.",
    "quantile: 1 + the number of edges that are not above the value.",
    "dense: a missing value is replaced by `missing`; then none: the value; standardize: (x - mean) / std, x - mean where std \
     is 0; log1p: ln(1 + x).",
    "piecewise_linear: NAME[t] is (x - e_(t-1)) / (e_t - e_(t-1)) clipped to [0, 1], of the edges e_0, e_1, ...; 0 for bins \
     beyond the last edge.",
    "Bags: NAME_ids and NAME_weights, padded to one length of at least 1 with id 0 and weight 0. Weights are 1 where the data \
     has none. Ids that are missing or unknown are items like any other, with their weight.",
    "Arithmetic of values is in 64 bits, the result is rounded to 32.",
];

/// Moves the values of large constants into a file of their own, which waits for its name.
fn move_out(graph: &mut Graph, path: &Path) -> Result<NewFile, OnnxError> {
    let refused = |error: std::io::Error| refused(path, &error);
    let mut file = BufWriter::new(NewFile::beside(path).map_err(refused)?);
    let mut offset = 0;
    for tensor in &mut graph.initializer {
        let Some(bytes) = tensor.raw_data.take_if(|bytes| bytes.len() >= SMALL) else { continue };
        file.write_all(&bytes).map_err(refused)?;
        tensor.external_data = vec![
            entry("location", name_of(path)),
            entry("offset", offset.to_string()),
            entry("length", bytes.len().to_string()),
        ];
        tensor.data_location = 1;
        offset += bytes.len();
    }
    file.into_inner().map_err(|error| refused(error.into_error()))
}
