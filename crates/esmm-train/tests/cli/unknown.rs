//! Values that training does not know, or does not take: said, counted, and scored with what was trained.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch, RecordBatchReader};
use arrow::datatypes::Int64Type;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use crate::common::Workspace;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn run(workspace: &Workspace, args: &[&str]) -> String {
    let said = workspace.esmm(args);
    assert_eq!(said.code, 0, "{args:?}: {}", said.stderr);
    said.stderr
}

/// The first rows of a file of the synthetic funnel, with users that no training has seen.
fn with_new_users(from: &Path, to: &Path) {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(from).unwrap()).unwrap();
    let reader = reader.with_limit(100_000).build().unwrap();
    let schema = reader.schema();
    let mut writer = ArrowWriter::try_new(File::create(to).unwrap(), schema.clone(), None).unwrap();
    for batch in reader {
        let batch = batch.unwrap();
        let users = batch.column_by_name("user_id").unwrap().as_primitive::<Int64Type>();
        let new: Int64Array = users.iter().map(|user| user.map(|user| user + 1_000_000_000)).collect();
        let place = schema.index_of("user_id").unwrap();
        let mut columns = batch.columns().to_vec();
        columns[place] = Arc::new(new);
        writer.write(&RecordBatch::try_new(schema.clone(), columns).unwrap()).unwrap();
    }
    writer.close().unwrap();
}

/// Impressions of users whom the training has not seen: without ids that were taken as unknown their row has its initial
/// values, and what is predicted is off by as much as chance has it, here 8% (of pCTCVR). With them it learns what an
/// average user does, and is off by 3%.
#[test]
fn rows_of_new_users_are_calibrated() {
    let workspace = Workspace::new();
    run(&workspace, &["synthesize", "full", "--rows", "500000", "--seed", "7"]);
    with_new_users(&workspace.path("full/data.parquet"), &workspace.path("new.parquet"));
    let off_by = |name: &str, share: &str| {
        let share = format!("data.unknown_share={share}");
        let train = ["train", "full/run.toml", "--run-dir", name, "--quiet", "--no-tensorboard"];
        run(&workspace, &[&train[..], &["--device", "ndarray", "--set", &share]].concat());
        let said = workspace.esmm(&["evaluate", name, "new.parquet", "--json", "--device", "ndarray"]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        let metrics = json(&said.stdout);
        let off = |task: &str| (metrics[task]["calibration"].as_f64().unwrap() - 1.0).abs();
        off("ctr").max(off("ctcvr"))
    };
    let without = off_by("without", "0");
    let with = off_by("with", "0.01");
    assert!(without > 0.06, "off by {without} without, by {with} with them");
    assert!(with < 0.04, "off by {without} without, by {with} with them");
}

#[test]
fn mostly_unknown_values_are_said_with_their_share() {
    let workspace = Workspace::trained();
    workspace.write("new.csv", &workspace.read("data.csv").replace("\nu", "\nnew"));
    for args in [
        &["evaluate", "run", "new.csv", "--json"][..],
        &["predict", "run", "new.csv", "-o", "scores.csv", "--json", "--quiet"],
    ] {
        let said = workspace.esmm(args);
        assert_eq!(said.code, 0, "{}", said.stderr);
        assert!(
            said.stderr.contains("feature `user`: 100% of its values are unknown in training"),
            "{args:?}: {}",
            said.stderr
        );
        assert_eq!(said.stderr.matches("warning").count(), 1, "{args:?}: {}", said.stderr);
        let found = json(&said.stdout);
        let features = &found["features"];
        assert_eq!(features["user"]["values"], 400);
        assert_eq!(features["user"]["unknown_rate"], 1.0);
        assert_eq!(features["user"]["untrained_rate"], 0.0, "the row of unknown users was trained");
        assert_eq!(features["tags"]["unknown_rate"], 0.0);
        assert_eq!(found["rows"], 400);
    }
    let both = workspace.esmm(&["predict", "run", "new.csv", "-o", "-", "--json"]);
    assert!(both.error(2).contains("both write to standard output"), "{}", both.stderr);
    let known = run(&workspace, &["predict", "run", "data.csv", "-o", "scores.csv"]);
    assert!(!known.contains("warning"), "{known}");
}

/// 95 of 100 cells are empty, in the training rows as in all others: they are missing, not unknown.
#[test]
fn a_mostly_empty_column_is_not_unknown() {
    let workspace = Workspace::new();
    let rows: String = (0..1000)
        .map(|row| {
            let coupon = if row % 20 == 0 { "c" } else { "" };
            format!("{coupon},{},{},0\n", row % 7, u8::from(row % 3 == 0))
        })
        .collect();
    workspace.write("data.csv", &format!("coupon,item,click,conversion\n{rows}"));
    let features = "features = [{ name = \"coupon\" }, { name = \"item\" }]\n[data]\n";
    let run_file = workspace.read("run.toml");
    workspace.write("run.toml", &format!("{features}{}", run_file.split("[data]\n").nth(1).unwrap()));
    let said = run(&workspace, &["train", "run.toml", "--run-dir", "run"]);
    assert!(!said.contains("unknown"), "{said}");
    let said = workspace.esmm(&["evaluate", "run", "data.csv", "--json"]);
    assert!(!said.stderr.contains("feature `coupon`"), "{}", said.stderr);
    let coupon = &json(&said.stdout)["features"]["coupon"];
    assert_eq!((&coupon["missing_rate"], &coupon["unknown_rate"]), (&0.95.into(), &0.0.into()));
}

/// A hash bucket that no training row fell into has its initial values.
#[test]
fn rows_that_were_never_trained_are_said() {
    let workspace = Workspace::new();
    let hashed = workspace.read("run.toml").replace(
        "{ name = \"user\", side = \"user\" }",
        "{ name = \"user\", side = \"user\", encode = \"hash\", buckets = 100000 }",
    );
    workspace.write("run.toml", &hashed);
    run(&workspace, &["train", "run.toml", "--run-dir", "run", "--quiet"]);
    workspace.write("new.csv", &workspace.read("data.csv").replace("\nu", "\nnew"));
    let said = workspace.esmm(&["evaluate", "run", "new.csv", "--json"]);
    assert!(said.stderr.contains("feature `user`: 100% of its values have a row"), "{}", said.stderr);
    let user = &json(&said.stdout)["features"]["user"];
    assert_eq!((&user["unknown_rate"], &user["untrained_rate"]), (&0.0.into(), &1.0.into()));
    let known = workspace.esmm(&["evaluate", "run", "data.csv", "--json"]);
    assert_eq!(json(&known.stdout)["features"]["user"]["untrained_rate"], 0.0);
}

/// Copies a run directory of before, `tests/FOLDER/run`, to `old`, scores its rows and compares these with what the program
/// of that time found. What `predict --json` printed.
fn score_as_before(workspace: &Workspace, folder: &str) -> Value {
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    for part in ["", "encoders"] {
        std::fs::create_dir_all(workspace.path("old").join(part)).unwrap();
        for entry in std::fs::read_dir(old.join("run").join(part)).unwrap() {
            let from = entry.unwrap().path();
            if from.is_file() {
                let to = workspace.path("old").join(part).join(from.file_name().unwrap());
                std::fs::copy(from, to).unwrap();
            }
        }
    }
    std::fs::copy(old.join("rows.csv"), workspace.path("rows.csv")).unwrap();
    let said =
        workspace.esmm(&["predict", "old", "rows.csv", "-o", "scores.csv", "--json", "--device", "ndarray"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let cells = |text: &str| -> Vec<f32> {
        let cells =
            text.lines().skip(1).flat_map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
        cells.map(|cell| cell.parse().unwrap()).collect()
    };
    let expected = cells(&std::fs::read_to_string(old.join("scores.csv")).unwrap());
    let found = cells(&workspace.read("scores.csv"));
    assert_eq!(found.len(), 15);
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
    }
    run(workspace, &["evaluate", "old", "data.csv"]);
    run(workspace, &["inspect", "old"]);
    json(&said.stdout)
}

/// The run directory and its scores are of commit c946c98: tests/old-run/README.md.
#[test]
fn a_run_directory_of_before_scores_as_before() {
    let workspace = Workspace::new();
    let said = score_as_before(&workspace, "old-run");
    // Exact keys: the user with a blank before it is another one.
    let user = &said["features"]["user"];
    assert_eq!((&user["missing_rate"], &user["unknown_rate"]), (&0.2.into(), &0.5.into()));
    assert_eq!(user["untrained_rate"], Value::Null, "nobody noted it then");
}

/// Of commit c105dd2, whose schema has a feature for each bin of a number: tests/old-run-bins/README.md.
#[test]
fn a_run_directory_with_bins_apart_scores_as_before() {
    let workspace = Workspace::new();
    score_as_before(&workspace, "old-run-bins");
    run(&workspace, &["export", "old", "-o", "model.onnx"]);
}

/// A negative price under log1p in a file to score, and in the test split of a training.
#[test]
fn a_cell_outside_is_replaced_counted_and_said() {
    let workspace = Workspace::new();
    let logs = workspace.read("run.toml").replace("\"standardize\"", "\"log1p\"");
    workspace.write("run.toml", &logs);
    run(&workspace, &["train", "run.toml", "--run-dir", "run", "--quiet"]);
    let bad = workspace.read("data.csv").replacen("u0,t0|t0,0.5,", "u0,t0|t0,-0.5,", 1);
    assert_ne!(bad, workspace.read("data.csv"));
    workspace.write("bad.csv", &bad);
    for command in [
        &["evaluate", "run", "bad.csv", "--json"][..],
        &["predict", "run", "bad.csv", "-o", "s.csv", "--json"],
    ] {
        let said = workspace.esmm(command);
        assert_eq!(said.code, 0, "{}", said.stderr);
        assert!(said.stderr.contains("feature `price`: 1 of 400 values are outside"), "{}", said.stderr);
        assert_eq!(json(&said.stdout)["features"]["price"]["outside"], 1);
        let strict = workspace.esmm(&[command, &["--strict"]].concat());
        assert_eq!(strict.code, 1, "{}", strict.stderr);
        assert!(strict.stderr.contains("bad.csv:2: column `price`: found `-0.5`"), "{}", strict.stderr);
    }
    let rule = logs.replace("encode = \"log1p\"", "encode = \"log1p\", outside = \"error\"");
    workspace.write("rule.toml", &rule);
    run(&workspace, &["train", "rule.toml", "--run-dir", "rule", "--quiet"]);
    let error = workspace.esmm(&["predict", "rule", "bad.csv", "-o", "s2.csv"]).error(1).to_owned();
    assert!(error.contains("bad.csv:2: column `price`"), "{error}");
    assert!(!workspace.path("s2.csv").exists());
    // The first row of the file trains, by this seed, so that its cell is an error.
    workspace.write("train.toml", &logs.replace("data.csv", "bad.csv"));
    let said = workspace.esmm(&["train", "train.toml", "--run-dir", "refused", "--quiet"]);
    let is_training = said.code == 1 && said.stderr.contains("bad.csv:2: column `price`");
    assert!(is_training, "{} {}", said.code, said.stderr);
}
