//! What is said: on stderr and in the run directory's log, with the time.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use esmm_train::status_line;
use log::{Level, LevelFilter, Log, Metadata, Record};

static LOGGER: OnceLock<RunLogger> = OnceLock::new();

struct RunLogger {
    start: Instant,
    file: Mutex<Option<File>>,
    quiet: AtomicBool,
}

/// Says things on stderr from now on.
pub(super) fn init() {
    let logger = LOGGER.get_or_init(|| RunLogger {
        start: Instant::now(),
        file: Mutex::new(None),
        quiet: AtomicBool::new(false),
    });
    if log::set_logger(logger).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// Appends them to a file as well.
pub(super) fn to_file(path: &Path) -> std::io::Result<()> {
    let file = File::options().create(true).append(true).open(path)?;
    if let Some(logger) = LOGGER.get() {
        *logger.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
    }
    Ok(())
}

/// Keeps stderr clear while a dashboard owns the terminal.
pub(super) fn quiet(quiet: bool) {
    if let Some(logger) = LOGGER.get() {
        logger.quiet.store(quiet, Ordering::Relaxed);
    }
}

impl Log for RunLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Info && metadata.target().starts_with("esmm")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let prefix = match record.level() {
            Level::Error => "error: ",
            Level::Warn => "warning: ",
            _ => "",
        };
        if !self.quiet.load(Ordering::Relaxed) {
            status_line::say(&format!("{prefix}{}", record.args()));
        }
        if let Some(file) = self.file.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            let seconds = self.start.elapsed().as_secs_f64();
            // The log is not worth the training: a full disk must not end it.
            let _ = writeln!(file, "{seconds:>9.1}s  {prefix}{}", record.args());
        }
    }

    fn flush(&self) {}
}
