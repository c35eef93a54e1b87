//! Event files of the `esmm` command: TensorBoard's own reader, resuming, a full disk.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::Write;
use std::process::Command;

use crate::common::{Funnel, Workspace, files};

/// Names a Python with the packages of `tests/tensorboard/requirements.txt`.
const PYTHON: &str = "ESMM_TENSORBOARD_PYTHON";

/// A workspace with its splits in files of their own, so that they can be scored: 256, 72 and 72 rows.
fn workspace(funnel: Funnel) -> Workspace {
    let workspace = Workspace::new();
    let text = funnel.csv(400);
    let (header, rows) = text.split_once('\n').unwrap();
    let rows: Vec<&str> = rows.lines().collect();
    for (name, part) in [("train", &rows[..256]), ("valid", &rows[256..328]), ("test", &rows[328..])] {
        workspace.write(&format!("{name}.csv"), &format!("{header}\n{}\n", part.join("\n")));
    }
    let data = "train = \"train.csv\"\nvalid = \"valid.csv\"\ntest = \"test.csv\"\n";
    let split = "path = \"data.csv\"\nsplit = { by = \"random\", valid = 0.2, test = 0.2, seed = 3 }\n";
    let run_file = funnel.run_file();
    assert!(run_file.contains(split));
    let text =
        run_file.replace(split, data).replace("epochs = 2", "epochs = 3\nlog_every = 1\ntensorboard = true");
    workspace.write("run.toml", &text);
    workspace
}

fn esmm(workspace: &Workspace, args: &[&str]) -> String {
    let said = workspace.esmm(args);
    assert_eq!(said.code, 0, "{args:?}: {}", said.stderr);
    said.stderr
}

/// Runs the check in `tests/tensorboard`; says so on the terminal when there is no Python for it.
fn check(workspace: &Workspace, args: &[&str]) {
    let Some(python) = std::env::var_os(PYTHON) else {
        // Not captured, as `eprintln!` would be.
        let _ = writeln!(
            std::io::stderr(),
            "skipped the check with TensorBoard's reader: set {PYTHON} to a Python that has the packages of \
             tests/tensorboard/requirements.txt"
        );
        return;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/tensorboard/check_run.py");
    let mut command = Command::new(python);
    command.arg(script).arg(workspace.path("run")).args(args);
    let output = command.output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", said(&output.stdout), said(&output.stderr));
}

/// 3 epochs of 4 steps. The valid split's curves are computed anew from predictions.
#[test]
fn tensorboard_reads_what_a_training_wrote() {
    Funnel::ALL.into_iter().for_each(read_by_tensorboard);
}

fn read_by_tensorboard(funnel: Funnel) {
    let workspace = workspace(funnel);
    esmm(&workspace, &["train", "run.toml", "--run-dir", "run"]);
    let left = files(&workspace.path("run/tensorboard"));
    assert!(left.starts_with(&["events".to_owned()]) || left.len() == 4, "{left:?}");
    assert_eq!(left[1..], ["test", "train", "valid"]);
    let mut scores = Vec::new();
    for split in ["train", "test"] {
        let out = format!("{split}-scores.csv");
        let data = format!("{split}.csv");
        esmm(&workspace, &["predict", "run", &data, "-o", &out, "--keep", &funnel.stages().join(",")]);
        scores.push(format!("{split}={}", workspace.path(&out).display()));
    }
    check(&workspace, &["--steps", "12", "--scores", &scores[0], "--scores", &scores[1]]);
}

/// A training that lost its last epoch goes on from the checkpoint before, and no step is there twice.
#[test]
fn a_resumed_training_voids_what_it_does_again() {
    Funnel::ALL.into_iter().for_each(resumed);
}

fn resumed(funnel: Funnel) {
    let workspace = workspace(funnel);
    let one = ["--set", "train.epochs=1"];
    let train = |more: &[&str]| {
        esmm(&workspace, &[&["train", "run.toml", "--run-dir", "run"], more].concat());
    };
    train(&one);
    let copy = |from: &str, to: &str| {
        let (from, to) = (workspace.path(from), workspace.path(to));
        std::fs::create_dir_all(&to).unwrap();
        for file in files(&from) {
            std::fs::copy(from.join(&file), to.join(&file)).unwrap();
        }
    };
    let checkpoint = format!("run/checkpoint/{}", files(&workspace.path("run/checkpoint"))[0]);
    copy(&checkpoint, "kept");
    train(&["--resume"]);
    std::fs::remove_dir_all(workspace.path("run/checkpoint")).unwrap();
    copy("kept", &checkpoint);
    train(&["--resume"]);
    assert_eq!(files(&workspace.path("run/tensorboard/train")).len(), 3);
    check(&workspace, &["--steps", "12", "--resumed-at", "4"]);
}

#[test]
fn flags_win_over_the_run_file_and_overwrite_cleans() {
    Funnel::ALL.into_iter().for_each(flags_win);
}

fn flags_win(funnel: Funnel) {
    let workspace = workspace(funnel);
    let train = |more: &[&str]| {
        esmm(&workspace, &[&["train", "run.toml", "--run-dir", "run"], more].concat());
    };
    train(&["--no-tensorboard"]);
    assert!(!workspace.path("run/tensorboard").exists());
    train(&["--overwrite", "--tensorboard", "--set", "train.tensorboard=false"]);
    let before = files(&workspace.path("run/tensorboard/train"));
    train(&["--overwrite"]);
    let after = files(&workspace.path("run/tensorboard/train"));
    assert!(before.len() == 1 && after.len() == 1 && before != after, "{before:?}, {after:?}");
}

/// Files may grow to 256 KiB: the event files do not fit, everything else does.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_costs_one_warning_and_no_training() {
    Funnel::ALL.into_iter().for_each(full_disk);
}

#[cfg(target_os = "linux")]
fn full_disk(funnel: Funnel) {
    let workspace = workspace(funnel);
    let esmm = env!("CARGO_BIN_EXE_esmm");
    let script = format!(
        "trap '' XFSZ; ulimit -f 512; exec '{esmm}' train run.toml --run-dir run --set train.epochs=60"
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]).current_dir(workspace.path("."));
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let warnings: Vec<&str> = stderr.lines().filter(|line| line.contains("TensorBoard")).collect();
    assert_eq!(warnings.len(), 1, "{stderr}");
    assert!(warnings[0].contains("the training goes on"), "{stderr}");
    assert!(workspace.path("run/metrics.json").exists());
}
