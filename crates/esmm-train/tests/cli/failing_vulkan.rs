//! A stand-in for Vulkan's loader, compiled from `failing_vulkan.c`, with which a GPU fails after a number of calls.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::common::{Said, Workspace};

/// How a GPU fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It is lost after so many submissions.
    Lost(u32),
    /// It refuses memory after so many buffers and pieces of memory.
    NoMemory(u32),
}

/// Vulkan's loader of this machine, and the stand-in for it.
pub(crate) struct FailingVulkan {
    loader: PathBuf,
    folder: PathBuf,
}

impl FailingVulkan {
    /// In a folder of the workspace; `None`, which is said, where there is no C compiler or no Vulkan.
    pub(crate) fn new(workspace: &Workspace) -> Option<Self> {
        let made = real_loader().zip(stand_in(workspace));
        if made.is_none() {
            eprintln!("skipped: there is no C compiler or no Vulkan here");
        }
        made.map(|(loader, folder)| Self { loader, folder })
    }

    /// Runs a command on a GPU that fails.
    pub(crate) fn run(&self, failure: Failure, mut command: Command) -> Said {
        command.env("LD_LIBRARY_PATH", &self.folder).env("ESMM_TEST_VULKAN", &self.loader);
        let (variable, number) = match failure {
            Failure::Lost(submissions) => ("ESMM_TEST_SUBMISSIONS", submissions),
            Failure::NoMemory(allocations) => ("ESMM_TEST_ALLOCATIONS", allocations),
        };
        command.env(variable, number.to_string());
        wait(command)
    }
}

fn real_loader() -> Option<PathBuf> {
    let listed = Command::new("/sbin/ldconfig").arg("-p").output().ok()?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let line = listed.lines().find(|line| line.trim_start().starts_with("libvulkan.so.1 "))?;
    Some(PathBuf::from(line.split("=> ").nth(1)?.trim()))
}

fn stand_in(workspace: &Workspace) -> Option<PathBuf> {
    let folder = workspace.path("lib");
    fs::create_dir(&folder).unwrap();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/failing_vulkan.c");
    let mut compile = Command::new("cc");
    // It stays loaded, under the name of the real one: whoever asks for that again gets this one again.
    let linked = ["-Wl,-soname,libvulkan.so.1", "-Wl,-z,nodelete"];
    compile.args(["-shared", "-fPIC"]).args(linked).args([source, "-ldl", "-o"]);
    compile.arg(folder.join("libvulkan.so.1"));
    let status = compile.status().ok()?;
    assert!(status.success(), "failing_vulkan.c does not compile");
    Some(folder)
}

/// Waits for a command, which must not wait for a device that never answers. What it writes is read meanwhile: with
/// backtraces that is more than a pipe holds.
pub(crate) fn wait(mut command: Command) -> Said {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let process = child.id().to_string();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output().unwrap()));
    if let Ok(output) = receiver.recv_timeout(Duration::from_secs(300)) {
        return Said::from(output);
    }
    Command::new("kill").args(["-9", &process]).status().unwrap();
    panic!("the command hangs: {}", Said::from(receiver.recv().unwrap()).stderr);
}

/// The one error of a command that failed because its device did. CubeCL's thread may panic once more while the process ends.
pub(crate) fn error(said: &Said) -> String {
    assert_eq!((said.code, said.stdout.as_str()), (1, ""), "{}", said.stderr);
    let errors: Vec<&str> = said.stderr.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
    assert_eq!(errors.len(), 1, "{}", said.stderr);
    let begins = ["device `wgpu` failed: ", "the device failed: "];
    assert!(begins.iter().any(|begin| errors[0].starts_with(begin)), "{}", said.stderr);
    errors[0].to_owned()
}
