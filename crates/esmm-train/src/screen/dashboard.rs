//! Burn's dashboard, in a terminal where Ctrl-C still means what it means elsewhere.

use burn::train::metric::MetricDefinition;
use burn::train::renderer::tui::TuiMetricsRendererWrapper;
use burn::train::renderer::{
    EvaluationName, EvaluationProgress, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining, ProgressType, TrainingProgress,
};
use burn::train::{Interrupter, LearnerSummary};

/// The dashboard puts the terminal into raw mode, in which Ctrl-C is a key that it does not know. This renderer passes
/// everything on to it and keeps the signal alive.
pub(crate) struct Dashboard(TuiMetricsRendererWrapper);

impl Dashboard {
    pub(crate) fn new(interrupter: &Interrupter) -> Self {
        Self(TuiMetricsRendererWrapper::new(interrupter.clone(), None))
    }
}

/// The dashboard starts in a thread of its own, at no known time, hence the question at every call; it is cheap.
#[cfg(unix)]
fn keep_ctrl_c() {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let terminal = std::io::stdin();
    let Ok(mut modes) = tcgetattr(&terminal) else { return };
    if !modes.local_modes.contains(LocalModes::ISIG) {
        modes.local_modes.insert(LocalModes::ISIG);
        // Without it `q` still stops the training.
        let _ = tcsetattr(&terminal, OptionalActions::Now, &modes);
    }
}

#[cfg(not(unix))]
fn keep_ctrl_c() {}

impl MetricsRendererTraining for Dashboard {
    fn update_train(&mut self, state: MetricState) {
        self.0.update_train(state);
    }

    fn update_valid(&mut self, state: MetricState) {
        self.0.update_valid(state);
    }

    fn render_train(&mut self, item: TrainingProgress, indicators: Vec<ProgressType>) {
        keep_ctrl_c();
        self.0.render_train(item, indicators);
    }

    fn render_valid(&mut self, item: TrainingProgress, indicators: Vec<ProgressType>) {
        self.0.render_valid(item, indicators);
    }

    fn on_train_end(&mut self, summary: Option<LearnerSummary>) -> Result<(), Box<dyn std::error::Error>> {
        self.0.on_train_end(summary)
    }
}

impl MetricsRendererEvaluation for Dashboard {
    fn update_test(&mut self, name: EvaluationName, state: MetricState) {
        self.0.update_test(name, state);
    }

    fn render_test(&mut self, item: EvaluationProgress, indicators: Vec<ProgressType>) {
        self.0.render_test(item, indicators);
    }

    fn on_test_end(&mut self, summary: Option<LearnerSummary>) -> Result<(), Box<dyn std::error::Error>> {
        self.0.on_test_end(summary)
    }
}

impl MetricsRenderer for Dashboard {
    fn manual_close(&mut self) {
        self.0.manual_close();
    }

    fn register_metric(&mut self, metric: MetricDefinition) {
        self.0.register_metric(metric);
    }
}
