//! Reading a history, whatever state it is in.

use std::fs;
use std::path::Path;

use super::{Evaluation, EvaluationMoment, FORMAT_VERSION, Line, Start, Step};
use crate::error::RunError;

/// A history, as far as it can be read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// Each process that trained.
    pub starts: Vec<Start>,
    /// Recorded steps, by rising step.
    pub steps: Vec<Step>,
    /// Measurements while the training ran, in order.
    pub validations: Vec<Evaluation>,
    /// Measurements at the end, one a split.
    pub end: Vec<Evaluation>,
    /// Seconds that all processes together spent, up to their last line.
    pub seconds: f64,
    /// What is wrong with the file.
    pub notes: Vec<String>,
}

impl History {
    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read. A file with bad lines can: [`History::notes`] has them.
    pub fn read(path: &Path) -> Result<Self, RunError> {
        let bytes = fs::read(path).map_err(|error| RunError::caused(path, "cannot be read", error))?;
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Ok(Self::parse(&String::from_utf8_lossy(&bytes), &name))
    }

    /// Whether neither a step nor a validation was recorded.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.validations.is_empty()
    }

    fn parse(text: &str, name: &str) -> Self {
        let mut history = Self::default();
        let mut before = 0.0;
        let mut latest = 0.0_f64;
        for (number, line) in (1..).zip(text.split_inclusive('\n')) {
            match serde_json::from_str(line) {
                Ok(Line::Start(start)) => {
                    before += latest;
                    latest = 0.0;
                    history.go_on(start, name);
                }
                Ok(Line::Step(step)) => {
                    latest = latest.max(step.seconds);
                    history.steps.push(step);
                }
                Ok(Line::Evaluation(evaluation)) => {
                    latest = latest.max(evaluation.seconds);
                    history.measured(evaluation);
                }
                Err(_) if line.trim().is_empty() => {}
                Err(_) if !line.ends_with('\n') => {
                    let note = format!(
                        "{name}:{number}: the last line is cut (the training is writing, or was ended)"
                    );
                    history.notes.push(note);
                }
                Err(error) => {
                    history.notes.push(format!("{name}:{number}: is damaged and left out: {error}"));
                }
            }
        }
        history.seconds = before + latest;
        history.notes = shortened(history.notes);
        history
    }

    /// A process went on after a step: what another one recorded beyond it is void.
    fn go_on(&mut self, start: Start, name: &str) {
        if start.format_version > FORMAT_VERSION {
            let found = start.format_version;
            self.notes
                .push(format!("{name}: has format version {found}, this program reads {FORMAT_VERSION}"));
        }
        self.steps.retain(|step| step.step <= start.step);
        self.validations.retain(|evaluation| evaluation.step <= start.step);
        self.end.clear();
        self.starts.push(start);
    }

    fn measured(&mut self, evaluation: Evaluation) {
        match evaluation.moment {
            EvaluationMoment::Validation => self.validations.push(evaluation),
            EvaluationMoment::End => {
                self.end.retain(|other| other.split != evaluation.split);
                self.end.push(evaluation);
            }
        }
    }
}

/// The first few notes, and how many there are more.
fn shortened(mut notes: Vec<String>) -> Vec<String> {
    const SHOWN: usize = 5;
    if notes.len() > SHOWN {
        let more = notes.len() - SHOWN;
        notes.truncate(SHOWN);
        notes.push(format!("... and {more} more such lines"));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::super::HistoryWriter;
    use super::History;
    use crate::observe::{EvaluationRecord, Moment, StepRecord, TrainingObserver};
    use esmm_metrics::{Evaluator, SplitMetrics};

    fn step(step: u64, loss: f64) -> StepRecord {
        StepRecord {
            step,
            epoch: 1,
            rows: 8,
            loss,
            task_losses: vec![loss / 2.0; 2],
            tower_learning_rate: 1e-3,
            table_learning_rate: 2e-3,
            tower_gradient_norm: 0.5,
            table_gradient_norm: 0.25,
            touched_rows: 4,
            rows_per_second: 1e5,
            waiting: 0.25,
        }
    }

    fn evaluate(writer: &mut HistoryWriter, moment: Moment, step: u64) {
        let stages = ["click", "conversion"].map(str::to_owned);
        let scores = Evaluator::new(&stages, false, false).unwrap();
        let metrics = SplitMetrics { rows: step, ..SplitMetrics::default() };
        let metrics = &metrics;
        let scores = &scores;
        let split = "valid";
        let epoch = 1;
        let tables = &[][..];
        writer.on_evaluation(&EvaluationRecord { split, moment, step, epoch, metrics, scores, tables });
    }

    #[test]
    fn a_resumed_training_leaves_no_step_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.jsonl");
        let mut first = HistoryWriter::new(path.clone(), "flex");
        first.on_start(0);
        for number in [10, 20, 30] {
            first.on_step(&step(number, 1.0));
        }
        evaluate(&mut first, Moment::Validation, 20);
        evaluate(&mut first, Moment::Validation, 30);
        evaluate(&mut first, Moment::End, 20);
        drop(first);
        let mut second = HistoryWriter::new(path.clone(), "flex");
        second.on_start(20);
        second.on_step(&step(30, f64::NAN));
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches("\"step\":30").count(), 1, "{text}");
        let history = History::read(&path).unwrap();
        assert_eq!(history.steps.iter().map(|step| step.step).collect::<Vec<_>>(), [10, 20, 30]);
        assert_eq!((history.steps[0].loss, history.steps[2].loss), (Some(1.0), None));
        assert_eq!(history.steps[0].task_losses, [Some(0.5); 2]);
        assert_eq!((history.starts.len(), history.validations.len(), history.end.len()), (2, 1, 0));
        assert!(history.notes.is_empty(), "{:?}", history.notes);

        // From the beginning again: nothing stays.
        HistoryWriter::new(path.clone(), "flex").on_start(0);
        assert_eq!(History::read(&path).unwrap().starts.len(), 1);
    }

    #[test]
    fn cut_and_damaged_lines_are_left_out_and_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.jsonl");
        let mut writer = HistoryWriter::new(path.clone(), "flex");
        writer.on_start(0);
        writer.on_step(&step(10, 1.0));
        writer.on_step(&step(20, 1.0));
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 9]).unwrap();
        let history = History::read(&path).unwrap();
        assert_eq!(history.steps.len(), 1);
        assert!(history.notes[0].starts_with("history.jsonl:3: the last line is cut"), "{:?}", history.notes);
        std::fs::write(&path, text.replacen("\"step\":10", "\"step\":ten", 1)).unwrap();
        let history = History::read(&path).unwrap();
        assert_eq!(history.steps[0].step, 20);
        assert!(history.notes[0].starts_with("history.jsonl:2: is damaged"), "{:?}", history.notes);
        std::fs::write(&path, text.replacen("\"format_version\":1", "\"format_version\":99", 1)).unwrap();
        assert!(History::read(&path).unwrap().notes[0].contains("has format version 99"));
        // A writer that goes on drops the cut line.
        std::fs::write(&path, &text[..text.len() - 9]).unwrap();
        HistoryWriter::new(path.clone(), "flex").on_start(10);
        assert!(History::read(&path).unwrap().notes.is_empty());
    }

    #[test]
    fn a_disk_that_refuses_does_not_panic() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = HistoryWriter::new(folder.path().join("gone/history.jsonl"), "flex");
        writer.on_start(0);
        writer.on_step(&step(10, 1.0));
        assert!(!folder.path().join("gone").exists());
    }
}
