//! What threads bring: steps of a training on ndarray at several numbers of threads, and what many cores could reach at
//! most, told from one.
//!
//! For the second the parallel regions of a step are timed on one thread, task by task, and their tasks dealt to as many
//! threads as are asked for (`Region::time_on`). What is left of the step is serial. The bound knows nothing of memory that
//! cores share, of clocks that fall, or of the time in which threads wake: a machine stays below it.
//!
//! Batches are built before: in a training threads of the loader do that. With `--pytorch PYTHON` workers of
//! `benches/peers` do the same steps in turn with ours, from batches whose distinct rows were found before as well, on as
//! many threads; the variant with the best median counts.

use std::collections::BTreeMap;
use std::error::Error;
use std::process::Command;
use std::time::{Duration, Instant};

use burn::backend::Autodiff;
use burn_ndarray::NdArray;
use esmm_core::backend::{Region, record_regions};
use serde_json::{Value, json};

use crate::Options;
use crate::peer::Peer;
use crate::workload::{Training, Workload, raw_batches};

const BATCHES: usize = 16;
/// Threads of the bounds.
const BOUNDS: [usize; 5] = [1, 2, 4, 8, 16];

/// What was measured at a number of threads: samples a second by round.
struct Contest {
    threads: u64,
    ours: Vec<f64>,
    peers: Vec<(Peer, Vec<f64>)>,
}

/// What a region takes of a step.
#[derive(Debug, Clone, Default)]
struct Share {
    /// Times that a step enters it.
    entered: f64,
    /// Tasks of all of them together.
    tasks: f64,
    /// Milliseconds by number of threads: [`BOUNDS`].
    times: [f64; BOUNDS.len()],
}

/// # Errors
/// An unknown workload, or a process that fails.
pub(crate) fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let workload = Workload::all().into_iter().find(|workload| workload.name == options.workload);
    let Some(workload) = workload else {
        return Err("unknown workload, allowed are notebook, aliccp, bigtable".into());
    };
    let batches = options.batch.iter().map(|batch| Workload { batch: *batch as usize, ..workload.clone() });
    if options.here {
        let threads = options.threads.first().copied().unwrap_or(1) as usize;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        pool.install(|| batches.for_each(|workload| println!("{}", measure(&workload, options.seconds))));
        return Ok(());
    }
    for workload in batches {
        println!("{}, batch {}: training steps on ndarray", workload.name, workload.batch);
        let mut contests = contests(options, workload.batch)?;
        for round in 0..options.rounds.max(1) {
            for contest in &mut contests {
                contest.round(options, workload.batch, round % 2 == 1)?;
            }
        }
        print_contests(&contests);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
        pool.install(|| bounds(&workload, options.seconds));
        println!();
    }
    Ok(())
}

/// One for each number of threads, with PyTorch's workers where they are asked for. A worker that does not start is left out
/// and said so.
///
/// # Errors
/// When none of those that were asked for starts.
fn contests(options: &Options, batch: usize) -> Result<Vec<Contest>, Box<dyn Error>> {
    let contest = |threads: &u64| {
        let mut peers = Vec::new();
        for (python, variant) in
            options.pytorch.iter().flat_map(|python| options.variants.iter().map(move |v| (python, v)))
        {
            match Peer::start(python, options, variant, *threads, batch) {
                Ok(peer) => peers.push((peer, Vec::new())),
                Err(error) => eprintln!("{variant} on {threads} threads is left out: {error}"),
            }
        }
        if peers.is_empty() && options.pytorch.is_some() {
            return Err(format!("no variant of PyTorch started on {threads} threads").into());
        }
        Ok(Contest { threads: *threads, ours: Vec::new(), peers })
    };
    options.threads.iter().map(contest).collect()
}

impl Contest {
    /// One after the other; who begins changes from round to round.
    fn round(&mut self, options: &Options, batch: usize, peers_first: bool) -> Result<(), Box<dyn Error>> {
        for peers_turn in [peers_first, !peers_first] {
            if peers_turn {
                for (peer, found) in &mut self.peers {
                    found.push(peer.rate(options.seconds)?);
                }
            } else {
                self.ours.push(in_a_process(options, self.threads, batch)?);
            }
        }
        Ok(())
    }

    /// The fastest variant of PyTorch, and its rates.
    fn best_peer(&self) -> Option<(&str, &[f64])> {
        let by_median = |left: &&(Peer, Vec<f64>), right: &&(Peer, Vec<f64>)| {
            median(&left.1).total_cmp(&median(&right.1))
        };
        let (peer, found) = self.peers.iter().max_by(by_median)?;
        Some((&peer.variant, found))
    }
}

fn print_contests(contests: &[Contest]) {
    let Some(first) = contests.first() else { return };
    print!("threads   samples/s   of one thread");
    let first_peer = first.best_peer().map(|(_, found)| median(found));
    let with_peers =
        if first_peer.is_some() { "     PyTorch   of one thread   ours / PyTorch   its variant" } else { "" };
    println!("{with_peers}");
    for contest in contests {
        let rate = median(&contest.ours);
        print!("{:>7} {rate:>11.0} {:>15.2}", contest.threads, rate / median(&first.ours));
        if let (Some((variant, found)), Some(first)) = (contest.best_peer(), first_peer) {
            let peer = median(found);
            let mut ratios: Vec<f64> =
                contest.ours.iter().zip(found).map(|(ours, peer)| ours / peer).collect();
            ratios.sort_unstable_by(f64::total_cmp);
            let range =
                format!("{:.2} ({:.2} - {:.2})", median(&ratios), ratios[0], ratios[ratios.len() - 1]);
            print!(" {peer:>11.0} {:>15.2} {range:>20}   {variant}", peer / first);
        }
        println!();
    }
}

fn in_a_process(options: &Options, threads: u64, batch: usize) -> Result<f64, Box<dyn Error>> {
    let output = Command::new(std::env::current_exe()?)
        .args(["--threads", &threads.to_string(), "--workload", &options.workload])
        .args(["--batch", &batch.to_string(), "--seconds", &options.seconds.to_string(), "--here"])
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let object: Value = serde_json::from_slice(&output.stdout)?;
    object["samples_per_s"].as_f64().ok_or_else(|| "no rate was measured".into())
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Steps on batches that are there: what the training's thread does. Ends after `seconds`.
fn steps(workload: &Workload, seconds: f64, mut step: impl FnMut(&mut dyn FnMut())) -> usize {
    let mut training = Training::<Autodiff<NdArray>>::new(workload, Default::default());
    let batches: Vec<_> =
        raw_batches(workload, BATCHES, 1).iter().map(|raw| training.batch_of(raw)).collect();
    let mut next = batches.iter().cycle();
    let mut one = || next.next().into_iter().for_each(|batch| drop(training.step_on_batch(batch.clone())));
    (0..3).for_each(|_| one());
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < Duration::from_secs_f64(seconds) || count == 0 {
        step(&mut one);
        count += 1;
    }
    count
}

fn measure(workload: &Workload, seconds: f64) -> Value {
    let mut time = Duration::ZERO;
    let count = steps(workload, seconds, |step| {
        let start = Instant::now();
        step();
        time += start.elapsed();
    });
    json!({ "samples_per_s": (count * workload.batch) as f64 / time.as_secs_f64() })
}

/// Prints the regions of a step, by what they take on 16 threads, and what threads can bring.
fn bounds(workload: &Workload, seconds: f64) {
    let mut whole = Duration::ZERO;
    let mut all: Vec<Region> = Vec::new();
    let count = steps(workload, seconds, |step| {
        let start = Instant::now();
        let ((), regions) = record_regions(step);
        whole += start.elapsed();
        all.extend(regions);
    });
    let mut shares = BTreeMap::<&str, Share>::new();
    for region in &all {
        let share = shares.entry(region.name).or_default();
        share.entered += 1.0 / count as f64;
        share.tasks += region.tasks.len() as f64 / count as f64;
        for (time, threads) in share.times.iter_mut().zip(BOUNDS) {
            *time += region.time_on(threads).as_secs_f64() * 1e3 / count as f64;
        }
    }
    let whole = whole.as_secs_f64() * 1e3 / count as f64;
    let parallel: f64 = shares.values().map(|share| share.times[0]).sum();
    let serial = whole - parallel;
    let mut shares: Vec<_> = shares.into_iter().collect();
    shares.sort_by(|(_, left), (_, right)| right.times[4].total_cmp(&left.times[4]));
    println!("parallel region, timed on one thread   entered   tasks      ms   ms on 16");
    for (name, share) in shares.iter().map(|(name, share)| (name, share)) {
        let Share { entered, tasks, times } = share;
        println!("{name:<38} {entered:>7.1} {tasks:>7.1} {:>7.3} {:>10.3}", times[0], times[4]);
    }
    println!(
        "{:<54} {serial:>7.3} {serial:>10.3}   {:.1}% of a step",
        "between them",
        serial / whole * 100.0
    );
    let bound = |index: usize| {
        let time = serial + shares.iter().map(|(_, share)| share.times[index]).sum::<f64>();
        format!("{} threads {:.1}", BOUNDS[index], whole / time)
    };
    let told: Vec<_> = (1..BOUNDS.len()).map(bound).collect();
    println!("times as fast as one thread at most: {}", told.join(", "));
}
