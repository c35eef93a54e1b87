//! Samples per second of every compiled backend on three workloads, training and inference.
//!
//! ```sh
//! cargo bench --bench backends -- [--workload NAME] [--mode train|infer] [--device NAME] [--batch N,...]
//!     [--precision f32|tf32|bf16|f16] [--feed loader|raw] [--seconds N] [--json]
//! ```
//!
//! Both modes are fed by the loader of the command, whose threads build batches from columns in memory while the steps run;
//! `--feed raw` builds them between the steps, on the thread that uses them. On a device that queues its work, a training
//! waits for it once in 20 steps, as `esmm train` does where nothing else is configured; the times are then means of 20
//! steps. The last loss is printed, and one that is not finite is an error: then nothing was computed.
//!
//! Without options everything runs and a table comes out; with `--json` one object a line:
//! `{"workload", "device", "mode", "batch", "samples_per_s", "step_ms": {"min", "median", "max"}}`, of a training also
//! `"loss"`, where a loader feeds it `"waited"`: the share of the time that was spent waiting for batches.

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

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use clap::{Parser, ValueEnum};
use esmm_core::{Precision, TrainBackend};
use esmm_train::data::loader::Purpose;
use esmm_train::{DeviceName, OnDevice, TrainError};
use serde_json::{Value, json};
use workload::{Feed, Inference, Training, Workload, raw_batches};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Distinct batches that a measurement walks through.
const BATCHES: usize = 24;
const WARM_UP_STEPS: usize = 10;
/// Steps of a training between two looks at the device: the default of `train.log_every`.
const QUEUED_STEPS: usize = 20;
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
    /// Rows of a batch instead of the workload's; several, separated by commas, one after the other
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..))]
    batch: Vec<u64>,
    /// Dtype of the hidden matmuls in training: f32, tf32, bf16 or f16
    #[arg(long, default_value = "f32")]
    precision: Precision,
    /// What builds the batches
    #[arg(long, value_enum, default_value = "loader")]
    feed: FeedBy,
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

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum FeedBy {
    /// The loader of a training or a scoring, in threads of its own.
    Loader,
    /// The thread that uses them, from columns.
    Raw,
}

/// What a measurement sees besides time.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// Loss of the last step.
    loss: Option<f64>,
    /// Seconds that were spent waiting for batches so far.
    waited: Option<f64>,
}

/// The figures of one measurement.
struct Measurement {
    loss: Option<f64>,
    /// Share of the time.
    waited: Option<f64>,
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
        println!(
            "workload  mode   device         batch  samples/s   step ms: min  median     max  last loss"
        );
    }
    for workload in workloads(&options) {
        for mode in [Mode::Train, Mode::Infer] {
            for &device in &devices {
                // Scoring knows f32 only.
                let wanted = mode == Mode::Train || options.precision == Precision::F32;
                if options.mode.is_none_or(|only| only == mode) && wanted {
                    if let Err(reason) =
                        device.open().and_then(|device| device.check_model(&workload.config()))
                    {
                        eprintln!("{} is left out: {reason}", workload.name);
                        continue;
                    }
                    device.run(Case { workload: &workload, mode, device, options: &options })?;
                }
            }
        }
    }
    Ok(())
}

/// What was asked for, every batch size a workload of its own.
fn workloads(options: &Options) -> Vec<Workload> {
    let wanted = |workload: &Workload| options.workload.as_deref().is_none_or(|name| name == workload.name);
    let of_all_sizes = |workload: Workload| -> Vec<Workload> {
        if options.batch.is_empty() {
            return vec![workload];
        }
        options.batch.iter().map(|&batch| Workload { batch: batch as usize, ..workload.clone() }).collect()
    };
    Workload::all().into_iter().filter(wanted).flat_map(of_all_sizes).collect()
}

impl OnDevice for Case<'_> {
    type Output = ();

    fn run<B>(self, device: B::Device) -> Result<(), TrainError>
    where
        B: TrainBackend,
    {
        match self.mode {
            Mode::Train => {
                let training = Training::<B>::new(self.workload, device.clone());
                let mut training = training.with_precision(self.options.precision)?;
                let steps = if B::QUEUES_WORK { QUEUED_STEPS } else { 1 };
                match self.options.feed {
                    FeedBy::Loader => {
                        let purpose = Purpose::Training { seed: SEED };
                        let feed = Feed::<B>::new(self.workload, &device, purpose, SEED);
                        let mut batches = feed.batches();
                        self.measure(steps, || {
                            let losses = (0..steps).map(|_| training.step_on_batch(batches.take()));
                            let loss = last_loss(losses);
                            let _ = B::sync(&device);
                            Seen { loss: loss.map(scalar), waited: Some(feed.waited()) }
                        })
                    }
                    FeedBy::Raw => {
                        let batches = raw_batches(self.workload, BATCHES, SEED);
                        let mut batches = batches.iter().cycle();
                        self.measure(steps, || {
                            let losses = batches.by_ref().take(steps).map(|batch| training.step(batch));
                            let loss = last_loss(losses);
                            let _ = B::sync(&device);
                            Seen { loss: loss.map(scalar), waited: None }
                        })
                    }
                }
            }
            Mode::Infer => {
                let mut inference = Inference::<B::InnerBackend>::new(self.workload, device.clone());
                match self.options.feed {
                    FeedBy::Loader => {
                        let feed =
                            Feed::<B::InnerBackend>::new(self.workload, &device, Purpose::Scoring, SEED);
                        let mut batches = feed.batches();
                        self.measure(1, || {
                            drop(inference.step_on_batch(&batches.take()));
                            Seen { loss: None, waited: Some(feed.waited()) }
                        })
                    }
                    FeedBy::Raw => {
                        let batches = raw_batches(self.workload, BATCHES, SEED);
                        let mut batches = batches.iter().cycle();
                        self.measure(1, || {
                            batches.next().into_iter().for_each(|batch| drop(inference.step(batch)));
                            Seen::default()
                        })
                    }
                }
            }
        }
    }
}

fn last_loss<B: Backend>(losses: impl Iterator<Item = Tensor<B, 1>>) -> Option<Tensor<B, 1>> {
    losses.last()
}

/// The sum over the stages.
fn scalar<B: Backend>(loss: Tensor<B, 1>) -> f64 {
    loss.into_data().iter::<f64>().sum()
}

impl Case<'_> {
    /// `work` does `steps` steps.
    fn measure(&self, steps: usize, mut work: impl FnMut() -> Seen) -> Result<(), TrainError> {
        (0..WARM_UP_STEPS.div_ceil(steps)).for_each(|_| {
            work();
        });
        if self.options.worker {
            println!("{}", json!({ "ready": true, "threads": rayon::current_num_threads() }));
            for seconds in stdin().lock().lines().map_while(Result::ok) {
                let seconds = seconds.trim().parse().unwrap_or(self.options.seconds);
                println!("{}", self.json(&self.run_for(seconds, steps, &mut work)?));
            }
            return Ok(());
        }
        let found = self.run_for(self.options.seconds, steps, &mut work)?;
        if self.options.json {
            println!("{}", self.json(&found));
        } else {
            let [min, median, max] = found.step_ms;
            let loss = found.loss.map_or_else(String::new, |loss| format!("{loss:>9.4}"));
            println!(
                "{:<9} {:<6} {:<12} {:>6} {:>10.0}       {min:>8.2} {median:>7.2} {max:>7.2} {loss}",
                self.workload.name,
                self.mode.name(),
                self.device_name(),
                self.workload.batch,
                found.samples_per_s
            );
        }
        Ok(())
    }

    /// # Errors
    /// A loss that is not finite.
    fn run_for(
        &self,
        seconds: f64,
        steps: usize,
        work: &mut impl FnMut() -> Seen,
    ) -> Result<Measurement, TrainError> {
        let waited_before = work().waited;
        let (start, mut times, mut seen) = (Instant::now(), Vec::new(), Seen::default());
        while start.elapsed() < Duration::from_secs_f64(seconds) || times.len() < 5 {
            let before = Instant::now();
            seen = work();
            times.push(before.elapsed().as_secs_f64() * 1e3 / steps as f64);
        }
        let elapsed = start.elapsed().as_secs_f64();
        let rows = times.len() * steps * self.workload.batch;
        times.sort_unstable_by(f64::total_cmp);
        let step_ms = [times[0], times[times.len() / 2], times[times.len() - 1]];
        let name = self.workload.name;
        if let Some(loss) = seen.loss.filter(|loss| !loss.is_finite()) {
            return Err(TrainError::Training(format!(
                "{name}, batch {}: the last loss is {loss}",
                self.workload.batch
            )));
        }
        let waited = seen.waited.zip(waited_before).map(|(after, before)| (after - before) / elapsed);
        Ok(Measurement { samples_per_s: rows as f64 / elapsed, step_ms, loss: seen.loss, waited })
    }

    /// The device, and the precision where it is not f32.
    fn device_name(&self) -> String {
        match self.options.precision {
            Precision::F32 => self.device.to_string(),
            precision => format!("{} {precision}", self.device),
        }
    }

    fn json(&self, found: &Measurement) -> Value {
        let round = |value: f64| (value * 1e3).round() / 1e3;
        let [min, median, max] = found.step_ms.map(round);
        let mut line = json!({
            "workload": self.workload.name,
            "device": self.device_name(),
            "mode": self.mode.name(),
            "batch": self.workload.batch,
            "samples_per_s": found.samples_per_s.round(),
            "step_ms": { "min": min, "median": median, "max": max },
        });
        let seen = [
            ("loss", found.loss.map(|loss| (loss * 1e6).round() / 1e6)),
            ("waited", found.waited.map(round)),
        ];
        for (key, value) in seen {
            if let Some(value) = value {
                line[key] = json!(value);
            }
        }
        line
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
