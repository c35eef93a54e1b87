//! A GPU that is lost while a training runs. The command loads a stand-in for Vulkan's loader, compiled from `lost_device.c`,
//! which lets the driver work for so many submissions and then says that the device is lost.

#![cfg(all(target_os = "linux", feature = "wgpu"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Said, Workspace, files};

/// A training that is soon done, with checkpoints in between.
const TRAIN: [&str; 7] =
    ["train", "run.toml", "--device", "wgpu", "--quiet", "--set", "train.checkpoint_every=3"];

/// Vulkan's loader of this machine.
fn real_loader() -> Option<PathBuf> {
    let listed = Command::new("/sbin/ldconfig").arg("-p").output().ok()?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let line = listed.lines().find(|line| line.trim_start().starts_with("libvulkan.so.1 "))?;
    Some(PathBuf::from(line.split("=> ").nth(1)?.trim()))
}

/// The stand-in, in a folder of the workspace; `None` where there is no C compiler.
fn stand_in(workspace: &Workspace) -> Option<PathBuf> {
    let folder = workspace.path("lib");
    fs::create_dir(&folder).unwrap();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/lost_device.c");
    let mut compile = Command::new("cc");
    // It stays loaded, under the name of the real one: whoever asks for that again gets this one again.
    let linked = ["-Wl,-soname,libvulkan.so.1", "-Wl,-z,nodelete"];
    compile.args(["-shared", "-fPIC"]).args(linked).args([source, "-ldl", "-o"]);
    compile.arg(folder.join("libvulkan.so.1"));
    let status = compile.status().ok()?;
    assert!(status.success(), "lost_device.c does not compile");
    Some(folder)
}

/// Waits for a command, which must not wait for a device that never answers.
fn wait(mut command: Command) -> Said {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(300);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > end {
            child.kill().unwrap();
            panic!("the command hangs: {}", Said::from(child.wait_with_output().unwrap()).stderr);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Said::from(child.wait_with_output().unwrap())
}

/// Whenever the device is lost, the training ends with 1 and one line; what was saved before is intact, and goes on to the
/// same bytes.
#[test]
fn a_lost_device_ends_a_training_with_one_line() {
    let workspace = Workspace::new();
    let (Some(loader), Some(folder)) = (real_loader(), stand_in(&workspace)) else {
        eprintln!("skipped: there is no C compiler or no Vulkan here");
        return;
    };
    let train = |run: &str, submissions: u32, more: &[&str]| {
        let mut command = workspace.command(&[&TRAIN[..], &["--run-dir", run], more].concat());
        command.env("LD_LIBRARY_PATH", &folder).env("ESMM_TEST_VULKAN", &loader);
        command.env("ESMM_TEST_SUBMISSIONS", submissions.to_string());
        wait(command)
    };
    let said = train("whole", u32::MAX, &[]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let (mut before_a_checkpoint, mut after_one) = (0, 0);
    // Three times as many each time, until they are enough for all of the training.
    for submissions in (0..16).map(|power| 3_u32.pow(power) - 1) {
        let _ = fs::remove_dir_all(workspace.path("run"));
        let said = train("run", submissions, &[]);
        if said.code == 0 {
            break;
        }
        // CubeCL's thread may panic once more while the process ends.
        assert_eq!((said.code, said.stdout.as_str()), (1, ""), "{submissions} submissions: {}", said.stderr);
        let errors: Vec<&str> = said.stderr.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
        assert_eq!(errors.len(), 1, "{}", said.stderr);
        let error = errors[0];
        assert!(
            error.starts_with("device `wgpu` failed: ") || error.starts_with("the device failed: "),
            "{error}"
        );
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
                    assert!(run == whole, "{name} after {submissions} submissions");
                }
            }
            None => before_a_checkpoint += 1,
        }
    }
    assert!(before_a_checkpoint > 0 && after_one > 0, "{before_a_checkpoint} before, {after_one} after");
}
