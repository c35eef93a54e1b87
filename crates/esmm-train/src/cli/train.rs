//! `esmm train`

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use burn::train::Interrupter;
use esmm_core::{ModelSummary, Precision, TrainBackend};
use esmm_train::checkpoint::Checkpoints;
use esmm_train::config::{RunFile, TrainConfig};
use esmm_train::data::synthetic::{SyntheticConfig, write_parquet};
use esmm_train::experiment::{Experiment, RunMetrics};
use esmm_train::history::HistoryWriter;
use esmm_train::observe::{Observers, TrainingObserver};
use esmm_train::run_dir::{Existing, RunDir};
use esmm_train::tensorboard::TensorBoardConfig;
use esmm_train::trainer::{TrainingControl, TrainingDisplay, TrainingEnd};
use esmm_train::{OnDevice, ProgressStyle, TrainError};

use super::{DeviceArg, Done, INTERRUPTED, logging, shown, table};

/// The run file of a training without one.
const SYNTHETIC_RUN: &str = include_str!("synthetic.toml");

#[derive(Debug, Default, clap::Args)]
pub(super) struct TrainArgs {
    /// The run file (TOML). Without one a synthetic funnel with a known truth is made and learned.
    run_file: Option<PathBuf>,
    /// Where to leave everything; by default a new folder in `runs`.
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArg,
    /// Overrides a key of the run file, such as `train.epochs=5`. May be repeated.
    #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
    set: Vec<String>,
    /// Goes on from the newest checkpoint of --run-dir.
    #[arg(long, requires = "run_dir", conflicts_with = "overwrite")]
    resume: bool,
    /// Replaces what an earlier training left in --run-dir.
    #[arg(long, requires = "run_dir")]
    overwrite: bool,
    /// Writes TensorBoard event files into the run directory, also where the run file does not ask for them.
    #[arg(long, conflicts_with = "no_tensorboard")]
    tensorboard: bool,
    /// Writes none, also where the run file asks for them.
    #[arg(long)]
    no_tensorboard: bool,
    /// Progress in Burn's dashboard, full screen: curves of losses and AUC. Needs a terminal.
    #[arg(long, conflicts_with_all = ["plain", "quiet"])]
    dashboard: bool,
    /// Progress as plain lines even on a terminal, where it is one line that is redrawn.
    #[arg(long, conflicts_with = "quiet")]
    plain: bool,
    /// No progress.
    #[arg(long)]
    quiet: bool,
}

pub(super) fn run(args: &TrainArgs) -> anyhow::Result<Done> {
    logging::init();
    let device = args.device.open()?;
    let given = args.configuration(Path::new("data.parquet"))?;
    if let Some(config) = &given {
        device.check_precision(config.train.precision)?;
    }
    let interrupter = Interrupter::new();
    listen_for_ctrl_c(&interrupter)?;
    let run = RunDir::create(&args.folder()?, args.existing())?;
    logging::to_file(&run.log()).with_context(|| format!("{}: cannot be written", run.log().display()))?;
    let mut config = match args.resume {
        true => args.resumed(&run, given)?,
        false => args.fresh(&run, given)?,
    };
    config.train.tensorboard = args.tensorboard || config.train.tensorboard && !args.no_tensorboard;
    if args.resume {
        device.check_precision(config.train.precision)?;
    }
    log::info!("run directory: {}", shown(run.path()));
    let experiment = Experiment::load(config)?;
    for (split, report) in experiment.report.splits() {
        log::info!("{split}: {}", table::read(report, &experiment.config.labels.columns));
    }
    for warning in experiment.warnings() {
        log::warn!("{warning}");
    }
    log::info!("{}", ModelSummary::new(&experiment.model));
    device.check_model(&experiment.model)?;
    match args.resume {
        true => experiment.check_saved(&run)?,
        false => experiment.save(&run)?,
    }
    match experiment.config.train.precision {
        Precision::F32 => log::info!("training on {device}"),
        precision => log::info!("training on {device}, matmuls of hidden layers in {precision}"),
    }
    let progress = args.progress();
    logging::quiet(progress == Some(ProgressStyle::Dashboard));
    let observers = args.observers(&run, &experiment, &device.to_string());
    let display = progress.map(|style| Arc::new(style) as Arc<dyn TrainingDisplay>);
    let control = TrainingControl { interrupter, display, resume: args.resume, observers };
    TRAINING.store(true, Ordering::SeqCst);
    let end = device.run(TrainAndMeasure { experiment: &experiment, run: &run, control: &control });
    logging::quiet(false);
    report(&run, end.map_err(|error| with_the_way_on(error, &run))?)
}

/// A device that failed leaves the newest checkpoint as it was: says which one.
fn with_the_way_on(error: TrainError, run: &RunDir) -> TrainError {
    let TrainError::Device(reason) = error else { return error };
    TrainError::Device(match Checkpoints::new(run.checkpoint()).newest() {
        Some(state) => format!(
            "{reason}; the checkpoint of step {} is intact, go on with: esmm train --run-dir {} --resume",
            state.step,
            shown(run.path())
        ),
        None => format!("{reason}; no checkpoint was saved before"),
    })
}

/// Trains, and measures what was trained.
struct TrainAndMeasure<'a> {
    experiment: &'a Experiment,
    run: &'a RunDir,
    control: &'a TrainingControl,
}

impl OnDevice for TrainAndMeasure<'_> {
    type Output = (TrainingEnd, Option<RunMetrics>);

    fn run<B>(self, device: B::Device) -> Result<Self::Output, TrainError>
    where
        B: TrainBackend,
    {
        let end = self.experiment.train::<B>(self.run, &device, self.control)?;
        let metrics = match end {
            TrainingEnd::Interrupted { .. } => None,
            TrainingEnd::Finished { best, .. } => {
                let observers = &self.control.observers;
                Some(self.experiment.evaluate::<B::InnerBackend>(self.run, &device, best, observers)?)
            }
        };
        Ok((end, metrics))
    }
}

fn report(run: &RunDir, (end, metrics): (TrainingEnd, Option<RunMetrics>)) -> anyhow::Result<Done> {
    let path = shown(run.path());
    match end {
        TrainingEnd::Interrupted { step } => {
            log::warn!("interrupted after step {step}; the checkpoint is saved");
            log::info!("go on with: esmm train --run-dir {path} --resume");
            return Ok(Done::Interrupted);
        }
        TrainingEnd::Finished { best, stopped_early } => {
            let why = if stopped_early { "stopped early" } else { "all epochs done" };
            log::info!("{why}; kept the weights of step {}, epoch {}", best.step, best.epoch);
        }
    }
    if let Some(metrics) = metrics {
        let (name, split) = match (&metrics.test, &metrics.valid) {
            (Some(test), _) => ("test split", test),
            (None, Some(valid)) => ("valid split (no test split was given)", valid),
            (None, None) => ("train split (no other was given)", &metrics.train),
        };
        println!("{}", table::metrics(name, split));
    }
    println!("Everything is in {path}: weights, vocabularies, metrics.json, log.");
    println!("Next:");
    println!("  esmm evaluate {path} DATA.csv                    measure it on other data");
    println!("  esmm predict {path} DATA.csv -o scores.csv       pctr, pcvr, pctcvr for each row");
    println!("  esmm report {path} -o report.html                a page to look at, curves and all");
    println!("  esmm inspect {path}                              the model, layer by layer");
    if run.tensorboard().exists() {
        println!("  tensorboard --logdir {path}                      curves, distributions, the graph");
    }
    Ok(Done::Whole)
}

impl TrainArgs {
    /// The configuration that was asked for; `None` where a resumed training brings its own.
    fn configuration(&self, synthetic: &Path) -> Result<Option<TrainConfig>, TrainError> {
        let file = match &self.run_file {
            Some(path) => RunFile::read(path, &self.set)?,
            None if self.resume && self.set.is_empty() => return Ok(None),
            None if self.resume => {
                return Err(TrainError::Config("--set with --resume needs the run file as well".into()));
            }
            None => RunFile::parse(&synthetic_run(synthetic), "the built-in run file", &self.set)?,
        };
        Ok(Some(TrainConfig::resolve(&file)?))
    }

    fn fresh(&self, run: &RunDir, given: Option<TrainConfig>) -> Result<TrainConfig, TrainError> {
        if let (Some(_), Some(config)) = (&self.run_file, given) {
            return Ok(config);
        }
        let data = run.path().join("data.parquet");
        let synthetic = SyntheticConfig::default();
        log::info!(
            "no run file: making a synthetic funnel of {} impressions",
            table::grouped(synthetic.rows as u64)
        );
        write_parquet(synthetic, &data).map_err(|error| TrainError::Training(error.to_string()))?;
        let file = RunFile::parse(&synthetic_run(&data), "the built-in run file", &self.set)?;
        Ok(TrainConfig::resolve(&file)?)
    }

    fn resumed(&self, run: &RunDir, given: Option<TrainConfig>) -> Result<TrainConfig, TrainError> {
        let saved = run.read_config()?;
        match given {
            None => Ok(saved),
            Some(given) => Ok(saved.extended_to(given)?),
        }
    }

    /// The observers.
    fn observers(&self, run: &RunDir, experiment: &Experiment, device: &str) -> Observers {
        let history = HistoryWriter::new(run.history(), device);
        let mut observers: Vec<Box<dyn TrainingObserver>> = vec![Box::new(history)];
        if experiment.config.train.tensorboard {
            let tensorboard = TensorBoardConfig {
                folder: run.tensorboard(),
                config: experiment.config.clone(),
                model: experiment.model.clone(),
                run_file: self.run_file.as_ref().and_then(|path| std::fs::read_to_string(path).ok()),
                splits: experiment.splits().map(|(name, _)| name).collect(),
            };
            observers.push(Box::new(tensorboard.init()));
        }
        Observers::new(observers)
    }

    fn existing(&self) -> Existing {
        match (self.resume, self.overwrite) {
            (true, _) => Existing::Resume,
            (_, true) => Existing::Overwrite,
            _ => Existing::Refuse,
        }
    }

    /// What is shown; `None` for nothing.
    fn progress(&self) -> Option<ProgressStyle> {
        if self.quiet {
            return None;
        }
        if self.plain {
            return Some(ProgressStyle::Lines);
        }
        if !self.dashboard {
            return Some(ProgressStyle::automatic());
        }
        let dashboard = ProgressStyle::dashboard();
        if dashboard.is_none() {
            log::warn!("--dashboard needs a terminal: progress is shown as plain lines");
        }
        dashboard.or(Some(ProgressStyle::Lines))
    }

    /// `--run-dir`, or the first `runs/NAME-001`, `-002`, ... that is free.
    fn folder(&self) -> Result<PathBuf, TrainError> {
        if let Some(folder) = &self.run_dir {
            return Ok(folder.clone());
        }
        let stem = self.run_file.as_deref().and_then(Path::file_stem).and_then(|stem| stem.to_str());
        let name = stem.unwrap_or("synthetic");
        let mut candidates = (1..1_000_000).map(|number| PathBuf::from(format!("runs/{name}-{number:03}")));
        let free = candidates.find(|folder| !folder.exists());
        free.ok_or_else(|| {
            TrainError::Config(format!("runs/{name}-NNN: no free name is left, say --run-dir"))
        })
    }
}

pub(super) fn synthetic_run(data: &Path) -> String {
    SYNTHETIC_RUN.replace("data.parquet", &data.display().to_string().replace('\\', "/"))
}

/// Whether a checkpoint would be lost if the program ended at once.
static TRAINING: AtomicBool = AtomicBool::new(false);

/// The first Ctrl-C ends the training after its step, or the program where nothing is under way; the second at once.
fn listen_for_ctrl_c(interrupter: &Interrupter) -> anyhow::Result<()> {
    let interrupter = interrupter.clone();
    ctrlc::set_handler(move || {
        if !TRAINING.load(Ordering::SeqCst) || interrupter.should_stop() {
            std::process::exit(i32::from(INTERRUPTED));
        }
        log::warn!("Ctrl-C: finishing the step and saving a checkpoint (again to quit at once)");
        interrupter.stop(Some("Ctrl-C"));
    })
    .context("Ctrl-C cannot be listened for")
}
