//! Exported models in ONNX Runtime.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::Write;
use std::path::Path;
use std::process::Command;

use burn_ndarray::NdArray;
use esmm_core::Activation;
use esmm_data::LoadOptions;
use esmm_onnx::{MOST_INSIDE, OnnxError, export};
use esmm_run::config::{RunFile, TrainConfig};
use esmm_run::run_dir::{Existing, RunDir, write_json};

/// Names a Python with the packages of `tests/serving/requirements.txt`.
const PYTHON: &str = "ESMM_SERVING_PYTHON";

const RUN_FILE: &str = r#"
features = [
  { name = "user", side = "user" },
  { name = "age", side = "user", encode = "standardize" },
  { name = "seen", side = "user", column = "tags", pooling = "sum" },
  { name = "hour", side = "context", encode = "raw", num_embeddings = 24 },
  { name = "item", side = "item" },
  { name = "tags", side = "item", pooling = "mean", shares = "seen" },
  { name = "price", side = "item" , encode = "standardize" },
]

[data]
path = "DATA"
split = { by = "random", valid = 0.2, test = 0.2, seed = 3 }

[model]
embedding_dim = 8
hidden = [24, 16]
embedding_init_std = 1.0
"#;

/// A run directory as a training leaves it, its weights the initial ones.
fn run_dir(folder: &Path, activation: Activation, shared: bool) -> RunDir {
    let mut rows = String::from("user,age,hour,item,tags,price,click,conversion\n");
    for row in 0..300 {
        let click = u8::from(row % 5 < 2);
        let (age, hour, converted) = (20 + row % 30, row % 24, click * u8::from(row % 3 == 0));
        rows.push_str(&format!(
            "u{},{age},{hour},i{},t{}|t{},{}.5,{click},{converted}\n",
            row % 20,
            row % 40,
            row % 6,
            row % 4,
            row % 9
        ));
    }
    std::fs::write(folder.join("data.csv"), rows).unwrap();
    let data = folder.join("data.csv").display().to_string();
    let file = RunFile::parse(&RUN_FILE.replace("DATA", &data), "run.toml", &[]).unwrap();
    let mut config = TrainConfig::resolve(&file).unwrap();
    config.model.towers.activation = activation;
    config.model.towers.batch_norm = true;
    config.model.shared_embeddings = shared;
    let loaded = config.data_spec().load(&LoadOptions::default()).unwrap();
    let model = config.model(loaded.encoders.schema().clone()).unwrap();
    let run = RunDir::create(&folder.join("run"), Existing::Overwrite).unwrap();
    std::fs::create_dir_all(run.encoders()).unwrap();
    loaded.encoders.save(&run.encoders()).unwrap();
    write_json(&run.schema(), &model).unwrap();
    write_json(&run.config(), &config).unwrap();
    let weights = model.init::<NdArray>(&Default::default()).unwrap();
    weights.state_dict().write_safetensors(&run.weights()).unwrap();
    run
}

#[test]
fn onnx_runtime_computes_the_golden_answer() {
    let python = std::env::var_os(PYTHON);
    if python.is_none() {
        let _ = writeln!(
            std::io::stderr(),
            "skipped the check with ONNX Runtime: set {PYTHON} to a Python that has the packages of \
             tests/serving/requirements.txt"
        );
    }
    let activations = [
        Activation::None,
        Activation::Relu,
        Activation::LeakyRelu { negative_slope: 0.1 },
        Activation::Prelu,
    ];
    for (place, activation) in activations.into_iter().enumerate() {
        for most_inside in [MOST_INSIDE, 1000] {
            let folder = tempfile::tempdir().unwrap();
            let run = run_dir(folder.path(), activation, place % 2 == 0);
            let path = folder.path().join("model.onnx");
            let exported = export(run.path(), &path, most_inside).unwrap();
            assert_eq!(exported.weights.is_some(), most_inside == 1000);
            for file in [&exported.model, &exported.preprocessing, &exported.vocabularies, &exported.golden] {
                assert!(file.exists(), "{}", file.display());
            }
            let Some(python) = &python else { continue };
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/serving/check_onnx.py");
            let output = Command::new(python).arg(script).arg(&path).output().unwrap();
            let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            assert!(
                output.status.success(),
                "{activation:?}: {}\n{}",
                said(&output.stdout),
                said(&output.stderr)
            );
        }
    }
}

#[test]
fn a_folder_that_is_no_run_directory_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = export(folder.path(), &folder.path().join("model.onnx"), MOST_INSIDE).unwrap_err();
    assert!(matches!(error, OnnxError::Run(_)) && error.to_string().contains("no run directory"), "{error}");
    assert!(!folder.path().join("model.onnx").exists());
}
