//! Tuning: a few settings of a run file, chosen on several windows of its training rows.
//!
//! Epochs are tried first, as what else is best depends on how long a training is; then one change at a time; then the best
//! changes together. In each round settings meet by successive halving: all of them train on the latest window, the better
//! half also on the one before, and so on; what is best over all windows is kept. At the end the best setting and the run
//! file as it is are trained again with new seeds, on all windows and on the run file's own validation rows, on which nothing
//! was chosen: those decide whether the gain is more than chance. Test rows are in no window, and files of a test split are
//! not opened.
//!
//! Every training is a line of `trials.jsonl`, so that a tuning that was ended goes on where it was.

mod compare;
mod log;
mod rounds;
mod trial;

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

use burn::train::Interrupter;
use esmm_data::SplitSpec;
use esmm_metrics::Goal;
use esmm_run::config::{RunFile, TrainConfig};
use esmm_run::files::NewFolder;
use esmm_run::tuning::{FORMAT_VERSION, Setting, TriedSetting, TuningReport};

use self::log::TrialLog;
use crate::device::Device;
use crate::error::TrainError;
use crate::experiment::plan;

/// Who writes, for others that want to.
const COMMAND: &str = "esmm tune";

/// Share of the rows that validate where the run file does not say one.
const VALID: f64 = 0.1;

/// A line for each training.
pub const TRIALS_FILE: &str = "trials.jsonl";
/// What a tuning leaves in its folder when it is done.
pub const RESULT_FILES: [&str; 3] = ["tuning.json", "found.toml", "report.html"];

/// What is tuned, and how long.
#[derive(Debug, Clone)]
pub struct TuningConfig {
    /// The text of the run file.
    pub text: String,
    /// Its name, for messages.
    pub name: String,
    /// Windows to choose on, at least 1.
    pub windows: u32,
    /// The column by whose times windows follow each other, of a run file that divides by files; `None`: as its split says, or
    /// folds.
    pub time: Option<String>,
    /// Settings to try, beside the run file as it is.
    pub trials: u64,
    /// Minutes after which no training begins but those of the comparison; `None`: no limit.
    pub minutes: Option<f64>,
    /// Seeds with which the best setting and the run file as it is are compared on the rows that nothing was chosen on.
    pub seeds: u64,
    /// The folder for `trials.jsonl`, and for trainings while they run. What an earlier tuning left there is replaced, unless
    /// this one goes on from it, once all windows are known to be measurable.
    pub folder: PathBuf,
    /// Whether an earlier tuning in that folder goes on.
    pub resume: bool,
}

/// How a tuning ended.
#[derive(Debug, Clone, PartialEq)]
pub enum TuningEnd {
    /// All of it.
    Finished(Box<TuningReport>),
    /// It was asked to stop; what was trained is kept.
    Interrupted,
}

/// Who is told how a tuning goes on.
pub type Say<'a> = &'a (dyn Fn(&str) + Sync);

/// A tuning under way.
struct Tuning<'a> {
    config: &'a TuningConfig,
    /// The run file with a validation split.
    base: TrainConfig,
    goal: Goal,
    device: &'a Device,
    interrupter: &'a Interrupter,
    say: Say<'a>,
    log: Mutex<TrialLog>,
    /// The run directories of the trainings under way.
    work: NewFolder,
    at_once: usize,
    start: Instant,
    /// Every setting that was tried, in order.
    tried: Vec<TriedSetting>,
    out_of_time: bool,
}

/// Why a tuning stops.
enum Stop {
    Interrupted,
    Failed(TrainError),
}

impl<E: Into<TrainError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl TuningConfig {
    /// Tunes.
    ///
    /// # Errors
    /// A run file that cannot be tuned, data that cannot be read, a window with too few rows to measure on, a run file whose
    /// own training fails; a disk that refuses; to resume, another run file, or data that has changed.
    pub fn run(
        &self,
        device: &Device,
        interrupter: &Interrupter,
        say: Say<'_>,
    ) -> Result<TuningEnd, TrainError> {
        let (base, goal) = self.checked(device)?;
        let log = TrialLog::open(self, &base)?;
        let work = NewFolder::beside(&self.folder.join("work"), COMMAND)
            .map_err(|error| TrainError::file(&self.folder, error.to_string()))?;
        let at_once = match device.is_cpu() && base.reading.streaming != Some(true) {
            true => rayon::current_num_threads(),
            false => 1,
        };
        let mut tuning = Tuning {
            config: self,
            base,
            goal,
            device,
            interrupter,
            say,
            log: Mutex::new(log),
            work,
            at_once,
            start: Instant::now(),
            tried: Vec::new(),
            out_of_time: false,
        };
        match tuning.search() {
            Ok(report) => Ok(TuningEnd::Finished(Box::new(report))),
            Err(Stop::Interrupted) => tuning.begin().map(|()| TuningEnd::Interrupted),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    /// Checks what can be known of a tuning before anything is made or removed.
    ///
    /// # Errors
    /// A run file that cannot be tuned, files that are not there or lack columns, a precision that the device lacks.
    pub fn check(&self, device: &Device) -> Result<(), TrainError> {
        self.checked(device).map(drop)
    }

    fn checked(&self, device: &Device) -> Result<(TrainConfig, Goal), TrainError> {
        let base = self.base()?;
        plan::check_files(&base)?;
        device.check_precision(base.train.precision)?;
        let select = &base.train.select;
        let unknown = || TrainError::config(format!("train.select: `{select}` is no metric"));
        let goal = Goal::of(select).ok_or_else(unknown)?;
        Ok((base, goal))
    }

    /// The run file as it is, with a validation split where it has none.
    fn base(&self) -> Result<TrainConfig, TrainError> {
        if self.windows == 0 {
            return Err(TrainError::config("--windows 0: it must be at least 1"));
        }
        let file = RunFile::parse(&self.text, &self.name, &[])?;
        let mut base = TrainConfig::resolve(&file)?;
        base.data.check_apart()?;
        base.train.seeds = 1;
        base.train.tensorboard = false;
        if let Some(column) = &self.time {
            base.data = self.by_time(&base.data, column)?;
        }
        if let SplitSpec::Files { test, .. } = &mut base.data {
            *test = None;
        }
        match &mut base.data {
            SplitSpec::Time { valid, .. }
            | SplitSpec::Hash { valid, .. }
            | SplitSpec::Random { valid, .. } => {
                if *valid == 0.0 {
                    *valid = VALID;
                }
            }
            SplitSpec::Date { valid_from: None, .. } => {
                let reason = "data.split: a tuning needs validation rows: give `valid_from` as well";
                return Err(TrainError::config(format!("{}: {reason}", self.name)));
            }
            SplitSpec::Files { train, valid: None, .. } => {
                let source = train.clone();
                base.data = SplitSpec::Random { source, valid: VALID, test: 0.0, seed: 0 };
            }
            SplitSpec::Date { .. } | SplitSpec::Files { .. } | SplitSpec::Window { .. } => {}
        }
        Ok(base)
    }

    /// The rows that train, divided by time.
    fn by_time(&self, data: &SplitSpec, column: &str) -> Result<SplitSpec, TrainError> {
        let wrong = |reason: &str| Err(TrainError::config(format!("--time {column}: {}{reason}", self.name)));
        match data {
            SplitSpec::Files { train, valid: None, .. } => {
                let (source, column) = (train.clone(), column.to_owned());
                Ok(SplitSpec::Time { source, column, valid: VALID, test: 0.0 })
            }
            SplitSpec::Files { valid: Some(_), .. } => wrong(
                " has a file of validation rows, which are the last window: leave data.valid or --time out",
            ),
            SplitSpec::Time { .. }
            | SplitSpec::Date { .. }
            | SplitSpec::Hash { .. }
            | SplitSpec::Random { .. }
            | SplitSpec::Window { .. } => {
                wrong(" says itself how rows are divided: change data.split, or leave --time out")
            }
        }
    }
}

/// The column by whose times the windows of a split follow each other; `None` of folds.
fn time_of(data: &SplitSpec) -> Option<String> {
    match data {
        SplitSpec::Time { column, .. } | SplitSpec::Date { column, .. } => Some(column.clone()),
        SplitSpec::Window { of, .. } => time_of(of),
        SplitSpec::Files { .. } | SplitSpec::Hash { .. } | SplitSpec::Random { .. } => None,
    }
}

impl Tuning<'_> {
    fn search(&mut self) -> Result<TuningReport, Stop> {
        if time_of(&self.base.data).is_none() {
            (self.say)(
                "windows are folds of the training rows: where later rows will be scored, windows that follow each other tell more \
                 (a split by time, or --time COLUMN)",
            );
        }
        let own = Setting::default();
        self.measure_own(&own)?;
        self.begin()?;
        let mut best = own;
        best = self.epochs(best)?;
        let (kept, changes) = self.single_changes(best)?;
        best = self.together(kept, &changes)?;
        let compared = match best.is_none() {
            true => Vec::new(),
            false => self.compare(&best)?,
        };
        let (trainings, seconds) = self.log().totals();
        Ok(TuningReport {
            format_version: FORMAT_VERSION,
            run_file: self.config.name.clone(),
            select: self.base.train.select.clone(),
            windows: self.config.windows,
            time: time_of(&self.base.data),
            found: best,
            tried: std::mem::take(&mut self.tried),
            compared,
            trainings,
            seconds,
            out_of_time: self.out_of_time,
        })
    }

    /// From now on what is trained is kept, and what an earlier tuning left is gone.
    fn begin(&self) -> Result<(), TrainError> {
        if !self.config.resume {
            for path in RESULT_FILES.map(|name| self.config.folder.join(name)) {
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(TrainError::file(&path, format!("cannot be removed: {error}")));
                    }
                    _ => {}
                }
            }
        }
        self.log().begin()
    }

    /// The configuration of a setting on a window.
    fn on_window(&self, setting: &Setting, window: Option<u32>) -> Result<TrainConfig, TrainError> {
        let TuningConfig { text, name, windows, .. } = self.config;
        let file = RunFile::parse(&setting.write_into(text, name)?, name, &[])?;
        let mut config = TrainConfig::resolve(&file)?;
        config.train.seeds = 1;
        config.train.tensorboard = false;
        // Of the memory that rows may take each training that runs at the same time has its share.
        config.reading.memory = self.base.reading.memory / self.at_once.max(1) as u64;
        config.data =
            SplitSpec::Window { of: Box::new(self.base.data.clone()), number: window, count: *windows };
        Ok(config)
    }

    /// The name of a window, as people count.
    fn window_name(&self, window: Option<u32>) -> String {
        match window {
            Some(window) => format!("window {} of {}", window + 1, self.config.windows),
            None => "the last window, the run file's own validation rows,".to_owned(),
        }
    }

    /// A value of the metric as a number of which more is better.
    fn score(&self, value: f64) -> f64 {
        match self.goal {
            Goal::Maximize => value,
            Goal::Minimize => -value,
            Goal::NearOne => -value.ln().abs(),
        }
    }

    fn log(&self) -> std::sync::MutexGuard<'_, TrialLog> {
        self.log.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Seconds that this tuning may still choose in; `None` without a limit. The comparison at the end gets its time.
    fn seconds_left(&self) -> Option<f64> {
        let minutes = self.config.minutes?;
        let (trainings, seconds) = self.log().totals();
        let each = if trainings == 0 { 0.0 } else { self.log().training_seconds() / trainings as f64 };
        let compared = 2 * (u64::from(self.config.windows) + self.config.seeds);
        let comparison = each * compared as f64 / self.at_once as f64;
        let spent = seconds.max(self.log().seconds_before() + self.start.elapsed().as_secs_f64());
        Some(60.0 * minutes - spent - comparison)
    }
}
