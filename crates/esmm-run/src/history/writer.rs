//! The observer that writes the history.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::{Evaluation, FORMAT_VERSION, Line, Start, Step};
use crate::observe::{EvaluationRecord, StepRecord, TrainingObserver};
use crate::run_dir::write_atomic;

/// Writes `history.jsonl`. A disk that refuses ends the history with one warning; the training goes on.
#[derive(Debug)]
pub struct HistoryWriter {
    path: PathBuf,
    device: String,
    file: Option<File>,
    start: Instant,
}

impl HistoryWriter {
    /// A writer for a training on `device`; the file is opened when the training starts.
    pub fn new(path: PathBuf, device: &str) -> Self {
        Self { path, device: device.to_owned(), file: None, start: Instant::now() }
    }

    fn begin(&mut self, step: u64) -> std::io::Result<()> {
        let kept = match fs::read(&self.path) {
            Ok(bytes) if step > 0 => cut_back(&String::from_utf8_lossy(&bytes), step),
            Ok(_) => String::new(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        write_atomic(&self.path, kept.as_bytes()).map_err(std::io::Error::other)?;
        self.file = Some(File::options().append(true).open(&self.path)?);
        self.start = Instant::now();
        let unix_seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let program = env!("CARGO_PKG_VERSION").to_owned();
        let device = self.device.clone();
        self.append(&Line::Start(Start {
            format_version: FORMAT_VERSION,
            program,
            device,
            step,
            unix_seconds,
        }));
        Ok(())
    }

    fn append(&mut self, line: &Line) {
        let Some(file) = &mut self.file else { return };
        let written = serde_json::to_string(line)
            .map_err(std::io::Error::from)
            .and_then(|text| file.write_all(format!("{text}\n").as_bytes()));
        if let Err(error) = written {
            self.give_up(&error);
        }
    }

    fn give_up(&mut self, error: &std::io::Error) {
        log::warn!("{}: cannot be written, the history ends here: {error}", self.path.display());
        self.file = None;
    }

    fn seconds(&self) -> f64 {
        (self.start.elapsed().as_secs_f64() * 1e3).round() / 1e3
    }
}

impl TrainingObserver for HistoryWriter {
    fn on_start(&mut self, step: u64) {
        if let Err(error) = self.begin(step) {
            self.give_up(&error);
        }
    }

    fn on_step(&mut self, record: &StepRecord) {
        let line = Line::Step(Step::of(record, self.seconds()));
        self.append(&line);
    }

    fn on_evaluation(&mut self, record: &EvaluationRecord<'_>) {
        let line = Line::Evaluation(Evaluation {
            split: record.split.to_owned(),
            moment: record.moment.into(),
            step: record.step,
            epoch: record.epoch,
            metrics: record.metrics.clone(),
            seconds: self.seconds(),
        });
        self.append(&line);
    }
}

/// The lines of a history that a training which goes on after `step` steps keeps: all starts, and the steps and
/// validations up to there. What was measured at the end of the training before, and lines that were cut, go.
fn cut_back(text: &str, step: u64) -> String {
    let keeps = |line: &&str| match serde_json::from_str(line) {
        Ok(Line::Start(start)) => start.step <= step,
        Ok(Line::Step(recorded)) => recorded.step <= step,
        Ok(Line::Evaluation(evaluation)) => {
            evaluation.step <= step && evaluation.moment == super::EvaluationMoment::Validation
        }
        Err(_) => false,
    };
    text.lines().filter(keeps).flat_map(|line| [line, "\n"]).collect()
}
