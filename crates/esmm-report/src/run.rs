//! A run directory as the report finds it: whole, under way, damaged, or of a newer program.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use esmm_core::EsmmConfig;
use esmm_metrics::{Goal, SplitMetrics};
use serde::de::DeserializeOwned;
use serde_json::Value;

use esmm_run::RunError;
use esmm_run::analysis::{self, RunAnalysis, SplitAnalysis};
use esmm_run::config::{check_version, newer_than};
use esmm_run::correction::CalibrationRecord;
use esmm_run::history::History;
use esmm_run::metrics::{EnsembleMetrics, RunMetrics};
use esmm_run::run_dir::RunDir;

/// What a run directory holds, as far as it can be read.
///
/// # Examples
/// ```no_run
/// use esmm_report::{RunReport, page};
///
/// let runs = [RunReport::read("runs/first".as_ref())?, RunReport::read("runs/second".as_ref())?];
/// std::fs::write("compare.html", page(&runs)).unwrap();
/// # Ok::<(), esmm_run::RunError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct RunReport {
    /// Name of the directory.
    pub name: String,
    /// What is missing, damaged or newer than this program: one line each, with the file.
    pub notes: Vec<String>,
    /// `config.json`.
    pub(crate) config: Value,
    pub(crate) model: Option<EsmmConfig>,
    pub(crate) metrics: Option<RunMetrics>,
    pub(crate) analysis: Option<RunAnalysis>,
    pub(crate) history: Option<History>,
    /// `calibration.json`, where `esmm calibrate` wrote one.
    pub(crate) correction: Option<CalibrationRecord>,
    /// What the training warned of.
    pub(crate) warnings: Vec<String>,
}

/// A split with its name, as the report calls it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MeasuredSplit<'a> {
    pub(crate) name: &'static str,
    pub(crate) metrics: &'a SplitMetrics,
}

impl RunReport {
    /// Reads what there is. What cannot be read is left out, and [`RunReport::notes`] says so.
    ///
    /// # Errors
    /// A path that is no run directory.
    pub fn read(path: &Path) -> Result<Self, RunError> {
        let run = RunDir::open(path)?;
        let mut found = Self { name: name_of(path), ..Self::default() };
        found.config = found.json(&run.config()).unwrap_or_default();
        if let Err(newer) = check_version(&found.config) {
            found.notes.push(format!("config.json: {newer}"));
        }
        let model: Option<EsmmConfig> = found.json(&run.schema());
        if let Some(error) = model.as_ref().and_then(|model| model.validate().err()) {
            found.notes.push(format!("schema.json: {error}"));
        } else {
            found.model = model;
        }
        let members = run.members(found.seeds());
        found.history = members.first().and_then(|first| found.read_history(first));
        found.warnings = warnings_of(&run.log());
        if run.metrics().exists() {
            found.metrics = found.json(&run.metrics());
        }
        found.analysis = found.read_analysis(&run);
        match CalibrationRecord::read(&run) {
            Ok(record) => found.correction = record,
            Err(error) => found.notes.push(error.to_string()),
        }
        found.judge_progress(&run);
        Ok(found)
    }

    /// Number of models whose mean is measured.
    pub(crate) fn seeds(&self) -> u64 {
        self.config.pointer("/train/seeds").and_then(Value::as_u64).unwrap_or(1)
    }

    /// Of several models: how each scores alone.
    pub(crate) fn ensemble(&self) -> Option<&EnsembleMetrics> {
        self.metrics.as_ref()?.ensemble.as_ref()
    }

    /// The splits that are measured with the best weights, the one that counts first.
    pub(crate) fn splits(&self) -> Vec<MeasuredSplit<'_>> {
        let Some(metrics) = &self.metrics else { return Vec::new() };
        let splits = [("test", &metrics.test), ("valid", &metrics.valid)];
        let others = splits.into_iter().filter_map(|(name, split)| Some((name, split.as_ref()?)));
        let all = others.chain([("train", &metrics.train)]);
        all.map(|(name, metrics)| MeasuredSplit { name, metrics }).collect()
    }

    /// The split that counts most: test, else valid, else train; of a training under way the best validation.
    pub(crate) fn headline(&self) -> Option<MeasuredSplit<'_>> {
        let first = self.splits().into_iter().next();
        first.or_else(|| {
            let history = self.history.as_ref()?;
            let best = self.best_validation().or(history.validations.len().checked_sub(1))?;
            Some(MeasuredSplit { name: "valid", metrics: &history.validations[best].metrics })
        })
    }

    /// The analysis of the split that counts most.
    pub(crate) fn analysed(&self) -> Option<&SplitAnalysis> {
        let splits = &self.analysis.as_ref()?.splits;
        ["test", "valid", "train"]
            .into_iter()
            .find_map(|name| splits.iter().find(|split| split.split == name))
    }

    /// Place of the best validation by the metric that selects the weights.
    pub(crate) fn best_validation(&self) -> Option<usize> {
        let select = self.text("/train/select")?;
        let goal = Goal::of(select)?;
        let mut best: Option<(usize, f64)> = None;
        for (place, validation) in self.history.as_ref()?.validations.iter().enumerate() {
            let Ok(value) = validation.metrics.metric(select) else { continue };
            if best.is_none_or(|(_, best)| goal.improves(value, best)) {
                best = Some((place, value));
            }
        }
        best.map(|(place, _)| place)
    }

    /// The step of the weights that count as the best.
    pub(crate) fn best_step(&self) -> Option<u64> {
        let analysed = self.analysis.as_ref().map(|analysis| analysis.step);
        analysed.or_else(|| Some(self.history.as_ref()?.validations[self.best_validation()?].step))
    }

    /// A text of the configuration, by its JSON pointer.
    pub(crate) fn text(&self, pointer: &str) -> Option<&str> {
        self.config.pointer(pointer)?.as_str()
    }

    /// Names of the stages, as the labels are called.
    pub(crate) fn stages(&self) -> Vec<String> {
        let columns = self.config.pointer("/labels/columns").and_then(Value::as_array);
        let columns =
            columns.map(|columns| columns.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        columns.unwrap_or_default()
    }

    fn read_history(&mut self, run: &RunDir) -> Option<History> {
        if !run.history().exists() {
            self.notes.push("history.jsonl is not there: the run has no learning curves".to_owned());
            return None;
        }
        match History::read(&run.history()) {
            Ok(history) => {
                self.notes.extend(history.notes.iter().cloned());
                Some(history)
            }
            Err(error) => {
                self.notes.push(error.to_string());
                None
            }
        }
    }

    fn read_analysis(&mut self, run: &RunDir) -> Option<RunAnalysis> {
        let path = run.analysis();
        if !path.exists() {
            if self.metrics.is_some() {
                let missing =
                    "analysis.json is not there: the run has no curves and no rates by feature value";
                self.notes.push(missing.to_owned());
            }
            return None;
        }
        let value: Value = self.json(&path)?;
        if let Err(newer) = newer_than(&value, analysis::FORMAT_VERSION) {
            self.notes.push(format!("analysis.json: {newer}"));
            return None;
        }
        serde_json::from_value(value)
            .map_err(|error| self.notes.push(format!("analysis.json: is damaged: {error}")))
            .ok()
    }

    /// Says where the training stands if it is not at its end.
    fn judge_progress(&mut self, run: &RunDir) {
        let last = self.history.as_ref().and_then(|history| history.steps.last()).map(|step| step.step);
        let reached = last.map_or_else(String::new, |step| format!(" (last recorded step: {step})"));
        let ended = self.history.as_ref().is_none_or(|history| !history.end.is_empty());
        if self.metrics.is_none() && !run.metrics().exists() {
            let note =
                format!("metrics.json is not there: the training is under way or was interrupted{reached}");
            self.notes.insert(0, note);
        } else if !ended {
            let note = format!("metrics.json is older than the history: the training has gone on{reached}");
            self.notes.insert(0, note);
        }
    }

    /// A JSON file; a note when it cannot be read.
    fn json<T: DeserializeOwned>(&mut self, path: &Path) -> Option<T> {
        let name = name_of(path);
        let read = fs::read(path).map_err(|error| format!("{name}: cannot be read: {error}"));
        let parsed = read.and_then(|text| {
            serde_json::from_slice(&text)
                .map_err(|error| format!("{name}: is damaged, or of a newer program: {error}"))
        });
        parsed.map_err(|note| self.notes.push(note)).ok()
    }
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().or_else(|| path.components().next_back().map(|part| part.as_os_str()));
    match path.canonicalize() {
        Ok(whole) if path.file_name().is_none() => name_of(&whole),
        _ => name.map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
    }
}

/// The warnings in a log, each once.
fn warnings_of(log: &Path) -> Vec<String> {
    let Ok(text) = fs::read(log) else { return Vec::new() };
    let text = String::from_utf8_lossy(&text);
    let mut seen = HashSet::new();
    let warnings = text.lines().filter_map(|line| Some(line.split_once("s  warning: ")?.1));
    warnings.filter(|warning| seen.insert(*warning)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::RunReport;

    #[test]
    fn whatever_is_missing_or_damaged_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        fs::create_dir(&run).unwrap();
        let error = RunReport::read(&run).unwrap_err().to_string();
        assert!(error.ends_with("is no run directory (it has no config.json)"), "{error}");

        fs::write(run.join("config.json"), r#"{"format_version":99,"train":{"select":"ctr.auc"}}"#).unwrap();
        fs::write(run.join("schema.json"), "{").unwrap();
        fs::write(run.join("metrics.json"), r#"{"train": 1}"#).unwrap();
        fs::write(run.join("analysis.json"), r#"{"format_version":99,"tables":"new"}"#).unwrap();
        let log = "      0.1s  run directory: x\n      0.2s  warning: a <b>\n     10.0s  warning: a <b>\n";
        fs::write(run.join("train.log"), log).unwrap();
        let found = RunReport::read(&run).unwrap();
        assert_eq!((found.name.as_str(), found.warnings.as_slice()), ("run", &["a <b>".to_owned()][..]));
        let notes = found.notes.join("\n");
        for expected in [
            "config.json: has format version 99, this program reads 2",
            "schema.json: is damaged",
            "history.jsonl is not there",
            "metrics.json: is damaged",
            "analysis.json: has format version 99",
        ] {
            assert!(notes.contains(expected), "{expected} in {notes}");
        }
    }
}
