//! Burn's metric logger, which writes nothing.

use burn::train::logger::MetricLogger;
use burn::train::metric::store::{EpochSummary, MetricsUpdate, Split};
use burn::train::metric::{MetricDefinition, NumericEntry};

/// In the place of Burn's own, which makes a folder a metric and an epoch and panics where a disk is full or a metric's
/// name is no file name. What it wrote stands in `history.jsonl`.
pub(crate) struct NoLogger;

impl MetricLogger for NoLogger {
    fn log(&mut self, _: MetricsUpdate, _: usize, _: &Split) {}

    /// Asked for by Burn's early stopping and checkpoint selection, which are not in use here.
    fn read_numeric(&mut self, _: &str, _: usize, _: &Split) -> Result<Vec<NumericEntry>, String> {
        Ok(Vec::new())
    }

    fn log_metric_definition(&mut self, _: MetricDefinition) {}

    fn log_epoch_summary(&mut self, _: EpochSummary) {}
}
