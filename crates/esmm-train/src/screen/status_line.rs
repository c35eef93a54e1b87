//! One line at the bottom of a terminal that is redrawn, and lines that are said above it.
//!
//! Whatever a program says while such a line stands goes through [`say`], so that the two do not run into each other.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

/// The line that stands.
static LINE: Mutex<Option<String>> = Mutex::new(None);

/// Columns of a terminal that does not tell.
const COLUMNS: usize = 80;

/// Says a line, or several, on stderr, above the line that stands.
pub fn say(text: &str) {
    let line = LINE.lock().unwrap_or_else(PoisonError::into_inner);
    let text = match line.as_deref() {
        Some(line) => format!("\r\x1b[K{text}\n{}", cut(line, columns())),
        None => format!("{text}\n"),
    };
    write(&text);
}

/// Whether stderr is a terminal that can redraw a line.
pub(crate) fn is_possible() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Puts this line in the place of the one that stands. Its end is cleared and not the whole of it: it does not flicker.
pub(crate) fn show(text: &str) {
    let mut line = LINE.lock().unwrap_or_else(PoisonError::into_inner);
    write(&format!("\r{}\x1b[K", cut(text, columns())));
    *line = Some(text.to_owned());
}

/// Takes the line away.
pub(crate) fn clear() {
    if LINE.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
        write("\r\x1b[K");
    }
}

/// In one piece. A terminal that has gone away is no reason to stop.
fn write(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

/// As much of a line as fits without a line feed.
fn cut(line: &str, columns: usize) -> String {
    line.chars().take(columns.saturating_sub(1)).collect()
}

/// Columns of the terminal that stderr is.
pub(crate) fn columns() -> usize {
    columns_of(&std::io::stderr()).map_or(COLUMNS, usize::from)
}

/// Columns of the terminal that stdout is; 80 where it is none.
pub fn columns_of_stdout() -> u16 {
    columns_of(&std::io::stdout()).unwrap_or(COLUMNS as u16)
}

/// Columns of a terminal; `None` for anything else, and for one that does not tell.
#[cfg(unix)]
fn columns_of(stream: &impl std::os::fd::AsFd) -> Option<u16> {
    let size = rustix::termios::tcgetwinsize(stream).ok()?;
    (size.ws_col > 0).then_some(size.ws_col)
}

/// Columns of a terminal: unknown here.
#[cfg(not(unix))]
fn columns_of<T>(_: &T) -> Option<u16> {
    None
}
