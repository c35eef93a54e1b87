//! Who stops a training, who observes it, and what shows it.

use std::ops::ControlFlow;
use std::sync::Arc;

use burn::train::Interrupter;
use esmm_run::observe::Observers;

use super::display::TrainingDisplay;

/// What a training is told besides its data: who may stop it, who observes it, and how it shows where it stands.
#[derive(Clone)]
pub struct TrainingControl {
    /// Stops the training after the step under way, or a validation after its batch; a checkpoint is then saved. The final
    /// metrics are stopped after a batch too.
    pub interrupter: Interrupter,
    /// What is shown while it runs; `None` for nothing.
    pub display: Option<Arc<dyn TrainingDisplay>>,
    /// Go on from the newest checkpoint of the run directory.
    pub resume: bool,
    /// Who gets to know of steps and evaluations.
    pub observers: Observers,
    /// Of several models (`train.seeds`): who gets to know of those of each, in the order of their seeds. Models without an
    /// entry have no observers; [`observers`](Self::observers) then hear of nothing but the measured mean.
    pub members: Vec<Observers>,
}

impl TrainingControl {
    /// What a measurement does after a batch: it ends where the interrupter asks for it.
    pub(crate) fn go_on(&self) -> ControlFlow<()> {
        go_on(&self.interrupter)
    }
}

/// As [`TrainingControl::go_on`].
pub(super) fn go_on(interrupter: &Interrupter) -> ControlFlow<()> {
    match interrupter.should_stop() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}

impl Default for TrainingControl {
    /// Nothing is shown, nobody observes, and the training starts anew.
    fn default() -> Self {
        Self {
            interrupter: Interrupter::new(),
            display: None,
            resume: false,
            observers: Observers::default(),
            members: Vec::new(),
        }
    }
}
