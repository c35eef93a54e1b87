//! A training as TensorBoard shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use esmm_core::{EsmmConfig, ModelSummary};
use esmm_metrics::{Evaluator, SplitMetrics};

use crate::distributions;
use crate::entry::Entry;
use crate::graph::graph;
use crate::histogram::Histogram;
use crate::hparams::{self, FinalMetric};
use crate::reader::{drop_from, has_events, steps_of};
use crate::writer::{EventWriter, since_1970};
use esmm_run::config::TrainConfig;
use esmm_run::observe::{EvaluationRecord, Moment, StepRecord, TrainingObserver};

/// In front of the tags of the best weights' metrics.
const FINAL: &str = "final/";

/// What is written about a training.
#[derive(Debug, Clone)]
pub struct TensorBoardConfig {
    /// Where: runs are folders below, `train`, `valid` and `test`.
    pub folder: PathBuf,
    /// The configuration, for the hyperparameters and the text.
    pub config: TrainConfig,
    /// The model, for the graph.
    pub model: EsmmConfig,
    /// The run file as it was typed, if there is one.
    pub run_file: Option<String>,
    /// The splits that will be measured at the end.
    pub splits: Vec<&'static str>,
}

/// Writes event files while a training runs.
///
/// | run | when | tags |
/// | --- | --- | --- |
/// | the folder itself | at the start | run file, configuration and layers as text, the graph, hyperparameters |
/// | `train` | recorded steps | `loss/`, `learning_rate/`, `gradient_norm/`, `speed/`, `batch/touched_rows` |
/// | `train` | each validation | histograms `row_norms/TABLE`, `touched_rows/per_batch` |
/// | `valid` | each validation | each metric (`ctr/auc`), histograms `logits/`, `probabilities/`, curves `pr/` |
/// | each split | at the end, with the best weights | each metric (`final/ctr.auc`), histograms and curves |
///
/// What cannot be written is left out with one warning ([`EventWriter`]).
#[derive(Debug)]
pub struct TensorBoardObserver {
    config: TensorBoardConfig,
    /// The first step whose earlier records are void.
    first_step: Option<u64>,
    /// Steps of the weights whose final measurement is in an earlier file.
    measured: BTreeSet<u64>,
    runs: BTreeMap<&'static str, EventWriter>,
    /// Rows that the recorded batches touched since the last validation.
    touched: Vec<f64>,
    described: bool,
    warned: Arc<AtomicBool>,
}

impl TensorBoardConfig {
    /// The observer; files are made when the training begins.
    pub fn init(self) -> TensorBoardObserver {
        TensorBoardObserver {
            config: self,
            first_step: None,
            measured: BTreeSet::new(),
            runs: BTreeMap::new(),
            touched: Vec::new(),
            described: false,
            warned: Arc::default(),
        }
    }
}

impl TrainingObserver for TensorBoardObserver {
    fn on_start(&mut self, step: u64) {
        let goes_on = has_events(&self.config.folder);
        self.first_step = goes_on.then_some(step + 1);
        for run in ["", "train", "valid", "test"] {
            drop_from(&self.config.folder.join(run), step + 1);
        }
        self.measured = steps_of(&self.config.folder.join("train"), FINAL);
        if !goes_on {
            self.write_static();
        }
    }

    fn wants_tables(&self) -> bool {
        true
    }

    fn on_step(&mut self, record: &StepRecord) {
        self.touched.push(record.touched_rows as f64);
        let entries = self.step_entries(record);
        self.run("train").add(record.step, entries);
    }

    fn on_evaluation(&mut self, record: &EvaluationRecord<'_>) {
        if record.moment == Moment::End && self.measured.contains(&record.step) {
            return;
        }
        let mut about_training = Vec::new();
        for table in record.tables {
            let norms = Histogram::of(table.norms.iter().map(|&norm| f64::from(norm)));
            let tag = format!("row_norms/{}", table.name);
            about_training.extend(norms.map(|norms| Entry::histogram(tag, &norms)));
        }
        if record.moment == Moment::Validation {
            let touched = Histogram::of(std::mem::take(&mut self.touched).into_iter());
            about_training.extend(touched.map(|touched| {
                Entry::histogram("touched_rows/per_batch", &touched)
                    .described("Distinct table rows of the recorded batches since the validation before.")
            }));
        }
        self.run("train").add(record.step, about_training);

        let Some(split) = ["train", "valid", "test"].into_iter().find(|&name| name == record.split) else {
            return;
        };
        let mut entries = metric_entries(record.metrics, record.moment);
        // The valid split was measured with these weights before, when they were chosen.
        if record.moment == Moment::Validation || split != "valid" {
            entries.extend(distributions::entries(record.scores));
        }
        self.run(split).add(record.step, entries);
        if record.moment == Moment::End && split == "train" {
            self.run("").add(record.step, vec![hparams::end(since_1970().as_secs_f64())]);
        }
    }
}

impl TensorBoardObserver {
    fn run(&mut self, name: &'static str) -> &mut EventWriter {
        self.runs.entry(name).or_insert_with(|| {
            let writer = EventWriter::new(self.config.folder.join(name)).warning_once(&self.warned);
            match self.first_step {
                Some(step) => writer.from_step(step),
                None => writer,
            }
        })
    }

    /// What does not change over the steps.
    fn write_static(&mut self) {
        let TensorBoardConfig { config, model, run_file, splits, .. } = &self.config;
        let mut entries = Vec::new();
        if let Some(text) = run_file {
            entries.push(Entry::text("run_file", code("toml", text)));
        }
        if let Ok(json) = serde_json::to_string_pretty(config) {
            let text = code("json", &json);
            entries.push(Entry::text("config", text).described("All settings, as config.json holds them."));
        }
        entries.push(Entry::text("model", code("", &ModelSummary::new(model).to_string())));
        entries.extend(hparams::start(
            hparams::hparams(config),
            &final_metrics(config, splits),
            since_1970().as_secs_f64(),
        ));
        let graph = graph(model, &config.labels.columns, &config.train.task_weights);
        let run = self.run("");
        run.add(0, entries);
        run.add_graph(&graph);
    }

    fn step_entries(&mut self, record: &StepRecord) -> Vec<Entry> {
        let labels = &self.config.config.labels.columns;
        let mut values = vec![("loss/total".to_owned(), record.loss, "Weighted sum of the stages' losses.")];
        for (label, &loss) in labels.iter().zip(&record.task_losses) {
            let about = "Mean cross-entropy of reaching this stage, over all rows of the batch, in nats.";
            values.push((format!("loss/{label}"), loss, about));
        }
        let mut add = |tag: &str, value: f64, about| values.push((tag.to_owned(), value, about));
        add("learning_rate/towers", record.tower_learning_rate, "");
        add("learning_rate/tables", record.table_learning_rate, "");
        add("gradient_norm/towers", record.tower_gradient_norm, "Before clipping.");
        add("gradient_norm/tables", record.table_gradient_norm, "Of the touched rows, before clipping.");
        add("speed/rows_per_second", record.rows_per_second, "Since the record before.");
        add("speed/waiting_for_data", record.waiting, "Share of the time, 0 to 1.");
        let touched = record.touched_rows as f64;
        add("batch/touched_rows", touched, "Distinct table rows that the batch reads and updates.");
        // TensorBoard keeps the first description of a tag.
        let describe = !std::mem::replace(&mut self.described, true);
        let entry = |(tag, value, about): (String, f64, &str)| {
            let entry = Entry::scalar(tag, value);
            if describe && !about.is_empty() { entry.described(about) } else { entry }
        };
        values.into_iter().map(entry).collect()
    }
}

/// Every metric that has a value: `ctr/auc` of a validation, `final/ctr.auc` of the best weights.
fn metric_entries(metrics: &SplitMetrics, moment: Moment) -> Vec<Entry> {
    let mut values: Vec<(String, f64)> = Vec::new();
    for name in metrics.metric_names() {
        values.extend(metrics.metric(&name).ok().map(|value| (name, value)));
    }
    for (task, metrics) in &metrics.tasks {
        if let Some([low, high]) = metrics.auc_ci95 {
            values.extend([(format!("{task}.auc_ci95_low"), low), (format!("{task}.auc_ci95_high"), high)]);
        }
    }
    let tag = |name: String| match (moment, name.rsplit_once('.')) {
        (Moment::Validation, Some((task, metric))) => format!("{task}/{metric}"),
        _ => format!("{FINAL}{name}"),
    };
    values.into_iter().map(|(name, value)| Entry::scalar(tag(name), value)).collect()
}

/// The columns of the HPARAMS page: AUC, log loss and calibration of each task, test before valid, and first of all the
/// metric that selects, because the page shows one until others are chosen.
fn final_metrics(config: &TrainConfig, splits: &[&'static str]) -> Vec<FinalMetric> {
    let Ok(evaluator) = Evaluator::new(&config.labels.columns, false, false) else { return Vec::new() };
    let shown = |name: &String| [".auc", ".log_loss", ".calibration"].iter().any(|end| name.ends_with(end));
    let mut names: Vec<String> = evaluator.metric_names().into_iter().filter(shown).collect();
    names.sort_by_key(|name| *name != config.train.select);
    let given = ["test", "valid", "train"].into_iter().filter(|split| splits.contains(split));
    let metric =
        |split, name: &String| FinalMetric { split, tag: format!("{FINAL}{name}"), name: name.clone() };
    given.flat_map(|split| names.iter().map(move |name| metric(split, name))).collect()
}

/// Text as Markdown shows it unchanged.
fn code(language: &str, text: &str) -> String {
    format!("```{language}\n{}\n```", text.trim_end())
}
