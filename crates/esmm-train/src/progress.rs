//! How a training shows where it stands: Burn's dashboard on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use burn::data::dataloader::Progress;
use burn::tensor::backend::AutodiffBackend;
use burn::train::metric::{Metric, MetricDefinition, MetricId};
use burn::train::renderer::{
    EvaluationName, EvaluationProgress, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining, ProgressType, TrainingProgress,
};
use burn::train::{Interrupter, LearnerSummary, SupervisedTraining};
use esmm_core::EsmmBackend;

use crate::dashboard::Dashboard;
use crate::metric::StepLoss;
use crate::strategy::Components;

/// What is shown while a training runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressStyle {
    /// Burn's dashboard.
    Dashboard,
    /// A line on stderr every few seconds.
    Lines,
    /// Nothing.
    Quiet,
}

impl ProgressStyle {
    /// The dashboard when stdout and stderr are a terminal, lines otherwise.
    pub fn automatic() -> Self {
        let terminal = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        if terminal { Self::Dashboard } else { Self::Lines }
    }

    /// Gives the training a renderer of this style.
    pub(crate) fn attach<B>(
        self,
        training: SupervisedTraining<Components<B>>,
        interrupter: &Interrupter,
        losses: &[StepLoss],
    ) -> SupervisedTraining<Components<B>>
    where
        B: AutodiffBackend + EsmmBackend,
        B::InnerBackend: EsmmBackend,
    {
        match self {
            Self::Dashboard => training.renderer(Dashboard::new(interrupter)),
            Self::Lines => training.renderer(ProgressLines::new(Some(Duration::from_secs(3)), losses)),
            Self::Quiet => training.renderer(ProgressLines::new(None, losses)),
        }
    }
}

/// Prints `epoch 1/3  120,000/400,000 rows (30%)  41,200 rows/s  0:07 left  loss 0.41 ...` to stderr.
struct ProgressLines {
    every: Option<Duration>,
    last: Instant,
    epoch: Option<(usize, Instant, usize)>,
    metrics: Vec<ShownMetric>,
}

struct ShownMetric {
    id: Option<MetricId>,
    name: String,
    shown: String,
}

impl ProgressLines {
    fn new(every: Option<Duration>, losses: &[StepLoss]) -> Self {
        let metric =
            |loss: &StepLoss| ShownMetric { id: None, name: loss.name().to_string(), shown: String::new() };
        Self { every, last: Instant::now(), epoch: None, metrics: losses.iter().map(metric).collect() }
    }

    fn line(&self, rows: &Progress, epochs: &Progress) -> String {
        let epoch = epochs.items_processed;
        let (_, since, first) = self.epoch.unwrap_or((epoch, Instant::now(), rows.items_processed));
        let seconds = since.elapsed().as_secs_f64();
        let rate = (rows.items_processed - first) as f64 / seconds.max(1e-9);
        let remaining =
            (rows.items_total - rows.items_processed) + rows.items_total * (epochs.items_total - epoch);
        let left = if rate > 0.0 { remaining as f64 / rate } else { 0.0 };
        let percent = 100 * rows.items_processed / rows.items_total.max(1);
        let seen = self.metrics.iter().filter(|metric| !metric.shown.is_empty());
        let values: Vec<String> =
            seen.map(|metric| format!("{} {}", metric.name.to_lowercase(), metric.shown)).collect();
        format!(
            "epoch {epoch}/{}  {percent:>3}%  {:>7.0} rows/s  {}:{:02} left  {}",
            epochs.items_total,
            rate,
            left as u64 / 60,
            left as u64 % 60,
            values.join("  ")
        )
    }
}

impl MetricsRendererTraining for ProgressLines {
    fn update_train(&mut self, state: MetricState) {
        let MetricState::Numeric(entry, _) = state else {
            return;
        };
        if let Some(metric) =
            self.metrics.iter_mut().find(|metric| metric.id.as_ref() == Some(&entry.metric_id))
        {
            metric.shown = entry.serialized_entry.formatted;
        }
    }

    fn update_valid(&mut self, _: MetricState) {}

    fn render_train(&mut self, item: TrainingProgress, _: Vec<ProgressType>) {
        let Some(rows) = &item.progress else { return };
        let Some(every) = self.every else { return };
        let epoch = item.global_progress.items_processed;
        if self.epoch.is_none_or(|(known, ..)| known != epoch) {
            // A rate needs some time to be measured over: the first line of an epoch waits as long as any other.
            (self.epoch, self.last) = (Some((epoch, Instant::now(), rows.items_processed)), Instant::now());
        }
        if self.last.elapsed() >= every {
            self.last = Instant::now();
            eprintln!("{}", self.line(rows, &item.global_progress));
        }
    }

    fn render_valid(&mut self, _: TrainingProgress, _: Vec<ProgressType>) {}

    fn on_train_end(&mut self, _: Option<LearnerSummary>) -> Result<(), Box<dyn std::error::Error>> {
        Ok(())
    }
}

impl MetricsRendererEvaluation for ProgressLines {
    fn update_test(&mut self, _: EvaluationName, _: MetricState) {}

    fn render_test(&mut self, _: EvaluationProgress, _: Vec<ProgressType>) {}
}

impl MetricsRenderer for ProgressLines {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, metric: MetricDefinition) {
        if let Some(shown) = self.metrics.iter_mut().find(|shown| shown.name == metric.name) {
            shown.id = Some(metric.metric_id);
        }
    }
}
