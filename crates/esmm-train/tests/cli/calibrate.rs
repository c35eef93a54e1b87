//! `esmm calibrate`: what it prints, what it changes, and that it is undone.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use serde_json::Value;

use crate::common::{Workspace, csv};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// A model that is far off: it has learned next to nothing, from biases at 50%.
fn wrong() -> Workspace {
    let workspace = Workspace::new();
    workspace.write("data.csv", &csv(2000));
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

fn scores(workspace: &Workspace) -> (Vec<[f64; 3]>, String) {
    let said = workspace.esmm(&["predict", "run", "data.csv", "-o", "scores.csv"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let text = workspace.read("scores.csv");
    let row = |line: &str| {
        let cells: Vec<f64> = line.split(',').map(|cell| cell.parse().unwrap()).collect();
        [cells[0], cells[1], cells[2]]
    };
    (text.lines().skip(1).map(row).collect(), said.stderr)
}

fn files(workspace: &Workspace) -> Vec<(String, Vec<u8>)> {
    let names = crate::common::files(&workspace.path("run")).into_iter();
    let names = names.filter(|name| workspace.path("run").join(name).is_file());
    names.map(|name| (name.clone(), std::fs::read(workspace.path("run").join(&name)).unwrap())).collect()
}

#[test]
fn probabilities_are_right_afterwards_and_the_undone_model_is_the_old_one() {
    let workspace = wrong();
    let untouched = files(&workspace);
    let (before, _) = evaluate(&workspace);
    let (raw, said) = scores(&workspace);
    assert!(!said.contains("calibrated"), "{said}");
    let said = workspace.esmm(&["calibrate", "run", "data.csv"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    for words in ["CTR", "CTCVR", "better", "log loss", "esmm calibrate run --undo", "click: logit = "] {
        assert!(said.stdout.contains(words), "{words}: {}", said.stdout);
    }
    assert!(said.stdout.lines().all(|line| line.chars().count() <= 120), "{}", said.stdout);

    let (after, said) = evaluate(&workspace);
    assert!(
        said.contains("probabilities are calibrated (Platt, fitted by esmm calibrate on 2000 impressions"),
        "{said}"
    );
    for task in ["ctr", "ctcvr"] {
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
    for [ctr, cvr, ctcvr] in &corrected {
        assert!((ctr * cvr - ctcvr).abs() < 1e-6 && *cvr <= 1.0 && *cvr >= 0.0, "{ctr} {cvr} {ctcvr}");
    }
    let mean = |column: usize| corrected.iter().map(|row| row[column]).sum::<f64>() / 2000.0;
    let rate = |name: &str| after[name].as_f64().unwrap() / 2000.0;
    assert!((mean(0) - rate("clicks")).abs() < 1e-4 && (mean(2) - rate("conversions")).abs() < 1e-4);

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

#[test]
fn three_stages_are_corrected_each() {
    let workspace = Workspace::new();
    let mut text = String::new();
    for (row, line) in csv(3000).lines().enumerate() {
        if row == 0 {
            text.push_str(&format!("{line},purchase\n"));
            continue;
        }
        // Some rows go as far as chance has it: users alone would tell everything.
        let features = line.rsplitn(3, ',').last().unwrap();
        let depth = match line {
            line if line.ends_with(",1,1") => 2,
            line => usize::from(line.ends_with(",1,0")),
        };
        let depth = match (row as u32).wrapping_mul(2_654_435_761) >> 24 {
            chance if chance < 100 => chance as usize % 4,
            _ => depth + usize::from(line.ends_with(",1,1") && row % 5 < 2),
        };
        let labels = [1, 2, 3].map(|stage| u8::from(depth >= stage).to_string());
        text.push_str(&format!("{features},{}\n", labels.join(",")));
    }
    workspace.write("data.csv", &text);
    let stages = "labels.stages=['click','conversion','purchase']";
    let said = workspace.esmm(&[
        "train",
        "run.toml",
        "--run-dir",
        "run",
        "--quiet",
        "--set",
        stages,
        "--set",
        "model.prior=false",
    ]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let said = workspace.esmm(&["calibrate", "run", "data.csv", "--json"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let record = json(&said.stdout);
    let tasks: Vec<&str> =
        record["tasks"].as_array().unwrap().iter().map(|task| task["task"].as_str().unwrap()).collect();
    assert_eq!(tasks, ["click", "conversion|click", "conversion", "purchase|conversion", "purchase"]);
    let (after, _) = evaluate(&workspace);
    for task in ["click", "conversion", "purchase"] {
        let calibration = after[task]["calibration"].as_f64().unwrap();
        assert!((calibration - 1.0).abs() < 1e-3, "{task}: {after}");
    }
}

#[test]
fn data_without_conversions_changes_nothing() {
    let workspace = Workspace::trained();
    let untouched = files(&workspace);
    let without = csv(400).replace(",1,1\n", ",1,0\n");
    workspace.write("none.csv", &without);
    let error = workspace.esmm(&["calibrate", "run", "none.csv"]).error(1).to_owned();
    assert!(error.contains("0 of 400 impressions reached conversion: a calibration needs 10"), "{error}");
    workspace.write("few.csv", &csv(30));
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
    let workspace = wrong();
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
