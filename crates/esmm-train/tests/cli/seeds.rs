//! Several models in one run directory: `train.seeds`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{self, Funnel, Workspace, chain, files, probabilities};

const SEEDS: [&str; 2] = ["--set", "train.seeds=3"];

fn json(workspace: &Workspace, name: &str) -> Value {
    serde_json::from_str(&workspace.read(name)).unwrap()
}

fn train(workspace: &Workspace, run: &str, more: &[&str]) -> common::Said {
    let said = workspace.esmm(&[&["train", "run.toml", "--run-dir", run], more].concat());
    assert_eq!(said.code, 0, "{}", said.stderr);
    said
}

fn bytes(workspace: &Workspace, name: &str) -> Vec<u8> {
    fs::read(workspace.path(name)).unwrap()
}

/// Columns of a file of scores.
fn scores(workspace: &Workspace, run: &str) -> Vec<Vec<f64>> {
    let said = workspace.esmm(&["predict", run, "data.csv", "-o", "scores.csv", "--quiet"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    probabilities(&workspace.read("scores.csv"))
}

#[test]
fn one_seed_is_no_ensemble_to_the_byte() {
    Funnel::ALL.into_iter().for_each(one_seed);
}

fn one_seed(funnel: Funnel) {
    let workspace = Workspace::of(funnel);
    train(&workspace, "plain", &[]);
    train(&workspace, "one", &["--set", "train.seeds=1"]);
    assert_eq!(files(&workspace.path("plain")), files(&workspace.path("one")));
    for name in
        ["config.json", "schema.json", "model.safetensors", "metrics.json", "manifest.json", "analysis.json"]
    {
        let [plain, one] = ["plain", "one"].map(|run| bytes(&workspace, &format!("{run}/{name}")));
        assert!(plain == one, "{name}");
    }
    assert!(!workspace.read("one/config.json").contains("seeds"));
    let error = workspace.esmm(&["train", "run.toml", "--run-dir", "none", "--set", "train.seeds=0"]);
    assert_eq!(error.error(2), "train.seeds = 0: it must be at least 1 and at most 100");
}

#[test]
fn the_members_are_single_trainings_and_the_scores_their_mean() {
    Funnel::ALL.into_iter().for_each(members_and_their_mean);
}

fn members_and_their_mean(funnel: Funnel) {
    let workspace = Workspace::of(funnel);
    let said = train(&workspace, "all", &SEEDS);
    let cost = said.stderr.lines().find(|line| line.starts_with("3 models of seeds 1 to 3")).unwrap();
    assert!(cost.contains("times the time of one") && cost.contains("weights and optimizers"), "{cost}");
    assert!(said.stderr.contains("seed 2: 10 steps: 261 rows"), "{}", said.stderr);
    assert!(said.stdout.contains("Each of the 3 models alone: AUC "), "{}", said.stdout);
    let mut alone = Vec::new();
    for seed in 1..4 {
        let run = format!("seed-{seed}");
        train(&workspace, &run, &["--set", &format!("train.seed={seed}")]);
        let [member, single] = [format!("all/members/{seed}"), run.clone()]
            .map(|run| bytes(&workspace, &format!("{run}/model.safetensors")));
        assert!(member == single, "seed {seed}: side by side or alone, the weights are the same");
        alone.push((scores(&workspace, &run), json(&workspace, &format!("{run}/metrics.json"))));
    }
    for (row, found) in scores(&workspace, "all").iter().enumerate() {
        for column in (0..found.len()).step_by(2) {
            let mean = alone.iter().map(|(scores, _)| scores[row][column]).sum::<f64>() / 3.0;
            assert!((found[column] / mean - 1.0).abs() < 1e-5, "row {row}: {found:?}, mean {mean}");
        }
        for [before, given, reached] in chain(found) {
            assert!((before * given / reached - 1.0).abs() < 1e-5, "pCVR is the quotient: {found:?}");
        }
    }
    let metrics = json(&workspace, "all/metrics.json");
    let first = funnel.tasks()[0];
    let auc = |metrics: &Value| metrics["test"][first]["auc"].as_f64().unwrap();
    let singles: Vec<f64> = alone.iter().map(|(_, metrics)| auc(metrics)).collect();
    let members = metrics["ensemble"]["members"].as_array().unwrap();
    for ((member, (_, single)), seed) in members.iter().zip(&alone).zip(1..) {
        assert_eq!(member["seed"], seed);
        assert_eq!(member["splits"]["test"], single["test"]);
        assert_eq!(member["splits"]["train"], single["train"]);
    }
    let spread = &metrics["ensemble"]["spread"]["test"][first]["auc"];
    let mean = singles.iter().sum::<f64>() / 3.0;
    let std = (singles.iter().map(|auc| (auc - mean).powi(2)).sum::<f64>() / 2.0).sqrt();
    assert!((spread["mean"].as_f64().unwrap() - mean).abs() < 1e-12);
    assert!((spread["std"].as_f64().unwrap() - std).abs() < 1e-12);

    // What measures other files measures the mean, as the training did.
    fs::write(workspace.path("rows.csv"), funnel.csv(400)).unwrap();
    let said = workspace.esmm(&["evaluate", "all", "rows.csv", "--json"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let measured: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(measured["rows"], 400);
}

/// Trainings at the same time, one after the other, and killed at some moments end with the same bytes.
#[test]
fn whatever_happens_the_bytes_are_the_same() {
    Funnel::ALL.into_iter().for_each(same_bytes);
}

fn same_bytes(funnel: Funnel) {
    let workspace = Workspace::of(funnel);
    workspace.write("data.csv", &funnel.csv(2000));
    let more = ["--set", "train.batch_size=16", "--set", "train.checkpoint_every=20", "--quiet"];
    let more = [&SEEDS[..], &more].concat();
    let start = Instant::now();
    train(&workspace, "whole", &more);
    let time = start.elapsed();
    train(&workspace, "alone", &[&more[..], &["--threads", "1"]].concat());
    let names: Vec<String> = (1..4).map(|member| format!("members/{member}/model.safetensors")).collect();
    let names: Vec<&str> =
        names.iter().map(String::as_str).chain(["metrics.json", "analysis.json", "manifest.json"]).collect();
    let compare = |run: &str| {
        for name in &names {
            let [whole, other] = ["whole", run].map(|run| bytes(&workspace, &format!("{run}/{name}")));
            assert!(whole == other, "{run}/{name}");
        }
    };
    compare("alone");
    for moment in [0.3, 0.5, 0.7, 0.9] {
        let run = format!("killed-{moment}");
        let args = [&["train", "run.toml", "--run-dir", &run], &more[..]].concat();
        let mut child = workspace.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(time.mul_f64(moment));
        let _ = child.kill();
        child.wait().unwrap();
        match workspace.path(&format!("{run}/config.json")).exists() {
            true => train(&workspace, &run, &[&more[..], &["--resume"]].concat()),
            false => train(&workspace, &run, &[&more[..], &["--overwrite"]].concat()),
        };
        compare(&run);
        let folder = |run: &str| files(&workspace.path(&format!("{run}/members/2")));
        assert_eq!(folder(&run), folder("whole"));
    }
}

#[cfg(unix)]
#[test]
fn a_signal_ends_all_models_and_resuming_goes_on_with_all() {
    Funnel::ALL.into_iter().for_each(a_signal_and_resuming);
}

#[cfg(unix)]
fn a_signal_and_resuming(funnel: Funnel) {
    let workspace = Workspace::of(funnel);
    workspace.write("data.csv", &funnel.csv(4000));
    let more =
        [&SEEDS[..], &["--set", "train.batch_size=16", "--set", "train.epochs=30", "--plain"]].concat();
    let args = [&["train", "run.toml", "--run-dir", "run"], &more[..]].concat();
    let mut child =
        workspace.command_that_hears(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while !workspace.path("run/members/1/model.safetensors").exists() {
        assert!(Instant::now() < end && child.try_wait().unwrap().is_none(), "no epoch ended");
        std::thread::sleep(Duration::from_millis(5));
    }
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let said = common::Said::from(child.wait_with_output().unwrap());
    assert_eq!(said.code, 130, "{}", said.stderr);
    let unfinished = workspace.esmm(&["predict", "run", "data.csv", "-o", "scores.csv"]);
    let has_all =
        (1..4).all(|member| workspace.path(&format!("run/members/{member}/model.safetensors")).exists());
    if !has_all {
        let error = unfinished.error(1);
        assert!(error.contains("/model.safetensors: is not there: the training of its models"), "{error}");
    }
    let args = ["train", "run.toml", "--run-dir", "run", "--resume", "--quiet"];
    let said = workspace
        .esmm(&[&args[..], &SEEDS, &["--set", "train.batch_size=16", "--set", "train.epochs=2"]].concat());
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert_eq!(json(&workspace, "run/metrics.json")["ensemble"]["members"].as_array().unwrap().len(), 3);
}

#[test]
fn every_command_takes_several_models() {
    Funnel::ALL.into_iter().for_each(every_command);
}

fn every_command(funnel: Funnel) {
    let workspace = Workspace::of(funnel);
    train(&workspace, "run", &[&SEEDS[..], &["--tensorboard", "--quiet"]].concat());
    assert!(!workspace.path("run/model.safetensors").exists(), "nothing can take one model for all");
    assert!(
        workspace.path("run/members/2/tensorboard").is_dir()
            && workspace.path("run/members/2/history.jsonl").exists()
    );
    let inspected = workspace.esmm(&["inspect", "run"]);
    assert_eq!(inspected.code, 0, "{}", inspected.stderr);
    let averaged = match funnel {
        Funnel::Two => "pCTR and pCTCVR are averaged, pCVR is the quotient",
        Funnel::Three => {
            "p_click, p_conversion and p_purchase are averaged, the probabilities in between are quotients"
        }
    };
    assert!(inspected.stdout.contains(&format!("3 models; {averaged}")), "{}", inspected.stdout);
    assert!(inspected.stdout.contains("seed 3: the weights are those of epoch "), "{}", inspected.stdout);
    let reported = workspace.esmm(&["report", "run", "-o", "report.html"]);
    assert_eq!(reported.code, 0, "{}", reported.stderr);
    assert!(reported.stderr.is_empty(), "{}", reported.stderr);
    let page = workspace.read("report.html");
    for part in [
        "The models one by one",
        "standard deviation",
        averaged,
        "1 to 3, a model each",
        "curves of the first of 3 models",
    ] {
        assert!(page.contains(part), "the report lacks `{part}`");
    }
    let exported = workspace.esmm(&["export", "run", "-o", "model.onnx"]);
    assert_eq!(exported.code, 0, "{}", exported.stderr);
    assert!(workspace.path("model.onnx").exists());

    // Weights of one model for another are not what the training wrote.
    fs::copy(
        workspace.path("run/members/1/model.safetensors"),
        workspace.path("run/members/2/model.safetensors"),
    )
    .unwrap();
    let said = workspace.esmm(&["evaluate", "run", "data.csv"]);
    let error = said.error(1);
    assert!(error.starts_with("run/members/2/model.safetensors: is not the file"), "{error}");
    assert!(error.ends_with("say --accept-weights"), "{error}");
    let said = workspace.esmm(&["evaluate", "run", "data.csv", "--accept-weights"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
}
