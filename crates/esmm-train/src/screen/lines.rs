//! Progress as text: one line that is redrawn, or a line every few seconds.

use std::time::{Duration, Instant};

use burn::data::dataloader::Progress;
use burn::train::LearnerSummary;
use burn::train::metric::{Metric, MetricDefinition, MetricId};
use burn::train::renderer::{
    EvaluationName, EvaluationProgress, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining, ProgressType, TrainingProgress,
};
use esmm_core::one_line;
use esmm_run::wording::{duration, grouped};

use super::status_line;
use super::time_left::TimeLeft;
use crate::learner::{ExactAuc, StepLoss};
use crate::trainer::DisplayedTraining;

/// Between two plain lines.
const LINES_EVERY: Duration = Duration::from_secs(5);
/// Between two drawings of the line on a terminal.
const LINE_EVERY: Duration = Duration::from_millis(200);

/// Shows `epoch 1/3  step 1,230/3,906  31%  41,200 rows/s  0:47 left  loss click 0.4123, conversion 0.1456  ...`
pub(super) struct ProgressLines {
    /// Whether one line is redrawn.
    redrawn: bool,
    /// What each line begins with.
    label: String,
    steps: u64,
    since: Instant,
    losses: Vec<ShownMetric>,
    areas: Vec<ShownMetric>,
    /// The last complete validation, in full and compact.
    valid: Option<[String; 2]>,
    left: TimeLeft,
}

/// A metric with its newest value.
struct ShownMetric {
    id: Option<MetricId>,
    name: String,
    label: String,
    value: String,
}

impl ShownMetric {
    fn new(name: &str, label: String) -> Self {
        Self { id: None, name: name.to_owned(), label: one_line(&label), value: String::new() }
    }

    /// `ctr 0.7452, cvr 0.7706`, or three digits of the values alone where there is no room.
    fn all(metrics: &[Self], compact: bool) -> Option<String> {
        let seen = metrics.iter().filter(|metric| !metric.value.is_empty());
        let value = |metric: &Self| match compact {
            true => metric.value.chars().take(5).collect(),
            false => format!("{} {}", metric.label, metric.value),
        };
        let values: Vec<String> = seen.map(value).collect();
        (!values.is_empty()).then(|| values.join(if compact { " " } else { ", " }))
    }

    fn update(metrics: &mut [Self], state: MetricState) {
        let MetricState::Numeric(entry, _) = state else { return };
        if let Some(metric) = metrics.iter_mut().find(|metric| metric.id.as_ref() == Some(&entry.metric_id)) {
            metric.value = entry.serialized_entry.formatted;
        }
    }
}

impl ProgressLines {
    pub(super) fn new(redrawn: bool, training: &DisplayedTraining<'_>) -> Self {
        let DisplayedTraining { label, stages, steps, .. } = *training;
        // The first loss is the sum of the others.
        let losses = StepLoss::all(stages).into_iter().skip(1).zip(stages);
        let losses = losses.map(|(loss, stage)| ShownMetric::new(&loss.name(), stage.clone()));
        let areas = ExactAuc::all(stages).into_iter().map(|area| {
            let name = area.name();
            ShownMetric::new(&name, name.trim_end_matches(" AUC").to_lowercase())
        });
        let losses = losses.collect();
        let areas = areas.collect();
        let since = Instant::now();
        let left = TimeLeft::default();
        Self { redrawn, label: label.to_owned(), steps, since, losses, areas, valid: None, left }
    }

    fn training_line(&self, step: usize, rows: &Progress, epochs: &Progress, compact: bool) -> String {
        let epoch = epochs.items_processed;
        let all = epochs.items_total;
        let remaining = rows.items_total.saturating_sub(rows.items_processed)
            + rows.items_total * all.saturating_sub(epoch);
        let total = rows.items_total * all;
        let percent = 100 * (total - remaining.min(total)) / total.max(1);
        let (step, steps) = (grouped(step as u64), grouped(self.steps));
        let mut parts = vec![
            format!("{}epoch {epoch}/{all}", self.label),
            format!("step {step}/{steps}"),
            format!("{percent:>2}%"),
        ];
        parts.extend(self.left.rate().map(|rate| format!("{} rows/s", grouped(rate.round() as u64))));
        let seconds = self.left.seconds(remaining, (all + 1).saturating_sub(epoch));
        parts.extend(seconds.map(|seconds| format!("{} left", duration(seconds))));
        parts.extend(ShownMetric::all(&self.losses, compact).map(|losses| format!("loss {losses}")));
        let valid = if compact { "AUC" } else { "valid AUC" };
        parts.extend(self.valid.iter().map(|areas| format!("{valid} {}", areas[usize::from(compact)])));
        parts.join(if compact { " " } else { "  " })
    }

    /// Shows a line when it is time for one.
    fn show(&mut self, line: impl FnOnce(&Self) -> String) {
        let every = if self.redrawn { LINE_EVERY } else { LINES_EVERY };
        if self.since.elapsed() < every {
            return;
        }
        self.since = Instant::now();
        let line = line(self);
        if self.redrawn {
            status_line::show(&line);
        } else {
            status_line::say(&line);
        }
    }
}

impl MetricsRendererTraining for ProgressLines {
    fn update_train(&mut self, state: MetricState) {
        ShownMetric::update(&mut self.losses, state);
    }

    fn update_valid(&mut self, state: MetricState) {
        ShownMetric::update(&mut self.areas, state);
    }

    fn render_train(&mut self, item: TrainingProgress, _: Vec<ProgressType>) {
        let Some(rows) = item.progress else { return };
        let epochs = item.global_progress;
        let before = rows.items_total * epochs.items_processed.saturating_sub(1);
        self.left.trained(Instant::now(), before + rows.items_processed);
        let step = item.iteration.unwrap_or(0);
        self.show(|own| {
            let full = own.training_line(step, &rows, &epochs, false);
            match own.redrawn && full.chars().count() >= status_line::columns() {
                true => own.training_line(step, &rows, &epochs, true),
                false => full,
            }
        });
    }

    fn render_valid(&mut self, item: TrainingProgress, _: Vec<ProgressType>) {
        let Some(rows) = item.progress else { return };
        let epochs = item.global_progress;
        self.left.validating(Instant::now());
        if rows.items_processed >= rows.items_total {
            let [full, compact] = [false, true].map(|compact| ShownMetric::all(&self.areas, compact));
            self.valid = full.zip(compact).map(<[String; 2]>::from);
        }
        let percent = 100 * rows.items_processed / rows.items_total.max(1);
        self.show(|own| {
            let (epoch, all) = (epochs.items_processed, epochs.items_total);
            format!("{}epoch {epoch}/{all}  validating {percent:>2}%", own.label)
        });
    }

    fn on_train_end(&mut self, _: Option<LearnerSummary>) -> Result<(), Box<dyn std::error::Error>> {
        status_line::clear();
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
        let mut shown = self.losses.iter_mut().chain(&mut self.areas);
        if let Some(shown) = shown.find(|shown| shown.name == metric.name) {
            shown.id = Some(metric.metric_id);
        }
    }
}

impl Drop for ProgressLines {
    fn drop(&mut self) {
        status_line::clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_how_fast_and_how_well() {
        let stages = ["click", "buy"].map(str::to_owned);
        let interrupter = burn::train::Interrupter::new();
        let training =
            DisplayedTraining { label: "", interrupter: &interrupter, stages: &stages, steps: 3000 };
        let mut lines = ProgressLines::new(false, &training);
        let start = Instant::now();
        lines.left.trained(start, 100_000);
        lines.left.trained(start + Duration::from_secs(10), 150_000);
        let line = |lines: &ProgressLines, compact| {
            lines.training_line(1500, &Progress::new(50_000, 100_000), &Progress::new(2, 3), compact)
        };
        let expected = "epoch 2/3  step 1,500/3,000  50%  5,000 rows/s  0:30 left";
        assert_eq!(line(&lines, false), expected);
        lines.losses.iter_mut().for_each(|loss| loss.value = "0.4000".into());
        lines.valid = Some(["ctcvr 0.7500", "0.750"].map(str::to_owned));
        let short = "epoch 2/3 step 1,500/3,000 50% 5,000 rows/s 0:30 left loss 0.400 0.400 AUC 0.750";
        assert_eq!(line(&lines, true), short);
        assert_eq!(
            line(&lines, false),
            format!("{expected}  loss click 0.4000, buy 0.4000  valid AUC ctcvr 0.7500")
        );
        lines.label = "seed 3: ".to_owned();
        assert!(line(&lines, true).starts_with("seed 3: epoch 2/3 step"));
    }
}
