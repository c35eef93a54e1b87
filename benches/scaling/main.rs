//! What table size costs, and what threads bring.
//!
//! Table size: samples per second and peak memory at a fixed batch, with 10^5 to 10^7 rows of 16 values,
//! for lazy Adam on touched rows and for Adam on all rows.
//!
//! Ids of larger tables repeat less often, so a batch touches more rows of them. The lines `touched, same rows` take
//! that out: every batch touches as many distinct rows at every size, others each time. What is left is the memory.
//!
//! ```sh
//! cargo bench --bench scaling [-- --seconds N]
//! ```
//!
//! Each line is a process of its own, because peak memory never falls. The lines alternate in rounds.
//!
//! With `--threads 1,2,4,8,16` training steps of `aliccp` (or of `--workload NAME`) at batches of 2048 and 8192 (or
//! `--batch N,...`) instead, with `--pytorch PYTHON` in turn with PyTorch on as many threads: see `threads.rs`.

#[path = "../workload/mod.rs"]
#[allow(
    clippy::expect_used,
    dead_code,
    unused_imports,
    reason = "a bench ends where it fails, and this one uses a part"
)]
mod workload;

mod peer;
mod threads;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use burn::backend::Autodiff;
use burn_ndarray::NdArray;
use clap::{Parser, ValueEnum};
use esmm_core::BatchBuilder;
use serde_json::{Value, json};
use workload::{RawBatch, Rows, Training, Workload, raw_batches};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIZES: [u32; 3] = [100_000, 1_000_000, 10_000_000];
const DIM: usize = 16;
const FEATURES: u32 = 5;
const BATCHES: usize = 64;
const ROUNDS: usize = 3;

#[derive(Debug, Parser)]
#[command(about = "Samples per second and peak memory by number of table rows")]
struct Options {
    /// Length of each measurement
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Measure one size here and print an object
    #[arg(long, hide = true)]
    rows: Option<u32>,
    /// What is measured, with `--rows`
    #[arg(long, hide = true, value_enum, default_value = "touched")]
    case: Case,
    /// Rounds of each line
    #[arg(long, default_value_t = ROUNDS)]
    rounds: usize,
    /// Numbers of threads, separated by commas: training steps on each instead of tables of several sizes
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..))]
    threads: Vec<u64>,
    /// With `--threads`: notebook, aliccp or bigtable
    #[arg(long, default_value = "aliccp")]
    workload: String,
    /// With `--threads`: rows of a batch, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "2048,8192", value_parser = clap::value_parser!(u64).range(1..))]
    batch: Vec<u64>,
    /// With `--threads`: a Python with torch and numpy, which trains the same model in turn
    #[arg(long, requires = "threads", value_name = "PYTHON")]
    pytorch: Option<String>,
    /// Variants of PyTorch's model, the fastest counts: those with hand-written row updates, see benches/peers/README.md
    #[arg(long, value_delimiter = ',', default_value = "row-adam,row-adam-wide,row-adam-compiled")]
    variants: Vec<String>,
    /// PyTorch's side
    #[arg(long, default_value = "benches/peers/pytorch_esmm.py")]
    peer: PathBuf,
    /// Measure one number of threads here and print an object
    #[arg(long, hide = true)]
    here: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Case {
    /// Lazy Adam on touched rows.
    Touched,
    /// The same, with as many distinct rows at every size.
    SameRows,
    /// Adam on all rows.
    All,
}

impl Case {
    fn name(self) -> &'static str {
        match self {
            Self::Touched => "touched",
            Self::SameRows => "touched, same rows",
            Self::All => "all",
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    if let Some(rows) = options.rows {
        println!("{}", measure(rows, options.case, options.seconds));
        return Ok(());
    }
    if !options.threads.is_empty() {
        return threads::run(&options);
    }
    println!(
        "{} threads, batch {}, {FEATURES} features",
        rayon::current_num_threads(),
        workload(SIZES[0]).batch
    );
    println!(
        "optimizer                 rows   samples/s   of 10^5   peak memory   tables of f32   touched rows"
    );
    for case in [Case::Touched, Case::SameRows, Case::All] {
        let mut found = vec![Vec::new(); SIZES.len()];
        for _ in 0..options.rounds.max(1) {
            for (found, rows) in found.iter_mut().zip(SIZES) {
                found.push(in_a_process(rows, case, options.seconds)?);
            }
        }
        let first = median(&found[0], "samples_per_s");
        for (found, rows) in found.iter().zip(SIZES) {
            let (rate, memory) = (median(found, "samples_per_s"), median(found, "peak_bytes"));
            let tables = memory / (f64::from(rows) * DIM as f64 * 4.0);
            println!(
                "{:<18} {rows:>11} {rate:>11.0} {:>9.2} {:>9.0} MiB {tables:>15.2} {:>14.0}",
                case.name(),
                rate / first,
                memory / f64::from(1 << 20),
                median(found, "touched"),
            );
        }
    }
    Ok(())
}

fn in_a_process(rows: u32, case: Case, seconds: f64) -> Result<Value, Box<dyn std::error::Error>> {
    let case = case.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let arguments = ["--rows", &rows.to_string(), "--case", &case, "--seconds", &seconds.to_string()];
    let output = Command::new(std::env::current_exe()?).args(arguments).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn median(found: &[Value], key: &str) -> f64 {
    let mut values: Vec<f64> = found.iter().filter_map(|object| object[key].as_f64()).collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn workload(rows: u32) -> Workload {
    let tables = vec![rows / FEATURES; FEATURES as usize];
    Workload { name: "scaling", tables, dim: DIM, ..Workload::bigtable() }
}

/// Batches of the smallest tables, their rows spread over larger ones: the same repeats, other places in every batch.
fn spread_batches(rows: u32) -> Vec<RawBatch> {
    let factor = rows / SIZES[0];
    let mut batches = raw_batches(&workload(SIZES[0]), BATCHES, 1);
    for (index, batch) in batches.iter_mut().enumerate() {
        // Knuth's multiplicative hash: any scattering of (id, batch) does.
        let place = |id: u32| (id ^ (index as u32) << 20).wrapping_mul(2_654_435_761) % factor;
        batch.ids.iter_mut().flatten().for_each(|id| *id = *id * factor + place(*id));
    }
    batches
}

/// Distinct table rows of a batch, on average.
fn mean_touched(workload: &Workload, batches: &[RawBatch]) -> f64 {
    let mut builder = BatchBuilder::new(&workload.schema());
    let touched = batches.iter().filter_map(|batch| {
        batch.with_input(|input| builder.build(input)).ok().and_then(|batch| batch.num_touched())
    });
    touched.sum::<usize>() as f64 / batches.len() as f64
}

fn measure(rows: u32, case: Case, seconds: f64) -> Value {
    let workload = workload(rows);
    let batches = match case {
        Case::SameRows => spread_batches(rows),
        _ => raw_batches(&workload, BATCHES, 1),
    };
    let touched = mean_touched(&workload, &batches);
    let mut training = Training::<Autodiff<NdArray>>::new(&workload, Default::default());
    let which = if case == Case::All { Rows::All } else { Rows::Touched };
    let mut next = batches.iter().cycle();
    let mut step = || next.next().into_iter().for_each(|batch| drop(training.step_on(batch, which)));
    (0..3).for_each(|_| step());
    let (start, mut steps) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs_f64(seconds) {
        step();
        steps += 1;
    }
    let rate = f64::from(steps) * workload.batch as f64 / start.elapsed().as_secs_f64();
    json!({ "rows": rows, "samples_per_s": rate, "peak_bytes": peak_bytes(), "touched": touched })
}

/// Largest resident size of this process so far, from Linux's `/proc`; 0 elsewhere.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|peak| peak.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
