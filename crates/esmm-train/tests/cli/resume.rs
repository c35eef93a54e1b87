//! Trainings that are killed, run out of disk or find damaged files, and go on.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{self, Funnel, Said, Workspace, files};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a training must leave behind to the bit.
const RESULTS: [&str; 2] = ["model.safetensors", "metrics.json"];

/// Validations and checkpoints at steps that never meet, inside of epochs.
const STEPS: &str = "
[train]
epochs = 3
batch_size = 16
validate_every = 35
checkpoint_every = 20
";

/// A training of 150 steps an epoch, in memory or not.
fn workspace(streaming: bool) -> Workspace {
    workspace_of(Funnel::Two, streaming)
}

/// The same with the labels of a funnel.
fn workspace_of(funnel: Funnel, streaming: bool) -> Workspace {
    let workspace = Workspace::of(funnel);
    workspace.write("data.csv", &funnel.csv(4000));
    let run_file = common::RUN_FILE.split("[train]").next().unwrap();
    let data = if streaming { "[data]\nstreaming = true\nshuffle_rows = 500\n" } else { "[data]\n" };
    let labels = funnel
        .run_file()
        .split_once("[labels]")
        .map_or_else(String::new, |(_, rest)| format!("[labels]{rest}"));
    workspace.write("run.toml", &(run_file.replace("[data]\n", data) + STEPS + &labels));
    workspace
}

fn results(workspace: &Workspace, run: &str) -> Vec<Vec<u8>> {
    RESULTS.iter().map(|name| fs::read(workspace.path(&format!("{run}/{name}"))).unwrap()).collect()
}

/// Kills a training at random moments, as often as it takes for `kills` of them, and compares whatever comes to its end.
fn kill_and_resume(funnel: Funnel, streaming: bool, kills: u32, seed: u64) {
    let workspace = workspace_of(funnel, streaming);
    let start = Instant::now();
    let said = workspace.esmm(&["train", "run.toml", "--run-dir", "whole", "--quiet"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let (whole, time) = (results(&workspace, "whole"), start.elapsed());
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut killed, mut training) = (0, 0);
    while killed < kills {
        training += 1;
        let run = format!("run-{training}");
        loop {
            let mut args = vec!["train", "--run-dir", &run, "--quiet"];
            match workspace.path(&format!("{run}/config.json")).exists() {
                true => args.push("--resume"),
                false => args.extend(["run.toml", "--overwrite"]),
            }
            let moment = time.mul_f64(rng.random_range(0.1..1.1));
            let mut child =
                workspace.command(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
            let end = Instant::now() + if killed < kills { moment } else { Duration::from_secs(600) };
            let finished = loop {
                match child.try_wait().unwrap() {
                    Some(_) => break true,
                    None if Instant::now() >= end => break false,
                    None => std::thread::sleep(Duration::from_millis(2)),
                }
            };
            if finished {
                let said = Said::from(child.wait_with_output().unwrap());
                assert_eq!(said.code, 0, "training {training} after {killed} kills: {}", said.stderr);
                break;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            killed += 1;
        }
        assert!(results(&workspace, &run) == whole, "training {training}, after {killed} kills, differs");
        assert_eq!(files(&workspace.path(&run)), files(&workspace.path("whole")));
    }
}

#[test]
fn a_training_that_is_killed_20_times_ends_with_the_same_bytes() {
    kill_and_resume(Funnel::Two, false, 20, 11);
    kill_and_resume(Funnel::Three, false, 4, 13);
}

#[test]
fn a_streamed_training_that_is_killed_20_times_ends_with_the_same_bytes() {
    kill_and_resume(Funnel::Two, true, 20, 12);
    kill_and_resume(Funnel::Three, true, 4, 14);
}

/// Checkpoints of a run, oldest first.
fn checkpoints(workspace: &Workspace, run: &str) -> Vec<String> {
    files(&workspace.path(&format!("{run}/checkpoint")))
}

#[test]
fn checkpoints_and_validations_come_at_their_steps() {
    let workspace = workspace(false);
    let said = workspace.esmm(&["train", "run.toml", "--run-dir", "run", "--set", "train.epochs=1"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let steps: Vec<&str> = said
        .stderr
        .lines()
        .filter_map(|line| line.strip_prefix("epoch 1, step ")?.split(": valid AUC").next())
        .collect();
    let rows = said.stderr.lines().find_map(|line| line.strip_prefix("train: ")?.split(' ').next()).unwrap();
    let last = rows.replace(',', "").parse::<usize>().unwrap().div_ceil(16).to_string();
    assert_eq!(steps, ["35", "70", "105", "140", last.as_str()]);
    assert_eq!(checkpoints(&workspace, "run"), ["step-000000000140", &format!("step-{last:0>12}")]);
    assert!(said.stderr.contains("waiting for data"), "{}", said.stderr);
}

#[test]
fn patience_counts_validations() {
    let workspace = workspace(false);
    let args = ["train", "run.toml", "--run-dir", "run", "--set", "train.patience=1", "--set"];
    let said = workspace.esmm(&[&args[..], &["train.epochs=40"]].concat());
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stderr.contains("stopped early; kept the weights of step "), "{}", said.stderr);
    let stopped = said.stderr.lines().rfind(|line| line.contains(": valid AUC")).unwrap();
    assert!(stopped.contains("the best is step "), "{stopped}");
    let again = workspace.esmm(&["train", "--run-dir", "run", "--resume"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(!again.stderr.contains(": valid AUC"), "nothing is left to do: {}", again.stderr);
}

/// Changes a byte in the middle of a file.
fn damage(path: &std::path::Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_checkpoint_is_passed_over_or_told() {
    let workspace = workspace(false);
    let train = |run: &str, epochs: &str| {
        let said = workspace.esmm(&["train", "run.toml", "--run-dir", run, "--set", epochs]);
        assert_eq!(said.code, 0, "{}", said.stderr);
    };
    train("whole", "train.epochs=2");
    for file in ["learner.safetensors", "optimizer.bin", "state.json"] {
        train(file, "train.epochs=1");
        let found = checkpoints(&workspace, file);
        let newest = workspace.path(&format!("{file}/checkpoint/{}/{file}", found[1]));
        damage(&newest);
        let resume = ["train", "run.toml", "--run-dir", file, "--resume", "--set", "train.epochs=2"];
        let said = workspace.esmm(&resume);
        assert_eq!(said.code, 0, "{}", said.stderr);
        let expected = format!("warning: {file}/checkpoint/{}/{file}: is damaged", found[1]);
        assert!(said.stderr.contains(&expected), "{expected} in: {}", said.stderr);
        assert!(said.stderr.contains("going on after step 140"), "{}", said.stderr);
        assert!(results(&workspace, file) == results(&workspace, "whole"), "{file}");
    }
    for checkpoint in checkpoints(&workspace, "whole") {
        damage(&workspace.path(&format!("whole/checkpoint/{checkpoint}/learner.safetensors")));
    }
    let said = workspace.esmm(&["train", "--run-dir", "whole", "--resume"]);
    let error = said.error(1);
    assert!(error.contains("learner.safetensors: is damaged: its checksum is "), "{error}");
    assert!(
        error.ends_with("no checkpoint can be used, start the training again with --overwrite"),
        "{error}"
    );
}

#[test]
fn a_checkpoint_is_a_safetensors_file() {
    let workspace = workspace(false);
    assert_eq!(workspace.esmm(&["train", "run.toml", "--run-dir", "run"]).code, 0);
    let newest = checkpoints(&workspace, "run").pop().unwrap();
    let path = workspace.path(&format!("run/checkpoint/{newest}/learner.safetensors"));
    let mut saved = esmm_core::StateDict::read(&path).unwrap();
    // 20 users, 6 tags, and in each table a row for missing and one for unknown values; Adam keeps two moments.
    for name in ["model.embeddings.table", "tables.moments.0", "tables.moments.1"] {
        let values = saved.take(name, &[30, 4]).unwrap();
        assert!(values.iter::<f32>().any(|value| value != 0.0), "{name}");
    }
}

#[test]
fn other_data_is_refused() {
    let workspace = workspace(false);
    let said = workspace.esmm(&["train", "run.toml", "--run-dir", "run", "--set", "train.epochs=1"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let resume = ["train", "--run-dir", "run", "--resume"];
    for data in [common::csv(4400), common::csv(4000).replace("u3,", "u333,")] {
        workspace.write("data.csv", &data);
        let said = workspace.esmm(&resume);
        assert!(said.error(2).starts_with("--resume: the data has changed: "), "{}", said.stderr);
    }
}

/// A limit on the size of files stands for a full disk: the checkpoint, larger than all other files, cannot be written.
#[test]
fn a_full_disk_leaves_the_checkpoint_before() {
    let workspace = workspace(false);
    let wide = ["--set", "model.embedding_dim=64", "--set"];
    let args = |run: &'static str, epochs: &'static str| {
        [&["train", "run.toml", "--run-dir", run, "--quiet"][..], &wide, &[epochs]].concat()
    };
    for (run, epochs) in [("whole", "train.epochs=2"), ("full", "train.epochs=1")] {
        let said = workspace.esmm(&args(run, epochs));
        assert_eq!(said.code, 0, "{}", said.stderr);
    }
    let size = |path: &str| fs::metadata(workspace.path(path)).unwrap().len();
    let before = checkpoints(&workspace, "full");
    let learner = size(&format!("full/checkpoint/{}/learner.safetensors", before[1]));
    let limit = learner / 512 - 1;
    assert!(size("full/model.safetensors") < limit * 512, "the checkpoint must be what does not fit");

    let resume = [&args("full", "train.epochs=2")[..], &["--resume"]].concat();
    let own = workspace.command(&resume);
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("trap '' XFSZ; ulimit -f {limit}; exec \"$0\" \"$@\"")]);
    shell.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = shell.arg(own.get_program()).args(own.get_args()).current_dir(workspace.path(".")).output();
    let said = Said::from(output.unwrap());
    let error = said.error(1);
    assert!(error.contains("learner.safetensors: cannot be written: File too large"), "{error}");
    assert!(checkpoints(&workspace, "full").contains(&before[1]), "the checkpoint before is gone");

    let said = workspace.esmm(&resume);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(results(&workspace, "full") == results(&workspace, "whole"));
}
