//! `esmm aliccp` as a person uses it: from raw files to a trained model, killed and interrupted.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[cfg(unix)]
use std::{fs::File, io::Write, process::Command, time::Duration};

use crate::common::{Workspace, files};
use serde_json::Value;

/// Raw files with many clicks and conversions, so that few rows are enough to train on.
fn generated(rows: &str) -> Workspace {
    let workspace = Workspace::new();
    let rates = ["--click-rate", "0.3", "--conversion-rate", "0.1"];
    let said = workspace.esmm(&[&["aliccp", "generate", "raw", "--rows", rows], &rates[..]].concat());
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stdout.contains("Next: esmm aliccp prepare raw raw-prepared"), "{}", said.stdout);
    workspace
}

#[test]
fn raw_files_become_a_trained_model() {
    let workspace = generated("2000");
    let said = workspace.esmm(&["aliccp", "prepare", "raw", "out", "--quiet"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    for expected in ["impressions", "109_14 user_categories", "esmm train out/run.toml"] {
        assert!(said.stdout.contains(expected), "{expected} in: {}", said.stdout);
    }
    assert_eq!(
        files(&workspace.path("out")),
        ["report.json", "run-authors.toml", "run.toml", "test", "train"]
    );
    let report: Value = serde_json::from_str(&workspace.read("out/report.json")).unwrap();
    let rows = report["train"]["impressions"].as_u64().unwrap();
    assert_eq!(rows + report["train"]["dropped_conversions_without_click"].as_u64().unwrap(), 2000);

    let small =
        ["--set", "model.hidden=[8]", "--set", "model.embedding_dim=4", "--set", "train.batch_size=256"];
    for run_file in ["out/run.toml", "out/run-authors.toml"] {
        let run = ["train", run_file, "--run-dir", "run", "--overwrite", "--quiet"];
        let said = workspace.esmm(&[&run[..], &small].concat());
        assert_eq!(said.code, 0, "{}", said.stderr);
        let metrics: Value = serde_json::from_str(&workspace.read("run/metrics.json")).unwrap();
        assert_eq!(metrics["train"]["rows"], rows);
        assert_eq!(metrics["test"]["rows"], report["test"]["impressions"]);
        assert!(metrics["test"]["ctr"]["auc"].is_f64(), "{metrics}");
    }
    let said = workspace.esmm(&["evaluate", "run", "out/test/impressions.parquet", "--json"]);
    let again: Value = serde_json::from_str(&said.stdout).unwrap();
    let metrics: Value = serde_json::from_str(&workspace.read("run/metrics.json")).unwrap();
    // Measured in memory, row by row, and again with the users' features once a group: sums in another order.
    for count in ["rows", "clicks", "conversions"] {
        assert_eq!(again[count], metrics["test"][count]);
    }
    let loss = |metrics: &Value| metrics["ctcvr"]["log_loss"].as_f64().unwrap();
    assert!((loss(&again) - loss(&metrics["test"])).abs() < 1e-5, "{again}");
    let keep = ["-o", "scores.csv", "--keep", "sample_id"];
    let said = workspace.esmm(&[&["predict", "run", "out/test/impressions.parquet"], &keep[..]].concat());
    assert_eq!(said.code, 0, "{}", said.stderr);
    let scores = workspace.read("scores.csv");
    assert_eq!(scores.lines().count() as u64, 1 + metrics["test"]["rows"].as_u64().unwrap());
}

#[test]
fn wrong_settings_exit_with_2_and_bad_data_with_1() {
    let workspace = generated("200");
    let fails = |args: &[&str], code: i32| {
        let said = workspace.esmm(&[&["aliccp"], args].concat());
        assert!(!workspace.path("out").exists() && !workspace.path(".esmm-out").exists());
        said.error(code).to_owned()
    };
    let error = fails(&["prepare", "raw", "out", "--memory", "100MiB", "--threads", "2"], 2);
    assert_eq!(error, "--memory 100MiB: 2 threads need 336MiB, give more or say --threads");
    assert!(fails(&["prepare", "raw", "raw"], 2).starts_with("raw: is not empty"));
    assert!(fails(&["prepare", "nowhere", "out"], 1).starts_with("nowhere: "));
    assert!(fails(&["generate", "out", "--click-rate", "2"], 2).starts_with("--click-rate 2: it must be"));
    let usage = |args: &[&str]| workspace.esmm(&[&["aliccp"], args].concat()).code;
    assert_eq!(usage(&["prepare", "raw", "out", "--memory", "much"]), 2);
    assert_eq!(usage(&["prepare", "raw", "out", "--threads", "0"]), 2);
    let mut text = workspace.read("raw/sample_skeleton_test.csv");
    text.insert_str(0, "sample_id,click,conversion,common_feature_index,feature_num,feature_list\n");
    workspace.write("raw/sample_skeleton_test.csv", &text);
    let error = fails(&["prepare", "raw", "out", "--quiet"], 1);
    assert_eq!(
        error,
        "raw/sample_skeleton_test.csv:1: common_feature_index: found `common_feature_index`, allowed is one of the common files"
    );
    let said = workspace.esmm(&["aliccp", "prepare", "raw", "out", "--quiet", "--max-bad-rows", "1"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stdout.contains("1 bad rows were skipped"), "{}", said.stdout);
}

/// The skeleton is a pipe that never ends, so that a signal always comes in the middle.
#[cfg(unix)]
#[test]
fn killed_or_interrupted_it_leaves_nothing_half_and_runs_again() {
    const LINE: &str = "1,0,0,a,0,\n";
    let workspace = Workspace::new();
    std::fs::create_dir(workspace.path("raw")).unwrap();
    workspace.write("raw/common_features_train.csv", "a,0,\n");
    let (skeleton, partial) = (workspace.path("raw/sample_skeleton_train.csv"), workspace.path(".esmm-out"));
    assert!(Command::new("mkfifo").arg(&skeleton).status().unwrap().success());
    for signal in ["KILL", "INT", "KILL"] {
        let mut child =
            workspace.command_that_hears(&["aliccp", "prepare", "raw", "out", "--quiet"]).spawn().unwrap();
        // Opens when the preparation opens the other end.
        let mut pipe = File::options().write(true).open(&skeleton).unwrap();
        let endless =
            std::thread::spawn(move || while pipe.write_all(LINE.repeat(1000).as_bytes()).is_ok() {});
        std::thread::sleep(Duration::from_millis(50));
        let id = child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
        let status = child.wait().unwrap();
        endless.join().unwrap();
        assert!(!workspace.path("out").exists(), "half a result after {signal}");
        if signal == "INT" {
            assert_eq!(status.code(), Some(130));
            assert!(!partial.exists(), "an interrupted preparation cleans up");
        } else {
            assert!(partial.exists(), "what a killed one leaves is hidden");
        }
    }
    std::fs::remove_file(&skeleton).unwrap();
    workspace.write("raw/sample_skeleton_train.csv", LINE);
    let said = workspace.esmm(&["aliccp", "prepare", "raw", "out", "--quiet"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(!partial.exists());
    assert_eq!(files(&workspace.path("out")), ["report.json", "run-authors.toml", "run.toml", "train"]);
}
