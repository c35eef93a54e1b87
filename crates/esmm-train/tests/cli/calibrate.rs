//! `esmm calibrate`: what it prints, what it changes, and that it is undone.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use serde_json::Value;

use crate::common::{Funnel, Workspace, chain, probabilities};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// A model that is far off: it has learned next to nothing, from biases at 50%.
fn wrong(funnel: Funnel) -> Workspace {
    let workspace = Workspace::of(funnel);
    workspace.write("data.csv", &funnel.csv(2000));
    let said = workspace.esmm(&[
        "train",
        "run.toml",
        "--run-dir",
        "run",
        "--quiet",
        "--set",
        "model.prior=false",
        "--set",
        "train.epochs=1",
    ]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    workspace
}

fn evaluate(workspace: &Workspace) -> (Value, String) {
    let said = workspace.esmm(&["evaluate", "run", "data.csv", "--json"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    (json(&said.stdout), said.stderr)
}

fn scores(workspace: &Workspace) -> (Vec<Vec<f64>>, String) {
    let said = workspace.esmm(&["predict", "run", "data.csv", "-o", "scores.csv"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    (probabilities(&workspace.read("scores.csv")), said.stderr)
}

fn files(workspace: &Workspace) -> Vec<(String, Vec<u8>)> {
    let names = crate::common::files(&workspace.path("run")).into_iter();
    let names = names.filter(|name| workspace.path("run").join(name).is_file());
    names.map(|name| (name.clone(), std::fs::read(workspace.path("run").join(&name)).unwrap())).collect()
}

#[test]
fn probabilities_are_right_afterwards_and_the_undone_model_is_the_old_one() {
    Funnel::ALL.into_iter().for_each(right_afterwards);
}

fn right_afterwards(funnel: Funnel) {
    let workspace = wrong(funnel);
    let untouched = files(&workspace);
    let (before, _) = evaluate(&workspace);
    let (raw, said) = scores(&workspace);
    assert!(!said.contains("calibrated"), "{said}");
    let said = workspace.esmm(&["calibrate", "run", "data.csv"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let tasks = funnel.reached().iter().map(|task| match funnel {
        Funnel::Two => task.to_uppercase(),
        Funnel::Three => (*task).to_owned(),
    });
    let fitted = funnel.stages().iter().map(|stage| format!("{stage}: logit = "));
    let others = ["better", "log loss", "esmm calibrate run --undo"].map(str::to_owned);
    for words in tasks.chain(fitted).chain(others) {
        assert!(said.stdout.contains(&words), "{words}: {}", said.stdout);
    }
    assert!(said.stdout.lines().all(|line| line.chars().count() <= 120), "{}", said.stdout);

    let (after, said) = evaluate(&workspace);
    assert!(
        said.contains("probabilities are calibrated (Platt, fitted by esmm calibrate on 2000 impressions"),
        "{said}"
    );
    for task in funnel.reached() {
        let value = |metrics: &Value, key: &str| metrics[task][key].as_f64().unwrap();
        assert!((value(&before, "calibration") - 1.0).abs() > 0.05, "{before}");
        // The most likely correction predicts as many events as there were.
        assert!((value(&after, "calibration") - 1.0).abs() < 1e-4, "{task}: {after}");
        assert!(value(&after, "log_loss") < value(&before, "log_loss"), "{task}");
        assert!((value(&after, "auc") - value(&before, "auc")).abs() < 1e-6, "{task}: the order stays");
    }
    let (corrected, said) = scores(&workspace);
    assert!(said.contains("probabilities are calibrated"), "{said}");
    assert_ne!(corrected, raw);
    for [before, given, reached] in corrected.iter().flat_map(|row| chain(row)) {
        assert!((before * given - reached).abs() < 1e-6, "{before} {given} {reached}");
        assert!((0.0..=1.0).contains(&given), "{given}");
    }
    let mean = |column: usize| corrected.iter().map(|row| row[column]).sum::<f64>() / 2000.0;
    for (column, count) in (0..).step_by(2).zip(funnel.counts()) {
        let rate = match funnel {
            Funnel::Two => after[count].as_f64(),
            Funnel::Three => after["reached"][count].as_f64(),
        };
        assert!((mean(column) - rate.unwrap() / 2000.0).abs() < 1e-4, "{count}: {after}");
    }

    // What the report says, and the run directory.
    let said = workspace.esmm(&["report", "run", "-o", "report.html"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(workspace.read("report.html").contains("Calibrated after training"));
    assert!(workspace.read("run/manifest.json").contains("calibration.json"));
    let error = workspace.esmm(&["train", "run.toml", "--run-dir", "run", "--resume"]).error(2).to_owned();
    assert!(error.contains("esmm calibrate run --undo"), "{error}");

    // Again: always of the model as it was trained.
    let record = workspace.read("run/calibration.json");
    let said = workspace.esmm(&["calibrate", "run", "data.csv"]);
    assert!(said.code == 0 && said.stderr.contains("is replaced"), "{}", said.stderr);
    assert_eq!(workspace.read("run/calibration.json"), record);

    let said = workspace.esmm(&["calibrate", "run", "--undo"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(files(&workspace) == untouched, "undone to the byte");
    assert_eq!(scores(&workspace).0, raw);
    assert!(!workspace.esmm(&["report", "run", "-o", "report.html"]).stderr.contains("error"));
    assert!(!workspace.read("report.html").contains("Calibrated after training"));
    assert!(workspace.esmm(&["calibrate", "run", "--undo"]).error(2).contains("there is nothing to undo"));
}

/// The record names each stage and each task, in their order.
#[test]
fn the_record_has_every_stage_and_task() {
    for funnel in Funnel::ALL {
        let workspace = wrong(funnel);
        let said = workspace.esmm(&["calibrate", "run", "data.csv", "--json"]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        let record = json(&said.stdout);
        let names = |key: &str, name: &str| -> Vec<String> {
            let entries = record[key].as_array().unwrap().iter();
            entries.map(|entry| entry[name].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names("tasks", "task"), funnel.tasks());
        assert_eq!(names("stages", "stage"), funnel.stages());
    }
}

#[test]
fn data_without_conversions_changes_nothing() {
    Funnel::ALL.into_iter().for_each(nothing_to_go_by);
}

fn nothing_to_go_by(funnel: Funnel) {
    let workspace = Workspace::trained_of(funnel);
    let untouched = files(&workspace);
    let stages = funnel.stages().len();
    let only_clicks = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        let (kept, lost) = cells.split_at(cells.len() - stages + 1);
        kept.join(",") + &",0".repeat(lost.len())
    };
    let text = funnel.csv(400);
    let (header, rows) = text.split_once('\n').unwrap();
    let rows: Vec<String> = rows.lines().map(only_clicks).collect();
    workspace.write("none.csv", &format!("{header}\n{}\n", rows.join("\n")));
    let error = workspace.esmm(&["calibrate", "run", "none.csv"]).error(1).to_owned();
    assert!(error.contains("0 of 400 impressions reached conversion: a calibration needs 10"), "{error}");
    workspace.write("few.csv", &funnel.csv(30));
    assert!(workspace.esmm(&["calibrate", "run", "few.csv"]).error(1).contains("a calibration needs 10"));
    assert!(files(&workspace) == untouched);
    for args in [vec!["calibrate", "run"], vec!["calibrate", "run", "data.csv", "--undo"]] {
        assert_eq!(workspace.esmm(&args).code, 2, "{args:?}");
    }
    assert!(workspace.esmm(&["calibrate", "nothing", "data.csv"]).error(1).contains("nothing"));
}

/// A correction that is damaged, foreign or of other weights is never ignored.
#[test]
fn a_correction_of_something_else_is_refused() {
    Funnel::ALL.into_iter().for_each(of_something_else);
}

fn of_something_else(funnel: Funnel) {
    let workspace = wrong(funnel);
    let said = workspace.esmm(&["calibrate", "run", "data.csv"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let record = workspace.read("run/calibration.json");
    workspace.write("run/calibration.json", &record.replacen("\"slope\": ", "\"slope\": 1", 1));
    let predict = ["predict", "run", "data.csv", "-o", "scores.csv"];
    let error = workspace.esmm(&predict).error(1).to_owned();
    assert!(error.contains("is not what esmm calibrate wrote") && error.contains("--undo"), "{error}");
    // It can be taken away, and replaced.
    assert_eq!(workspace.esmm(&["calibrate", "run", "--undo"]).code, 0);
    assert_eq!(workspace.esmm(&predict).code, 0);
    workspace.write("run/calibration.json", &record);
    let error = workspace.esmm(&predict).error(1).to_owned();
    assert!(error.contains("is not what esmm calibrate wrote"), "{error}");
    assert_eq!(workspace.esmm(&["calibrate", "run", "data.csv"]).code, 0);
    assert_eq!(workspace.esmm(&predict).code, 0);
    std::fs::remove_file(workspace.path("run/calibration.json")).unwrap();
    let error = workspace.esmm(&predict).error(1).to_owned();
    assert!(error.contains("calibration.json"), "{error}");
    // Weights that were replaced on purpose.
    workspace.write("run/calibration.json", &record);
    let said =
        workspace.esmm(&["train", "run.toml", "--run-dir", "other", "--quiet", "--set", "train.seed=9"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    std::fs::copy(workspace.path("other/model.safetensors"), workspace.path("run/model.safetensors"))
        .unwrap();
    let error = workspace.esmm(&[&predict[..], &["--accept-weights"]].concat()).error(1).to_owned();
    assert!(error.contains("was fitted for other weights"), "{error}");
}
