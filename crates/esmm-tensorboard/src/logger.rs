//! Metrics of any training on Burn.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::train::logger::MetricLogger;
use burn::train::metric::store::{EpochSummary, MetricsUpdate, Split};
use burn::train::metric::{MetricDefinition, MetricId, NumericEntry};

use crate::entry::Entry;
use crate::writer::EventWriter;

/// Writes the numeric metrics of Burn's `SupervisedTraining`, its evaluator or its reinforcement learning to
/// TensorBoard.
///
/// Runs are the folders `train`, `valid` and `test` below the one given, so that curves of one metric lie in one chart.
/// The tag `Loss` holds the values of single training batches, `epoch/Loss` what the metric says about a whole epoch;
/// the horizontal axis is the number of training batches.
///
/// Give it to `with_metric_logger`. That replaces Burn's `FileMetricLogger`. Early stopping and checkpoints by a metric
/// work with this logger alone; for `summary()`, which reads Burn's files, register a `FileMetricLogger` as well, and
/// before this one.
#[derive(Debug)]
pub struct TensorBoardMetricLogger {
    folder: PathBuf,
    every: u64,
    iterations: u64,
    goes_on: bool,
    warned: Arc<AtomicBool>,
    definitions: HashMap<MetricId, MetricDefinition>,
    runs: BTreeMap<String, EventWriter>,
    /// What each metric said last about the epoch under way, by run.
    running: BTreeMap<String, BTreeMap<String, f64>>,
    means: HashMap<(String, usize, Split), Mean>,
}

/// Sum of a metric over an epoch.
#[derive(Debug, Default, Clone, Copy)]
struct Mean {
    sum: f64,
    count: usize,
}

impl TensorBoardMetricLogger {
    /// A logger into a folder, which is made when there is something to write.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            every: 1,
            iterations: 0,
            goes_on: false,
            warned: Arc::default(),
            definitions: HashMap::new(),
            runs: BTreeMap::new(),
            running: BTreeMap::new(),
            means: HashMap::new(),
        }
    }

    /// Writes the values of every `batches`-th training batch only; 0 counts as 1.
    #[must_use]
    pub fn every(mut self, batches: u64) -> Self {
        self.every = batches.max(1);
        self
    }

    /// Goes on after so many training batches, when a training is resumed: what earlier files of the folder say about
    /// later ones is void.
    #[must_use]
    pub fn from_iteration(mut self, iterations: u64) -> Self {
        (self.iterations, self.goes_on) = (iterations, true);
        self
    }

    /// Adds values to a run, all at the present number of training batches.
    fn add(&mut self, run: &str, values: impl Iterator<Item = (String, f64)>) {
        let writer = self.runs.entry(run.to_owned()).or_insert_with(|| {
            let writer = EventWriter::new(self.folder.join(run)).warning_once(&self.warned);
            if self.goes_on { writer.from_step(self.iterations) } else { writer }
        });
        writer.add(self.iterations, values.map(|(tag, value)| Entry::scalar(tag, value)).collect());
    }

    /// Writes what the metrics of a run say about all that they have seen.
    fn end_epoch(&mut self, run: &str) {
        let values = self.running.remove(run).unwrap_or_default();
        self.add(run, values.into_iter().map(|(name, value)| (format!("epoch/{name}"), value)));
    }
}

impl MetricLogger for TensorBoardMetricLogger {
    fn log(&mut self, update: MetricsUpdate, epoch: usize, split: &Split) {
        let training = *split == Split::Train;
        self.iterations += u64::from(training);
        let run = run_of(split);
        let mut values = Vec::new();
        for metric in update.entries_numeric {
            let Some(definition) = self.definitions.get(&metric.entry.metric_id) else { continue };
            let name = definition.name.clone();
            let running = self.running.entry(run.clone()).or_default();
            running.insert(name.clone(), metric.running_entry.current());
            let mean = self.means.entry((name.clone(), epoch, split.clone())).or_default();
            mean.push(&metric.numeric_entry);
            values.push((name, metric.numeric_entry.current()));
        }
        if training && self.iterations.is_multiple_of(self.every) {
            self.add(&run, values.into_iter());
        }
    }

    fn read_numeric(&mut self, name: &str, epoch: usize, split: &Split) -> Result<Vec<NumericEntry>, String> {
        // Burn asks for the mean over these alone.
        let mean = self.means.get(&(name.to_owned(), epoch, split.clone()));
        Ok(mean.map(Mean::entry).into_iter().collect())
    }

    fn log_metric_definition(&mut self, definition: MetricDefinition) {
        self.definitions.insert(definition.metric_id.clone(), definition);
    }

    fn log_epoch_summary(&mut self, summary: EpochSummary) {
        self.end_epoch(&run_of(&summary.split));
    }
}

/// Burn's evaluator says nothing at its end.
impl Drop for TensorBoardMetricLogger {
    fn drop(&mut self) {
        let tests: Vec<String> = self.running.keys().filter(|run| run.starts_with("test")).cloned().collect();
        tests.iter().for_each(|run| self.end_epoch(run));
    }
}

/// The folder of a split: `train`, `valid`, `test` or `test/NAME`.
fn run_of(split: &Split) -> String {
    match split {
        Split::Test(Some(name)) => {
            let kept = |c: char| if c.is_alphanumeric() || "._- ".contains(c) { c } else { '_' };
            format!("{split}/{}", name.trim().chars().map(kept).collect::<String>().trim_start_matches('.'))
        }
        _ => split.to_string(),
    }
}

impl Mean {
    fn push(&mut self, entry: &NumericEntry) {
        let (value, count) = match *entry {
            NumericEntry::Value(value) => (value, 1),
            NumericEntry::Aggregated { aggregated_value, count } => (aggregated_value, count),
        };
        self.sum += value * count as f64;
        self.count += count;
    }

    fn entry(&self) -> NumericEntry {
        NumericEntry::Aggregated { aggregated_value: self.sum / self.count.max(1) as f64, count: self.count }
    }
}

#[cfg(test)]
mod tests {
    use burn::train::metric::store::NumericMetricUpdate;
    use burn::train::metric::{MetricAttributes, MetricEntry, SerializedEntry};
    use prost::Message;

    use super::*;
    use crate::proto::{Event, Value, What};
    use crate::reader::event_files;
    use crate::record;

    /// `(step, tag, value)` of all scalars of a run.
    fn scalars(folder: &std::path::Path) -> Vec<(i64, String, f32)> {
        let events = event_files(folder).into_iter().flat_map(|path| {
            let bytes = std::fs::read(path).unwrap();
            let payloads = record::read(&bytes).0.into_iter();
            payloads.map(|payload| Event::decode(payload).unwrap()).collect::<Vec<_>>()
        });
        let values = events.filter_map(|event| match event.what? {
            What::Summary(summary) => Some((event.step, summary.value)),
            _ => None,
        });
        let each = values.flat_map(|(step, values)| values.into_iter().map(move |value| (step, value)));
        let scalar = each.map(|(step, value)| match value.value {
            Some(Value::Scalar(scalar)) => (step, value.tag, scalar),
            other => panic!("{other:?}"),
        });
        scalar.collect()
    }

    fn id() -> MetricId {
        MetricId::new(Arc::new("Loss".to_owned()))
    }

    fn update(value: f64, rows: usize, running: f64) -> MetricsUpdate {
        let entry = MetricEntry::new(id(), SerializedEntry::new(value.to_string(), value.to_string()));
        let value = NumericEntry::Aggregated { aggregated_value: value, count: rows };
        let numeric = NumericMetricUpdate::new(entry, value, NumericEntry::Value(running));
        MetricsUpdate::new(vec![], vec![numeric])
    }

    fn logger(folder: &std::path::Path) -> TensorBoardMetricLogger {
        let mut logger = TensorBoardMetricLogger::new(folder).every(2);
        logger.log_metric_definition(MetricDefinition {
            metric_id: id(),
            name: "Loss".into(),
            description: None,
            attributes: MetricAttributes::None,
        });
        logger
    }

    #[test]
    fn batches_and_epochs_lie_on_one_axis() {
        let folder = tempfile::tempdir().unwrap();
        let mut logger = logger(folder.path());
        for (value, running) in [(4.0, 4.0), (2.0, 3.0), (3.0, 3.0)] {
            logger.log(update(value, 10, running), 1, &Split::Train);
        }
        logger.log_epoch_summary(EpochSummary::new(1, Split::Train));
        logger.log(update(1.0, 30, 1.0), 1, &Split::Valid);
        logger.log(update(2.0, 10, 1.25), 1, &Split::Valid);
        logger.log_epoch_summary(EpochSummary::new(1, Split::Valid));
        let test = Split::Test(Some(Arc::new("a b/c".to_owned())));
        logger.log(update(0.5, 1, 0.5), 1, &test);

        let mean = logger.read_numeric("Loss", 1, &Split::Valid).unwrap();
        assert_eq!(mean.len(), 1);
        assert_eq!(mean[0].serialize(), "1.25,40", "weighted by the rows");
        assert!(logger.read_numeric("Loss", 2, &Split::Valid).unwrap().is_empty());
        drop(logger);

        let point = |step, tag: &str, value| (step, tag.to_owned(), value);
        let train = [point(2, "Loss", 2.0), point(3, "epoch/Loss", 3.0)];
        assert_eq!(scalars(&folder.path().join("train")), train);
        assert_eq!(scalars(&folder.path().join("valid")), [point(3, "epoch/Loss", 1.25)]);
        assert_eq!(scalars(&folder.path().join("test/a b_c")), [point(3, "epoch/Loss", 0.5)]);
    }

    #[test]
    fn a_resumed_training_goes_on_along_the_axis() {
        let folder = tempfile::tempdir().unwrap();
        let mut logger = logger(folder.path()).from_iteration(9);
        logger.log(update(4.0, 10, 4.0), 4, &Split::Train);
        assert_eq!(scalars(&folder.path().join("train")), [(10, "Loss".to_owned(), 4.0)]);
    }
}
