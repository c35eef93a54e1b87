//! `trials.jsonl`: a line for each training, so that a tuning goes on where it was ended.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use esmm_run::config::TrainConfig;
use esmm_run::files::FileSum;
use esmm_run::run_dir::write_atomic;
use esmm_run::tuning::{Setting, WindowComparison};
use serde::{Deserialize, Serialize};

use super::{TRIALS_FILE, TuningConfig};
use crate::error::TrainError;
use crate::experiment::plan;

/// Version of the file's layout.
const FORMAT_VERSION: u32 = 1;

/// A line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
enum Line {
    Start(Start),
    Trial(Trial),
    Comparison { setting: Setting, compared: WindowComparison, trainings: u64, seconds: f64, elapsed: f64 },
}

/// What a tuning is of: another one does not go on from here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Start {
    format_version: u32,
    /// Checksum of the text of the run file.
    run_file_xxh64: String,
    windows: u32,
    /// The column of `--time`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    seeds: u64,
    /// The files with their sizes in bytes.
    data: Vec<(String, u64)>,
}

/// A training of a setting on a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Trial {
    pub(super) setting: Setting,
    pub(super) window: u32,
    /// The metric; `None` where it could not be trained or measured.
    pub(super) value: Option<f64>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    /// Seconds of this training.
    pub(super) seconds: f64,
    /// Seconds since the tuning began, without those in which it did not run.
    #[serde(default)]
    elapsed: f64,
}

impl Trial {
    pub(super) fn new(setting: &Setting, window: u32, value: Result<f64, String>, seconds: f64) -> Self {
        let (value, reason) = match value {
            Ok(value) => (Some(value), None),
            Err(reason) => (None, Some(reason)),
        };
        Self { setting: setting.clone(), window, value, reason, seconds, elapsed: 0.0 }
    }
}

/// The file, with what it holds. Of a tuning that does not go on from an earlier one there is none before
/// [`begin`](Self::begin): one that is refused leaves what was there.
#[derive(Debug)]
pub(super) struct TrialLog {
    path: PathBuf,
    /// `None` until it begins.
    file: Option<File>,
    lines: Vec<Line>,
    start: Instant,
    before: f64,
}

impl TrialLog {
    /// Of a new tuning, or of one that goes on.
    pub(super) fn open(tuning: &TuningConfig, base: &TrainConfig) -> Result<Self, TrainError> {
        let path = tuning.folder.join(TRIALS_FILE);
        let start = Line::Start(Start::of(tuning, base)?);
        let lines = if tuning.resume { read(&path, &start)? } else { vec![start] };
        let before = lines.iter().map(elapsed).fold(0.0, f64::max);
        let mut log = Self { path, file: None, lines, start: Instant::now(), before };
        if tuning.resume {
            log.begin()?;
        }
        Ok(log)
    }

    /// Writes the file, unless it was, and from now on each line at once.
    pub(super) fn begin(&mut self) -> Result<(), TrainError> {
        if self.file.is_some() {
            return Ok(());
        }
        let mut text = String::new();
        for line in &self.lines {
            text.push_str(&written(line)?);
        }
        // A line that was cut goes.
        write_atomic(&self.path, text.as_bytes())?;
        let refused = |error| TrainError::file(&self.path, format!("cannot be written: {error}"));
        self.file = Some(File::options().append(true).open(&self.path).map_err(refused)?);
        Ok(())
    }

    /// What is known of a setting on a window.
    pub(super) fn trial(&self, setting: &Setting, window: u32) -> Option<Trial> {
        self.lines.iter().find_map(|line| match line {
            Line::Trial(trial) if trial.setting == *setting && trial.window == window => Some(trial.clone()),
            Line::Start(_) | Line::Trial(_) | Line::Comparison { .. } => None,
        })
    }

    /// What is known of a comparison.
    pub(super) fn comparison(&self, found: &Setting, at: Option<u32>) -> Option<WindowComparison> {
        self.lines.iter().find_map(|line| match line {
            Line::Comparison { setting, compared, .. } if setting == found && compared.window == at => {
                Some(compared.clone())
            }
            Line::Start(_) | Line::Trial(_) | Line::Comparison { .. } => None,
        })
    }

    pub(super) fn add_trial(&mut self, trial: Trial) -> Result<(), TrainError> {
        let elapsed = self.elapsed();
        self.add(Line::Trial(Trial { elapsed, ..trial }))
    }

    pub(super) fn add_comparison(
        &mut self,
        setting: &Setting,
        compared: &WindowComparison,
        seconds: f64,
    ) -> Result<(), TrainError> {
        let trainings = 2 * compared.seeds;
        let (setting, compared) = (setting.clone(), compared.clone());
        let elapsed = self.elapsed();
        self.add(Line::Comparison { setting, compared, trainings, seconds, elapsed })
    }

    /// Trainings so far, and the seconds since the tuning began.
    pub(super) fn totals(&self) -> (u64, f64) {
        let trainings = self.lines.iter().map(|line| match line {
            Line::Start(_) => 0,
            Line::Trial(_) => 1,
            Line::Comparison { trainings, .. } => *trainings,
        });
        (trainings.sum(), self.lines.iter().map(elapsed).fold(0.0, f64::max))
    }

    /// Seconds of all trainings, added up.
    pub(super) fn training_seconds(&self) -> f64 {
        let seconds = self.lines.iter().map(|line| match line {
            Line::Start(_) => 0.0,
            Line::Trial(trial) => trial.seconds,
            Line::Comparison { seconds, .. } => *seconds,
        });
        seconds.sum()
    }

    /// Seconds of earlier processes.
    pub(super) fn seconds_before(&self) -> f64 {
        self.before
    }

    fn elapsed(&self) -> f64 {
        self.before + self.start.elapsed().as_secs_f64()
    }

    fn add(&mut self, line: Line) -> Result<(), TrainError> {
        if let Some(file) = &mut self.file {
            let text = written(&line)?;
            let write = file.write_all(text.as_bytes()).and_then(|()| file.sync_data());
            write.map_err(|error| TrainError::file(&self.path, format!("cannot be written: {error}")))?;
        }
        self.lines.push(line);
        Ok(())
    }
}

impl Start {
    fn of(tuning: &TuningConfig, base: &TrainConfig) -> Result<Self, TrainError> {
        let sized = |path: PathBuf| {
            let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
            (path.display().to_string(), bytes)
        };
        Ok(Self {
            format_version: FORMAT_VERSION,
            run_file_xxh64: FileSum::of_bytes(tuning.text.as_bytes()).xxh64,
            windows: tuning.windows,
            time: tuning.time.clone(),
            seeds: tuning.seeds,
            data: plan::files(base)?.into_iter().map(sized).collect(),
        })
    }
}

fn elapsed(line: &Line) -> f64 {
    match line {
        Line::Start(_) => 0.0,
        Line::Trial(trial) => trial.elapsed,
        Line::Comparison { elapsed, .. } => *elapsed,
    }
}

fn written(line: &Line) -> Result<String, TrainError> {
    let text = serde_json::to_string(line).map_err(|error| TrainError::Training(error.to_string()))?;
    Ok(text + "\n")
}

/// The lines of a file that begins with `start`; the last one may be cut.
fn read(path: &std::path::Path, start: &Line) -> Result<Vec<Line>, TrainError> {
    let text = fs::read_to_string(path).map_err(|error| {
        TrainError::file(path, format!("cannot be read, there is nothing to resume: {error}"))
    })?;
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        match serde_json::from_str::<Line>(line) {
            Ok(line) => lines.push(line),
            Err(_) if !line.ends_with('\n') => break,
            Err(error) => return Err(TrainError::file(path, format!("line {number} is damaged: {error}"))),
        }
    }
    if lines.first() != Some(start) {
        let reason = "is of another run file, other data, or other --windows, --time or --seeds: tune without --resume";
        return Err(TrainError::config(format!("{}: {reason}", path.display())));
    }
    Ok(lines)
}
