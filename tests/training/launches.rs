//! What a step of a training asks of a GPU, counted: kernels launched, by CubeCL's profiler, in a process of its own.
//!
//! The workloads are those of the benches, high tables a hundredth as high: the sort of their rows takes as many passes. The
//! rows of tensors lie as CUDA pads them, so that software Vulkan shows what CUDA launches, but for one thing: a kernel
//! binds few tensors there, and 1024 on CUDA. A count needs no card: it was 97, 76 and 55 launches a step that made the card
//! wait for the host.
#![cfg(any(feature = "wgpu", feature = "cuda"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::Command;
use std::time::Duration;

use crate::workload::{Training, Workload, raw_batches};
use esmm_core::backend::pad_rows;
use esmm_core::{Precision, TrainBackend};
use esmm_train::{DeviceName, OnDevice, TrainError};

/// Launches of a step at most, for each workload: those counted, and those of them that a device makes which binds as many
/// tensors as CUDA.
const MOST: [(&str, usize, usize); 3] = [("notebook", 23, 22), ("aliccp", 29, 27), ("bigtable", 23, 22)];
/// The kernel that is launched once where all tensors of the weights can be bound.
const SPLIT: &str = "UpdateKernel";
/// Rows of a batch: few, for the kernels of a step depend on the shapes of the model alone.
const ROWS: usize = 512;
const STEPS: usize = 5;
/// The kernel that a step launches once.
const ONCE: &str = "LossKernel";
/// The profiler writes in a thread of its own, which ends with the process.
const PROFILER_PAUSE: Duration = Duration::from_secs(2);
/// Names workload, precision and device to the process that does the steps.
const COUNTED: &str = "ESMM_TEST_COUNTED";

/// Rows of all tables, above which they are made a hundredth as high.
const HIGH: u32 = 100_000;

fn small(workload: Workload) -> Workload {
    let divisor = if workload.tables.iter().sum::<u32>() > HIGH { 100 } else { 1 };
    let tables = workload.tables.iter().map(|rows| (rows / divisor).max(3)).collect();
    Workload { tables, batch: ROWS, ..workload }
}

struct Steps {
    workload: Workload,
    precision: Precision,
}

impl OnDevice for Steps {
    type Output = ();

    fn run<B>(self, device: B::Device) -> Result<(), TrainError>
    where
        B: TrainBackend,
    {
        pad_rows(true);
        let Self { workload, precision } = self;
        let training = Training::<B>::new(&workload, device.clone());
        let mut training = training.with_precision(precision).unwrap();
        for batch in raw_batches(&workload, STEPS, 2018) {
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
    let [workload, precision, device] = *counted.split(' ').collect::<Vec<_>>() else {
        panic!("{COUNTED}={counted}");
    };
    let workload = Workload::all().into_iter().find(|found| found.name == workload).unwrap();
    let steps = Steps { workload: small(workload), precision: precision.parse().unwrap() };
    device.parse::<DeviceName>().unwrap().run(steps).unwrap();
}

/// The kernels of each step after the first ones, from loss to loss.
fn counted(workload: &str, precision: Precision, device: DeviceName) -> Vec<Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("profile.log");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "launches::steps", "--ignored"])
        .env(COUNTED, format!("{workload} {precision} {device}"))
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

fn counts(device: DeviceName, precision: Precision) {
    for (workload, most, most_on_cuda) in MOST {
        for step in counted(workload, precision, device) {
            let all = step.len();
            let updates = step.iter().filter(|kernel| kernel.starts_with(SPLIT)).count();
            assert!(updates > 0, "{workload}: no {SPLIT} in {step:#?}");
            let on_cuda = all - updates + 1;
            eprintln!("{device}, {workload} in {precision}: {all} launches, {on_cuda} of them on CUDA");
            assert!(all <= most, "{workload} in {precision}: {all} launches, {most} allowed: {step:#?}");
            assert!(
                on_cuda <= most_on_cuda,
                "{workload} in {precision}: {on_cuda} on CUDA, {most_on_cuda} allowed: {step:#?}"
            );
        }
    }
}

#[cfg(feature = "wgpu")]
#[test]
fn a_step_on_wgpu_launches_few_kernels() {
    counts(DeviceName::Wgpu(None), Precision::F32);
}

/// Precisions below f32 launch no more: what they need beside the matmuls rides on kernels that are there anyway.
#[cfg(feature = "cuda")]
#[test]
fn a_step_on_cuda_launches_few_kernels() {
    for precision in Precision::ALL {
        counts(DeviceName::Cuda(0), precision);
    }
}
