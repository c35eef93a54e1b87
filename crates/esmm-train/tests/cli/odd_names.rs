//! Names that are not UTF-8, which Linux allows: every command takes them or says one line.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;

use crate::common::{RUN_FILE, Said, Workspace, files};

/// A name that is no text in UTF-8: Latin-1's "é" before an ending.
fn odd(stem: &str, ending: &str) -> OsString {
    let bytes = [stem.as_bytes(), b"\xe9", ending.as_bytes()].concat();
    OsStr::from_bytes(&bytes).to_owned()
}

fn esmm(workspace: &Workspace, args: &[&OsStr]) -> Said {
    let mut command = workspace.command(&[]);
    Said::from(command.args(args).output().unwrap())
}

fn os(text: &str) -> &OsStr {
    OsStr::new(text)
}

#[test]
fn run_files_run_directories_and_outputs_have_any_name() {
    let workspace = Workspace::new();
    let [run_file, run, scores, page, draft] = [
        odd("run", ".toml"),
        odd("run", ""),
        odd("scores", ".csv"),
        odd("page", ".html"),
        odd("draft", ".toml"),
    ];
    fs::rename(workspace.path("run.toml"), workspace.path("").join(&run_file)).unwrap();
    let resume =
        [os("train"), &run_file, os("--run-dir"), &run, os("--resume"), os("--set"), os("train.epochs=3")];
    let commands: &[&[&OsStr]] = &[
        &[os("train"), &run_file, os("--run-dir"), &run, os("--tensorboard")],
        &resume,
        &[os("train"), os("--run-dir"), &run, os("--resume")],
        &[os("evaluate"), &run, os("data.csv")],
        &[os("predict"), &run, os("data.csv"), os("-o"), &scores],
        &[os("report"), &run, os("-o"), &page],
        &[os("inspect"), &run],
        &[os("inspect"), &run, os("--data")],
        &[os("inspect"), &run_file],
        &[os("init"), os("data.csv"), os("-o"), &draft],
        // A run directory of its own, named after the run file.
        &[os("train"), &run_file],
    ];
    for args in commands {
        let said = esmm(&workspace, args);
        assert_eq!(said.code, 0, "{args:?}: {}", said.stderr);
    }
    for written in [&scores, &page, &draft] {
        assert!(workspace.path("").join(written).exists(), "{}", written.display());
    }
    let folder = workspace.path("").join(&run);
    for name in ["model.safetensors", "metrics.json", "train.log", "checkpoint"] {
        assert!(folder.join(name).exists(), "{name}");
    }
}

#[test]
fn data_in_a_folder_of_any_name_is_read_by_the_name_of_a_folder_above() {
    let workspace = Workspace::new();
    fs::create_dir(workspace.path("data")).unwrap();
    fs::rename(workspace.path("data.csv"), workspace.path("data").join(odd("part", ".csv"))).unwrap();
    workspace.write("run.toml", &RUN_FILE.replace("data.csv", "data"));
    let said = workspace.esmm(&["train", "run.toml", "--run-dir", "run"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let said = workspace.esmm(&["evaluate", "run", "data"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
}

/// A glob passes over names that are not UTF-8: their rows would be missing without a word.
#[test]
fn a_glob_that_would_miss_a_file_is_told() {
    let workspace = Workspace::trained();
    fs::copy(workspace.path("data.csv"), workspace.path("").join(odd("data", ".csv"))).unwrap();
    let said = workspace.esmm(&["evaluate", "run", "data*.csv"]);
    let error = said.error(1);
    assert!(error.ends_with("matches, but its name is not UTF-8: rename it, or name its folder"), "{error}");
}

#[test]
fn what_cannot_be_named_is_told_in_one_line() {
    let workspace = Workspace::trained();
    fs::copy(workspace.path("data.csv"), workspace.path("").join(odd("data", ".csv"))).unwrap();
    let before = files(&workspace.path(""));
    let (data, run) = (odd("data", ".csv"), odd("new", ""));
    let commands: &[(&[&OsStr], &str)] = &[
        (&[os("evaluate"), os("run"), &data], "an argument is not UTF-8"),
        (&[os("predict"), os("run"), &data, os("-o"), os("scores.csv")], "an argument is not UTF-8"),
        (&[os("init"), &data], "an argument is not UTF-8"),
        (&[os("train"), os("--run-dir"), &run], "--run-dir "),
        (&[os("synthesize"), &run, os("--rows"), os("10")], "OUT_DIR "),
    ];
    for (args, start) in commands {
        let said = esmm(&workspace, args);
        assert!(said.error(2).starts_with(start), "{args:?}: {}", said.stderr);
        assert_eq!(files(&workspace.path("")), before, "{args:?} left something");
    }
}
