//! What shows a training while it runs: the trainer knows no screen.

use std::error::Error;

use burn::train::metric::MetricDefinition;
use burn::train::renderer::{
    EvaluationName, EvaluationProgress, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining, ProgressType, TrainingProgress,
};
use burn::train::{Interrupter, LearnerSummary};

/// Shows a training while it runs.
pub trait TrainingDisplay: Send + Sync {
    /// The renderer of one training, which hears of every step from Burn.
    fn renderer(&self, training: &DisplayedTraining<'_>) -> Box<dyn MetricsRenderer>;
}

/// A training that is about to be shown.
#[derive(Clone, Copy)]
pub struct DisplayedTraining<'a> {
    /// What lines about it begin with; empty where it is the only one.
    pub label: &'a str,
    /// Stops it after the step under way.
    pub interrupter: &'a Interrupter,
    /// Names of the stages.
    pub stages: &'a [String],
    /// Steps of the whole training.
    pub steps: u64,
}

/// The renderer of a display, or none. Burn takes renderers by type, not in a box.
pub(super) struct Shown(pub(super) Option<Box<dyn MetricsRenderer>>);

impl MetricsRendererTraining for Shown {
    fn update_train(&mut self, state: MetricState) {
        if let Some(renderer) = &mut self.0 {
            renderer.update_train(state);
        }
    }

    fn update_valid(&mut self, state: MetricState) {
        if let Some(renderer) = &mut self.0 {
            renderer.update_valid(state);
        }
    }

    fn render_train(&mut self, item: TrainingProgress, indicators: Vec<ProgressType>) {
        if let Some(renderer) = &mut self.0 {
            renderer.render_train(item, indicators);
        }
    }

    fn render_valid(&mut self, item: TrainingProgress, indicators: Vec<ProgressType>) {
        if let Some(renderer) = &mut self.0 {
            renderer.render_valid(item, indicators);
        }
    }

    fn on_train_end(&mut self, summary: Option<LearnerSummary>) -> Result<(), Box<dyn Error>> {
        match &mut self.0 {
            Some(renderer) => renderer.on_train_end(summary),
            None => Ok(()),
        }
    }
}

impl MetricsRendererEvaluation for Shown {
    fn update_test(&mut self, name: EvaluationName, state: MetricState) {
        if let Some(renderer) = &mut self.0 {
            renderer.update_test(name, state);
        }
    }

    fn render_test(&mut self, item: EvaluationProgress, indicators: Vec<ProgressType>) {
        if let Some(renderer) = &mut self.0 {
            renderer.render_test(item, indicators);
        }
    }

    fn on_test_end(&mut self, summary: Option<LearnerSummary>) -> Result<(), Box<dyn Error>> {
        match &mut self.0 {
            Some(renderer) => renderer.on_test_end(summary),
            None => Ok(()),
        }
    }
}

impl MetricsRenderer for Shown {
    fn manual_close(&mut self) {
        if let Some(renderer) = &mut self.0 {
            renderer.manual_close();
        }
    }

    fn register_metric(&mut self, definition: MetricDefinition) {
        if let Some(renderer) = &mut self.0 {
            renderer.register_metric(definition);
        }
    }
}
