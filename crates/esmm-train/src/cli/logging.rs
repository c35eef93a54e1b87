//! What is said: on stderr and in the run directory's log, with the time.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use esmm_core::one_line;
use esmm_train::status_line;
use log::{Level, LevelFilter, Log, Metadata, Record};

static LOGGER: OnceLock<RunLogger> = OnceLock::new();

/// Where lines go besides stderr.
enum Destination {
    /// Kept until a file is known.
    Waiting(String),
    File(File),
}

struct RunLogger {
    start: Instant,
    file: Mutex<Destination>,
    quiet: AtomicBool,
    only_warnings: AtomicBool,
}

/// Says things on stderr from now on.
pub(super) fn init() {
    let logger = LOGGER.get_or_init(|| RunLogger {
        start: Instant::now(),
        file: Mutex::new(Destination::Waiting(String::new())),
        quiet: AtomicBool::new(false),
        only_warnings: AtomicBool::new(false),
    });
    if log::set_logger(logger).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// Appends them to a file as well, those that were said before included.
pub(super) fn to_file(path: &Path) -> std::io::Result<()> {
    let mut file = File::options().create(true).append(true).open(path)?;
    if let Some(logger) = LOGGER.get() {
        let mut destination = logger.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Destination::Waiting(lines) = &*destination {
            // As below: a full disk must not end the training.
            let _ = file.write_all(lines.as_bytes());
        }
        *destination = Destination::File(file);
    }
    Ok(())
}

/// Says nothing on stderr but warnings and errors.
pub(super) fn only_warnings() {
    if let Some(logger) = LOGGER.get() {
        logger.only_warnings.store(true, Ordering::Relaxed);
    }
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
        let text = record.args().to_string();
        // Names are data: they end no line, and turn none around. What is said at length has lines of its own.
        let text = match record.level() {
            Level::Error | Level::Warn => one_line(&text),
            Level::Info | Level::Debug | Level::Trace => {
                let lines: Vec<String> = text.split('\n').map(one_line).collect();
                lines.join("\n")
            }
        };
        let heard = record.level() <= Level::Warn || !self.only_warnings.load(Ordering::Relaxed);
        if heard && !self.quiet.load(Ordering::Relaxed) {
            status_line::say(&format!("{prefix}{text}"));
        }
        let line = format!("{:>9.1}s  {prefix}{text}\n", self.start.elapsed().as_secs_f64());
        match &mut *self.file.lock().unwrap_or_else(PoisonError::into_inner) {
            Destination::Waiting(lines) => lines.push_str(&line),
            // The log is not worth the training: a full disk must not end it.
            Destination::File(file) => drop(file.write_all(line.as_bytes())),
        }
    }

    fn flush(&self) {}
}
