//! Samples per second of every compiled backend on three workloads, training and inference.
//!
//! ```sh
//! cargo bench --bench backends -- [--workload NAME] [--mode train|infer] [--device NAME] [--seconds N] [--json]
//! ```
//!
//! Without options everything runs and a table comes out; with `--json` one object a line:
//! `{"workload", "device", "mode", "batch", "samples_per_s", "step_ms": {"min", "median", "max"}}`.

#[path = "../workload/mod.rs"]
#[allow(
    clippy::expect_used,
    dead_code,
    unused_imports,
    reason = "a bench ends where it fails, and this one uses a part"
)]
mod workload;

use std::io::{BufRead, stdin};
use std::time::{Duration, Instant};

use burn::tensor::backend::AutodiffBackend;
use clap::{Parser, ValueEnum};
use esmm_core::EsmmBackend;
use esmm_train::{DeviceName, OnDevice, TrainError};
use serde_json::{Value, json};
use workload::{Inference, Training, Workload, raw_batches};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Distinct batches that a measurement walks through.
const BATCHES: usize = 24;
const WARM_UP_STEPS: usize = 10;
const SEED: u64 = 2018;

#[derive(Debug, Parser)]
#[command(about = "Samples per second by workload, mode and device")]
struct Options {
    /// Only this workload: notebook, aliccp or bigtable
    #[arg(long)]
    workload: Option<String>,
    /// Only this mode
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Only this device; without it one of each compiled backend
    #[arg(long)]
    device: Option<DeviceName>,
    /// Length of a measurement
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// One object a line instead of a table
    #[arg(long)]
    json: bool,
    /// Measure on demand: each line of stdin is a number of seconds, each answer an object. For comparisons
    #[arg(long, requires = "workload", requires = "mode", requires = "device")]
    worker: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Mode {
    Train,
    Infer,
}

/// The figures of one measurement.
struct Measurement {
    samples_per_s: f64,
    /// Milliseconds: min, median, max.
    step_ms: [f64; 3],
}

/// One workload in one mode, on the device that it is sent to.
struct Case<'a> {
    workload: &'a Workload,
    mode: Mode,
    device: DeviceName,
    options: &'a Options,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let devices = match options.device {
        Some(device) => vec![device],
        None => DeviceName::compiled().into_iter().map(str::parse).collect::<Result<_, _>>()?,
    };
    let known: Vec<_> = Workload::all().iter().map(|workload| workload.name).collect();
    if let Some(name) = options.workload.as_deref().filter(|name| !known.contains(name)) {
        return Err(format!("unknown workload `{name}`, allowed are {}", known.join(", ")).into());
    }
    if !options.json && !options.worker {
        println!("{} threads", rayon::current_num_threads());
        println!("workload  mode   device    batch  samples/s   step ms: min  median     max");
    }
    for workload in Workload::all() {
        if options.workload.as_deref().is_some_and(|name| name != workload.name) {
            continue;
        }
        for mode in [Mode::Train, Mode::Infer] {
            for &device in &devices {
                if options.mode.is_none_or(|only| only == mode) {
                    device.run(Case { workload: &workload, mode, device, options: &options })?;
                }
            }
        }
    }
    Ok(())
}

impl OnDevice for Case<'_> {
    type Output = ();

    fn run<B>(self, device: B::Device) -> Result<(), TrainError>
    where
        B: AutodiffBackend + EsmmBackend,
        B::InnerBackend: EsmmBackend,
    {
        let batches = raw_batches(self.workload, BATCHES, SEED);
        let mut next = (0..batches.len()).cycle().map(|index| &batches[index]);
        let mut take = || next.next().unwrap_or(&batches[0]);
        match self.mode {
            Mode::Train => {
                let mut training = Training::<B>::new(self.workload, device.clone());
                self.measure(|| {
                    drop(training.step(take()));
                    let _ = B::sync(&device);
                });
            }
            Mode::Infer => {
                let mut inference = Inference::<B::InnerBackend>::new(self.workload, device);
                self.measure(|| drop(inference.step(take())));
            }
        }
        Ok(())
    }
}

impl Case<'_> {
    fn measure(&self, mut step: impl FnMut()) {
        (0..WARM_UP_STEPS).for_each(|_| step());
        if self.options.worker {
            println!("{}", json!({ "ready": true, "threads": rayon::current_num_threads() }));
            for seconds in stdin().lock().lines().map_while(Result::ok) {
                let seconds = seconds.trim().parse().unwrap_or(self.options.seconds);
                println!("{}", self.json(&self.run_for(seconds, &mut step)));
            }
            return;
        }
        let found = self.run_for(self.options.seconds, &mut step);
        if self.options.json {
            println!("{}", self.json(&found));
        } else {
            let [min, median, max] = found.step_ms;
            println!(
                "{:<9} {:<6} {:<8} {:>6} {:>10.0}       {min:>8.2} {median:>7.2} {max:>7.2}",
                self.workload.name,
                self.mode.name(),
                self.device.to_string(),
                self.workload.batch,
                found.samples_per_s
            );
        }
    }

    fn run_for(&self, seconds: f64, step: &mut impl FnMut()) -> Measurement {
        let (start, mut times) = (Instant::now(), Vec::new());
        while start.elapsed() < Duration::from_secs_f64(seconds) || times.len() < 5 {
            let before = Instant::now();
            step();
            times.push(before.elapsed().as_secs_f64() * 1e3);
        }
        let samples_per_s = (times.len() * self.workload.batch) as f64 / start.elapsed().as_secs_f64();
        times.sort_unstable_by(f64::total_cmp);
        let step_ms = [times[0], times[times.len() / 2], times[times.len() - 1]];
        Measurement { samples_per_s, step_ms }
    }

    fn json(&self, found: &Measurement) -> Value {
        let round = |value: f64| (value * 1e3).round() / 1e3;
        let [min, median, max] = found.step_ms.map(round);
        json!({
            "workload": self.workload.name,
            "device": self.device.to_string(),
            "mode": self.mode.name(),
            "batch": self.workload.batch,
            "samples_per_s": found.samples_per_s.round(),
            "step_ms": { "min": min, "median": median, "max": max },
        })
    }
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Infer => "infer",
        }
    }
}
