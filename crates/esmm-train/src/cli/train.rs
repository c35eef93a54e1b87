//! `esmm train`

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use burn::train::Interrupter;
use esmm_core::{ModelSummary, Precision, one_line};
use esmm_run::ensemble::averaged;
use esmm_train::checkpoint::Checkpoints;
use esmm_train::config::{RunFile, TrainConfig};
use esmm_train::data::synthetic::{SyntheticConfig, write_parquet};
use esmm_train::experiment::{Experiment, Trained, plan};
use esmm_train::history::HistoryWriter;
use esmm_train::observe::{Observers, TrainingObserver};
use esmm_train::run_dir::{Existing, RunClaim, RunDir};
use esmm_train::scorer::prediction_columns;
use esmm_train::tensorboard::TensorBoardConfig;
use esmm_train::trainer::{TrainingControl, TrainingDisplay, TrainingEnd};
use esmm_train::{ProgressStyle, TrainError};

use super::stdout::outln;
use super::training_signals::{self, Measuring, Stage, say_unmeasured, set_stage, stop_on_signals};
use super::{DeviceArg, Done, ThreadsArg, end_instead_of_abort, in_run_file, logging, shown, table};

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
    /// No word on stderr but warnings and errors; results on stdout only.
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    threads: ThreadsArg,
    /// Whether not even a command was given.
    #[arg(skip)]
    is_example: bool,
}

pub(super) fn run(args: &TrainArgs) -> anyhow::Result<Done> {
    logging::init();
    if args.quiet {
        logging::only_warnings();
    }
    if args.is_example {
        log::info!(
            "no command was given: about to train the built-in example (Ctrl-C ends it; `esmm help` lists the commands)"
        );
    }
    args.threads.set()?;
    let device = args.device.open()?;
    let given = args.configuration(Path::new("data.parquet"))?;
    if let Some(config) = &given {
        device.check_precision(config.train.precision)?;
        if args.run_file.is_some() {
            plan::check_files(config)?;
        }
    }
    let interrupter = Interrupter::new();
    stop_on_signals(&interrupter);
    // Until `begin` a start that fails leaves everything as it was.
    let mut claim = args.claim()?;
    let mut config = match args.resume {
        true => args.resumed(claim.run(), given)?,
        false => args.fresh(&mut claim, given)?,
    };
    config.train.tensorboard = args.tensorboard || config.train.tensorboard && !args.no_tensorboard;
    if args.resume {
        device.check_precision(config.train.precision)?;
        plan::check_files(&config)?;
    }
    claim.check_inputs(&plan::files(&config)?)?;
    log::info!("run directory: {}", shown(claim.run().path()));
    let experiment = Experiment::load(config)?;
    let splits = experiment.report.splits();
    let splits = splits.map(|(split, report)| {
        format!("{split}: {}", table::read(report, &experiment.config.labels.columns))
    });
    let splits: Vec<String> = splits.collect();
    experiment.config.counting.described().iter().for_each(|line| log::info!("{line}"));
    splits.iter().for_each(|line| log::info!("{line}"));
    for warning in experiment.warnings() {
        log::warn!("{warning}");
    }
    log::info!("{}", ModelSummary::new(&experiment.model));
    device.check_training(&experiment.model, &experiment.config, experiment.training_rows())?;
    plan::check_disk(claim.run().path(), &experiment.model, &experiment.config)?;
    if let Some(warning) = plan::check_memory(&experiment.model, &experiment.config, device.is_cpu())? {
        log::warn!("{warning}");
    }
    let at_once = plan::at_once(&experiment.model, &experiment.config, device.is_cpu());
    if let Some(cost) = plan::cost_of_models(&experiment.model, &experiment.config, device.info(), at_once) {
        log::info!("{cost}");
    }
    if args.resume {
        experiment.check_saved(claim.run())?;
    }
    let run = claim.begin()?;
    logging::to_file(&run.log()).with_context(|| format!("{}: cannot be written", run.log().display()))?;
    match experiment.config.train.precision {
        Precision::F32 => log::info!("training on {device}"),
        precision => log::info!("training on {device}, matmuls of hidden layers in {precision}"),
    }
    let progress = args.progress();
    logging::quiet(progress == Some(ProgressStyle::Dashboard));
    let seeds = experiment.config.train.seeds;
    let observed = |run: &RunDir| args.observers(run, &experiment, &device.to_string());
    let measuring: Box<dyn TrainingObserver> = Box::new(Measuring { run: run.path().to_owned() });
    let (observers, members) = match run.members(seeds).as_slice() {
        [one] => (observed(one).into_iter().chain([measuring]).collect(), Vec::new()),
        several => (vec![measuring], several.iter().map(|run| Observers::new(observed(run))).collect()),
    };
    let observers = Observers::new(observers);
    let display = progress.map(|style| Arc::new(style) as Arc<dyn TrainingDisplay>);
    let control = TrainingControl { interrupter, display, resume: args.resume, observers, members };
    set_stage(Stage::Training);
    let trained_runs = run.members(seeds);
    let needs = device.training_needs(&experiment.model, &experiment.config, experiment.training_rows());
    let with_way_on = move |error: TrainError| with_the_way_on(error.with_needs(&needs), &trained_runs);
    end_instead_of_abort(with_way_on.clone());
    let end = experiment.run(&run, &device, &control);
    end_instead_of_abort(|error| error);
    set_stage(Stage::Other);
    logging::quiet(false);
    let stages = &experiment.config.labels.columns;
    let trained = end.map_err(with_way_on)?;
    if args.quiet {
        splits.iter().try_for_each(|line| outln!("{line}"))?;
    }
    report(&run, stages, seeds, trained, args.quiet)
}

/// A device that failed, or refused memory, leaves the newest checkpoint as it was: says which one.
fn with_the_way_on(error: TrainError, members: &[RunDir]) -> TrainError {
    let (TrainError::Device(reason) | TrainError::DeviceOutOfMemory(reason)) = error else { return error };
    let states = members.iter().map(|run| Some((run, Checkpoints::new(run.checkpoint()).newest()?)));
    TrainError::Device(match states.flatten().max_by_key(|(_, state)| state.step) {
        Some((run, state)) => format!(
            "{reason}; the checkpoint of step {} is intact, go on with: esmm train --run-dir {} --resume",
            state.step,
            shown(run.path())
        ),
        None => format!("{reason}; no checkpoint was saved before"),
    })
}

fn report(
    run: &RunDir,
    stages: &[String],
    seeds: u64,
    trained: Trained,
    quiet: bool,
) -> anyhow::Result<Done> {
    let path = shown(run.path());
    match trained.end {
        TrainingEnd::Interrupted { step } => {
            log::warn!("interrupted after step {step}; the checkpoint is saved");
            log::info!("go on with: esmm train --run-dir {path} --resume");
            return Ok(Done::Interrupted(training_signals::ends_for()));
        }
        TrainingEnd::Finished { .. } if seeds > 1 => {
            log::info!("{seeds} models; {}", one_line(&averaged(stages)));
        }
        TrainingEnd::Finished { best, stopped_early } => {
            let why = if stopped_early { "stopped early" } else { "all epochs done" };
            log::info!("{why}; kept the weights of step {}, epoch {}", best.step, best.epoch);
        }
    }
    let Some(metrics) = trained.metrics else {
        let signal = training_signals::ends_for();
        say_unmeasured(signal.name(), run.path());
        return Ok(Done::Interrupted(signal));
    };
    let (name, split) = match (&metrics.test, &metrics.valid) {
        (Some(test), _) => ("test split", test),
        (None, Some(valid)) => ("valid split (no test split was given)", valid),
        (None, None) => ("train split (no other was given)", &metrics.train),
    };
    outln!("{}", table::metrics(name, split))?;
    if let Some(ensemble) = &metrics.ensemble {
        let split = name.split(' ').next().unwrap_or_default();
        outln!("{}", table::spread(split, ensemble))?;
    }
    if quiet {
        return Ok(Done::Whole);
    }
    outln!("Everything is in {path}: weights, vocabularies, metrics.json, log.")?;
    outln!("Next:")?;
    outln!("  esmm evaluate {path} DATA.csv                    measure it on other data")?;
    let columns = one_line(&prediction_columns(stages).join(", "));
    outln!("  esmm predict {path} DATA.csv -o scores.csv       {columns} for each row")?;
    outln!("  esmm report {path} -o report.html                a page to look at, curves and all")?;
    outln!("  esmm inspect {path}                              the model, layer by layer")?;
    if run.members(seeds).iter().any(|run| run.tensorboard().exists()) {
        outln!("  tensorboard --logdir {path}                      curves, distributions, the graph")?;
    }
    Ok(Done::Whole)
}

impl TrainArgs {
    /// Of a bare `esmm`.
    pub(super) fn example() -> Self {
        Self { is_example: true, ..Self::default() }
    }

    /// The configuration that was asked for; `None` where a resumed training brings its own.
    fn configuration(&self, synthetic: &Path) -> Result<Option<TrainConfig>, TrainError> {
        let file = match &self.run_file {
            Some(path) => RunFile::read(path, &self.set)?,
            None if self.resume && self.set.is_empty() => return Ok(None),
            None if self.resume => {
                return Err(TrainError::config("--set with --resume needs the run file as well"));
            }
            None => RunFile::parse(&synthetic_run(synthetic), "the built-in run file", &self.set)?,
        };
        Ok(Some(TrainConfig::resolve(&file)?))
    }

    fn fresh(&self, claim: &mut RunClaim, given: Option<TrainConfig>) -> Result<TrainConfig, TrainError> {
        if let (Some(_), Some(config)) = (&self.run_file, given) {
            return Ok(config);
        }
        let data = claim.run().path().join("data.parquet");
        in_run_file(&data, "--run-dir")?;
        claim.remove_unless_begun(&data);
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
        run.check_uncalibrated()?;
        match given {
            None => Ok(saved),
            Some(given) => Ok(saved.extended_to(given)?),
        }
    }

    /// The observers.
    fn observers(
        &self,
        run: &RunDir,
        experiment: &Experiment,
        device: &str,
    ) -> Vec<Box<dyn TrainingObserver>> {
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
        observers
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

    /// `--run-dir`, or the first `runs/NAME-001`, `-002`, ... that is free, locked.
    fn claim(&self) -> Result<RunClaim, TrainError> {
        if let Some(folder) = &self.run_dir {
            return Ok(RunDir::claim(folder, self.existing())?);
        }
        let stem = self.run_file.as_deref().and_then(Path::file_stem);
        let name = stem.map_or("synthetic".into(), |stem| stem.to_string_lossy());
        for number in 1..1_000_000 {
            let folder = PathBuf::from(format!("runs/{name}-{number:03}"));
            // Another training may begin in the same moment.
            match RunDir::claim(&folder, Existing::Refuse) {
                Err(_) if folder.exists() => {}
                claim => return Ok(claim?),
            }
        }
        Err(TrainError::config(format!("runs/{name}-NNN: no free name is left, say --run-dir")))
    }
}

pub(super) fn synthetic_run(data: &Path) -> String {
    SYNTHETIC_RUN.replace("data.parquet", &data.display().to_string().replace('\\', "/"))
}

#[cfg(all(test, feature = "ndarray"))]
mod tests {
    use burn::backend::Autodiff;
    use burn_ndarray::NdArray;
    use esmm_core::{EsmmConfig, Feature, FeatureSchema, Side};
    use esmm_train::checkpoint::TrainingState;
    use esmm_train::optimizer::SharedOptimizer;
    use esmm_train::trainer::TrainerConfig;

    use super::*;

    /// A driver that is lost cannot be had in a test of the command; what the command makes of it can.
    #[test]
    fn a_device_that_failed_says_how_to_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(&folder.path().join("run"), Existing::Refuse).unwrap();
        let lost = || TrainError::Device("device `cuda:0` failed: the driver is gone".to_owned());
        let said = with_the_way_on(lost(), std::slice::from_ref(&run)).to_string();
        assert_eq!(said, "device `cuda:0` failed: the driver is gone; no checkpoint was saved before");

        let schema = FeatureSchema::new(vec![Feature::sparse("user", Side::User, 3)]).unwrap();
        let model = EsmmConfig::new(schema);
        let config = TrainerConfig::new(model.clone(), vec!["click".to_owned(), "conversion".to_owned()]);
        let learner = config.learner.init(model.init::<Autodiff<NdArray>>(&Default::default()).unwrap());
        let state = TrainingState { step: 10, ..TrainingState::default() };
        let checkpoints = Checkpoints::new(run.checkpoint());
        checkpoints.save(&learner, &SharedOptimizer::new(&config.towers), &state).unwrap();
        let error = with_the_way_on(lost(), std::slice::from_ref(&run));
        let expected = format!(
            "device `cuda:0` failed: the driver is gone; the checkpoint of step 10 is intact, go on with: \
             esmm train --run-dir {} --resume",
            shown(run.path())
        );
        assert_eq!((error.to_string(), error.is_usage()), (expected, false));
        let other = TrainError::Training("a full disk".to_owned());
        assert_eq!(with_the_way_on(other, std::slice::from_ref(&run)).to_string(), "a full disk");
    }
}
