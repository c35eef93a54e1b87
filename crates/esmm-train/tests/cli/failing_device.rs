//! A GPU that fails while a training runs: it is lost, or others have taken its memory.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;

use crate::common::{Workspace, files};
use crate::failing_vulkan::{FailingVulkan, Failure, error, wait};

/// A training that is soon done, with checkpoints in between.
const TRAIN: [&str; 7] =
    ["train", "run.toml", "--device", "wgpu", "--quiet", "--set", "train.checkpoint_every=3"];

#[test]
fn a_lost_device_ends_a_training_with_one_line() {
    ends_with_one_line(Failure::Lost, |_| {});
}

#[test]
fn memory_that_is_refused_ends_a_training_with_one_line() {
    ends_with_one_line(Failure::NoMemory, |error| {
        let (_, needs) =
            error.split_once(": it is out of memory; weights, optimizers and a batch of 64 take ").unwrap();
        let (bytes, advice) = needs.split_once(" of it at least: lower train.batch_size or ").unwrap();
        assert!(
            bytes.ends_with(" KiB") && advice.contains("end the other programs that take its memory; "),
            "{error}"
        );
    });
}

/// Whenever the device fails, the training ends with 1 and one line; what was saved before is intact, and goes on to the
/// same bytes.
fn ends_with_one_line(failure: fn(u32) -> Failure, check: fn(&str)) {
    let workspace = Workspace::new();
    let Some(vulkan) = FailingVulkan::new(&workspace) else { return };
    let train = |run: &str, calls: u32| {
        vulkan.run(failure(calls), workspace.command(&[&TRAIN[..], &["--run-dir", run]].concat()))
    };
    let said = train("whole", u32::MAX);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let (mut before_a_checkpoint, mut after_one) = (0, 0);
    // Three times as many each time, until they are enough for all of the training.
    for calls in (0..16).map(|power| 3_u32.pow(power) - 1) {
        let _ = fs::remove_dir_all(workspace.path("run"));
        let said = train("run", calls);
        if said.code == 0 {
            break;
        }
        let error = error(&said);
        check(&error);
        let left = files(&workspace.path("run"));
        assert!(
            !left.contains(&"metrics.json".to_owned()) && !left.contains(&"esmm.lock".to_owned()),
            "{left:?}"
        );
        match error.rsplit_once("; the checkpoint of step ") {
            Some((_, rest)) => {
                after_one += 1;
                assert!(
                    rest.ends_with(" is intact, go on with: esmm train --run-dir run --resume"),
                    "{error}"
                );
                let resume = ["train", "--run-dir", "run", "--device", "wgpu", "--quiet", "--resume"];
                let said = wait(workspace.command(&resume));
                assert_eq!(said.code, 0, "{}", said.stderr);
                for name in ["model.safetensors", "metrics.json"] {
                    let [run, whole] = ["run", "whole"]
                        .map(|folder| fs::read(workspace.path(&format!("{folder}/{name}"))).unwrap());
                    assert!(run == whole, "{name} after {:?}", failure(calls));
                }
            }
            None => {
                before_a_checkpoint += 1;
                assert!(error.ends_with("; no checkpoint was saved before"), "{error}");
            }
        }
    }
    assert!(before_a_checkpoint > 0 && after_one > 0, "{before_a_checkpoint} before, {after_one} after");
}

/// A device that is there and does not compute is listed with the reason.
#[test]
fn a_device_that_does_not_compute_is_listed_as_such() {
    let workspace = Workspace::new();
    let Some(vulkan) = FailingVulkan::new(&workspace) else { return };
    for (failure, reason) in [
        (Failure::Lost(0), "; device `wgpu:0` failed: "),
        (Failure::NoMemory(0), "; device `wgpu:0` failed: it is out of memory"),
    ] {
        let said = vulkan.run(failure, workspace.command(&["devices"]));
        assert_eq!(said.code, 0, "{}", said.stderr);
        let line = said.stdout.lines().find(|line| line.starts_with("wgpu:0 ")).unwrap();
        assert!(line.contains(" MiB; ") && line.contains(reason), "{line}");
    }
    let said = vulkan.run(Failure::Lost(u32::MAX), workspace.command(&["devices"]));
    assert!(!said.stdout.contains(" failed: "), "{}", said.stdout);
}

/// Whenever the device fails under a command that scores, that ends with 1 and one line, writes nothing, and leaves the run
/// directory as it was.
#[test]
fn a_failing_device_ends_scoring_with_one_line() {
    let workspace = Workspace::new();
    let Some(vulkan) = FailingVulkan::new(&workspace) else { return };
    let said = workspace.esmm(&["train", "run.toml", "--run-dir", "run", "--device", "ndarray"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let kept = || {
        let folder = workspace.path("run");
        let names = files(&folder).into_iter().filter(|name| folder.join(name).is_file());
        names.map(|name| (fs::read(folder.join(&name)).unwrap(), name)).collect::<Vec<_>>()
    };
    for command in [
        &["evaluate", "run", "data.csv"][..],
        &["predict", "run", "data.csv", "-o", "scores.csv", "--quiet"],
        &["predict", "run", "data.csv", "-o", "-", "--quiet"],
        &["calibrate", "run", "data.csv"],
    ] {
        let command = [command, &["--device", "wgpu"]].concat();
        for failure in [Failure::Lost, Failure::NoMemory] {
            let before = kept();
            let mut failed = 0;
            for calls in (0..16).map(|power| 3_u32.pow(power) - 1) {
                let said = vulkan.run(failure(calls), workspace.command(&command));
                // These scores are too bad to be calibrated, which is told once all rows were measured.
                if said.code == 0 || said.stderr.contains("worse than chance") {
                    break;
                }
                failed += 1;
                let error = error(&said);
                if failure(calls) == Failure::NoMemory(calls) {
                    let told = error.contains(": it is out of memory; the weights take ");
                    assert!(told && error.ends_with(" or say another --device"), "{error}");
                }
                assert!(!workspace.path("scores.csv").exists(), "{command:?}, {:?}", failure(calls));
                assert!(
                    kept() == before,
                    "{command:?}, {:?}: {:?}",
                    failure(calls),
                    files(&workspace.path("run"))
                );
            }
            assert!(failed > 0, "{command:?}");
            let _ = fs::remove_file(workspace.path("scores.csv"));
            let _ = workspace.esmm(&["calibrate", "run", "--undo"]);
        }
    }
}
