//! What a step of a training asks of a GPU, counted: kernels launched, by CubeCL's profiler, in a process of its own.
//!
//! The workloads are those of the benches, their tables a hundredth as high; the rows of tensors lie as CUDA pads them, so
//! that software Vulkan shows what CUDA launches. A count needs no card: it was 97, 76 and 55 launches a step that made
//! the card wait for the host.
#![cfg(any(feature = "wgpu", feature = "cuda"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../../benches/workload/mod.rs"]
#[allow(
    clippy::expect_used,
    dead_code,
    unused_imports,
    reason = "what the benches share; this one uses a part"
)]
mod workload;

use std::process::Command;
use std::time::Duration;

use esmm_core::TrainBackend;
use esmm_core::backend::pad_rows;
use esmm_train::{DeviceName, OnDevice, TrainError};
use workload::{Training, Workload, raw_batches};

/// Launches of a step at most, for each workload: as counted on software Vulkan. The update of all weights is 2, 3 and 2 of
/// them there, for a kernel binds few tensors; CUDA binds 1024, and it is one.
const MOST: [(&str, usize); 3] = [("notebook", 31), ("aliccp", 41), ("bigtable", 32)];
/// Rows of a batch: few, for the kernels of a step depend on the shapes of the model alone.
const ROWS: usize = 512;
const STEPS: usize = 5;
/// The kernel that a step launches once.
const ONCE: &str = "LossKernel";
/// The profiler writes in a thread of its own, which ends with the process.
const PROFILER_PAUSE: Duration = Duration::from_secs(2);
/// Names the workload and the device to the process that does the steps.
const COUNTED: &str = "ESMM_TEST_COUNTED";

fn small(workload: Workload) -> Workload {
    let tables = workload.tables.iter().map(|rows| (rows / 100).max(3)).collect();
    Workload { tables, batch: ROWS, ..workload }
}

struct Steps(Workload);

impl OnDevice for Steps {
    type Output = ();

    fn run<B>(self, device: B::Device) -> Result<(), TrainError>
    where
        B: TrainBackend,
    {
        pad_rows(true);
        let mut training = Training::<B>::new(&self.0, device.clone());
        for batch in raw_batches(&self.0, STEPS, 2018) {
            drop(training.step(&batch));
        }
        let _ = B::sync(&device);
        std::thread::sleep(PROFILER_PAUSE);
        Ok(())
    }
}

/// The process that is counted.
#[test]
#[ignore = "run by the tests of this file, under CubeCL's profiler"]
fn steps() {
    let Ok(counted) = std::env::var(COUNTED) else { return };
    let (workload, device) = counted.split_once(' ').unwrap();
    let workload = Workload::all().into_iter().find(|found| found.name == workload).unwrap();
    device.parse::<DeviceName>().unwrap().run(Steps(small(workload))).unwrap();
}

/// The kernels of each step after the first ones, from loss to loss.
fn counted(workload: &str, device: DeviceName) -> Vec<Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("profile.log");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "launches::steps", "--ignored"])
        .env(COUNTED, format!("{workload} {device}"))
        .env("CUBECL_DEBUG_LOG", &log)
        .env("CUBECL_DEBUG_OPTION", "profile")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let text = std::fs::read(&log).unwrap();
    let text = String::from_utf8_lossy(&text);
    // `| 48.653us   | PoolKernel | WgpuRuntime`
    let kernel = |line: &str| Some(line.strip_prefix("| ")?.split(" | ").nth(1)?.trim().to_owned());
    let kernels: Vec<String> = text.lines().filter_map(kernel).collect();
    let is_once = |kernel: &String| kernel.starts_with(ONCE);
    let mut steps: Vec<Vec<String>> = kernels.split(is_once).map(<[String]>::to_vec).collect();
    assert_eq!(steps.len(), STEPS + 1, "steps in {kernels:?}");
    // Before the first loss and after the last one no step is whole; the first whole one meets weights as Burn laid them.
    steps.pop();
    steps.drain(..2);
    for step in &mut steps {
        step.push(ONCE.to_owned());
    }
    steps
}

fn counts(device: DeviceName) {
    for (workload, most) in MOST {
        let steps = counted(workload, device);
        for step in &steps {
            eprintln!("{device}, {workload}: {} launches", step.len());
            assert!(step.len() <= most, "{workload}: {} launches, {most} allowed: {step:#?}", step.len());
        }
    }
}

#[cfg(feature = "wgpu")]
#[test]
fn a_step_on_wgpu_launches_few_kernels() {
    counts(DeviceName::Wgpu(None));
}

#[cfg(feature = "cuda")]
#[test]
fn a_step_on_cuda_launches_few_kernels() {
    counts(DeviceName::Cuda(0));
}
