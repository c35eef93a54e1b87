//! From a run directory to an ONNX model and the files beside it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use esmm_core::StateDict;
use esmm_rank::FoldedModel;
use esmm_run::run_dir::{RunDir, read_json, write_atomic, write_json};
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

/// Writes the model of a run directory as ONNX to `path`, and beside it `preprocessing.json`, `vocabularies.parquet` and
/// `golden.json`; with more than `most_inside` bytes of weights (usually [`MOST_INSIDE`]) these go into a file of their own,
/// `path` with `.data`.
///
/// # Errors
/// A run directory that cannot be read, a disk that refuses. Each file appears whole or not at all.
pub fn export(run_dir: &Path, path: &Path, most_inside: u64) -> Result<Exported, OnnxError> {
    let run = RunDir::open(run_dir)?;
    let config = run.read_model()?;
    let stages = run.read_config()?.labels.columns;
    let weights = StateDict::read(&run.weights())?;
    let golden = golden(&config, weights.clone(), &stages)?;
    let folded = FoldedModel::new(&config, weights)?;
    let mut graph = graph(&config, &folded, &stages);
    let beside = |name: &str| path.with_file_name(name);
    let bytes: usize =
        graph.initializer.iter().filter_map(|tensor| tensor.raw_data.as_ref()).map(Vec::len).sum();
    let data = (bytes as u64 > most_inside).then(|| {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".data");
        path.with_file_name(name)
    });
    if let Some(data) = &data {
        move_out(&mut graph, data)?;
    }
    let encoders: Value = read_json(&run.encoders().join("features.json"))?;
    let inputs: Vec<Value> =
        Who::ALL.into_iter().flat_map(|who| Inputs::of(&config, who).describe(who)).collect();
    let outputs: Vec<&String> = graph.output.iter().map(|output| &output.name).collect();
    let preprocessing = json!({
        "inputs": inputs,
        "outputs": outputs,
        "features": encoders["features"],
        "vocabularies": "vocabularies.parquet",
        "rules": RULES,
    });
    let exported = Exported {
        model: path.to_owned(),
        weights: data,
        preprocessing: beside("preprocessing.json"),
        vocabularies: beside("vocabularies.parquet"),
        golden: beside("golden.json"),
    };
    let entry = |key: &str, value: String| Entry { key: key.to_owned(), value };
    let model = Model {
        ir_version: IR_VERSION,
        producer_name: "esmm".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(graph),
        opset_import: vec![OperatorSet { domain: String::new(), version: OPSET }],
        metadata_props: vec![
            entry("stages", stages.join(",")),
            entry("preprocessing", "preprocessing.json".into()),
        ],
    };
    write_atomic(path, &model.encode_to_vec())?;
    write_json(&exported.preprocessing, &preprocessing)?;
    write_json(&exported.golden, &golden)?;
    let vocabularies = run.encoders().join("vocabularies.parquet");
    let keys = fs::read(&vocabularies).map_err(|error| OnnxError::file(&vocabularies, error))?;
    write_atomic(&exported.vocabularies, &keys)?;
    Ok(exported)
}

/// How a value becomes what the graph reads, for whoever encodes rows elsewhere.
const RULES: [&str; 7] = [
    "Row 0 of every table stands for missing and unknown values.",
    "A text that is a whole number in its shortest form is the same key as that number.",
    "vocabulary: the row of the key in vocabularies.parquet, of the feature that `shares` names where there is one.",
    "hash: 1 + xxHash64(the key's text, seed 0x45534D4D) modulo buckets. raw: 1 + the value.",
    "quantile: 1 + the number of edges that are not above the value; a missing value is row 0.",
    "dense: missing values replaced by `missing`; then standardize (x - mean) / std, x - mean where std is 0; log1p ln(1 + x).",
    "Bags: NAME_ids and NAME_weights padded to the same length, at least 1, with id 0 and weight 0; weight 1 where there are none.",
];

/// Moves the values of large constants into a file of their own.
fn move_out(graph: &mut Graph, path: &Path) -> Result<(), OnnxError> {
    let refused = |error: std::io::Error| OnnxError::file(path, error);
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let mut file = std::io::BufWriter::new(fs::File::create(&temporary).map_err(refused)?);
    let location = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut offset = 0;
    for tensor in &mut graph.initializer {
        let Some(bytes) = tensor.raw_data.take_if(|bytes| bytes.len() >= 1024) else { continue };
        file.write_all(&bytes).map_err(refused)?;
        let entry = |key: &str, value: String| Entry { key: key.to_owned(), value };
        tensor.external_data = vec![
            entry("location", location.clone()),
            entry("offset", offset.to_string()),
            entry("length", bytes.len().to_string()),
        ];
        tensor.data_location = 1;
        offset += bytes.len();
    }
    let file = file.into_inner().map_err(|error| refused(error.into_error()))?;
    file.sync_all().map_err(refused)?;
    fs::rename(&temporary, path).map_err(refused)
}
