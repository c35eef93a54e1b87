//! What can be wrong with data, its description, or the files around it.

use std::error::Error;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use esmm_core::{EsmmError, one_line};

use crate::place::Place;

/// The error behind another one.
pub type Cause = Box<dyn Error + Send + Sync>;

/// Everything that data can get wrong. Each message is one line: where, what was found, what is allowed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A setting of a source, a feature, the labels or the split that cannot be.
    #[error("{}: {}", one_line(subject), one_line(reason))]
    Setting {
        /// What it belongs to.
        subject: String,
        /// What is wrong, and what is allowed.
        reason: String,
    },
    /// The features do not make a schema.
    #[error(transparent)]
    Schema(#[from] EsmmError),
    /// A file that cannot be opened, read or written.
    #[error("{}: {reason}", shown(path))]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, the words of the cause included.
        reason: String,
        /// The error that caused it.
        source: Option<Cause>,
    },
    /// A column that a file lacks.
    #[error("{}: there is no column `{}`{}", shown(path), one_line(column), one_line(hint))]
    UnknownColumn {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// The nearest name or all names, ready to be appended.
        hint: String,
    },
    /// A column whose type does not fit its use.
    #[error("{}: column `{}` is {}, allowed are {allowed}", shown(path), one_line(column), one_line(found))]
    ColumnType {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// Its Arrow type.
        found: String,
        /// Types that are allowed.
        allowed: String,
    },
    /// A CSV record with too many or too few fields.
    #[error(
        "{place}: found {found} fields, expected {expected} as in the first line, which names the columns"
    )]
    FieldCount {
        /// File and line.
        place: Place,
        /// Fields in the record.
        found: usize,
        /// Fields in the header.
        expected: usize,
    },
    /// A cell whose value is not allowed.
    #[error(
        "{place}: column `{}`: found {}, allowed is {}",
        one_line(column),
        one_line(found),
        one_line(allowed)
    )]
    Cell {
        /// File and row.
        place: Place,
        /// The column.
        column: String,
        /// The value, shortened and in backticks, or `nothing`.
        found: String,
        /// What is allowed.
        allowed: String,
    },
    /// A stage that was reached without the one before.
    #[error(
        "{place}: {} = 1 but {} = 0 (with orphan_conversions = \"drop\" such rows are left out)",
        one_line(later),
        one_line(earlier)
    )]
    Orphan {
        /// File and row.
        place: Place,
        /// The stage that was reached.
        later: String,
        /// The stage before it, which was not.
        earlier: String,
    },
}

impl DataError {
    /// A setting that cannot be.
    pub fn setting(subject: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Setting { subject: subject.into(), reason: reason.into() }
    }

    /// An error of a file. The reason is squeezed into one line.
    pub fn file(path: &Path, reason: impl Display) -> Self {
        let reason = reason.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        Self::File { path: path.to_owned(), reason, source: None }
    }

    /// An error of a file in the words of its cause, squeezed into one line.
    pub fn caused(path: &Path, cause: impl Error + Send + Sync + 'static) -> Self {
        match Self::file(path, &cause) {
            Self::File { path, reason, .. } => Self::File { path, reason, source: Some(Box::new(cause)) },
            other => other,
        }
    }

    /// An input or output error of a file, without the operating system's error number.
    pub fn io(path: &Path, error: &std::io::Error) -> Self {
        let text = error.to_string();
        let reason = text.split(" (os error").next().unwrap_or(&text).to_owned();
        // An error of the system cannot be cloned, but made again by its number.
        let source = error.raw_os_error().map_or_else(
            || std::io::Error::new(error.kind(), text.clone()),
            std::io::Error::from_raw_os_error,
        );
        Self::File { path: path.to_owned(), reason, source: Some(Box::new(source)) }
    }

    /// Whether a description of the data is wrong and not the data: the caller should exit with 2.
    pub fn is_setting(&self) -> bool {
        matches!(self, Self::Setting { .. } | Self::Schema(_))
    }
}

/// A path for a message, on one line.
pub(crate) fn shown(path: &Path) -> String {
    one_line(&path.display().to_string())
}

/// A value for a message: in backticks, on one line, at most 40 characters.
pub fn quoted(value: &str) -> String {
    const LONGEST: usize = 40;
    let mut text: String = value.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if value.chars().nth(LONGEST).is_some() {
        text.push_str("...");
    }
    format!("`{text}`")
}

/// The nearest of some names, as the end of a message.
pub fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str> + Clone) -> String {
    let near = names.clone().map(|other| (strsim::damerau_levenshtein(name, other), other)).min();
    match near {
        Some((distance, other)) if distance <= 1 + name.chars().count() / 3 => {
            format!(", did you mean `{other}`?")
        }
        _ => format!(", there are {}", listed(names)),
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const MOST: usize = 8;
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    match names.len() {
        0 => "no columns".to_owned(),
        1..=MOST => names.join(", "),
        count => format!("{} and {} more", names[..MOST].join(", "), count - MOST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_on_one_short_line() {
        assert_eq!(quoted("a\nb"), "`a\\nb`");
        assert_eq!(quoted(&"x".repeat(41)), format!("`{}...`", "x".repeat(40)));
        assert_eq!(quoted(&"x".repeat(40)), format!("`{}`", "x".repeat(40)));
        let name = "a\nb".to_owned();
        let odd = DataError::UnknownColumn { path: PathBuf::from("c\nd"), column: name.clone(), hint: name };
        assert_eq!(odd.to_string(), "c\\nd: there is no column `a\\nb`a\\nb");
        let error = DataError::file(Path::new("a.parquet"), "two\n  lines");
        assert_eq!(error.to_string(), "a.parquet: two lines");
    }

    #[test]
    fn errors_keep_their_source() {
        let path = Path::new("a.csv");
        let missing = std::fs::File::open("no/such/file").unwrap_err();
        for error in [DataError::io(path, &missing), DataError::caused(path, missing)] {
            let source = error.source().unwrap().downcast_ref::<std::io::Error>().unwrap();
            assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
            assert!(error.to_string().starts_with("a.csv: No such file or directory"), "{error}");
        }
        assert!(DataError::file(path, "no rows").source().is_none());
    }

    #[test]
    fn near_names_are_suggested_and_far_ones_listed() {
        let names = ["click", "conversion"];
        assert_eq!(nearest("clik", names.into_iter()), ", did you mean `click`?");
        assert_eq!(nearest("price", names.into_iter()), ", there are `click`, `conversion`");
        let many: Vec<String> = (0..10).map(|number| format!("column_{number}")).collect();
        assert!(nearest("x", many.iter().map(String::as_str)).ends_with("`column_7` and 2 more"));
        assert_eq!(nearest("x", [].into_iter()), ", there are no columns");
    }
}
