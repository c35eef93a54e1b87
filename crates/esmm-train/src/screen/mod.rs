//! What a person sees of a training: a line that is redrawn on a terminal, plain lines elsewhere, or Burn's dashboard.

#[cfg(feature = "cli")]
mod dashboard;
mod lines;
pub mod status_line;
mod time_left;

#[cfg(feature = "cli")]
use std::io::IsTerminal;

use burn::train::renderer::MetricsRenderer;

use crate::trainer::{DisplayedTraining, TrainingDisplay};

/// What is shown while a training runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressStyle {
    /// Burn's dashboard. Needs a terminal.
    #[cfg(feature = "cli")]
    Dashboard,
    /// One line on stderr that is redrawn. Needs a terminal.
    Line,
    /// A line on stderr every five seconds.
    Lines,
}

impl ProgressStyle {
    /// A line that is redrawn when stderr is a terminal, plain lines otherwise.
    pub fn automatic() -> Self {
        if status_line::is_possible() { Self::Line } else { Self::Lines }
    }

    /// Burn's dashboard; `None` where stdout and stderr are no terminal.
    #[cfg(feature = "cli")]
    pub fn dashboard() -> Option<Self> {
        let terminal = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        terminal.then_some(Self::Dashboard)
    }
}

impl TrainingDisplay for ProgressStyle {
    fn renderer(&self, training: &DisplayedTraining<'_>) -> Box<dyn MetricsRenderer> {
        let lines = |redrawn| Box::new(lines::ProgressLines::new(redrawn, training));
        match self {
            #[cfg(feature = "cli")]
            Self::Dashboard => Box::new(dashboard::Dashboard::new(training.interrupter)),
            Self::Line => lines(true),
            Self::Lines => lines(false),
        }
    }
}
