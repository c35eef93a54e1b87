//! Keys seen in training, and the rows that they got.

use std::collections::HashMap;
use std::sync::Arc;

use super::hasher::KeyHash;
use super::unknown_row::UnknownRow;
use crate::column::key::{Key, OwnedKey};

/// Counts of keys; whole numbers and texts apart, so that neither is formatted or copied to look one up.
#[derive(Debug, Default)]
pub(crate) struct KeyCounts {
    ints: HashMap<i64, u64, KeyHash>,
    texts: HashMap<Arc<str>, u64, KeyHash>,
}

impl KeyCounts {
    /// One more occurrence.
    #[inline]
    pub(crate) fn add(&mut self, key: Key<'_>) {
        match key {
            Key::Int(number) => *self.ints.entry(number).or_default() += 1,
            Key::Text(text) => match self.texts.get_mut(text) {
                Some(count) => *count += 1,
                None => {
                    self.texts.insert(text.into(), 1);
                }
            },
        }
    }

    /// Keys that were counted at least `min_count` times, by descending count, then by key.
    pub(crate) fn finish(self, min_count: u64, unknown_row: UnknownRow) -> Vocabulary {
        let ints = self.ints.into_iter().map(|(number, count)| (OwnedKey::Int(number), count));
        let texts = self.texts.into_iter().map(|(text, count)| (OwnedKey::Text(text), count));
        let mut entries: Vec<_> = ints.chain(texts).filter(|(_, count)| *count >= min_count).collect();
        entries.sort_unstable_by(|(key, count), (other, than)| than.cmp(count).then_with(|| key.cmp(other)));
        let mut vocabulary = Vocabulary::empty(unknown_row);
        for (key, count) in entries {
            vocabulary.push(key, count);
        }
        vocabulary
    }
}

/// Keys with their rows, in order, after the rows that stand for no key.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Vocabulary {
    entries: Vec<(OwnedKey, u64)>,
    ints: HashMap<i64, u32, KeyHash>,
    texts: HashMap<Arc<str>, u32, KeyHash>,
    unknown_row: UnknownRow,
}

impl Vocabulary {
    /// Without keys.
    pub(crate) fn empty(unknown_row: UnknownRow) -> Self {
        Self { unknown_row, ..Self::default() }
    }

    /// Where all other keys have their row.
    pub(crate) fn unknown_row(&self) -> UnknownRow {
        self.unknown_row
    }

    /// The row that the next key gets.
    pub(crate) fn next_row(&self) -> u32 {
        self.unknown_row.first_key() + self.entries.len() as u32
    }

    /// Makes the next row that of a key; `false` when it has one already.
    pub(crate) fn push(&mut self, key: OwnedKey, count: u64) -> bool {
        let row = self.next_row();
        let before = match &key {
            OwnedKey::Int(number) => self.ints.insert(*number, row),
            OwnedKey::Text(text) => self.texts.insert(text.clone(), row),
        };
        self.entries.push((key, count));
        before.is_none()
    }

    /// The row of a key, that of unknown ones when it has none.
    #[inline]
    pub(crate) fn row(&self, key: Key<'_>) -> u32 {
        let row = match key {
            Key::Int(number) => self.ints.get(&number),
            Key::Text(text) => self.texts.get(text),
        };
        row.copied().unwrap_or(self.unknown_row.row())
    }

    /// Keys and counts in the order of their rows.
    pub(crate) fn entries(&self) -> &[(OwnedKey, u64)] {
        &self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_by_count_and_then_by_key() {
        let mut counts = KeyCounts::default();
        for text in ["b", "a", "10", "9", "b", "rare", "9", "a", "10", "7", "7", "7"] {
            counts.add(Key::parse(text).unwrap());
        }
        let vocabulary = counts.finish(2, UnknownRow::OfMissing);
        let keys: Vec<String> = vocabulary.entries().iter().map(|(key, _)| key.text()).collect();
        assert_eq!(keys, ["7", "9", "10", "a", "b"]);
        assert_eq!(vocabulary.row(Key::Int(7)), 1);
        assert_eq!(vocabulary.row(Key::Text("b")), 5);
        assert_eq!(vocabulary.row(Key::Text("rare")), 0);
        assert_eq!(vocabulary.row(Key::Text("7")), 0, "a text is no number");
    }

    #[test]
    fn unknown_keys_have_a_row_of_their_own() {
        let mut counts = KeyCounts::default();
        ["a", "a", "b"].into_iter().for_each(|text| counts.add(Key::Text(text)));
        let vocabulary = counts.finish(1, UnknownRow::Own);
        let rows = ["a", "b", "c"].map(|text| vocabulary.row(Key::Text(text)));
        assert_eq!(rows, [2, 3, 1]);
    }
}
