//! Keys seen in training, and the rows that they got.

use std::collections::HashMap;
use std::sync::Arc;

use super::hasher::KeyHash;
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
    pub(crate) fn finish(self, min_count: u64) -> Vocabulary {
        let ints = self.ints.into_iter().map(|(number, count)| (OwnedKey::Int(number), count));
        let texts = self.texts.into_iter().map(|(text, count)| (OwnedKey::Text(text), count));
        let mut entries: Vec<_> = ints.chain(texts).filter(|(_, count)| *count >= min_count).collect();
        entries.sort_unstable_by(|(key, count), (other, than)| than.cmp(count).then_with(|| key.cmp(other)));
        let mut vocabulary = Vocabulary::default();
        for (key, count) in entries {
            vocabulary.push(key, count);
        }
        vocabulary
    }
}

/// Keys with rows from 1 on, in order. Row 0 is for all others.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Vocabulary {
    entries: Vec<(OwnedKey, u64)>,
    ints: HashMap<i64, u32, KeyHash>,
    texts: HashMap<Arc<str>, u32, KeyHash>,
}

impl Vocabulary {
    /// Gives the next row to a key; `false` when it has one already.
    pub(crate) fn push(&mut self, key: OwnedKey, count: u64) -> bool {
        let row = self.entries.len() as u32 + 1;
        let before = match &key {
            OwnedKey::Int(number) => self.ints.insert(*number, row),
            OwnedKey::Text(text) => self.texts.insert(text.clone(), row),
        };
        self.entries.push((key, count));
        before.is_none()
    }

    /// The row of a key, 0 when it has none.
    #[inline]
    pub(crate) fn row(&self, key: Key<'_>) -> u32 {
        let row = match key {
            Key::Int(number) => self.ints.get(&number),
            Key::Text(text) => self.texts.get(text),
        };
        row.copied().unwrap_or(0)
    }

    /// Keys and counts, row 1 first.
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
        let vocabulary = counts.finish(2);
        let keys: Vec<String> = vocabulary.entries().iter().map(|(key, _)| key.text()).collect();
        assert_eq!(keys, ["7", "9", "10", "a", "b"]);
        assert_eq!(vocabulary.row(Key::Int(7)), 1);
        assert_eq!(vocabulary.row(Key::Text("b")), 5);
        assert_eq!(vocabulary.row(Key::Text("rare")), 0);
        assert_eq!(vocabulary.row(Key::Text("7")), 0, "a text is no number");
    }
}
