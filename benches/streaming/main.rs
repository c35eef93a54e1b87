//! What it costs to read the rows from files in every pass, and to save and load the state of a large training.
//!
//! ```sh
//! cargo bench --bench streaming                  # rows a second, in memory and from Parquet and CSV, in turn
//! cargo bench --bench streaming -- --feed        # how fast a loader can feed a device, without any training
//! cargo bench --bench streaming -- --checkpoint  # 10^7 rows of 18 values with Adam's moments: 2.2 GB
//! ```
//!
//! Rows and their vocabularies have the sizes of the paper's dataset: 23 features with 240,000 to 3 values. Each round
//! trains one pass on every source in turn; the clock runs from the start of the training to its last step.

#![allow(clippy::expect_used, reason = "a bench ends where it fails")]

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::record_batch::RecordBatch;
use burn::backend::Autodiff;
use burn::tensor::Tensor;
use burn_ndarray::{NdArray, NdArrayDevice};
use clap::Parser;
use esmm_core::{BatchBuilder, EsmmConfig, Feature, FeatureSchema, Side};
use esmm_train::checkpoint::{Checkpoints, TrainingState};
use esmm_train::config::{RunFile, TrainConfig};
use esmm_train::data::loader::{BatchLoader, BatchLoaderConfig, LoaderThreads, Purpose};
use esmm_train::data::stream::WindowSizes;
use esmm_train::data::{Dataset, SplitRows};
use esmm_train::experiment::Experiment;
use esmm_train::observe::{Observers, StepRecord, TrainingObserver};
use esmm_train::optimizer::{SharedOptimizer, TableOptimizerConfig, TableRule, TowerOptimizerConfig};
use esmm_train::run_dir::{Existing, RunDir};
use esmm_train::trainer::{TrainingControl, TrainingEnd};
use esmm_train::{EsmmLearnerConfig, EsmmLoss};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Auto = Autodiff<NdArray>;

/// Rows of a batch for a device.
const DEVICE_BATCH: usize = 16_384;

const TABLES: [u32; 23] = [
    240_000, 100, 15, 3, 8, 4, 3, 3, 6, 460_000, 7_000, 260_000, 90_000, 50, 110_000, 60_000, 35_000, 12_000,
    5_000, 400, 100, 20_000, 3_000,
];
const ROW_GROUP: usize = 65_536;
const BATCH: usize = 2048;
const MODELS: [(&str, &str); 2] = [("towers 360-200-80", "[360, 200, 80]"), ("towers 64-32", "[64, 32]")];

#[derive(Debug, Parser)]
#[command(about = "Training from files against training in memory; checkpoints of large tables")]
struct Options {
    /// Rows of the data
    #[arg(long, default_value_t = 1_000_000)]
    rows: usize,
    /// Rounds over all sources
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Save and load a large checkpoint instead
    #[arg(long)]
    checkpoint: bool,
    /// How many rows a second the loader makes alone, by numbers of threads
    #[arg(long)]
    feed: bool,
    /// With `--feed`: the numbers of threads that read, and that build, separated by commas: all pairs are measured
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    feed_threads: Vec<usize>,
    /// Where files are written, a temporary folder unless said
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let temporary = tempfile::tempdir()?;
    let folder = options.folder.clone().unwrap_or(temporary.path().to_owned());
    if options.feed {
        return feeding(&options, &folder);
    }
    match options.checkpoint {
        true => checkpoint(&folder),
        // On a thread of the kernels' pool, as the command runs its work.
        false => Ok(rayon::scope(|_| rates(&options, &folder).map_err(|error| error.to_string()))?),
    }
}

fn rates(options: &Options, folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    write_data(folder, options.rows)?;
    println!("{} threads, {} rows, batch {BATCH}", rayon::current_num_threads(), options.rows);
    println!("{:<18} {:<22} {:>8} {:>10} {:>10}", "model", "rows", "rows/s", "of memory", "waiting");
    let sources = [
        ("in memory", "parquet", false),
        ("streamed, Parquet", "parquet", true),
        ("streamed, CSV", "csv", true),
    ];
    for (model, hidden) in MODELS {
        let experiments: Vec<Experiment> = sources
            .iter()
            .map(|(_, format, streaming)| load(folder, format, *streaming, hidden))
            .collect::<Result<_, _>>()?;
        let mut found = vec![Vec::new(); sources.len()];
        for _ in 0..options.rounds {
            for (found, experiment) in found.iter_mut().zip(&experiments) {
                found.push(train(experiment, &folder.join("run"))?);
            }
        }
        let median = |values: &[(f64, f64)]| {
            let mut values = values.to_vec();
            values.sort_by(|left, right| left.0.total_cmp(&right.0));
            values[values.len() / 2]
        };
        let (in_memory, _) = median(&found[0]);
        for ((source, ..), found) in sources.iter().zip(&found) {
            let (rate, waiting) = median(found);
            println!(
                "{model:<18} {source:<22} {rate:>8.0} {:>10.3} {:>9.1}%",
                rate / in_memory,
                100.0 * waiting
            );
        }
    }
    Ok(())
}

/// Rows a second that a loader makes alone, without any training, from Parquet and of rows in memory, by how many threads read
/// and build: batches as a device gets them that finds their distinct rows itself.
fn feeding(options: &Options, folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    write_data(folder, options.rows)?;
    let experiment = load(folder, "parquet", true, MODELS[0].1)?;
    let schema = experiment.model.schema.clone();
    let (_, rows) = experiment.splits().next().ok_or("no training rows")?;
    let SplitRows::Files(files) = rows.clone() else { return Err("rows in memory".into()) };
    let whole = WindowSizes::equal(options.rows);
    let mut dataset = None;
    let mut take = |window: Dataset| {
        dataset.get_or_insert(window);
        true
    };
    files.windows(None, whole, 0, &mut take)?;
    let dataset = Arc::new(dataset.ok_or("no rows were read")?);
    println!("{} rows of {} features, batches of {DEVICE_BATCH}", options.rows, TABLES.len());
    println!("readers  builders   rows/s from Parquet (range)         rows/s of rows in memory (range)");
    let pairs = options
        .feed_threads
        .iter()
        .flat_map(|readers| options.feed_threads.iter().map(|builders| (*readers, *builders)));
    for (readers, builders) in pairs {
        let threads = LoaderThreads { readers, builders };
        let measure = |rows: SplitRows| -> Result<Vec<f64>, String> {
            let mut found = (0..options.rounds)
                .map(|_| feed_rate(&schema, rows.clone(), threads))
                .collect::<Result<Vec<_>, _>>()?;
            found.sort_unstable_by(f64::total_cmp);
            Ok(found)
        };
        let told = |found: &[f64]| {
            let most = found[found.len() - 1];
            format!("{:>12.0} ({:.0} - {most:.0})", found[found.len() / 2], found[0])
        };
        let streamed = measure(SplitRows::Files(files.clone()))?;
        let in_memory = measure(SplitRows::Memory(dataset.clone()))?;
        println!("{readers:>7} {builders:>9}   {:<33} {}", told(&streamed), told(&in_memory));
    }
    Ok(())
}

/// Rows a second of one pass of a loader, until its last batch is ready.
fn feed_rate(schema: &FeatureSchema, rows: SplitRows, threads: LoaderThreads) -> Result<f64, String> {
    let config = BatchLoaderConfig {
        schema: schema.clone(),
        stages: 2,
        batch_size: DEVICE_BATCH,
        purpose: Purpose::Training { seed: 1 },
        unknown: Default::default(),
    };
    let loader: BatchLoader<NdArray> = config.init(rows, &NdArrayDevice::default()).with_threads(threads);
    let builder = BatchBuilder::new(schema).leaving_rows();
    let handle = loader.handle();
    let start = Instant::now();
    let rows: usize = loader.host_batches(&builder).map(|batch| batch.features.rows()).sum();
    let seconds = start.elapsed().as_secs_f64();
    handle.check().map_err(|error| error.to_string())?;
    Ok(rows as f64 / seconds)
}

fn write_data(folder: &Path, rows: usize) -> Result<(), Box<dyn std::error::Error>> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut csv = std::io::BufWriter::new(File::create(folder.join("data.csv"))?);
    let names: Vec<String> = (0..TABLES.len()).map(|feature| format!("f{feature}")).collect();
    writeln!(csv, "{},click,conversion", names.join(","))?;
    let mut parquet = None;
    for start in (0..rows).step_by(ROW_GROUP) {
        let count = ROW_GROUP.min(rows - start);
        let mut columns: Vec<Vec<u32>> = TABLES
            .iter()
            .map(|size| (0..count).map(|_| (rng.random::<f64>().powi(3) * f64::from(*size)) as u32).collect())
            .collect();
        let clicks: Vec<u32> = (0..count).map(|_| u32::from(rng.random_bool(0.04))).collect();
        let conversions = clicks.iter().map(|click| click * u32::from(rng.random_bool(0.05))).collect();
        columns.extend([clicks, conversions]);
        for row in 0..count {
            let cells: Vec<String> = columns.iter().map(|column| column[row].to_string()).collect();
            writeln!(csv, "{}", cells.join(","))?;
        }
        let names = names.iter().map(String::as_str).chain(["click", "conversion"]);
        let arrays = columns.into_iter().map(|column| Arc::new(UInt32Array::from(column)) as ArrayRef);
        let batch = RecordBatch::try_from_iter(names.zip(arrays))?;
        let writer = match &mut parquet {
            Some(writer) => writer,
            none => {
                let file = File::create(folder.join("data.parquet"))?;
                none.insert(parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None)?)
            }
        };
        writer.write(&batch)?;
        writer.flush()?;
    }
    csv.flush()?;
    parquet.map_or(Ok(()), |writer| writer.close().map(drop))?;
    Ok(())
}

fn load(
    folder: &Path,
    format: &str,
    streaming: bool,
    hidden: &str,
) -> Result<Experiment, Box<dyn std::error::Error>> {
    let features: String =
        (0..TABLES.len()).map(|feature| format!("{{ name = \"f{feature}\" }},\n")).collect();
    let data = folder.join(format!("data.{format}"));
    let text = format!(
        "features = [\n{features}]\n[data]\ntrain = {data:?}\nstreaming = {streaming}\nshuffle_rows = 262144\n\
         [model]\nembedding_dim = 18\nhidden = {hidden}\n[train]\nepochs = 1\nbatch_size = {BATCH}\nlog_every = 16\n"
    );
    Ok(Experiment::load(TrainConfig::resolve(&RunFile::parse(&text, "run.toml", &[])?)?)?)
}

/// Rows a second and the share of waiting, over one pass.
fn train(experiment: &Experiment, folder: &Path) -> Result<(f64, f64), Box<dyn std::error::Error>> {
    let clock = Arc::new(Mutex::new(Clock::default()));
    let observers = Observers::new(vec![Box::new(Timer(clock.clone()))]);
    let run = RunDir::create(folder, Existing::Overwrite)?;
    let control = TrainingControl { observers, ..TrainingControl::default() };
    experiment.save(&run)?;
    let end = experiment.train::<Auto>(&run, &NdArrayDevice::default(), &control)?;
    assert!(matches!(end, TrainingEnd::Finished { .. }), "the training ended early: {end:?}");
    let clock = clock.lock().unwrap_or_else(PoisonError::into_inner);
    Ok((clock.rows / clock.seconds, clock.waiting / clock.records))
}

#[derive(Debug, Default)]
struct Clock {
    start: Option<Instant>,
    seconds: f64,
    rows: f64,
    waiting: f64,
    records: f64,
}

struct Timer(Arc<Mutex<Clock>>);

impl TrainingObserver for Timer {
    fn on_start(&mut self, _: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).start = Some(Instant::now());
    }

    fn on_step(&mut self, record: &StepRecord) {
        let mut clock = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        clock.seconds = clock.start.map_or(0.0, |start| start.elapsed().as_secs_f64());
        clock.rows = record.step as f64 * BATCH as f64;
        clock.waiting += record.waiting;
        clock.records += 1.0;
    }
}

fn checkpoint(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    const GIB: f64 = (1 << 30) as f64;
    let schema = FeatureSchema::new(vec![Feature::sparse("item", Side::Item, 10_000_000)])?;
    let config = EsmmConfig { embedding_dim: 18, ..EsmmConfig::new(schema) };
    let device = NdArrayDevice::default();
    let rule = TableRule::LazyAdam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8 };
    let tables = TableOptimizerConfig { rule, learning_rate_ratio: 1.0, l2: 0.0 };
    let towers = TowerOptimizerConfig::Sgd { momentum: 0.0, weight_decay: 0.0 };
    let learner = || -> Result<_, Box<dyn std::error::Error>> {
        let learner = EsmmLearnerConfig { loss: EsmmLoss::new(2), tables, clip_norm: None, seed: 1 };
        let learner = learner.init(config.init::<Auto>(&device)?);
        learner.model.embeddings.table.update(|table: Tensor<Auto, 2>| table.add_scalar(1e-3));
        Ok(learner)
    };
    let optimizer = SharedOptimizer::new(&towers);
    println!("{:<18} {:>8} {:>8} {:>8} {:>16}", "", "GiB", "s", "GiB/s", "peak of memory");
    let report = |what: &str, bytes: f64, seconds: f64| {
        let peak = peak_bytes() as f64 / GIB;
        println!(
            "{what:<18} {:>8.2} {seconds:>8.2} {:>8.2} {peak:>12.2} GiB",
            bytes / GIB,
            bytes / GIB / seconds
        );
    };
    let mut one = learner()?;
    report("the learner", 0.0, 1.0);
    for round in 1..=3 {
        let path = folder.join("plain");
        let start = Instant::now();
        let chunk = vec![7_u8; 1 << 20];
        let mut file = File::create(&path)?;
        (0..2060).try_for_each(|_| file.write_all(&chunk))?;
        file.sync_all()?;
        report("plain write, sync", 2060.0 * (1 << 20) as f64, start.elapsed().as_secs_f64());
        std::fs::remove_file(&path)?;

        let checkpoints = Checkpoints::new(folder.join(format!("checkpoint-{round}")));
        let start = Instant::now();
        checkpoints.save(&one, &optimizer, &TrainingState { step: 1, ..TrainingState::default() })?;
        let bytes: u64 = walk(&folder.join(format!("checkpoint-{round}/step-000000000001")))?;
        report("save, sync", bytes as f64, start.elapsed().as_secs_f64());
        let start = Instant::now();
        (one, _) = checkpoints.load(one, &optimizer, &device)?;
        report("load", bytes as f64, start.elapsed().as_secs_f64());
        std::fs::remove_dir_all(folder.join(format!("checkpoint-{round}")))?;
    }
    Ok(())
}

fn walk(folder: &Path) -> std::io::Result<u64> {
    std::fs::read_dir(folder)?.map(|entry| Ok(entry?.metadata()?.len())).sum()
}

/// Largest resident size of this process so far, from Linux's `/proc`; 0 elsewhere.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|peak| peak.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
