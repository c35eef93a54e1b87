//! Where the time of a training step on a GPU goes: the host, launches, matmuls, memory traffic.
//!
//! ```sh
//! cargo bench --features wgpu --bench anatomy -- [--workload NAME] [--device NAME] [--batch N] [--precision NAME] [--kernels]
//! ```
//!
//! Three things are measured. A step, with the device waited for once in 20. The host's part of it: the same steps until all
//! of their work is queued. And the kernels: CubeCL's profile of other processes tells how long each ran. One does few steps
//! and one more, and the last launches of the longer one, as many as it has more, are those of its last steps. Kernels other than matmuls read and write memory
//! and compute next to nothing, so their time is that of memory traffic. What a step takes beyond its kernels is launches,
//! uploads, and a device that waits for the host.
//!
//! `--kernels` lists all of them.

#[path = "../workload/mod.rs"]
#[allow(
    clippy::expect_used,
    dead_code,
    unused_imports,
    reason = "a bench ends where it fails, and this one uses a part"
)]
mod workload;

mod profile;

use std::time::{Duration, Instant};

use clap::Parser;
use esmm_core::{Precision, TrainBackend};
use esmm_train::{DeviceName, OnDevice, TrainError};
use profile::{Kind, Launches, Profile};
use workload::{Training, Workload, raw_batches};

/// Steps between two looks at the device: the default of `train.log_every`.
const QUEUED_STEPS: usize = 20;
/// Steps of the two profiled runs.
const PROFILED_STEPS: [usize; 2] = [4, 12];
const PROFILER_PAUSE: Duration = Duration::from_secs(2);
const SEED: u64 = 2018;

#[derive(Debug, Parser)]
#[command(about = "Where the time of a training step on a GPU goes")]
struct Options {
    /// Only this workload: notebook, aliccp or bigtable
    #[arg(long)]
    workload: Option<String>,
    /// The device; by default the first GPU of CUDA, or else of wgpu, whichever is compiled in
    #[arg(long)]
    device: Option<DeviceName>,
    /// Rows of a batch instead of the workload's
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    batch: Option<u64>,
    /// Dtype of the hidden matmuls: f32, tf32, bf16 or f16
    #[arg(long, default_value = "f32")]
    precision: Precision,
    /// Lists the kernels
    #[arg(long)]
    kernels: bool,
    /// Does so many steps and ends: what is profiled
    #[arg(long, hide = true)]
    only_steps: Option<usize>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// Milliseconds of a step.
struct Times {
    whole: f64,
    host: f64,
}

/// Steps of a workload, on the device that it is sent to.
struct Steps<'a> {
    workload: &'a Workload,
    precision: Precision,
    only: Option<usize>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let compiled = DeviceName::compiled();
    let gpu = ["cuda", "wgpu"].into_iter().find(|name| compiled.contains(name));
    let device = match (options.device, gpu) {
        (Some(device), _) => device,
        (None, Some(gpu)) => gpu.parse()?,
        (None, None) => {
            return Err("this is about GPUs: build with `--features wgpu` or `--features cuda`".into());
        }
    };
    let workloads: Vec<_> = Workload::all()
        .into_iter()
        .filter(|workload| options.workload.as_deref().is_none_or(|name| name == workload.name))
        .map(|workload| Workload {
            batch: options.batch.map_or(workload.batch, |rows| rows as usize),
            ..workload
        })
        .collect();
    if workloads.is_empty() {
        return Err("unknown workload, allowed are notebook, aliccp, bigtable".into());
    }
    let steps = |workload| Steps { workload, precision: options.precision, only: options.only_steps };
    if options.only_steps.is_some() {
        workloads.iter().try_for_each(|workload| device.run(steps(workload)).map(drop))?;
        return Ok(());
    }
    println!("{device}, matmuls in {}", options.precision);
    println!("                  milliseconds of a step           launches      milliseconds of its kernels");
    println!(
        "workload   batch  whole    host  beyond kernels   ours  Burn's  matmuls  tables  layers  others  Burn's"
    );
    for workload in &workloads {
        if let Err(reason) = device.open().and_then(|device| device.check_model(&workload.config())) {
            eprintln!("{} is left out: {reason}", workload.name);
            continue;
        }
        let Some(times) = device.run(steps(workload))? else {
            return Err(format!("`{device}` queues no work: this is about GPUs").into());
        };
        let profile = profiled(&options, device, workload)?;
        line(workload, &times, &profile);
        if options.kernels {
            print!("{profile}");
        }
    }
    Ok(())
}

fn line(workload: &Workload, times: &Times, profile: &Profile) {
    let [matmuls, tables, layers, others, burn] = Kind::ALL.map(|kind| profile.milliseconds(kind));
    let burns = profile.launches(Kind::Burn);
    let ours: f64 = Kind::ALL.iter().map(|&kind| profile.launches(kind)).sum::<f64>() - burns;
    let beyond = times.whole - matmuls - tables - layers - others - burn;
    println!(
        "{:<9} {:>6} {:>6.2} {:>7.2} {beyond:>15.2} {ours:>6.1} {burns:>7.1} {matmuls:>8.2} {tables:>7.2} {layers:>7.2} \
         {others:>7.2} {burn:>7.2}",
        workload.name, workload.batch, times.whole, times.host,
    );
}

/// Runs this program again, twice, under CubeCL's profiler.
fn profiled(
    options: &Options,
    device: DeviceName,
    workload: &Workload,
) -> Result<Profile, Box<dyn std::error::Error>> {
    let arguments = |steps: usize| {
        let values = [
            ("--workload", workload.name.to_owned()),
            ("--device", device.to_string()),
            ("--batch", workload.batch.to_string()),
            ("--precision", options.precision.to_string()),
            ("--only-steps", steps.to_string()),
        ];
        values.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect::<Vec<_>>()
    };
    let [few, many] = PROFILED_STEPS;
    let (shorter, longer) = (Launches::of(&arguments(few))?, Launches::of(&arguments(many))?);
    Ok(longer.step(&shorter, many - few))
}

impl OnDevice for Steps<'_> {
    type Output = Option<Times>;

    fn run<B>(self, device: B::Device) -> Result<Option<Times>, TrainError>
    where
        B: TrainBackend,
    {
        if !B::QUEUES_WORK {
            return Ok(None);
        }
        let batches = raw_batches(self.workload, QUEUED_STEPS, SEED);
        let mut training =
            Training::<B>::new(self.workload, device.clone()).with_precision(self.precision)?;
        let mut steps = |count: usize| {
            let start = Instant::now();
            batches.iter().cycle().take(count).for_each(|batch| drop(training.step(batch)));
            let host = start.elapsed().as_secs_f64();
            let _ = B::sync(&device);
            [start.elapsed().as_secs_f64(), host].map(|seconds| seconds * 1e3 / count as f64)
        };
        if let Some(count) = self.only {
            steps(count);
            // The profiler writes in a thread of its own, which ends with the process.
            std::thread::sleep(PROFILER_PAUSE);
            return Ok(None);
        }
        steps(QUEUED_STEPS);
        let mut rounds: Vec<_> = (0..5).map(|_| steps(QUEUED_STEPS)).collect();
        rounds.sort_unstable_by(|a, b| a[0].total_cmp(&b[0]));
        let [whole, host] = rounds[rounds.len() / 2];
        Ok(Some(Times { whole, host }))
    }
}
