//! What can be wrong with raw files, or with the disk.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use esmm_data::{Cause, Place, RowNumber};

/// An error in one line: where, what was found, what is allowed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AliCcpError {
    /// A setting that cannot be, or a folder that may not be used so.
    #[error("{0}")]
    Setting(String),
    /// A file that is missing, damaged, or cannot be written.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, the words of the cause included.
        reason: String,
        /// The error that caused it.
        source: Option<Cause>,
    },
    /// A row that is not what its file should hold.
    #[error("{0}")]
    Row(BadRow),
    /// More such rows than were allowed.
    #[error("{last} ({found} bad rows, --max-bad-rows allows {allowed})")]
    TooManyBadRows {
        /// How many were found until then.
        found: u64,
        /// How many were allowed.
        allowed: u64,
        /// The one that was too many.
        last: BadRow,
    },
    /// Someone said stop.
    #[error("interrupted, nothing was written")]
    Interrupted,
}

/// A row that was refused, shown as `sample_skeleton_train.csv:17: feature_num: found ...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// File and line.
    pub place: Place,
    /// What was found and what is allowed.
    pub fault: String,
}

impl Display for BadRow {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.place, self.fault)
    }
}

impl BadRow {
    pub(crate) fn new(path: &Path, line: u64, fault: String) -> Self {
        Self { place: Place { path: path.to_owned(), row: RowNumber::Line(line) }, fault }
    }

    pub(crate) fn line(&self) -> u64 {
        match self.place.row {
            RowNumber::Line(line) | RowNumber::Row(line) => line,
        }
    }
}

impl AliCcpError {
    /// An error of a file, squeezed into one line.
    pub(crate) fn file(path: &Path, reason: impl Display) -> Self {
        let reason = reason.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        Self::File { path: path.to_owned(), reason, source: None }
    }

    /// An error of the operating system, without its number.
    pub(crate) fn io(path: &Path, error: &std::io::Error) -> Self {
        let text = error.to_string();
        let reason = text.split(" (os error").next().unwrap_or(&text).to_owned();
        // An error of the system cannot be cloned, but made again by its number.
        let source = error.raw_os_error().map_or_else(
            || std::io::Error::new(error.kind(), text.clone()),
            std::io::Error::from_raw_os_error,
        );
        Self::File { path: path.to_owned(), reason, source: Some(Box::new(source)) }
    }

    /// Whether a setting is wrong and not the data: the caller should exit with 2.
    pub fn is_setting(&self) -> bool {
        matches!(self, Self::Setting(_))
    }
}
