//! Values written into the text of a TOML file: whatever else stands there, comments included, stays.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::RunError;

/// A step on the way to a table.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step<'a> {
    /// Into the table of a key.
    Key(&'a str),
    /// Into an item of an array of tables.
    Item(usize),
}

/// The text of a TOML file that is being edited.
#[derive(Debug, Clone)]
pub(super) struct TomlText {
    text: String,
    /// For messages.
    name: String,
}

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// `{ key = value }`
    Inline,
    /// `[table]` or `[[table]]`, and lines after it.
    Header,
    /// By the keys of others: `table.key = value`, or `[table.inner]`.
    Implied,
}

/// Where a table is.
struct Found {
    style: Style,
    /// The braces, or the header.
    span: Range<usize>,
    /// Where the value of the last entry ends.
    end: usize,
    /// Key and value of each entry, in the order of the text.
    entries: Vec<(String, Range<usize>, Range<usize>)>,
}

impl TomlText {
    pub(super) fn new(text: &str, name: &str) -> Self {
        Self { text: text.to_owned(), name: name.to_owned() }
    }

    pub(super) fn finish(self) -> String {
        self.text
    }

    /// Writes a value, given as TOML, over the one that a key has, or adds the key. Tables that are missing are made.
    pub(super) fn set(&mut self, place: &[Step<'_>], key: &str, value: &str) -> Result<(), RunError> {
        let Some(found) = self.find(place)? else { return self.set_in_new_table(place, key, value) };
        if let Some((_, _, old)) = found.entries.iter().find(|(other, ..)| other == key) {
            self.text.replace_range(old.clone(), value);
            return Ok(());
        }
        match found.style {
            Style::Inline if found.entries.is_empty() => {
                self.text.insert_str(found.span.start + 1, &format!(" {key} = {value} "));
            }
            Style::Inline => self.text.insert_str(found.end, &format!(", {key} = {value}")),
            Style::Header => {
                let rest = &self.text[found.span.end..];
                let line_end = found.span.end + rest.find('\n').unwrap_or(rest.len());
                self.text.insert_str(line_end, &format!("\n{key} = {value}"));
            }
            Style::Implied => {
                let line = |at: usize| self.text[..at].rfind('\n').map_or(0, |line| line + 1);
                let prefixes = found.entries.iter().map(|(_, own, _)| (line(own.start), own.start));
                let mut prefixes = prefixes.map(|(line, own)| (line, &self.text[line..own]));
                // Beside a key that implies the table as well; elsewhere at the top.
                let beside = prefixes.find(|(_, prefix)| !prefix.trim_start().starts_with('['));
                let (at, line) = match beside {
                    Some((at, prefix)) => (at, format!("{prefix}{key} = {value}\n")),
                    None => (0, format!("{}.{key} = {value}\n", dotted(place))),
                };
                self.text.insert_str(at, &line);
            }
        }
        Ok(())
    }

    /// Removes a key, if it is there.
    pub(super) fn remove(&mut self, place: &[Step<'_>], key: &str) -> Result<(), RunError> {
        let Some(found) = self.find(place)? else { return Ok(()) };
        let Some(at) = found.entries.iter().position(|(other, ..)| other == key) else { return Ok(()) };
        let (_, own_key, own_value) = &found.entries[at];
        let range = match (found.style, at.checked_sub(1), found.entries.get(at + 1)) {
            (Style::Inline, Some(before), _) => found.entries[before].2.end..own_value.end,
            (Style::Inline, None, Some((_, next, _))) => own_key.start..next.start,
            (Style::Inline, None, None) => own_key.start..own_value.end,
            (Style::Header | Style::Implied, ..) => {
                let start = self.text[..own_key.start].rfind('\n').map_or(0, |line| line + 1);
                let rest = &self.text[own_value.end..];
                start..own_value.end + rest.find('\n').map_or(rest.len(), |line| line + 1)
            }
        };
        self.text.replace_range(range, "");
        Ok(())
    }

    fn set_in_new_table(&mut self, place: &[Step<'_>], key: &str, value: &str) -> Result<(), RunError> {
        if let [parent @ .., Step::Key(last)] = place
            && !parent.is_empty()
            && self.find(parent)?.is_some_and(|found| found.style == Style::Inline)
        {
            return self.set(parent, last, &format!("{{ {key} = {value} }}"));
        }
        if !self.text.ends_with('\n') && !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(&format!("\n[{}]\n{key} = {value}\n", dotted(place)));
        Ok(())
    }

    fn find(&self, place: &[Step<'_>]) -> Result<Option<Found>, RunError> {
        let wrong = |error: toml::de::Error| {
            RunError::Config(format!("{}: {}", self.name, error.message().replace('\n', " ")))
        };
        let document = DeTable::parse(&self.text).map_err(wrong)?;
        let [Step::Key(first), rest @ ..] = place else { return Ok(None) };
        let mut at = entry(document.get_ref(), first);
        for step in rest {
            at = match (at.map(Spanned::get_ref), step) {
                (Some(DeValue::Table(table)), Step::Key(key)) => entry(table, key),
                (Some(DeValue::Array(items)), Step::Item(item)) => items.get(*item),
                _ => None,
            };
        }
        let Some(value) = at else { return Ok(None) };
        let DeValue::Table(table) = value.get_ref() else {
            return Err(RunError::Config(format!("{}: `{}` is no section", self.name, dotted(place))));
        };
        let style = match self.text[value.span().start..].chars().next() {
            Some('{') => Style::Inline,
            Some('[') => Style::Header,
            _ => Style::Implied,
        };
        let entries = table.iter().map(|(key, value)| (key.get_ref().to_string(), key.span(), extent(value)));
        let mut entries: Vec<_> = entries.collect();
        entries.sort_by_key(|(_, key, _)| key.start);
        let end = entries.iter().map(|(_, _, value)| value.end).max().unwrap_or(value.span().end);
        Ok(Some(Found { style, span: value.span(), end, entries }))
    }
}

fn entry<'t>(table: &'t DeTable<'_>, key: &str) -> Option<&'t Spanned<DeValue<'t>>> {
    table.iter().find(|(other, _)| other.get_ref().as_ref() == key).map(|(_, value)| value)
}

/// Where a value stands; of a table that others imply as far as its entries go.
fn extent(value: &Spanned<DeValue<'_>>) -> Range<usize> {
    let span = value.span();
    match value.get_ref() {
        DeValue::Table(table) => {
            let end = table.iter().map(|(_, value)| extent(value).end).max();
            span.start..end.unwrap_or(span.end).max(span.end)
        }
        _ => span,
    }
}

/// `train.towers`; the items of arrays have no name.
fn dotted(place: &[Step<'_>]) -> String {
    let keys = place.iter().filter_map(|step| match step {
        Step::Key(key) => Some(*key),
        Step::Item(_) => None,
    });
    keys.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOWERS: [Step<'_>; 2] = [Step::Key("train"), Step::Key("towers")];
    const TRAIN: [Step<'_>; 1] = [Step::Key("train")];

    fn edited(text: &str, edit: impl Fn(&mut TomlText)) -> String {
        let mut toml = TomlText::new(text, "run.toml");
        edit(&mut toml);
        toml.finish()
    }

    #[test]
    fn values_are_set_however_a_table_is_written() {
        for (text, expected) in [
            ("[train]\nepochs = 3 # many\n", "[train]\nepochs = 2 # many\n"),
            ("[train] # how\nseed = 1\n", "[train] # how\nepochs = 2\nseed = 1\n"),
            ("[train]", "[train]\nepochs = 2"),
            ("train = { seed = 1 } # so\n", "train = { seed = 1, epochs = 2 } # so\n"),
            ("train = {}\n", "train = { epochs = 2 }\n"),
            ("train.seed = 1\n", "train.epochs = 2\ntrain.seed = 1\n"),
            ("train.epochs = 1_0\n", "train.epochs = 2\n"),
            ("[train.towers]\nbeta_1 = 0.5\n", "train.epochs = 2\n[train.towers]\nbeta_1 = 0.5\n"),
            ("[data]\nx = 1", "[data]\nx = 1\n\n[train]\nepochs = 2\n"),
        ] {
            let found = edited(text, |toml| toml.set(&TRAIN, "epochs", "2").unwrap());
            assert_eq!(found, expected);
            assert_eq!(found.parse::<toml::Table>().unwrap()["train"]["epochs"].as_integer(), Some(2));
        }
        for text in [
            "[train]\nepochs = 3\n",
            "[train]\ntowers = { beta_1 = 0.5 } # two\n",
            "[train]\ntowers.beta_1 = 0.5\n",
            "train = { epochs = 3 }\n",
            "train = { towers = { beta_1 = 0.5 }, epochs = 3 }\n",
            "",
        ] {
            let found = edited(text, |toml| toml.set(&TOWERS, "learning_rate", "0.5").unwrap());
            let table: toml::Table = found.parse().unwrap_or_else(|error| panic!("{found}: {error}"));
            assert_eq!(table["train"]["towers"]["learning_rate"].as_float(), Some(0.5), "{found}");
            let mut before: toml::Table = text.parse().unwrap();
            let train = before.entry("train").or_insert_with(|| toml::Table::new().into());
            let towers = train.as_table_mut().unwrap().entry("towers");
            let towers = towers.or_insert_with(|| toml::Table::new().into());
            towers.as_table_mut().unwrap().insert("learning_rate".to_owned(), 0.5.into());
            assert_eq!(table, before, "nothing else is changed in {found}");
        }
    }

    #[test]
    fn keys_are_removed_with_their_separators() {
        let item = [Step::Key("features"), Step::Item(1)];
        for (text, expected) in [
            ("features = [{ a = 1 }, { a = 1, b = 2 }]", "features = [{ a = 1 }, { b = 2 }]"),
            ("features = [{ a = 1 }, { b = 2, a = 1 }] # x", "features = [{ a = 1 }, { b = 2 }] # x"),
            ("features = [{ a = 1 }, { a = 1 }]", "features = [{ a = 1 }, {  }]"),
            ("features = [{ a = 1 }, { b = 1 }]", "features = [{ a = 1 }, { b = 1 }]"),
            (
                "[[features]]\na = 1\n[[features]]\na = 1 # x\nb = 2\n",
                "[[features]]\na = 1\n[[features]]\nb = 2\n",
            ),
        ] {
            assert_eq!(edited(text, |toml| toml.remove(&item, "a").unwrap()), expected);
        }
        let text = "[[features]]\na = 1\n[[features]] # second\na = 1\n";
        let found = edited(text, |toml| toml.set(&item, "b", "\"x\"").unwrap());
        assert_eq!(found, "[[features]]\na = 1\n[[features]] # second\nb = \"x\"\na = 1\n");
    }
}
