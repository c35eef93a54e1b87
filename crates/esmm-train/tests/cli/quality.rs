//! What makes probabilities right: where the biases start, how numbers are read.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use esmm_core::StateDict;
use serde_json::Value;

use crate::common::{Funnel, Workspace};

fn json(workspace: &Workspace, name: &str) -> Value {
    serde_json::from_str(&workspace.read(name)).unwrap()
}

/// The last bias of each tower, in order.
fn output_biases(workspace: &Workspace, run: &str) -> Vec<f64> {
    let dict = StateDict::read(&workspace.path(&format!("{run}/model.safetensors"))).unwrap();
    let last = dict.entries.iter().filter(|(name, _)| name.ends_with("task_last_layer.bias"));
    last.flat_map(|(_, values)| values.iter::<f64>().collect::<Vec<_>>()).collect()
}

/// Learning rates at which nothing is learned, so that the weights are where they started.
const STILL: [&str; 6] = [
    "--set",
    "train.towers.learning_rate=1e-12",
    "--set",
    "train.tables.learning_rate=1e-12",
    "--set",
    "train.epochs=1",
];

fn still(workspace: &Workspace, run: &str, more: &[&str]) {
    let said =
        workspace.esmm(&[&["train", "run.toml", "--run-dir", run, "--quiet"], &STILL[..], more].concat());
    assert_eq!(said.code, 0, "{}", said.stderr);
}

#[test]
fn biases_start_at_the_logits_of_the_conditional_training_rates() {
    Funnel::ALL.into_iter().for_each(biases_start);
}

fn biases_start(funnel: Funnel) {
    let workspace = Workspace::of(funnel);
    still(&workspace, "run", &[]);
    let metrics = json(&workspace, "run/metrics.json");
    let train = &metrics["train"];
    let counts = match funnel {
        Funnel::Two => train,
        Funnel::Three => &train["reached"],
    };
    let reached = funnel.counts().iter().map(|name| counts[name].as_f64().unwrap());
    let reached: Vec<f64> = train["rows"].as_f64().into_iter().chain(reached).collect();
    let expected: Vec<f64> = reached.windows(2).map(|pair| (pair[1] / (pair[0] - pair[1])).ln()).collect();
    let found = output_biases(&workspace, "run");
    assert_eq!(found.len(), funnel.stages().len());
    for (bias, logit) in found.iter().zip(&expected) {
        assert!((bias - logit).abs() < 1e-6, "{found:?}, expected {expected:?}");
    }
    still(&workspace, "without", &["--set", "model.prior=false"]);
    let without = output_biases(&workspace, "without");
    assert!(without.iter().zip(&expected).all(|(bias, logit)| (bias - logit).abs() > 1e-3), "{without:?}");
}

/// A run that began before there was a prior goes on as it was.
#[test]
fn a_run_without_the_key_is_resumed() {
    Funnel::ALL.into_iter().for_each(resumed_without_the_key);
}

fn resumed_without_the_key(funnel: Funnel) {
    let workspace = Workspace::of(funnel);
    still(&workspace, "run", &["--set", "model.prior=false"]);
    let mut config = json(&workspace, "run/config.json");
    assert!(config["model"].as_object_mut().unwrap().remove("prior").is_some());
    workspace.write("run/config.json", &config.to_string());
    let args = ["train", "run.toml", "--run-dir", "run", "--resume", "--quiet"];
    let said = workspace.esmm(&[&args, &STILL[..4], &["--set", "train.epochs=2"]].concat());
    assert_eq!(said.code, 0, "{}", said.stderr);
}

#[test]
fn planned_steps_are_said_and_few_of_them_warned_of() {
    Funnel::ALL.into_iter().for_each(planned_steps);
}

fn planned_steps(funnel: Funnel) {
    let workspace = Workspace::of(funnel);
    let said = workspace.esmm(&["train", "run.toml", "--run-dir", "run"]);
    assert!(said.stderr.contains("10 steps: 261 rows in batches of 64, 2 epochs"), "{}", said.stderr);
    assert!(said.stderr.contains("10 steps are few"), "{}", said.stderr);
    let many = ["--set", "train.batch_size=2"];
    let said = workspace.esmm(&[&["train", "run.toml", "--run-dir", "many"], &many[..]].concat());
    assert!(said.stderr.contains("260 steps: "), "{}", said.stderr);
    assert!(!said.stderr.contains("are few"), "{}", said.stderr);
}

/// All commands that read a run directory take one with a number in pieces; the report speaks of one feature.
#[test]
fn numbers_in_pieces_go_all_the_way() {
    Funnel::ALL.into_iter().for_each(numbers_in_pieces);
}

fn numbers_in_pieces(funnel: Funnel) {
    let workspace = Workspace::of(funnel);
    let run_file =
        workspace.read("run.toml").replace("encode = \"standardize\"", "encode = \"ple\", bins = 4");
    workspace.write("run.toml", &run_file);
    for args in [
        vec!["train", "run.toml", "--run-dir", "run", "--quiet"],
        vec!["evaluate", "run", "data.csv"],
        vec!["predict", "run", "data.csv", "-o", "scores.csv"],
        vec!["inspect", "run"],
        vec!["inspect", "run.toml"],
        vec!["report", "run", "-o", "report.html"],
        vec!["train", "run.toml", "--run-dir", "run", "--quiet", "--resume", "--set", "train.epochs=3"],
    ] {
        let said = workspace.esmm(&args);
        assert_eq!(said.code, 0, "{args:?}: {}", said.stderr);
    }
    let analysis = json(&workspace, "run/analysis.json").to_string();
    assert!(analysis.contains("\"price\"") && !analysis.contains("price[1]"), "{analysis}");
    workspace.write("other.toml", &run_file.replace("bins = 4", "bins = 0"));
    let error = workspace.esmm(&["train", "other.toml", "--run-dir", "other"]).error(2).to_owned();
    assert!(error.contains("feature `price`: bins = 0, it must be 1 to 1024"), "{error}");
    workspace.write("other.toml", &run_file.replace("\"ple\"", "\"log1p\""));
    let error = workspace.esmm(&["train", "other.toml", "--run-dir", "other"]).error(2).to_owned();
    assert!(error.contains("`bins` does not go with encode"), "{error}");
}

/// A fifth of the impressions without a click gives the probabilities of all of them, for CTR, CVR and CTCVR; and the
/// metrics of the sample are those of the full log within their intervals. The same where each row says its own rate, and
/// rows of some users were kept more often than others; and where the log that is measured was sampled in the other way than
/// that of the training.
#[test]
fn sampled_negatives_give_the_probabilities_of_the_full_log() {
    agrees_with_the_full_log("negative_rate = 0.2", |_| 0.2);
    agrees_with_the_full_log("negative_rate = \"kept\"", |row| if row % 3 == 0 { 0.5 } else { 0.125 });
}

fn agrees_with_the_full_log(setting: &str, rate: impl Fn(usize) -> f64) {
    let workspace = Workspace::new();
    let said = workspace.esmm(&["synthesize", "full", "--rows", "60000", "--seed", "3", "--format", "csv"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let all = workspace.read("full/data.csv");
    let mut lines = all.lines();
    let header = lines.next().unwrap();
    let click = header.split(',').position(|name| name == "click").unwrap();
    // What a row is kept by depends on what it holds: the last digits of its first cells.
    let stratum = |line: &str| line.bytes().take(12).map(usize::from).sum::<usize>();
    let kept = lines.enumerate().filter(|(row, line)| {
        let clicked = line.split(',').nth(click) == Some("1");
        let drawn = f64::from((*row as u32).wrapping_mul(2_654_435_761) % 1000) / 1000.0;
        clicked || drawn < rate(stratum(line))
    });
    let kept: Vec<(usize, &str)> = kept.collect();
    // Rows come in order of time. The last fifth is not trained on: on trained rows the sample would look better.
    let write = |name: &str, rows: Vec<&str>| {
        let rows: Vec<String> = rows.iter().map(|line| format!("{line},{}", rate(stratum(line)))).collect();
        workspace.write(name, &(format!("{header},kept\n") + &rows.join("\n") + "\n"));
    };
    write("full/sampled.csv", kept.iter().map(|(_, line)| *line).collect());
    workspace.write(
        "full/late.csv",
        &(header.to_owned() + "\n" + &all.lines().skip(1 + 48_000).collect::<Vec<_>>().join("\n") + "\n"),
    );
    let late = kept.iter().filter(|(row, _)| *row >= 48_000);
    write("full/late_sampled.csv", late.map(|(_, line)| *line).collect());
    let run_file = workspace.read("full/run.toml").replace("data.csv", "sampled.csv");
    workspace.write("full/run.toml", &run_file.replace("[labels]\n", &format!("[labels]\n{setting}\n")));
    let said = workspace.esmm(&["train", "full/run.toml", "--run-dir", "run", "--quiet"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let config = json(&workspace, "run/config.json");
    let stated = match setting.contains("kept") {
        true => &config["counting"]["negative_rate"],
        false => &config["negative_rate"],
    };
    assert!(*stated == "kept" || *stated == 0.2, "{config}");
    let measured = |args: &[&str]| -> Value {
        let said = workspace.esmm(&[&["evaluate", "run", "--json"], args].concat());
        assert_eq!(said.code, 0, "{}", said.stderr);
        serde_json::from_str(&said.stdout).unwrap()
    };
    let full = measured(&["full/late.csv", "--negative-rate", "1"]);
    let sampled = measured(&["full/late_sampled.csv"]);
    assert_eq!(full["counting"]["negative_rate"], 1.0);
    assert_eq!(sampled["counting"]["negative_rate"], *stated);
    // A column says the same, whatever the training had, and so does one share where it is the same in all rows.
    let by_column = measured(&["full/late_sampled.csv", "--negative-rate", "kept"]);
    assert_eq!(by_column["counting"]["negative_rate"], "kept");
    for task in ["ctr", "cvr", "ctcvr"] {
        let [one, other] =
            [&by_column, &sampled].map(|metrics| metrics[task]["calibration"].as_f64().unwrap());
        assert!((one - other).abs() < 1e-5, "{setting}, {task}: {one} and {other}");
    }
    for task in ["ctr", "cvr", "ctcvr"] {
        let number = |metrics: &Value, key: &str| metrics[task][key].as_f64().unwrap();
        let calibration = number(&full, "calibration");
        assert!((0.85..=1.18).contains(&calibration), "{setting}, {task}: {calibration} on the full log");
        let difference = (number(&sampled, "calibration") - calibration).abs();
        assert!(difference < 0.05, "{setting}, {task}: {sampled} and {full}");
        let interval = &sampled[task]["auc_ci95"];
        let auc = number(&full, "auc");
        let inside = interval[0].as_f64().unwrap() <= auc && auc <= interval[1].as_f64().unwrap();
        assert!(inside, "{setting}, {task}: AUC {auc} of the full log, {interval} of the sample");
    }
    // Clicked rows are all there, and count once.
    for key in ["auc", "log_loss", "calibration"] {
        let values = [&full, &sampled].map(|metrics| metrics["cvr"][key].as_f64().unwrap());
        assert!((values[0] - values[1]).abs() < 1e-9, "{setting}, {key}: {values:?}");
    }
}

/// A run that was trained on a sample: of the full log every fifth impression, and all clicks.
fn sampled_run() -> Workspace {
    let workspace = Workspace::new();
    let said = workspace.esmm(&["synthesize", "full", "--rows", "20000", "--seed", "3", "--format", "csv"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let all = workspace.read("full/data.csv");
    let header = all.lines().next().unwrap();
    let click = header.split(',').position(|name| name == "click").unwrap();
    let kept = all
        .lines()
        .enumerate()
        .filter(|(row, line)| *row == 0 || row % 5 == 1 || line.split(',').nth(click) == Some("1"));
    let kept: Vec<&str> = kept.map(|(_, line)| line).collect();
    workspace.write("full/sampled.csv", &(kept.join("\n") + "\n"));
    let run_file = workspace.read("full/run.toml").replace("data.csv", "sampled.csv");
    workspace.write("full/run.toml", &run_file.replace("[labels]\n", "[labels]\nnegative_rate = 0.2\n"));
    let said = workspace.esmm(&["train", "full/run.toml", "--run-dir", "run", "--quiet"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    workspace
}

/// A full log that is taken for a sample is told by its rate of clicks, and so is a sample that is taken for a full log: in
/// `evaluate`, and in `calibrate`, which refuses unless somebody says how it was sampled. Each says how the rows counted.
#[test]
fn a_log_that_is_taken_for_another_is_warned_of() {
    let workspace = sampled_run();
    let full = "if this data holds all impressions, say --negative-rate 1";
    let sampled = "leave --negative-rate out";
    let cases = [
        ("data.csv", None, Some(full)),
        ("data.csv", Some("1"), None),
        ("sampled.csv", None, None),
        ("sampled.csv", Some("1"), Some(sampled)),
    ];
    for (data, rate, doubt) in cases {
        for command in ["evaluate", "calibrate"] {
            let data = format!("full/{data}");
            let mut args = vec![command, "run", &data];
            if let Some(rate) = rate {
                args.extend(["--negative-rate", rate]);
            }
            let said = workspace.esmm(&args);
            let refused = command == "calibrate" && rate.is_none() && doubt.is_some();
            assert_eq!(said.code, i32::from(refused), "{args:?}: {}", said.stderr);
            assert_eq!(said.stderr.contains("name the rate that holds with --negative-rate"), refused);
            for (other, words) in [(Some(full), full), (Some(sampled), sampled)] {
                assert_eq!(said.stderr.contains(words), other == doubt, "{args:?}: {}", said.stderr);
            }
            let counted = match rate {
                None => "an impression without a click counts 5.0000 times (negative_rate = 0.2)",
                Some(_) => "the log is full (--negative-rate 1)",
            };
            let output = if command == "evaluate" { &said.stdout } else { &said.stderr };
            assert!(output.contains(counted), "{args:?}: {output}");
        }
        if rate.is_none() && doubt.is_some() {
            assert!(!workspace.path("run/calibration.json").exists(), "refused, and written all the same");
            continue;
        }
        let record = json(&workspace, "run/calibration.json");
        assert_eq!(record["counting"]["negative_rate"], if rate.is_some() { 1.0 } else { 0.2 });
        assert_eq!(workspace.esmm(&["calibrate", "run", "--undo"]).code, 0);
    }
    let error = workspace.esmm(&["evaluate", "run", "full/data.csv", "--negative-rate", "kept"]);
    let error = error.error(1);
    assert!(error.contains("there is no column `kept`") && error.contains("1 for a full log"), "{error}");
    let error = workspace.esmm(&["evaluate", "run", "full/data.csv", "--negative-rate", "1.5"]);
    assert!(error.error(2).contains("above 0 and at most 1"), "{}", error.stderr);
    let error = workspace.esmm(&["calibrate", "run", "--undo", "--no-weights"]);
    assert_eq!(error.code, 2, "{}", error.stderr);
}

#[test]
fn a_rate_of_one_changes_nothing_and_one_outside_is_refused() {
    Funnel::ALL.into_iter().for_each(a_rate_of_one);
}

fn a_rate_of_one(funnel: Funnel) {
    let workspace = Workspace::of(funnel);
    for (run, set) in [("plain", "labels.negative_rate=1.0"), ("one", "train.seed=1")] {
        let said = workspace.esmm(&["train", "run.toml", "--run-dir", run, "--quiet", "--set", set]);
        assert_eq!(said.code, 0, "{}", said.stderr);
    }
    for name in ["config.json", "metrics.json", "analysis.json"] {
        assert_eq!(
            workspace.read(&format!("plain/{name}")),
            workspace.read(&format!("one/{name}")),
            "{name}"
        );
    }
    let weights = |run: &str| std::fs::read(workspace.path(&format!("{run}/model.safetensors"))).unwrap();
    assert!(weights("plain") == weights("one"));
    for rate in ["0.0", "-0.1", "1.5"] {
        let set = format!("labels.negative_rate={rate}");
        let error =
            workspace.esmm(&["train", "run.toml", "--run-dir", "bad", "--set", &set]).error(2).to_owned();
        assert!(error.contains("it must be above 0 and at most 1"), "{error}");
    }
}
