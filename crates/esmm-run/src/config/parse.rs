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
        let table: toml::Table = toml::from_str(text).map_err(|error| explain(&error, name, Some(text)))?;
        let all: Vec<&String> = overrides.iter().collect();
        overridden(&table, &all)?.try_into().map_err(|error| refused_override(&error, &table, &all))
    }
}

/// A table with overrides.
fn overridden(table: &toml::Table, overrides: &[&String]) -> Result<toml::Table, RunError> {
    let mut table = table.clone();
    overrides.iter().try_for_each(|text| set(&mut table, text))?;
    Ok(table)
}

/// An error that comes of overrides, with the one without which the others are taken.
fn refused_override(error: &toml::de::Error, table: &toml::Table, overrides: &[&String]) -> RunError {
    let is_taken_without = |place: usize| {
        let others = [&overrides[..place], &overrides[place + 1..]].concat();
        overridden(table, &others).is_ok_and(|table| table.try_into::<RunFile>().is_ok())
    };
    let guilty = (0..overrides.len()).find(|place| is_taken_without(*place));
    let key = key_of(error).unwrap_or_default();
    let Some(text) = guilty.map(|place| overrides[place]) else {
        return RunError::Config(format!("--set: {}", in_words(error.message(), &key, true)));
    };
    let names_it = text.split('=').next().is_some_and(|path| path.trim() == key);
    RunError::Config(format!("--set {text}: {}", in_words(error.message(), &key, !names_it)))
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

/// What the parser of a text says of a value in the place of a name.
const NO_NAME: &str = "wanted string or table";

/// One line out of what the TOML parser says.
fn explain(error: &toml::de::Error, name: &str, text: Option<&str>) -> RunError {
    let place = match (error.span(), text) {
        (Some(span), Some(text)) => {
            let before = &text[..span.start.min(text.len())];
            format!("{name}:{}", before.matches('\n').count() + 1)
        }
        _ => name.to_owned(),
    };
    // The parser of a text knows the line of what it does not take, that of a table knows the key.
    let of_table = text.and_then(|text| text.parse::<toml::Table>().ok()?.try_into::<RunFile>().err());
    let is_same = |other: &toml::de::Error| other.message() == error.message() || error.message() == NO_NAME;
    let key = of_table.filter(is_same).and_then(|other| key_of(&other));
    RunError::Config(format!("{place}: {}", in_words(error.message(), &key.unwrap_or_default(), true)))
}

/// The path of the key whose value a table's parser does not take.
fn key_of(error: &toml::de::Error) -> Option<String> {
    let text = error.to_string();
    let (_, key) = text.rsplit_once("in `")?;
    Some(key.trim_end().trim_end_matches('`').to_owned())
}

/// What a parser says of the value of a key, on one line, in the words of the reference; the key comes first where it is to be
/// named.
fn in_words(message: &str, key: &str, is_named: bool) -> String {
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    if message.starts_with("unknown field") {
        return format!("{message}{}", suggestion(&message));
    }
    let named = if is_named && !key.is_empty() { format!("{key}: ") } else { String::new() };
    if let Some(allowed) = RunFile::allowed(key).filter(|_| message == NO_NAME) {
        return format!("{named}found a value of another kind, allowed is {allowed}");
    }
    let found = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    match found.and_then(|found| found.rsplit_once(", expected ")).zip(RunFile::allowed(key)) {
        Some(((found, _), allowed)) => format!("{named}found {}, allowed is {allowed}", value(found)),
        None => format!("{named}{message}{}", suggestion(&message)),
    }
}

/// A value as a person wrote it, of the parser's `integer \`5\`` or `string "five"`.
fn value(found: &str) -> String {
    match found {
        "map" => "a section".to_owned(),
        "sequence" => "a list".to_owned(),
        "unit variant" => "a value of another kind".to_owned(),
        _ => {
            let kinds = ["integer ", "floating point ", "boolean ", "string ", "datetime "];
            kinds.iter().find_map(|kind| found.strip_prefix(kind)).unwrap_or(found).to_owned()
        }
    }
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
        assert_eq!(
            message,
            "run.toml:5: train.epochs: found \"many\", allowed is a whole number, at least 1"
        );
        assert!(error(MINIMAL, &["train.epoch=5"]).ends_with("(did you mean `epochs`?)"));
        assert_eq!(error(MINIMAL, &["train"]), "--set train: expected key.path=value");
    }

    #[test]
    fn an_override_that_is_not_taken_is_named_with_what_is() {
        for (overrides, expected) in [
            (
                &["train.batch_size=-5"][..],
                "--set train.batch_size=-5: found `-5`, allowed is a whole number, 1 to 4294967295",
            ),
            (&["model.batch_norm=1"], "--set model.batch_norm=1: found `1`, allowed is `true` or `false`"),
            (
                &["train.epochs=3", "labels.negative_rate=true", "train.seed=1"],
                "--set labels.negative_rate=true: it must be a number above 0 and at most 1, or the name of a column",
            ),
            (&["data.split=1"], "--set data.split=1: found `1`, allowed is a section"),
            (
                &["train.schedule.decay=1"],
                "--set train.schedule.decay=1: found a value of another kind, allowed is one of `\"constant\"`, \
                 `\"linear\"`, `\"cosine\"`, `\"exponential\"`",
            ),
            (
                &["train={ epochs = 1.5 }"],
                "--set train={ epochs = 1.5 }: train.epochs: found `1.5`, allowed is a whole number, at least 1",
            ),
        ] {
            assert_eq!(error(MINIMAL, overrides), expected);
        }
    }

    #[test]
    fn a_value_in_the_place_of_a_name_is_told_with_the_names() {
        let message = error(&MINIMAL.replace("side = \"user\"", "side = 3"), &[]);
        assert_eq!(
            message,
            "run.toml:1: features.side: found a value of another kind, allowed is one of `\"user\"`, `\"item\"`, \
             `\"context\"`"
        );
    }

    /// Whatever is written in the place of whatever: no type of the program's own is in the answer.
    #[test]
    fn no_value_is_answered_in_the_words_of_the_program() {
        let schema = RunFile::json_schema();
        let sections = schema["properties"].as_object().unwrap().keys();
        let mut refused = 0;
        for section in sections.filter(|section| *section != "features") {
            let reference = schema["properties"][section]["$ref"].as_str().unwrap();
            let name = reference.rsplit('/').next().unwrap();
            for key in schema["$defs"][name]["properties"].as_object().unwrap().keys() {
                for value in ["true", "-1", "1.5", "\"word\"", "[true]", "{ x = 1 }", "1979-05-27"] {
                    let text = format!("{section}.{key}={value}");
                    let Err(said) = RunFile::parse(MINIMAL, "run.toml", std::slice::from_ref(&text)) else {
                        continue;
                    };
                    refused += 1;
                    let said = said.to_string();
                    let rest = said.strip_prefix(&format!("--set {text}: "));
                    let rest = rest.unwrap_or_else(|| panic!("{text}: {said}"));
                    for word in [
                        "untagged",
                        "variant of",
                        "unit variant",
                        "struct",
                        "expected u",
                        "expected f",
                        "expected i",
                    ] {
                        assert!(!rest.contains(word), "{said}");
                    }
                }
            }
        }
        assert!(refused > 150, "only {refused} values were refused");
    }
}
