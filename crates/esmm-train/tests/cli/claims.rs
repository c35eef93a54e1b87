//! What commands claim: directories they lock, files they will not write over, starts that leave nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::common::{Funnel, RUN_FILE, Said, Workspace, csv, files};

/// Every file below a folder with its bytes.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(snapshot(&path)),
            false => {
                found.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// A command that must refuse and change nothing.
fn refused(workspace: &Workspace, args: &[&str], code: i32) -> String {
    let before = snapshot(&workspace.path(""));
    let said = workspace.esmm(args);
    let error = said.error(code).to_owned();
    assert!(snapshot(&workspace.path("")) == before, "{args:?} changed something");
    error
}

#[test]
fn predict_never_writes_over_what_it_reads() {
    let workspace = Workspace::trained();
    fs::copy(workspace.path("data.csv"), workspace.path("new.csv")).unwrap();
    fs::hard_link(workspace.path("new.csv"), workspace.path("hard.csv")).unwrap();
    let mut outputs = vec!["new.csv", "./run/../new.csv", "hard.csv"];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("new.csv", workspace.path("link.csv")).unwrap();
        outputs.push("link.csv");
    }
    for output in outputs {
        let error = refused(&workspace, &["predict", "run", "new.csv", "-o", output], 2);
        assert!(
            error.starts_with(&format!("-o {output}: is an input (new.csv), which would be lost")),
            "{error}"
        );
    }
    let error = refused(&workspace, &["predict", "run", "new.csv", "-o", "data.csv"], 2);
    assert!(error.contains("is what this run was trained on (data.csv)"), "{error}");
    let error =
        refused(&workspace, &["predict", "run", "new.csv", "-o", "run/encoders/vocabularies.parquet"], 2);
    assert!(error.contains("is a file of the run directory"), "{error}");
    let error = refused(&workspace, &["predict", "run", "new.csv", "-o", "run"], 2);
    assert!(error.ends_with("is a folder, expected a file"), "{error}");
}

#[test]
fn report_and_init_write_pages_and_run_files_and_nothing_else() {
    let workspace = Workspace::trained();
    let error = refused(&workspace, &["report", "run", "-o", "run.toml"], 2);
    assert_eq!(error, "-o run.toml: the output must end in .html or .htm");
    let error = refused(&workspace, &["report", "run", "-o", "run/metrics.json"], 2);
    assert!(error.contains("is a file of a run directory"), "{error}");
    let error = refused(&workspace, &["init", "data.csv", "-o", "data.csv", "--overwrite"], 2);
    assert!(error.contains("is an input (data.csv)"), "{error}");
    let error = refused(&workspace, &["init", "data.csv", "-o", "new.txt"], 2);
    assert!(error.ends_with("the output must end in .toml"), "{error}");
    let said = workspace.esmm(&["report", "run", "-o", "run/report.html"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
}

#[test]
fn synthesize_replaces_nothing_unasked() {
    let workspace = Workspace::new();
    let error = refused(&workspace, &["synthesize", ".", "--rows", "3000"], 2);
    assert!(error.starts_with("./run.toml: is there already"), "{error}");
    let said = workspace.esmm(&["synthesize", ".", "--rows", "3000", "--overwrite"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
}

/// Whatever keeps a training from starting, it leaves the folder as it was, and the corrected command works.
#[test]
fn a_start_that_fails_leaves_nothing() {
    let workspace = Workspace::new();
    let train = ["train", "run.toml", "--run-dir", "deep/er/run"];
    let data = workspace.read("data.csv");
    let broken = [
        ("run.toml", RUN_FILE.replace("epochs", "epoch"), 2),
        ("run.toml", format!("{RUN_FILE}select = \"ctcvr.acu\"\n"), 2),
        ("run.toml", format!("{RUN_FILE}select = \"ctr.gauc\"\n"), 2),
        ("run.toml", RUN_FILE.replace("price", "prize"), 1),
        ("run.toml", RUN_FILE.replace("batch_size = 64", "batch_size = 1"), 2),
        ("run.toml", format!("{RUN_FILE}\n[metrics]\ngroup = \"usr\"\n"), 1),
        ("data.csv", data.clone() + "u1,t1,1.5,2,0\n", 1),
        ("data.csv", data.clone() + "u1,t1,cheap,1,0\n", 1),
        ("data.csv", String::new(), 1),
    ];
    for (name, text, code) in broken {
        let whole = workspace.read(name);
        workspace.write(name, &text);
        let error = refused(&workspace, &train, code);
        assert!(!workspace.path("deep").exists(), "left behind after: {error}");
        workspace.write(name, &whole);
    }
    let said = workspace.esmm(&train);
    assert_eq!(said.code, 0, "{}", said.stderr);
}

#[test]
fn a_metric_that_does_not_exist_is_found_before_the_data_is_read() {
    let workspace = Workspace::new();
    workspace.write("data.csv", "");
    let error =
        refused(&workspace, &["train", "run.toml", "--run-dir", "run", "--set", "train.select=ctcvr.acu"], 2);
    let expected = "train.select = \"ctcvr.acu\" (did you mean `ctcvr.auc`?): one of ctr.auc, ctr.log_loss,";
    assert!(error.starts_with(expected), "{error}");
    let error =
        refused(&workspace, &["train", "run.toml", "--run-dir", "run", "--set", "train.select=ctr.gauc"], 2);
    assert!(error.starts_with("train.select = \"ctr.gauc\" (GAUC needs metrics.group): one of "), "{error}");
}

#[test]
fn overwrite_keeps_the_good_model_until_the_new_run_is_checked() {
    let workspace = Workspace::trained();
    let train = ["train", "run.toml", "--run-dir", "run", "--overwrite"];
    let (run_file, data) = (workspace.read("run.toml"), workspace.read("data.csv"));
    workspace.write("run.toml", &run_file.replace("epochs", "epoch"));
    refused(&workspace, &train, 2);
    workspace.write("run.toml", &run_file);
    workspace.write("data.csv", &(data.clone() + "u1,t1,1.5,2,0\n"));
    refused(&workspace, &train, 1);
    workspace.write("data.csv", &data);
    assert_eq!(workspace.esmm(&["evaluate", "run", "data.csv"]).code, 0, "the old model is whole");
    let said = workspace.esmm(&train);
    assert_eq!(said.code, 0, "{}", said.stderr);
}

#[test]
fn overwrite_replaces_run_directories_only() {
    let workspace = Workspace::new();
    fs::create_dir(workspace.path("project")).unwrap();
    for (name, text) in [("config.json", "{\"mine\":1}"), ("notes.txt", "dear diary")] {
        workspace.write(&format!("project/{name}"), text);
        let error = refused(&workspace, &["train", "run.toml", "--run-dir", "project", "--overwrite"], 2);
        assert!(error.starts_with("project: is no run directory"), "{error}");
    }
    // What the training reads would go with the old run.
    let workspace = Workspace::trained();
    fs::copy(workspace.path("data.csv"), workspace.path("run/encoders/data.csv")).unwrap();
    workspace.write("run.toml", &RUN_FILE.replace("\"data.csv\"", "\"run/encoders/data.csv\""));
    let error = refused(&workspace, &["train", "run.toml", "--run-dir", "run", "--overwrite"], 2);
    assert_eq!(error, "run: --overwrite would remove run/encoders/data.csv, which the training reads");
}

/// A training that takes long enough to be looked at, and has begun.
fn long_training(workspace: &Workspace, run: &str) -> Child {
    workspace.write("data.csv", &csv(20_000));
    let args =
        ["train", "run.toml", "--run-dir", run, "--set", "train.epochs=400", "--set", "train.batch_size=16"];
    let child =
        workspace.command_that_hears(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until(|| {
        fs::read_to_string(workspace.path(run).join("train.log")).is_ok_and(|log| log.contains("epoch 1:"))
    });
    child
}

fn wait_until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn one_training_a_run_directory() {
    let workspace = Workspace::new();
    let mut child = long_training(&workspace, "run");
    for how in ["", "--overwrite", "--resume"] {
        let mut args = vec!["train", "run.toml", "--run-dir", "run"];
        args.extend([how].iter().filter(|how| !how.is_empty()));
        let said = workspace.esmm(&args);
        let start = format!("run: is in use by process {} (esmm train) since 20", child.id());
        assert!(said.error(1).starts_with(&start), "{how}: {}", said.stderr);
        assert!(workspace.path("run/esmm.lock").exists());
    }
    // Reading is no work there.
    assert_eq!(workspace.esmm(&["inspect", "run"]).code, 0);
    child.kill().unwrap();
    child.wait().unwrap();
    // The lock of the dead holds nobody up.
    let said = workspace.esmm(&["train", "--run-dir", "run", "--resume", "--quiet", "--set", "x=1"]);
    assert_eq!(said.error(2), "--set with --resume needs the run file as well");
    let said = workspace.esmm(&["train", "run.toml", "--run-dir", "run", "--overwrite"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(!workspace.path("run/esmm.lock").exists());
}

#[test]
fn leftovers_of_killed_commands_go_with_the_next_one() {
    let workspace = Workspace::trained();
    let whole = files(&workspace.path("run"));
    for name in
        ["run/.esmm-old", "run/encoders/.esmm-old", "run/esmm.lock", "run/model.safetensors.tmp", ".esmm-old"]
    {
        workspace.write(name, "half");
    }
    let said = workspace.esmm(&["train", "--run-dir", "run", "--resume"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert_eq!(files(&workspace.path("run")), whole);
    assert!(!workspace.path("run/encoders/.esmm-old").exists());
    let said = workspace.esmm(&["predict", "run", "data.csv", "-o", "scores.csv"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(!workspace.path(".esmm-old").exists());
}

/// What somebody has set read-only is not replaced, though the folder would allow it.
#[test]
fn read_only_files_stay() {
    let workspace = Workspace::trained();
    for (name, args) in [
        ("scores.csv", &["predict", "run", "data.csv", "-o", "scores.csv"][..]),
        ("page.html", &["report", "run", "-o", "page.html"]),
        ("draft.toml", &["init", "data.csv", "-o", "draft.toml", "--overwrite"]),
        ("made/data.parquet", &["synthesize", "made", "--rows", "100", "--overwrite"]),
    ] {
        let path = workspace.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "mine").unwrap();
        stays_read_only(&workspace, name, args);
    }
    // Of an export, which replaces what an export wrote alone, every file.
    let export = ["export", "run", "-o", "model.onnx", "--overwrite"];
    assert_eq!(workspace.esmm(&export).code, 0);
    for name in EXPORTED {
        stays_read_only(&workspace, name, &export);
    }
}

/// Makes a file read-only, sees that a command refuses to write over it, and makes it writable again.
#[track_caller]
fn stays_read_only(workspace: &Workspace, name: &str, args: &[&str]) {
    let path = workspace.path(name);
    let before = path.metadata().unwrap().permissions();
    let mut read_only = before.clone();
    read_only.set_readonly(true);
    fs::set_permissions(&path, read_only).unwrap();
    let error = refused(workspace, args, 1);
    assert!(error.contains(name) && error.contains("read-only"), "{args:?}: {error}");
    fs::set_permissions(&path, before).unwrap();
}

/// The files of an export whose weights are in the model.
const EXPORTED: [&str; 4] = ["model.onnx", "preprocessing.json", "golden.json", "vocabularies.parquet"];

/// An export replaces what an export wrote, and no other files that happen to have its names.
#[test]
fn an_export_replaces_exports_only() {
    let workspace = Workspace::trained();
    let export = ["export", "run", "-o", "model.onnx"];
    for name in EXPORTED.into_iter().chain(["model.onnx.data"]) {
        workspace.write(name, "{\"mine\": 1}");
        let error = refused(&workspace, &export, 1);
        assert!(error.starts_with(&format!("{name}: is no file of an export")), "{error}");
        assert_eq!(workspace.read(name), "{\"mine\": 1}");
        fs::remove_file(workspace.path(name)).unwrap();
    }
    for _ in 0..2 {
        assert_eq!(workspace.esmm(&export).code, 0);
    }
    // Another model of the same name, and the same one trained anew.
    let train = ["train", "run.toml", "--run-dir", "other", "--set", "train.seed=7", "--quiet"];
    assert_eq!(workspace.esmm(&train).code, 0);
    let kept = || EXPORTED.map(|name| fs::read(workspace.path(name)).unwrap());
    let of_run = kept();
    let error = refused(&workspace, &["export", "other", "-o", "model.onnx"], 1);
    assert!(error.starts_with("model.onnx: is that of another model, or of this one before "), "{error}");
    assert!(error.ends_with(": --overwrite replaces it, -o names another file"), "{error}");
    let anew = ["train", "run.toml", "--run-dir", "run", "--overwrite", "--set", "train.seed=8", "--quiet"];
    assert_eq!(workspace.esmm(&anew).code, 0);
    let error = refused(&workspace, &export, 1);
    assert!(error.starts_with("model.onnx: is that of another model, or of this one before "), "{error}");
    assert!(kept() == of_run, "what was refused left its traces");
    assert_eq!(workspace.esmm(&["export", "other", "-o", "model.onnx", "--overwrite"]).code, 0);
    assert!(kept()[0] != of_run[0]);
    // Not even that replaces what no export wrote.
    workspace.write("preprocessing.json", "{\"mine\": 1}");
    let error = refused(&workspace, &["export", "other", "-o", "model.onnx", "--overwrite"], 1);
    assert!(error.starts_with("preprocessing.json: is no file of an export"), "{error}");
}

/// A file without an end is no run file.
#[cfg(target_os = "linux")]
#[test]
fn a_run_file_has_an_end() {
    let workspace = Workspace::new();
    for command in ["train", "inspect", "tune"] {
        let error = refused(&workspace, &[command, "/dev/zero"], 2);
        assert_eq!(error, "/dev/zero: is longer than 64 MiB: it is no run file");
    }
}

/// One flipped bit in any file that scoring reads is named, and so is a file of another run.
#[test]
fn what_is_scored_is_what_was_trained() {
    for funnel in Funnel::ALL {
        let workspace = Workspace::trained_of(funnel);
        let other = ["train", "run.toml", "--run-dir", "other", "--set", "train.seed=2"];
        assert_eq!(workspace.esmm(&other).code, 0);
        let manifest: serde_json::Value = serde_json::from_str(&workspace.read("run/manifest.json")).unwrap();
        let listed: Vec<&String> = manifest["files"].as_object().unwrap().keys().collect();
        let expected = [
            "config.json",
            "encoders/features.json",
            "encoders/trained_rows.parquet",
            "encoders/vocabularies.parquet",
            "model.safetensors",
            "schema.json",
        ];
        assert_eq!(listed, expected);
        for name in expected {
            let path = workspace.path("run").join(name);
            let whole = fs::read(&path).unwrap();
            // Within a number or a text: most of what is damaged still has its form.
            for place in [whole.len() / 3, whole.len() / 2, whole.len() - 9] {
                let mut bytes = whole.clone();
                bytes[place] ^= 1;
                fs::write(&path, bytes).unwrap();
                for command in [
                    &["evaluate", "run", "data.csv"][..],
                    &["predict", "run", "data.csv", "-o", "scores.csv"],
                ] {
                    let said = workspace.esmm(command);
                    assert!(
                        said.error(1).starts_with(&format!("run/{name}")),
                        "{name}, {place}: {}",
                        said.stderr
                    );
                }
            }
            fs::write(&path, whole).unwrap();
        }
        assert!(!workspace.path("scores.csv").exists());
        fs::copy(workspace.path("other/model.safetensors"), workspace.path("run/model.safetensors")).unwrap();
        let said = workspace.esmm(&["evaluate", "run", "data.csv"]);
        assert!(
            said.error(1).ends_with("if it was replaced on purpose, say --accept-weights"),
            "{}",
            said.stderr
        );
        let score = |run: &str, flags: &[&str]| {
            let said = workspace.esmm(&[&["evaluate", run, "data.csv", "--json"], flags].concat());
            assert_eq!(said.code, 0, "{}", said.stderr);
            let mut metrics: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
            // The drift is that since the run's own training, whose weights were others.
            metrics.as_object_mut().unwrap().remove("drift");
            metrics
        };
        assert_eq!(score("run", &["--accept-weights"]), score("other", &[]));
    }
}

/// As the version before left it: no manifest, relative paths without their folder, Burn's curves.
#[test]
fn a_run_directory_without_a_manifest_is_told_and_taken() {
    let workspace = Workspace::trained();
    let expected = workspace.esmm(&["evaluate", "run", "data.csv", "--json"]).stdout;
    fs::remove_file(workspace.path("run/manifest.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&workspace.read("run/config.json")).unwrap();
    config.as_object_mut().unwrap().remove("folder").unwrap();
    workspace.write("run/config.json", &config.to_string());
    let said = workspace.esmm(&["evaluate", "run", "data.csv", "--json"]);
    assert_eq!((said.code, said.stdout), (0, expected));
    assert!(said.stderr.contains("warning: run: has no manifest.json"), "{}", said.stderr);
    let said =
        workspace.esmm(&["train", "run.toml", "--run-dir", "run", "--resume", "--set", "train.epochs=3"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
}

#[test]
fn a_format_of_the_future_is_refused() {
    let workspace = Workspace::trained();
    let mut config: serde_json::Value = serde_json::from_str(&workspace.read("run/config.json")).unwrap();
    config["format_version"] = 99.into();
    workspace.write("run/config.json", &config.to_string());
    for args in [
        &["evaluate", "run", "data.csv"][..],
        &["predict", "run", "data.csv", "-o", "scores.csv"],
        &["inspect", "run"],
        &["train", "--run-dir", "run", "--resume"],
    ] {
        let said = workspace.esmm(args);
        let expected =
            "run/config.json: has format version 99, this program reads 2: install the esmm that wrote it";
        assert_eq!(said.error(1), expected, "{args:?}");
    }
}

/// A run directory means the same wherever one stands.
#[test]
fn paths_do_not_depend_on_where_one_stands() {
    let workspace = Workspace::new();
    assert_eq!(workspace.esmm(&["train", "run.toml", "--run-dir", "whole"]).code, 0);
    let first = ["train", "run.toml", "--run-dir", "parts", "--set", "train.epochs=1"];
    assert_eq!(workspace.esmm(&first).code, 0);
    fs::create_dir(workspace.path("elsewhere")).unwrap();
    // The epochs of a saved configuration are its own: it is resumed with the run file of where it began.
    let there = |args: &[&str]| {
        let mut command = workspace.command(args);
        Said::from(command.current_dir(workspace.path("elsewhere")).output().unwrap())
    };
    let run_file = workspace.read("run.toml").replace("\"data.csv\"", "\"../data.csv\"");
    workspace.write("elsewhere/run.toml", &run_file);
    let said = there(&["train", "--run-dir", "../parts", "--resume"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let said = there(&["inspect", "../parts", "--data"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
}

#[cfg(unix)]
mod signals {
    use super::*;

    /// `signal` as `kill` names it; the exit code and the name that are expected.
    fn ends_with_a_checkpoint(signal: &str, code: i32, name: &str) {
        let workspace = Workspace::new();
        let child = long_training(&workspace, "run");
        kill(&child, signal);
        let said = Said::from(child.wait_with_output().unwrap());
        assert_eq!(said.code, code, "{}", said.stderr);
        let saving =
            format!("warning: {name}: finishing the step and saving a checkpoint (again to quit at once)");
        assert!(said.stderr.contains(&saving), "{}", said.stderr);
        assert!(said.stderr.contains("go on with: esmm train --run-dir run --resume"), "{}", said.stderr);
        assert!(
            !workspace.path("run/esmm.lock").exists() && !files(&workspace.path("run/checkpoint")).is_empty()
        );
    }

    fn kill(child: &Child, signal: &str) {
        let number = child.id().to_string();
        let status = std::process::Command::new("kill").args([signal, &number]).status().unwrap();
        assert!(status.success());
    }

    #[test]
    fn each_signal_saves_and_has_its_exit_code() {
        ends_with_a_checkpoint("-INT", 130, "Ctrl-C");
        ends_with_a_checkpoint("-TERM", 143, "SIGTERM");
        ends_with_a_checkpoint("-HUP", 129, "SIGHUP");
    }

    /// A validation that is measured when a signal comes is given up at once, within an epoch and after the last one; a
    /// resumed training measures it again and ends with the same bytes.
    #[test]
    fn a_signal_is_heard_while_a_validation_is_measured() {
        for within_epoch in [false, true] {
            for funnel in Funnel::ALL {
                heard_in_validation(funnel, within_epoch);
            }
        }
    }

    fn heard_in_validation(funnel: Funnel, within_epoch: bool) {
        let workspace = Workspace::of(funnel);
        workspace.write("data.csv", &funnel.csv(30_000));
        let split = "valid = 0.2, test = 0.2";
        let run_file = funnel.run_file().replace(split, "valid = 0.98, test = 0.01");
        let (run_file, labels) = run_file.split_once("\n[labels]").unwrap_or((&run_file, ""));
        let labels = if labels.is_empty() { String::new() } else { format!("\n[labels]{labels}") };
        let within = if within_epoch { "validate_every = 1\n" } else { "" };
        let run_file = run_file.replace("batch_size = 64", &format!("batch_size = 100\n{within}"));
        let run_file = run_file.replace("epochs = 2", "epochs = 1");
        workspace.write("run.toml", &(run_file.replace("hidden = [8]", "hidden = [512, 256]") + &labels));
        let whole = ["train", "run.toml", "--run-dir", "whole", "--quiet"];
        assert_eq!(workspace.esmm(&whole).code, 0);
        // Said right before the first validation after an epoch, and right after one within it.
        let moment = if within_epoch { "step 1: valid" } else { "waiting for data" };
        for _ in 0..8 {
            let _ = fs::remove_dir_all(workspace.path("run"));
            let child = workspace
                .command_that_hears(&["train", "run.toml", "--run-dir", "run"])
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            wait_until(|| {
                fs::read_to_string(workspace.path("run/train.log")).is_ok_and(|log| log.contains(moment))
            });
            // A step is soon done, and the next validation has begun.
            std::thread::sleep(Duration::from_millis(if within_epoch { 300 } else { 20 }));
            let begun = std::time::Instant::now();
            kill(&child, "-TERM");
            let said = Said::from(child.wait_with_output().unwrap());
            // A second or so where nothing else runs.
            assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
            assert_eq!(said.code, 143, "{}", said.stderr);
            assert!(!workspace.path("run/metrics.json").exists());
            let newest = files(&workspace.path("run/checkpoint")).pop().unwrap();
            if !workspace
                .read(&format!("run/checkpoint/{newest}/state.json"))
                .contains("\"validation_due\": true")
            {
                // It came between two validations.
                continue;
            }
            assert!(said.stderr.contains("go on with: esmm train --run-dir run --resume"), "{}", said.stderr);
            let said = workspace.esmm(&["train", "--run-dir", "run", "--resume", "--quiet"]);
            assert_eq!(said.code, 0, "{}", said.stderr);
            for name in ["model.safetensors", "metrics.json"] {
                let [run, whole] = ["run", "whole"]
                    .map(|folder| fs::read(workspace.path(&format!("{folder}/{name}"))).unwrap());
                assert!(run == whole, "{funnel:?}, {name} differs");
            }
            let validations = |folder: &str| {
                let history = workspace.read(&format!("{folder}/history.jsonl"));
                history.lines().filter(|line| line.contains("\"validation\"")).map(str::to_owned).count()
            };
            assert_eq!(validations("run"), validations("whole"));
            return;
        }
        panic!("{funnel:?}: no signal came while a validation was measured");
    }

    /// Nothing is lost while the final metrics are measured: a signal ends them at once, and `--resume` measures.
    #[test]
    fn a_signal_ends_the_final_metrics_at_once() {
        let workspace = Workspace::new();
        workspace.write("data.csv", &csv(60_000));
        let wide =
            ["--set", "model.hidden=[512,256]", "--set", "train.batch_size=8192", "--set", "train.epochs=1"];
        let train = [&["train", "run.toml", "--run-dir", "run"][..], &wide].concat();
        // The metrics may be measured before the signal comes.
        for _ in 0..5 {
            let _ = fs::remove_dir_all(workspace.path("run"));
            let child = workspace
                .command_that_hears(&train)
                .stderr(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            wait_until(|| {
                fs::read_to_string(workspace.path("run/train.log"))
                    .is_ok_and(|log| log.contains("measuring all splits with the best weights"))
            });
            let begun = std::time::Instant::now();
            kill(&child, "-TERM");
            let said = Said::from(child.wait_with_output().unwrap());
            if said.code == 0 {
                continue;
            }
            assert_eq!(said.code, 143, "{}", said.stderr);
            assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
            let expected = "warning: SIGTERM: the training is done and saved, its metrics are not measured";
            assert!(said.stderr.contains(expected), "{}", said.stderr);
            assert!(
                said.stderr.contains("measure them with: esmm train --run-dir run --resume"),
                "{}",
                said.stderr
            );
            assert!(
                !workspace.path("run/esmm.lock").exists() && !workspace.path("run/metrics.json").exists()
            );
            let said = workspace.esmm(&["train", "--run-dir", "run", "--resume"]);
            assert_eq!(said.code, 0, "{}", said.stderr);
            assert!(workspace.path("run/metrics.json").exists());
            return;
        }
        panic!("the metrics were always measured before the signal came");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn nohup_protects() {
        let workspace = Workspace::new();
        workspace.write("data.csv", &csv(20_000));
        let esmm = env!("CARGO_BIN_EXE_esmm");
        let mut child = std::process::Command::new("nohup")
            .args([esmm, "train", "run.toml", "--run-dir", "run", "--set", "train.epochs=3"])
            .current_dir(workspace.path(""))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until(|| workspace.path("run/history.jsonl").exists() || child.try_wait().unwrap().is_some());
        kill(&child, "-HUP");
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert!(workspace.path("run/metrics.json").exists());
    }

    /// Copies of what can be read only once go with the command, however it ends; after a kill, with the next one.
    #[test]
    fn copies_of_pipes_go() {
        use std::io::Write;
        let workspace = Workspace::trained();
        fs::create_dir(workspace.path("tmp")).unwrap();
        for (signal, code) in [("-KILL", None), ("-TERM", Some(143)), ("-INT", Some(130))] {
            let before = files(&workspace.path("tmp"));
            let args = ["predict", "run", "-", "-o", "scores.csv", "--quiet"];
            let mut command = workspace.command_that_hears(&args);
            command.env("TMPDIR", workspace.path("tmp")).stdin(Stdio::piped());
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let mut input = child.stdin.take().unwrap();
            input.write_all(csv(400).as_bytes()).unwrap();
            input.flush().unwrap();
            let copies = || -> Vec<String> {
                let folders = files(&workspace.path("tmp")).into_iter();
                folders.flat_map(|folder| files(&workspace.path("tmp").join(folder))).collect()
            };
            // A copy besides the lock. What an earlier command left is gone by then.
            wait_until(|| copies().len() == 2 && files(&workspace.path("tmp")) != before);
            assert_eq!(files(&workspace.path("tmp")).len(), 1, "{signal}");
            kill(&child, signal);
            assert_eq!(child.wait().unwrap().code(), code);
            drop(input);
            let left = files(&workspace.path("tmp")).len();
            assert_eq!(left, usize::from(code.is_none()), "{signal}");
        }
    }

    /// A command that writes one file takes what it has begun with it.
    #[test]
    fn a_command_that_is_ended_leaves_no_half_file() {
        let workspace = Workspace::trained();
        workspace.write("many.csv", &csv(200_000));
        let before = files(&workspace.path(""));
        for (signal, code) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
            let args = ["predict", "run", "many.csv", "-o", "scores.csv"];
            let mut child = workspace
                .command_that_hears(&args)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            wait_until(|| {
                files(&workspace.path("")).iter().any(|name| name.starts_with(".esmm-"))
                    || child.try_wait().unwrap().is_some()
            });
            kill(&child, signal);
            assert_eq!(child.wait().unwrap().code(), Some(code));
            assert_eq!(files(&workspace.path("")), before);
        }
    }
}
