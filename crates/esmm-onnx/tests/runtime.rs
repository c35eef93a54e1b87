//! Exported models against `esmm predict`: in ONNX Runtime and in tract, on rows that Python encodes by
//! `preprocessing.json`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use arrow::array::AsArray;
use arrow::datatypes::Float32Type;
use burn_ndarray::NdArray;
use esmm_core::Activation;
use esmm_data::LoadOptions;
use esmm_onnx::{ExportOptions, OnnxError, export};
use esmm_run::config::{RunFile, TrainConfig};
use esmm_run::correction::{CalibrationRecord, Platt, PlattFit};
use esmm_run::manifest::{Manifest, Trust};
use esmm_run::run_dir::{Existing, RunDir, write_json};
use esmm_run::scorer::Scorer;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// Names a Python with the packages of `tests/serving/requirements.txt`.
const PYTHON: &str = "ESMM_SERVING_PYTHON";

/// Every encoding, each once on either side where it can be.
const FEATURES: &str = r#"
features = [
  { name = "user", side = "user", min_count = 2 },
  { name = "age", side = "user", encode = "standardize", missing = 40 },
  { name = "income", side = "user", encode = "ple", bins = 5 },
  { name = "seen", side = "user", pooling = "sum", shares = "tags" },
  { name = "hour", encode = "raw", num_embeddings = 24 },
  { name = "phone", encode = "hash", buckets = 50 },
  { name = "item", side = "item" },
  { name = "tags", side = "item", pooling = "mean", weighted = true },
  { name = "price", side = "item", encode = "log1p" },
  { name = "price_band", column = "price", side = "item", encode = "quantile", buckets = 4 },
  { name = "stock", side = "item", encode = "dense" },
]
"#;

/// A run directory as a training leaves it, its weights the initial ones.
struct Run {
    folder: TempDir,
    stages: Vec<String>,
}

/// What differs between the models of the tests.
#[derive(Debug, Clone, Copy)]
struct Kind {
    activation: Activation,
    batch_norm: bool,
    shared_embeddings: bool,
    stages: usize,
    hidden: &'static [usize],
    /// Models whose probabilities are averaged.
    seeds: u64,
    /// Whether its probabilities are corrected.
    calibrated: bool,
}

const PLAIN: Kind = Kind {
    activation: Activation::Relu,
    batch_norm: true,
    shared_embeddings: true,
    stages: 2,
    hidden: &[24, 16],
    seeds: 1,
    calibrated: false,
};

fn user(row: usize) -> String {
    let income = if row % 11 == 3 { String::from("12000.5") } else { format!("{}", 1000 * (row % 17)) };
    let age = if row % 7 == 1 { String::new() } else { (20 + row % 30).to_string() };
    format!("u{},{age},{income},t{}|t{},{},P{}", row % 20, row % 6, row % 9, row % 24, row % 13)
}

fn item(row: usize) -> String {
    let tags = match row % 5 {
        0 => String::new(),
        1 => format!("t{}:0.5", row % 6),
        _ => format!("t{}:1.5|t{}:0.25|t7:0", row % 6, row % 4),
    };
    format!("{},{tags},{}.5,{}", row % 40, row % 9, row as f64 / 8.0)
}

impl Run {
    fn new(kind: Kind) -> Self {
        let stages: Vec<String> = ["click", "cart", "conversion"][3 - kind.stages..]
            .iter()
            .map(|stage| (*stage).to_owned())
            .collect();
        let run = Self { folder: tempfile::tempdir().unwrap(), stages };
        let mut rows =
            format!("user,age,income,seen,hour,phone,item,tags,price,stock,{}\n", run.stages.join(","));
        for row in 0..400 {
            let depth = [0, 1, 0, 2, 1, 0, 3][row % 7];
            let labels: Vec<&str> =
                (0..kind.stages).map(|stage| if stage < depth { "1" } else { "0" }).collect();
            rows.push_str(&format!("{},{},{}\n", user(row), item(row * 3), labels.join(",")));
        }
        std::fs::write(run.path("data.csv"), rows).unwrap();
        let text = format!(
            "{FEATURES}\n[labels]\nstages = {:?}\n[data]\npath = {:?}\nsplit = {{ by = \"random\", valid = 0.2, test = 0.2 }}\n\
             [model]\nembedding_dim = 8\nembedding_init_std = 1.0\nhidden = {:?}\nbatch_norm = {}\nshared_embeddings = {}\n",
            run.stages,
            run.path("data.csv"),
            kind.hidden,
            kind.batch_norm,
            kind.shared_embeddings
        );
        let file = RunFile::parse(&text, "run.toml", &[]).unwrap();
        let mut config = TrainConfig::resolve(&file).unwrap();
        config.model.towers.activation = kind.activation;
        config.train.seeds = kind.seeds;
        let loaded = config.data_spec().load(&LoadOptions::default()).unwrap();
        let mut model = config.model(loaded.encoders.schema().clone()).unwrap();
        let directory = RunDir::create(&run.path("run"), Existing::Refuse).unwrap();
        std::fs::create_dir_all(directory.encoders()).unwrap();
        loaded.encoders.save(&directory.encoders()).unwrap();
        write_json(&directory.schema(), &model).unwrap();
        write_json(&directory.config(), &config).unwrap();
        Manifest::begin(&directory).unwrap();
        for member in directory.members(kind.seeds) {
            model.seed += 1;
            std::fs::create_dir_all(member.own_path()).unwrap();
            let weights = model.init::<NdArray>(&Default::default()).unwrap();
            Manifest::replace_weights(&member, &weights.state_dict()).unwrap();
        }
        if kind.calibrated {
            calibrate(&directory, &run.stages);
        }
        run
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes one user with some items, some of them unknown, and what `esmm predict` says of them.
    fn ask(&self) -> (PathBuf, PathBuf) {
        let mut rows = String::from("user,age,income,seen,hour,phone,item,tags,price,stock\n");
        for row in 0..50 {
            let item = if row == 7 { "nothing,,3.5,1".to_owned() } else { item(row * 7) };
            rows.push_str(&format!("u3,,4321,t1|unseen|t2,17,P5,{item}\n"));
        }
        let (asked, expected) = (self.path("asked.csv"), self.path("expected.json"));
        std::fs::write(&asked, rows).unwrap();
        let run = RunDir::open(&self.path("run")).unwrap();
        let mut scorer = Scorer::<NdArray>::open(&run, &Default::default()).unwrap();
        let source = scorer.source(&[asked.display().to_string()]);
        let chunk = source.open(&scorer.required_columns()).unwrap().next().unwrap().unwrap();
        let scores = scorer.score(&chunk).unwrap();
        let mut columns = Map::new();
        for (field, column) in scores.schema_ref().fields().iter().zip(scores.columns()) {
            columns
                .insert(field.name().clone(), json!(column.as_primitive::<Float32Type>().values().to_vec()));
        }
        std::fs::write(&expected, Value::from(columns).to_string()).unwrap();
        (asked, expected)
    }
}

/// Gives a run directory a correction.
fn calibrate(run: &RunDir, stages: &[String]) {
    let fit = |stage: usize| PlattFit {
        platt: Platt { slope: 0.8 + 0.2 * stage as f64, intercept: stage as f64 - 0.5 },
        slope_error: 0.1,
        intercept_error: 0.1,
    };
    let fits: Vec<PlattFit> = (0..stages.len()).map(fit).collect();
    let record = CalibrationRecord::new(run, &["data.csv".to_owned()], 300, stages, &fits, vec![]).unwrap();
    record.write(run).unwrap();
}

/// The answer that goes with a model is that of the corrected probabilities.
#[test]
fn a_correction_is_part_of_the_answer() {
    let run = Run::new(PLAIN);
    let answer = || -> Vec<f64> {
        std::fs::create_dir_all(run.path("out")).unwrap();
        let exported =
            export(&run.path("run"), &run.path("out/model.onnx"), &ExportOptions::default()).unwrap();
        let golden: Value = serde_json::from_slice(&std::fs::read(exported.golden).unwrap()).unwrap();
        std::fs::remove_dir_all(run.path("out")).unwrap();
        serde_json::from_value(golden["outputs"]["pctr"].clone()).unwrap()
    };
    let before = answer();
    calibrate(&RunDir::open(&run.path("run")).unwrap(), &run.stages);
    let logit = |p: f64| (p / (1.0 - p)).ln();
    for (before, after) in before.into_iter().zip(answer()) {
        assert!((logit(after) - (0.8 * logit(before) - 0.5)).abs() < 1e-3, "{before}, {after}");
    }
}

/// The Python of the check; says so on the terminal when there is none.
fn python() -> Option<std::ffi::OsString> {
    let python = std::env::var_os(PYTHON);
    if python.is_none() {
        // Not captured, as `eprintln!` would be.
        let _ = writeln!(
            std::io::stderr(),
            "skipped the check with ONNX Runtime and tract: set {PYTHON} to a Python that has the packages of \
             tests/serving/requirements.txt"
        );
    }
    python
}

fn check(kind: Kind, most_inside: u64) {
    let run = Run::new(kind);
    std::fs::create_dir(run.path("out")).unwrap();
    let path = run.path("out/model.onnx");
    let options = ExportOptions { most_inside, ..ExportOptions::default() };
    let exported = export(&run.path("run"), &path, &options).unwrap();
    assert_eq!(exported.weights.is_some(), most_inside == 1000);
    for file in [&exported.model, &exported.preprocessing, &exported.vocabularies, &exported.golden] {
        assert!(file.exists(), "{}", file.display());
    }
    assert_eq!(
        std::fs::read_dir(run.path("out")).unwrap().count(),
        4 + usize::from(exported.weights.is_some())
    );
    let Some(python) = python() else { return };
    let (asked, expected) = run.ask();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/serving/check_onnx.py");
    let output = Command::new(python).arg(script).arg(&path).arg(asked).arg(expected).output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{kind:?}: {}\n{}", said(&output.stdout), said(&output.stderr));
}

/// Each activation, with and without batch norm, tables of one's own, two and three stages, no hidden layer, ensembles.
#[test]
fn runtimes_compute_what_predict_does() {
    let inside = ExportOptions::default().most_inside;
    check(PLAIN, inside);
    check(Kind { activation: Activation::None, batch_norm: false, ..PLAIN }, inside);
    check(Kind { activation: Activation::LeakyRelu { negative_slope: 0.1 }, stages: 3, ..PLAIN }, inside);
    check(Kind { activation: Activation::Prelu, shared_embeddings: false, ..PLAIN }, inside);
    check(Kind { hidden: &[], ..PLAIN }, inside);
    check(Kind { seeds: 3, stages: 3, ..PLAIN }, inside);
    check(Kind { seeds: 2, shared_embeddings: false, ..PLAIN }, inside);
    check(Kind { calibrated: true, ..PLAIN }, inside);
    check(Kind { calibrated: true, stages: 3, ..PLAIN }, inside);
    check(Kind { calibrated: true, seeds: 2, ..PLAIN }, inside);
}

#[test]
fn large_weights_lie_beside_the_model() {
    check(Kind { shared_embeddings: false, stages: 3, ..PLAIN }, 1000);
}

#[test]
fn what_must_not_be_written_over_is_refused() {
    let run = Run::new(PLAIN);
    let refused = |path: &str| {
        export(&run.path("run"), &run.path(path), &ExportOptions::default()).unwrap_err().to_string()
    };
    std::fs::write(run.path("run/model.onnx"), "mine").unwrap();
    assert!(refused("run/model.onnx").contains("is a file of the run directory"));
    assert!(refused("model.txt").contains("must end in .onnx"));
    assert!(refused("nowhere/model.onnx").contains("there is no folder"));
    export(&run.path("run"), &run.path("a.onnx"), &ExportOptions::default()).unwrap();
    assert!(refused("b.onnx").contains("belongs to a.onnx"));
    std::fs::create_dir(run.path("other")).unwrap();
    std::fs::write(run.path("other/preprocessing.json"), "{}").unwrap();
    assert!(refused("other/model.onnx").contains("no file of an export"));
    assert_eq!(std::fs::read_to_string(run.path("other/preprocessing.json")).unwrap(), "{}");
    // Again over its own files, to the same bytes.
    let before = std::fs::read(run.path("a.onnx")).unwrap();
    export(&run.path("run"), &run.path("a.onnx"), &ExportOptions::default()).unwrap();
    assert_eq!(std::fs::read(run.path("a.onnx")).unwrap(), before);
}

#[test]
fn weights_that_the_training_did_not_write_are_refused_unless_accepted() {
    let run = Run::new(PLAIN);
    let other = Run::new(Kind { batch_norm: true, ..PLAIN });
    let weights = std::fs::read(other.path("run/model.safetensors")).unwrap();
    std::fs::write(run.path("run/model.safetensors"), [&weights[..], b" "].concat()).unwrap();
    let path = run.path("model.onnx");
    let error = export(&run.path("run"), &path, &ExportOptions::default()).unwrap_err().to_string();
    assert!(error.contains("model.safetensors") && error.contains("--accept-weights"), "{error}");
    assert!(!path.exists());
    std::fs::write(run.path("run/model.safetensors"), weights).unwrap();
    export(&run.path("run"), &path, &ExportOptions { trust: Trust::Weights, ..ExportOptions::default() })
        .unwrap();
}

#[test]
fn a_folder_that_is_no_run_directory_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let error = export(folder.path(), &path, &ExportOptions::default()).unwrap_err();
    assert!(matches!(error, OnnxError::Run(_)) && error.to_string().contains("no run directory"), "{error}");
    assert!(!path.exists());
}
