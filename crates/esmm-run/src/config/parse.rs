//! From the text of a run file to a [`RunFile`], or to one line that says what is wrong with it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::run_file::RunFile;
use crate::error::RunError;

/// Bytes of the longest run file.
const LONGEST: u64 = 64 << 20;

impl RunFile {
    /// Reads a run file and applies overrides of the form `train.epochs=5`.
    ///
    /// # Errors
    /// One line: file, line, what was found, what is allowed, the nearest key.
    pub fn read(path: &Path, overrides: &[String]) -> Result<Self, RunError> {
        Self::parse(&Self::read_text(path)?, &path.display().to_string(), overrides)
    }

    /// The text of a run file. It is at most 64 MiB long: what is longer, or never ends as a device, is none.
    ///
    /// # Errors
    /// A file that cannot be read, or is longer.
    pub fn read_text(path: &Path) -> Result<String, RunError> {
        let refused = |reason: String| RunError::Config(format!("{}: {reason}", path.display()));
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_string(&mut text));
        match read {
            Err(error) => Err(refused(format!("cannot be read: {error}"))),
            Ok(length) if length as u64 > LONGEST => {
                Err(refused(format!("is longer than {} MiB: it is no run file", LONGEST >> 20)))
            }
            Ok(_) => Ok(text),
        }
    }

    /// As [`read`](Self::read), from a text.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(text: &str, name: &str, overrides: &[String]) -> Result<Self, RunError> {
        let file = toml::from_str(text).map_err(|error| explain(&error, name, Some(text)))?;
        if overrides.is_empty() {
            return Ok(file);
        }
        let mut table: toml::Table =
            toml::from_str(text).map_err(|error| explain(&error, name, Some(text)))?;
        for text in overrides {
            set(&mut table, text)?;
        }
        table.try_into().map_err(|error: toml::de::Error| explain(&error, "--set", None))
    }
}

/// `a.b.c=value` into a table; what is no TOML value is taken as text.
fn set(table: &mut toml::Table, text: &str) -> Result<(), RunError> {
    let wrong = |reason: &str| RunError::Config(format!("--set {text}: {reason}"));
    let (path, value) = text.split_once('=').ok_or_else(|| wrong("expected key.path=value"))?;
    let value = format!("value = {value}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut parsed| parsed.remove("value"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let mut keys: Vec<&str> = path.split('.').map(str::trim).collect();
    let last = keys.pop().filter(|key| !key.is_empty()).ok_or_else(|| wrong("expected key.path=value"))?;
    let mut place = table;
    for key in keys {
        let entry = place.entry(key).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        place = entry.as_table_mut().ok_or_else(|| wrong(&format!("`{key}` is no section")))?;
    }
    place.insert(last.to_owned(), value);
    Ok(())
}

/// One line out of what the TOML parser says.
fn explain(error: &toml::de::Error, name: &str, text: Option<&str>) -> RunError {
    let place = match (error.span(), text) {
        (Some(span), Some(text)) => {
            let before = &text[..span.start.min(text.len())];
            format!("{name}:{}", before.matches('\n').count() + 1)
        }
        _ => name.to_owned(),
    };
    let message = error.message().lines().collect::<Vec<_>>().join(" ");
    RunError::Config(format!("{place}: {message}{}", suggestion(&message)))
}

/// `unknown field `a`, expected one of `b`, `c`` with the nearest of them.
fn suggestion(message: &str) -> String {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let [unknown, known @ ..] = quoted.as_slice() else {
        return String::new();
    };
    if !message.starts_with("unknown") {
        return String::new();
    }
    did_you_mean(unknown, known.iter().copied())
}

/// ` (did you mean `b`?)` with the nearest of some names.
pub(super) fn did_you_mean<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> String {
    let likeness = |name: &str| strsim::jaro_winkler(unknown, name);
    let nearest = known.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    nearest.map_or_else(String::new, |nearest| format!(" (did you mean `{nearest}`?)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "features = [{ name = \"user\", side = \"user\" }]\n[data]\ntrain = \"a.csv\"\n";

    fn error(text: &str, overrides: &[&str]) -> String {
        let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
        let error = RunFile::parse(text, "run.toml", &overrides).unwrap_err();
        assert!(error.is_usage());
        error.to_string()
    }

    #[test]
    fn a_minimal_file_has_defaults() {
        let file = RunFile::parse(MINIMAL, "run.toml", &[]).unwrap();
        assert_eq!(file.labels.stages, ["click", "conversion"]);
        assert_eq!((file.model.embedding_dim, file.train.epochs), (16, 3));
    }

    #[test]
    fn overrides_reach_any_key() {
        let overrides =
            ["train.epochs=5", "train.tables.optimizer=adagrad", "model.hidden=[8]"].map(String::from);
        let file = RunFile::parse(MINIMAL, "run.toml", &overrides).unwrap();
        assert_eq!((file.train.epochs, file.model.hidden.as_slice()), (5, [8].as_slice()));
        assert_eq!(file.train.tables.optimizer.0.name(), "adagrad");
    }

    #[test]
    fn errors_are_one_line_with_the_nearest_key() {
        let text = format!("{MINIMAL}[model]\nembeding_dim = 8\n");
        let message = error(&text, &[]);
        assert!(
            message.starts_with("run.toml:5: unknown field `embeding_dim`, expected one of"),
            "{message}"
        );
        assert!(message.ends_with("(did you mean `embedding_dim`?)"), "{message}");
        assert!(!message.contains('\n'));
        let message = error(&format!("{MINIMAL}[train]\nepochs = \"many\"\n"), &[]);
        assert!(message.starts_with("run.toml:5: invalid type: string \"many\", expected u64"), "{message}");
        assert!(error(MINIMAL, &["train.epoch=5"]).ends_with("(did you mean `epochs`?)"));
        assert_eq!(error(MINIMAL, &["train"]), "--set train: expected key.path=value");
    }
}
