//! Keys: what identifies a value of a sparse feature, the same in CSV and in Parquet.
//!
//! A text that is a whole number in its shortest form (`42`, `-7`, not `042`, `+7` or `-0`) is the same key as that
//! number in an integer column. Everything else is a text key. Keys never pass through a floating-point number.

use std::sync::Arc;

use twox_hash::XxHash64;

/// Seed of every hash of a key that is not seeded by a split.
pub const KEY_HASH_SEED: u64 = 0x4553_4D4D; // "ESMM"

/// A key inside a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key<'a> {
    Int(i64),
    Text(&'a str),
}

/// A key of its own. Whole numbers come before texts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum OwnedKey {
    Int(i64),
    Text(Arc<str>),
}

impl<'a> Key<'a> {
    /// The key that a text stands for; `None` when it is empty.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        match canonical_int(text) {
            Some(number) => Some(Self::Int(number)),
            None if text.is_empty() => None,
            None => Some(Self::Text(text)),
        }
    }

    /// xxHash64 of the canonical text: the text itself, or the digits of the number.
    pub(crate) fn hash(self, seed: u64) -> u64 {
        match self {
            Self::Int(number) => {
                let mut digits = [0; 20];
                XxHash64::oneshot(seed, write_int(number, &mut digits))
            }
            Self::Text(text) => XxHash64::oneshot(seed, text.as_bytes()),
        }
    }

    /// The text for a message.
    pub(crate) fn quoted(self) -> String {
        match self {
            Self::Int(number) => format!("`{number}`"),
            Self::Text(text) => crate::error::quoted(text),
        }
    }
}

impl OwnedKey {
    /// The key that a text stands for, the empty text included.
    pub(crate) fn parse(text: &str) -> Self {
        canonical_int(text).map_or_else(|| Self::Text(text.into()), Self::Int)
    }

    /// The canonical text.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Int(number) => number.to_string(),
            Self::Text(text) => text.as_ref().to_owned(),
        }
    }
}

/// The number that a text is the shortest form of.
fn canonical_int(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    match digits {
        [b'0'] => (bytes.len() == 1).then_some(0),
        [b'1'..=b'9', rest @ ..] if rest.len() < 19 && rest.iter().all(u8::is_ascii_digit) => {
            text.parse().ok()
        }
        _ => None,
    }
}

/// Writes a number to the end of a buffer that holds the longest one.
fn write_int(number: i64, buffer: &mut [u8; 20]) -> &[u8] {
    let (mut rest, mut start) = (number.unsigned_abs(), buffer.len());
    loop {
        start -= 1;
        buffer[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        start -= 1;
        buffer[start] = b'-';
    }
    &buffer[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_shortest_form_of_a_number_is_that_number() {
        for (text, number) in [("0", 0), ("42", 42), ("-7", -7), ("9223372036854775807", i64::MAX)] {
            assert_eq!(Key::parse(text), Some(Key::Int(number)));
        }
        assert_eq!(Key::parse("-9223372036854775808"), Some(Key::Int(i64::MIN)));
        for text in ["042", "+7", "-0", "-", "1.0", " 1", "9223372036854775808", "18446744073709551615", "a"]
        {
            assert_eq!(Key::parse(text), Some(Key::Text(text)));
        }
        assert_eq!(Key::parse(""), None);
    }

    #[test]
    fn a_number_hashes_like_its_digits() {
        for number in [0, 7, -7, 1234567890, i64::MAX, i64::MIN] {
            let text = number.to_string();
            assert_eq!(Key::Int(number).hash(3), XxHash64::oneshot(3, text.as_bytes()), "{number}");
        }
        assert_ne!(Key::Int(1).hash(3), Key::Int(1).hash(4));
    }

    /// The vector of the reference implementation: XXH64 of no bytes with seed 0.
    #[test]
    fn the_hash_is_xxhash64() {
        assert_eq!(Key::Text("").hash(0), 0xEF46_DB37_51D8_E999);
    }
}
