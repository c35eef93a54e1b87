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

use crate::workload::{Rows, Training, Workload, raw_batches};
use esmm_core::backend::pad_rows;
use esmm_core::{
    BatchInput, EsmmConfig, Feature, FeatureSchema, Pooling, Precision, RowGroups, Side, SparseInput,
    TrainBackend,
};
use esmm_train::{DeviceName, OnDevice, TrainError};

/// Launches of a step at most, for each workload: those counted, and those of them that a device makes which binds as many
/// tensors as CUDA.
const MOST: [(&str, usize, usize); 4] =
    [("notebook", 22, 21), ("aliccp", 28, 26), ("bigtable", 22, 21), (GROUPS, 36, 34)];
/// The towers of `aliccp` on rows that share their user, whose features and weighted lists are given once a group.
const GROUPS: &str = "groups";
/// Launches more in f16 that find the largest gradient of what groups share.
const LARGEST_OF_GROUPS: usize = 4;
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
    workload: String,
    precision: Precision,
}

/// A model whose users have single features, some between those of impressions, and weighted lists.
fn grouped_config() -> EsmmConfig {
    let mut features = vec![Feature::sparse("place", Side::Context, 4)];
    features.extend((0..9).map(|index| Feature::sparse(format!("user{index}"), Side::User, 3000)));
    let lists = (0..4).map(|index| Feature::bag(format!("list{index}"), Side::User, 900, Pooling::Sum));
    features.extend(lists);
    features.extend((0..9).map(|index| Feature::sparse(format!("item{index}"), Side::Item, 7000)));
    let schema = FeatureSchema::new(features).unwrap();
    EsmmConfig { towers: Workload::aliccp().config().towers, ..EsmmConfig::new(schema) }
}

/// A step on groups of 58 rows, the last one smaller.
fn grouped_step<B: TrainBackend>(training: &mut Training<B>, number: u32) {
    const GROUP: usize = 58;
    const LIST: usize = 20;
    let groups = ROWS.div_ceil(GROUP);
    let ids = |count: usize, rows: u32, feature: u32| -> Vec<u32> {
        (0..count as u32).map(|at| (at * 37 + feature * 11 + number * 101) % rows).collect()
    };
    let place = ids(ROWS, 4, 0);
    let users: Vec<Vec<u32>> = (0..9).map(|feature| ids(groups, 3000, feature)).collect();
    let lists: Vec<Vec<u32>> = (0..4).map(|feature| ids(groups * LIST, 900, feature)).collect();
    let items: Vec<Vec<u32>> = (0..9).map(|feature| ids(ROWS, 7000, feature)).collect();
    let offsets: Vec<usize> = (0..=groups).map(|group| group * LIST).collect();
    let weights = vec![0.5; groups * LIST];
    let mut sparse = vec![SparseInput::Single(&place)];
    sparse.extend(users.iter().map(|ids| SparseInput::Single(ids)));
    let list = |ids| SparseInput::Bag { offsets: &offsets, ids, weights: Some(&weights) };
    sparse.extend(lists.iter().map(|ids| list(ids)));
    sparse.extend(items.iter().map(|ids| SparseInput::Single(ids)));
    let of_rows: Vec<u32> = (0..ROWS as u32).map(|row| row / GROUP as u32).collect();
    let groups = Some(RowGroups { count: groups, of_rows: &of_rows });
    let input = BatchInput { rows: ROWS, sparse: &sparse, dense: &[], groups };
    let depth: Vec<u8> = (0..ROWS).map(|row| (row % 3) as u8).collect();
    drop(training.step_of(input, &depth, Rows::Touched));
}

impl OnDevice for Steps {
    type Output = ();

    fn run<B>(self, device: B::Device) -> Result<(), TrainError>
    where
        B: TrainBackend,
    {
        pad_rows(true);
        let Self { workload, precision } = self;
        let workload = Workload::all().into_iter().find(|found| found.name == workload).map(small);
        let config = workload.as_ref().map_or_else(grouped_config, Workload::config);
        let training = Training::<B>::of(&config, device.clone());
        let mut training = training.with_precision(precision).unwrap();
        match workload {
            Some(workload) => {
                for batch in raw_batches(&workload, STEPS, 2018) {
                    drop(training.step(&batch));
                }
            }
            None => (0..STEPS as u32).for_each(|number| grouped_step(&mut training, number)),
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
    assert!(MOST.iter().any(|(name, ..)| *name == workload), "{workload}");
    let steps = Steps { workload: workload.to_owned(), precision: precision.parse().unwrap() };
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
        let finds_largest = workload == GROUPS && precision == Precision::F16;
        let more = if finds_largest { LARGEST_OF_GROUPS } else { 0 };
        let most = most + more;
        let most_on_cuda = most_on_cuda + more;
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

/// Precisions below f32 launch no more, but for groups in f16: what they need beside the matmuls rides on kernels that are
/// there anyway.
#[cfg(feature = "cuda")]
#[test]
fn a_step_on_cuda_launches_few_kernels() {
    for precision in Precision::ALL {
        counts(DeviceName::Cuda(0), precision);
    }
}
