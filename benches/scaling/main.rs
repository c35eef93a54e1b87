//! What table size costs: samples per second and peak memory at a fixed batch, with 10^5 to 10^7 rows of 16 values,
//! for lazy Adam on touched rows and for Adam on all rows.
//!
//! ```sh
//! cargo bench --bench scaling [-- --seconds N]
//! ```
//!
//! Each line is a process of its own, because peak memory never falls. The lines alternate in rounds.

#[path = "../workload/mod.rs"]
#[allow(
    clippy::expect_used,
    dead_code,
    unused_imports,
    reason = "a bench ends where it fails, and this one uses a part"
)]
mod workload;

use std::process::Command;
use std::time::{Duration, Instant};

use burn::backend::Autodiff;
use burn_ndarray::NdArray;
use clap::{Parser, ValueEnum};
use serde_json::{Value, json};
use workload::{Rows, Training, Workload, raw_batches};

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
    /// Which rows the optimizer changes, with `--rows`
    #[arg(long, hide = true, value_enum, default_value = "touched")]
    optimizer: Optimizer,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Optimizer {
    Touched,
    All,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    if let Some(rows) = options.rows {
        println!("{}", measure(rows, options.optimizer, options.seconds));
        return Ok(());
    }
    println!(
        "{} threads, batch {}, {FEATURES} features",
        rayon::current_num_threads(),
        workload(SIZES[0]).batch
    );
    println!("optimizer         rows   samples/s   of 10^5   peak memory   tables of f32");
    for optimizer in [Optimizer::Touched, Optimizer::All] {
        let mut found = vec![Vec::new(); SIZES.len()];
        for _ in 0..ROUNDS {
            for (found, rows) in found.iter_mut().zip(SIZES) {
                found.push(in_a_process(rows, optimizer, options.seconds)?);
            }
        }
        let first = median(&found[0], "samples_per_s");
        for (found, rows) in found.iter().zip(SIZES) {
            let (rate, memory) = (median(found, "samples_per_s"), median(found, "peak_bytes"));
            let tables = memory / (f64::from(rows) * DIM as f64 * 4.0);
            println!(
                "{:<10} {rows:>11} {rate:>11.0} {:>9.2} {:>9.0} MiB {tables:>15.2}",
                format!("{optimizer:?}").to_lowercase(),
                rate / first,
                memory / f64::from(1 << 20),
            );
        }
    }
    Ok(())
}

fn in_a_process(rows: u32, optimizer: Optimizer, seconds: f64) -> Result<Value, Box<dyn std::error::Error>> {
    let optimizer = format!("{optimizer:?}").to_lowercase();
    let arguments =
        ["--rows", &rows.to_string(), "--optimizer", &optimizer, "--seconds", &seconds.to_string()];
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

fn measure(rows: u32, optimizer: Optimizer, seconds: f64) -> Value {
    let workload = workload(rows);
    let batches = raw_batches(&workload, BATCHES, 1);
    let mut training = Training::<Autodiff<NdArray>>::new(&workload, Default::default());
    let which = if optimizer == Optimizer::All { Rows::All } else { Rows::Touched };
    let mut next = batches.iter().cycle();
    let mut step = || next.next().into_iter().for_each(|batch| drop(training.step_on(batch, which)));
    (0..3).for_each(|_| step());
    let (start, mut steps) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs_f64(seconds) {
        step();
        steps += 1;
    }
    let rate = f64::from(steps) * workload.batch as f64 / start.elapsed().as_secs_f64();
    json!({ "rows": rows, "samples_per_s": rate, "peak_bytes": peak_bytes() })
}

/// Largest resident size of this process so far, from Linux's `/proc`; 0 elsewhere.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|peak| peak.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
