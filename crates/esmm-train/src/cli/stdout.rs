//! Results on standard output. A reader that has gone away ends the command quietly; a disk that refuses is an error.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

use esmm_run::RunError;
use esmm_train::TrainError;

/// Writes a text, and sees that it arrives.
///
/// # Errors
/// [`RunError::Closed`] when nobody reads any more, or what the system says.
pub(super) fn text(text: Arguments<'_>) -> Result<(), TrainError> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_fmt(text).and_then(|()| stdout.flush());
    written.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => RunError::Closed.into(),
        _ => TrainError::caused("standard output".as_ref(), "cannot be written", error),
    })
}

/// As `println!`, with an error where that panics.
macro_rules! outln {
    ($($argument:tt)*) => {
        $crate::cli::stdout::text(format_args!("{}\n", format_args!($($argument)*)))
    };
}

/// As `print!`, with an error where that panics.
macro_rules! out {
    ($($argument:tt)*) => {
        $crate::cli::stdout::text(format_args!($($argument)*))
    };
}

pub(super) use {out, outln};
