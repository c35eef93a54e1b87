//! What a signal does to a training, by what the training is at.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use burn::train::Interrupter;
use esmm_train::observe::TrainingObserver;

use super::shown;
use super::signals::{self, Answer, Signal};

/// What a training is at, for signals.
#[derive(Debug, Clone)]
pub(super) enum Stage {
    /// Before its first step, or after all: nothing would be lost.
    Other,
    /// Steps, which would be lost without a checkpoint.
    Training,
    /// The final metrics of this run directory. All steps are saved.
    Measuring(PathBuf),
}

static STAGE: Mutex<Stage> = Mutex::new(Stage::Other);
/// The signal that a training ends for.
static ENDS_FOR: Mutex<Signal> = Mutex::new(Signal::Interrupt);

pub(super) fn set_stage(stage: Stage) {
    *STAGE.lock().unwrap_or_else(PoisonError::into_inner) = stage;
}

/// The signal that ended the training.
pub(super) fn ends_for() -> Signal {
    *ENDS_FOR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is said where a signal came before the final metrics were measured.
pub(super) fn say_unmeasured(signal: &str, run: &Path) {
    log::warn!("{signal}: the training is done and saved, its metrics are not measured");
    log::info!("measure them with: esmm train --run-dir {} --resume", shown(run));
}

/// Notes that a training has come to its final metrics.
pub(super) struct Measuring {
    pub(super) run: PathBuf,
}

impl TrainingObserver for Measuring {
    fn on_trained(&mut self) {
        set_stage(Stage::Measuring(self.run.clone()));
        log::info!("measuring all splits with the best weights");
    }
}

/// The first signal ends the training after its step, or the program where no step would be lost.
pub(super) fn stop_on_signals(interrupter: &Interrupter) {
    let interrupter = interrupter.clone();
    signals::ask(move |signal| {
        let name = signal.name();
        let stage = STAGE.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match stage {
            Stage::Other => Answer::EndNow,
            Stage::Measuring(run) => {
                say_unmeasured(name, &run);
                Answer::EndNow
            }
            Stage::Training => {
                log::warn!("{name}: finishing the step and saving a checkpoint (again to quit at once)");
                *ENDS_FOR.lock().unwrap_or_else(PoisonError::into_inner) = signal;
                interrupter.stop(Some(name));
                Answer::Ending
            }
        }
    });
}
