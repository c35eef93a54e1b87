//! Signals that ask a command to end: Ctrl-C, SIGTERM, SIGHUP.
//!
//! One that was ignored when the program began (SIGHUP under `nohup`, SIGINT of a background job of a script) stays
//! ignored.

use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use esmm_train::files::remove_unfinished;

/// A signal that asks to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// What `kill`, systemd and batch systems send.
    Terminate,
    /// The terminal has gone.
    HangUp,
}

/// What a command makes of the first signal; the second one ends it at once.
pub(super) enum Answer {
    /// It comes to its end by itself, soon.
    Ending,
    /// Nothing is under way that is worth a moment.
    EndNow,
}

/// Asks the command.
type Ask = Box<dyn FnMut(Signal) -> Answer + Send>;

static ASK: Mutex<Option<Ask>> = Mutex::new(None);

impl Signal {
    #[cfg(unix)]
    const ALL: [Self; 3] = [Self::Interrupt, Self::Terminate, Self::HangUp];

    /// Its number, the same on every Unix.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::HangUp => 1,
            Self::Interrupt => 2,
            Self::Terminate => 15,
        }
    }

    /// As shells number the end by a signal: 130, 143, 129.
    pub(super) fn exit_code(self) -> u8 {
        128 + self.number()
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "Ctrl-C",
            Self::Terminate => "SIGTERM",
            Self::HangUp => "SIGHUP",
        }
    }
}

/// From now on the command is asked what it makes of the first signal.
pub(super) fn ask(answer: impl FnMut(Signal) -> Answer + Send + 'static) {
    *ASK.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(answer));
}

/// Listens from now on. A command that is not asked ends at once, its unfinished files with it.
#[cfg(unix)]
pub(super) fn listen() -> anyhow::Result<()> {
    let heard = Signal::ALL.into_iter().filter(|signal| !is_ignored(*signal));
    let numbers: Vec<i32> = heard.map(|signal| i32::from(signal.number())).collect();
    let mut signals =
        signal_hook::iterator::Signals::new(numbers).context("signals cannot be listened for")?;
    let listening = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut asked = false;
        for number in signals.forever() {
            if let Some(signal) = Signal::ALL.into_iter().find(|signal| i32::from(signal.number()) == number)
            {
                answer(signal, asked);
                asked = true;
            }
        }
    });
    listening.context("signals cannot be listened for").map(drop)
}

/// Ctrl-C is all that there is.
#[cfg(not(unix))]
pub(super) fn listen() -> anyhow::Result<()> {
    let mut asked = false;
    let listening = ctrlc::set_handler(move || {
        answer(Signal::Interrupt, asked);
        asked = true;
    });
    listening.context("Ctrl-C cannot be listened for")
}

fn answer(signal: Signal, asked: bool) {
    if !asked {
        let mut ask = ASK.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Answer::Ending) = ask.as_mut().map(|ask| ask(signal)) {
            return;
        }
    }
    remove_unfinished();
    std::process::exit(i32::from(signal.exit_code()));
}

/// Whether this process was started with a signal ignored. Linux tells in a mask of hexadecimal digits, the lowest bit
/// for signal 1; other systems do not tell without `unsafe`, and there no signal counts as ignored.
#[cfg(unix)]
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal.number() - 1) & 1 == 1
}
