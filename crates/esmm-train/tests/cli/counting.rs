//! Rows that do not count alike: weights, rates of sampling in a column, conversions that still may come.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use esmm_core::StateDict;
use serde_json::Value;

use crate::common::{RUN_FILE, Workspace, csv};

/// The rows of `csv`, each with more cells.
fn with_cells(rows: usize, header: &str, cells: impl Fn(usize) -> String) -> String {
    let mut text = String::new();
    for (number, line) in csv(rows).lines().enumerate() {
        let more = if number == 0 { header.to_owned() } else { cells(number - 1) };
        text.push_str(&format!("{line},{more}\n"));
    }
    text
}

fn train(workspace: &Workspace, run: &str, sets: &[&str]) {
    let mut args = vec!["train", "run.toml", "--run-dir", run, "--quiet"];
    sets.iter().for_each(|set| args.extend(["--set", set]));
    let said = workspace.esmm(&args);
    assert_eq!(said.code, 0, "{}", said.stderr);
}

fn evaluate(workspace: &Workspace, run: &str, data: &str) -> Value {
    let said = workspace.esmm(&["evaluate", run, data, "--json"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    serde_json::from_str(&said.stdout).unwrap()
}

/// What a training leaves, but for what tells times.
fn same_bytes(workspace: &Workspace, one: &str, other: &str) {
    for name in ["model.safetensors", "metrics.json", "analysis.json", "schema.json"] {
        let bytes = |run: &str| std::fs::read(workspace.path(&format!("{run}/{name}"))).unwrap();
        assert!(bytes(one) == bytes(other), "{one}/{name} and {other}/{name} differ");
    }
}

/// In memory and streamed; also a window that no row is younger than, and rates of 1.
#[test]
fn columns_of_ones_change_no_byte() {
    let workspace = Workspace::new();
    workspace.write("data.csv", &with_cells(400, "one,at", |row| format!("1,{row}")));
    for streaming in ["data.streaming=false", "data.streaming=true"] {
        let run = |name: &str| format!("{name}-{streaming}").replace(['.', '='], "-");
        train(&workspace, &run("plain"), &[streaming]);
        let columns = [
            ("weight", vec!["labels.weight='one'"]),
            ("rate", vec!["labels.negative_rate='one'"]),
            (
                "window",
                vec!["labels.conversion_window=1", "labels.time='at'", "labels.conversions_until=1000"],
            ),
        ];
        for (name, mut sets) in columns {
            sets.push(streaming);
            train(&workspace, &run(name), &sets);
            same_bytes(&workspace, &run("plain"), &run(name));
        }
    }
    // A change that must show: otherwise the columns are not read at all.
    workspace.write("data.csv", &with_cells(400, "one,at", |row| format!("{},{row}", 1 + row % 2)));
    train(&workspace, "weighted", &["labels.weight='one'"]);
    let weights = |run: &str| std::fs::read(workspace.path(&format!("{run}/model.safetensors"))).unwrap();
    assert!(weights("weighted") != weights("plain-data-streaming-false"));
}

/// Metrics of rows with weights are those of as many copies, but for the last bits of scores, which depend on their batch.
#[test]
fn weights_are_copies_in_all_metrics() {
    let workspace = Workspace::new();
    let copies = |row: usize| row * 7 % 4;
    workspace.write("data.csv", &with_cells(400, "w", |_| "1".into()));
    train(&workspace, "run", &["labels.weight='w'", "metrics.group='price'"]);
    workspace.write("weighted.csv", &with_cells(400, "w", |row| copies(row).to_string()));
    let all = with_cells(400, "w", |_| "1".into());
    let mut lines = all.lines();
    let mut text = format!("{}\n", lines.next().unwrap());
    for (row, line) in lines.enumerate() {
        (0..copies(row)).for_each(|_| text.push_str(&format!("{line}\n")));
    }
    workspace.write("copies.csv", &text);
    let (weighted, copied) =
        (evaluate(&workspace, "run", "weighted.csv"), evaluate(&workspace, "run", "copies.csv"));
    assert_eq!((&weighted["rows"], &copied["rows"]), (&Value::from(400), &Value::from(600)));
    for task in ["ctr", "cvr", "ctcvr"] {
        for key in ["auc", "log_loss", "normalized_entropy", "calibration"] {
            let [found, expected] = [&weighted, &copied].map(|metrics| metrics[task][key].as_f64().unwrap());
            assert!((found - expected).abs() < 1e-7, "{task}.{key}: {found}, {expected}");
        }
        let [found, expected] =
            [&weighted, &copied].map(|metrics| metrics[task]["gauc"]["value"].as_f64().unwrap());
        assert!((found - expected).abs() < 1e-7, "{task}.gauc: {found}, {expected}");
    }
    // Copies are no new evidence: the interval is wider than theirs.
    let width = |metrics: &Value| {
        let interval = &metrics["ctr"]["auc_ci95"];
        interval[1].as_f64().unwrap() - interval[0].as_f64().unwrap()
    };
    assert!(width(&weighted) > width(&copied), "{weighted}, {copied}");
}

/// The curves count weights as the metrics do, and the report draws them.
#[test]
fn curves_count_weights() {
    let workspace = Workspace::new();
    workspace.write("data.csv", &with_cells(400, "w", |row| (1 + row % 3).to_string()));
    train(&workspace, "run", &["labels.weight='w'"]);
    let json = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(workspace.path(&format!("run/{name}"))).unwrap()).unwrap()
    };
    let metrics = json("metrics.json");
    let analysis = json("analysis.json");
    let splits = analysis["splits"].as_array().unwrap();
    assert!(!splits.is_empty());
    for split in splits {
        let metrics = &metrics[split["split"].as_str().unwrap()];
        for task in split["tasks"].as_array().unwrap() {
            let name = task["task"].as_str().unwrap();
            let number = |value: &Value| value.as_f64().unwrap();
            let point = |point: &Value| [number(&point[0]), number(&point[1])];
            let curves = &task["curves"];
            let roc: Vec<[f64; 2]> = curves["roc"].as_array().unwrap().iter().map(point).collect();
            let trapezoid = |pair: &[[f64; 2]]| (pair[1][0] - pair[0][0]) * (pair[1][1] + pair[0][1]) / 2.0;
            let area: f64 = roc.windows(2).map(trapezoid).sum();
            let auc = number(&metrics[name]["auc"]);
            assert!((area - auc).abs() < 2e-3, "{name}: {area} of the thinned curve, {auc}");
            let deciles = curves["deciles"].as_array().unwrap().iter();
            let sums = deciles.map(|bin| {
                [&bin["predicted"], &bin["observed"]].map(|rate| number(rate) * number(&bin["weight"]))
            });
            let [predicted, observed] = sums.fold([0.0, 0.0], |sum, bin| [sum[0] + bin[0], sum[1] + bin[1]]);
            let calibration = number(&metrics[name]["calibration"]);
            assert!(
                (predicted / observed - calibration).abs() < 1e-6,
                "{name}: {predicted}/{observed}, {calibration}"
            );
            assert!(number(&curves["weight"]) > number(&curves["rows"]), "{name}");
        }
    }
    let said = workspace.esmm(&["report", "run", "-o", "report.html"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let page = std::fs::read_to_string(workspace.path("report.html")).unwrap();
    assert!(
        page.contains("All of them count what rows weigh.") && page.contains("ten parts of equal weight")
    );
    assert!(page.contains("ROC of CTR") && !page.contains("not drawn"), "a curve is missing");
}

#[test]
fn weights_that_cannot_be_are_named() {
    let workspace = Workspace::new();
    let fails = |cell: &str, code: i32| -> String {
        workspace.write(
            "data.csv",
            &with_cells(400, "w", |row| if row == 6 || cell == "0" { cell.into() } else { "1".into() }),
        );
        let args = ["train", "run.toml", "--run-dir", "run", "--set", "labels.weight='w'"];
        workspace.esmm(&args).error(code).to_owned()
    };
    for cell in ["-1", "", "x", "inf"] {
        let error = fails(cell, 1);
        assert!(error.contains("data.csv:8: column `w`: found"), "{error}");
    }
    let error = fails("0", 2);
    assert!(error.contains("column `w` is 0 in all rows of the train split"), "{error}");
    let args = ["train", "run.toml", "--run-dir", "run", "--set", "labels.weight='weights'"];
    assert!(workspace.esmm(&args).error(1).contains("`weights`"));
    // What is measured must weigh something too.
    workspace.write("data.csv", &with_cells(400, "w", |_| "1".into()));
    train(&workspace, "run", &["labels.weight='w'"]);
    workspace.write("zero.csv", &with_cells(400, "w", |_| "0".into()));
    let error = workspace.esmm(&["evaluate", "run", "zero.csv"]).error(1).to_owned();
    assert!(error.contains("all rows have the weight 0"), "{error}");
    // Scoring needs no weights.
    workspace.write("new.csv", &csv(20));
    let said = workspace.esmm(&["predict", "run", "new.csv", "-o", "scores.csv"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
}

/// Data without the column of weights, or of times: the line names the way out, and the way out works.
#[test]
fn columns_that_are_not_there_can_be_done_without() {
    let workspace = Workspace::new();
    let weigh = |row: usize| format!("{},{row}", 1 + row % 3);
    workspace.write("data.csv", &with_cells(400, "w,at", weigh));
    let window = ["labels.conversion_window=100", "labels.time='at'"];
    train(&workspace, "run", &["labels.weight='w'", window[0], window[1]]);
    workspace.write("ones.csv", &with_cells(400, "w,at", |row| format!("1,{row}")));
    workspace.write("weights.csv", &with_cells(400, "w", |row| (1 + row % 3).to_string()));
    workspace.write("times.csv", &with_cells(400, "at", |row| row.to_string()));
    workspace.write("neither.csv", &csv(400));
    let complete = ["--conversions-until", "1000"];
    let measured = |data: &str, flags: &[&str]| {
        let said = workspace.esmm(&[&["evaluate", "run", data, "--json"], flags].concat());
        assert_eq!(said.code, 0, "{data} {flags:?}: {}", said.stderr);
        serde_json::from_str::<Value>(&said.stdout).unwrap()
    };
    for (data, column, flags, same_as) in [
        ("times.csv", "w", vec!["--no-weights"], measured("ones.csv", &[])),
        ("weights.csv", "at", vec!["--conversions-complete"], measured("data.csv", &complete)),
        ("neither.csv", "w", vec!["--no-weights", "--conversions-complete"], measured("ones.csv", &complete)),
    ] {
        for command in ["evaluate", "calibrate"] {
            let error = workspace.esmm(&[command, "run", data]).error(1).to_owned();
            assert!(error.starts_with(&format!("{data}: there is no column `{column}`, ")), "{error}");
            assert!(error.contains(flags[0]), "{error}");
        }
        let found = measured(data, &flags);
        for task in ["ctr", "cvr", "ctcvr"] {
            for key in ["auc", "log_loss", "calibration"] {
                let [one, other] = [&found, &same_as].map(|metrics| metrics[task][key].as_f64().unwrap());
                assert!((one - other).abs() < 1e-12, "{data}, {task}.{key}: {one}, {other}");
            }
        }
        let unweighted = flags.contains(&"--no-weights");
        assert_eq!(found["counting"]["weight"].is_null(), unweighted, "{found}");
        let said = workspace.esmm(&[&["evaluate", "run", data], &flags[..]].concat());
        let words = "each row counts once (--no-weights)";
        assert_eq!(said.stdout.contains(words), unweighted, "{}", said.stdout);
    }
    // What there is nothing of cannot be done without.
    workspace.write("data.csv", &csv(400));
    train(&workspace, "plain", &[]);
    for (flag, key) in
        [("--no-weights", "labels.weight"), ("--conversions-complete", "labels.conversion_window")]
    {
        let error = workspace.esmm(&["evaluate", "plain", "data.csv", flag]).error(2).to_owned();
        assert_eq!(error, format!("{flag}: this run has no {key}"));
    }
}

#[test]
fn settings_that_do_not_go_together() {
    let workspace = Workspace::new();
    for (sets, expected) in [
        (vec!["labels.conversion_window='7d'"], "needs labels.time"),
        (vec!["labels.time='at'"], "go with labels.conversion_window"),
        (vec!["labels.conversion_window='7 moons'", "labels.time='at'"], "(s, min, h, d, w), as 7d"),
    ] {
        let mut args = vec!["train", "run.toml", "--run-dir", "run"];
        sets.iter().for_each(|set| args.extend(["--set", set]));
        let error = workspace.esmm(&args).error(2).to_owned();
        assert!(error.contains(expected), "{sets:?}: {error}");
    }
    train(&workspace, "run", &[]);
    let error =
        workspace.esmm(&["evaluate", "run", "data.csv", "--conversions-until", "9"]).error(2).to_owned();
    assert!(error.contains("this run has no labels.conversion_window"), "{error}");
}

/// Learning rates at which nothing is learned, so that the weights are where they started.
const STILL: [&str; 3] =
    ["train.towers.learning_rate=1e-12", "train.tables.learning_rate=1e-12", "train.epochs=1"];

/// The last bias of each tower, in order.
fn output_biases(workspace: &Workspace, run: &str) -> Vec<f64> {
    let dict = StateDict::read(&workspace.path(&format!("{run}/model.safetensors"))).unwrap();
    let last = dict.entries.iter().filter(|(name, _)| name.ends_with("task_last_layer.bias"));
    last.flat_map(|(_, values)| values.iter::<f64>().collect::<Vec<_>>()).collect()
}

fn logit(reached: f64, before: f64) -> f64 {
    (reached / (before - reached)).ln()
}

/// Labels of the row of `csv`.
fn depth(row: usize) -> usize {
    let user = row * 7 % 20;
    let click = usize::from((row * 13 + user * user) % 5 < 2);
    click + click * usize::from((row + user).is_multiple_of(3))
}

/// The prior counts weights, rates and the rows whose time is over.
#[test]
fn biases_start_where_rows_count() {
    let workspace = Workspace::new();
    let weight = |row: usize| (1 + row % 3) as f64;
    let rate = |row: usize| if row.is_multiple_of(2) { 0.25 } else { 0.5 };
    workspace.write(
        "data.csv",
        &with_cells(400, "w,kept,at", |row| format!("{},{},{row}", weight(row), rate(row))),
    );
    workspace.write(
        "run.toml",
        &RUN_FILE.replace("split = { by = \"random\", valid = 0.2, test = 0.2, seed = 3 }", ""),
    );
    let expected = |weigh: &dyn Fn(usize) -> f64, closed: &dyn Fn(usize) -> bool| {
        let sum = |rows: &dyn Fn(usize) -> bool| (0..400).filter(|row| rows(*row)).map(weigh).sum::<f64>();
        let clicks = logit(sum(&|row| depth(row) >= 1), sum(&|_| true));
        let conversions = sum(&|row| depth(row) == 2 && closed(row));
        [clicks, logit(conversions, sum(&|row| depth(row) >= 1 && closed(row)))]
    };
    let in_full = |row: usize| if depth(row) == 0 { 1.0 / rate(row) } else { 1.0 };
    let cases = [
        ("weight", vec!["labels.weight='w'"], expected(&weight, &|_| true)),
        ("rate", vec!["labels.negative_rate='kept'"], expected(&in_full, &|_| true)),
        (
            "window",
            vec!["labels.conversion_window=100", "labels.time='at'"],
            expected(&|_| 1.0, &|row| row <= 299),
        ),
        (
            "all",
            vec![
                "labels.weight='w'",
                "labels.negative_rate='kept'",
                "labels.conversion_window=100",
                "labels.time='at'",
                "data.streaming=true",
            ],
            expected(&|row| weight(row) * in_full(row), &|row| row <= 299),
        ),
    ];
    for (run, mut sets, expected) in cases {
        sets.extend(STILL);
        train(&workspace, run, &sets);
        let found = output_biases(&workspace, run);
        for (bias, logit) in found.iter().zip(expected) {
            assert!((bias - logit).abs() < 1e-5, "{run}: {found:?}, expected {expected:?}");
        }
    }
}

/// Rows younger than the window are measured as clicks only: CVR and CTCVR are those of the rows before.
#[test]
fn young_rows_are_measured_as_clicks_only() {
    let workspace = Workspace::new();
    workspace.write("data.csv", &with_cells(400, "at", |row| row.to_string()));
    train(&workspace, "run", &["labels.conversion_window=100", "labels.time='at'"]);
    let all = workspace.read("data.csv");
    // The newest row is 399: those after 299 are young.
    let old: Vec<&str> = all.lines().take(1 + 300).collect();
    workspace.write("old.csv", &(old.join("\n") + "\n"));
    let measured = |data: &str, until: &str| {
        let said = workspace.esmm(&["evaluate", "run", data, "--json", "--conversions-until", until]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        assert!(said.stderr.contains("rows younger than 100 by column `at`"), "{}", said.stderr);
        serde_json::from_str::<Value>(&said.stdout).unwrap()
    };
    let young = evaluate(&workspace, "run", "data.csv");
    let without = measured("old.csv", "1000");
    let closed = measured("data.csv", "1000");
    for task in ["cvr", "ctcvr"] {
        assert_eq!(young[task], without[task], "{task}");
        assert_ne!(young[task], closed[task], "{task}");
    }
    assert_eq!(young["ctr"], closed["ctr"]);
    let said = workspace.esmm(&[
        "train",
        "run.toml",
        "--run-dir",
        "loud",
        "--set",
        "labels.conversion_window=100",
        "--set",
        "labels.time='at'",
    ]);
    assert!(said.stderr.contains("too young to count after the first stage"), "{}", said.stderr);
}
