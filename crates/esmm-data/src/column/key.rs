//! Keys: what identifies a value of a sparse feature, the same in CSV and in Parquet.
//!
//! One value has one key, whatever wrote it; `docs/src/values.md` has the table. Whole numbers are numbers, however they
//! are written (`42`, `42.0`, `4.2e+01`), but not with zeros in front (`042` is a text). `True`, `TRUE` and `true` are one
//! key. Dates and times are moments. Everything else is its text, without blanks around it. Keys never pass through a
//! floating-point number.

use std::sync::Arc;

use twox_hash::XxHash64;

use super::moment::Stamp;
use super::spelling::{Spelling, truth};

/// Seed of every hash of a key that is not seeded by a split.
pub const KEY_HASH_SEED: u64 = 0x4553_4D4D; // "ESMM"

/// What a whole number with a fraction or an exponent may be: beyond, neighbours are one floating-point number.
pub(crate) const EXACT_WHOLE: &str = "a whole number below 2^53 where it is written with a fraction or an exponent: write all its digits, or as text";

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
    /// The key that a canonical text stands for; `None` when it is empty.
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
    /// The key that a canonical text stands for, the empty text included.
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

/// What a text is as a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Spelled<'a> {
    /// Missing.
    Missing,
    /// A part of the text, which is canonical.
    Same(&'a str),
    /// Another canonical text.
    Other(String),
    /// A number that may be a neighbour's as well.
    Rounded,
}

/// The canonical text of a key.
#[inline]
pub(crate) fn spelled<'a>(text: &'a str, spelling: &Spelling) -> Spelled<'a> {
    if canonical_int(text).is_some() {
        return Spelled::Same(text);
    }
    let Some(text) = spelling.present(text) else { return Spelled::Missing };
    match text.as_bytes()[0] {
        b'0'..=b'9' | b'+' | b'-' => match number(text, spelling.decimal) {
            Some(Number::Whole(number)) => Spelled::Other(number),
            Some(Number::Rounded) => Spelled::Rounded,
            None => moment(text).map_or(Spelled::Same(text), Spelled::Other),
        },
        b't' | b'T' | b'f' | b'F' => match truth(text) {
            Some(flag) => Spelled::Other(flag.to_string()),
            None => Spelled::Same(text),
        },
        _ => Spelled::Same(text),
    }
}

enum Number {
    /// Its digits.
    Whole(String),
    /// So large that the float which wrote it may have been rounded.
    Rounded,
}

/// A whole number that is written in another way: with a sign, a fraction of zeros, an exponent.
fn number(text: &str, decimal: char) -> Option<Number> {
    let (negative, unsigned) = match text.as_bytes()[0] {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(place) => (&unsigned[..place], Some(&unsigned[place + 1..])),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once(decimal) {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let is_number = !whole.is_empty() && digits(whole) && fraction.is_none_or(digits);
    if !is_number || whole.len() > 1 && whole.starts_with('0') {
        return None;
    }
    let shift = match exponent {
        None => 0,
        Some(exponent) => {
            let bare = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            // `12e4` may be a code; programs that write numbers put a sign or a fraction there.
            let is_exponent = !bare.is_empty() && digits(bare) && bare.len() <= 3;
            if !is_exponent || fraction.is_none() && bare.len() == exponent.len() {
                return None;
            }
            let size: i32 = bare.parse().ok()?;
            if exponent.starts_with('-') { -size } else { size }
        }
    };
    let all = format!("{whole}{}", fraction.unwrap_or_default());
    let point = whole.len() as i32 + shift;
    let significant = all.trim_end_matches('0').len() as i32;
    if significant > point.max(0) {
        return None; // It has a fraction that is not zero.
    }
    let point = point.max(0) as usize;
    let kept: String = all.chars().chain(std::iter::repeat('0')).take(point).collect();
    let kept = kept.trim_start_matches('0');
    let rounded = || kept.len() > 16 || kept.parse::<u64>().is_ok_and(|number| number >= 1 << 53);
    Some(match kept {
        "" => Number::Whole("0".to_owned()),
        _ if (fraction.is_some() || exponent.is_some()) && rounded() => Number::Rounded,
        kept if negative => Number::Whole(format!("-{kept}")),
        kept => Number::Whole(kept.to_owned()),
    })
}

/// A date, a date with a time, or a time of the day, canonical.
fn moment(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    match bytes {
        [_, _, _, _, b'-', ..] => Stamp::text(Stamp::parse(text, None)?.nanos),
        [_, _, b':', _, _, b':', _, _, b'.', ..] => time_of_day(text),
        _ => None,
    }
}

/// `01:02:03.250000` as `01:02:03.25`; `None` when it is no time with a fraction.
pub(crate) fn time_of_day(text: &str) -> Option<String> {
    let (time, fraction) = text.split_once('.')?;
    let digits = |byte: u8| byte.is_ascii_digit();
    let is_time = time.len() == 8
        && time
            .bytes()
            .enumerate()
            .all(|(place, byte)| if place % 3 == 2 { byte == b':' } else { digits(byte) });
    if !is_time || fraction.is_empty() || !fraction.bytes().all(digits) {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    Some(if fraction.is_empty() { time.to_owned() } else { format!("{time}.{fraction}") })
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
    let mut rest = number.unsigned_abs();
    let mut start = buffer.len();
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
    fn one_value_has_one_spelling() {
        let usual = Spelling::default();
        let text = |text: &str| match spelled(text, &usual) {
            Spelled::Missing => "missing".to_owned(),
            Spelled::Same(text) => text.to_owned(),
            Spelled::Other(text) => text,
            Spelled::Rounded => "rounded".to_owned(),
        };
        for (canonical, texts) in [
            (
                "42",
                &["42", " 42 ", "42.0", "42.000", "42.", "+42", "4.2e1", "4.2E+01", "420e-1", "4.200000e+01"]
                    [..],
            ),
            ("0", &["0", "-0", "0.0", "-0.0", "0.000000e+00"]),
            ("-7", &["-7", "-7.0", "-7.0e+00"]),
            ("9007199254740991", &["9007199254740991.0", "9.007199254740991e+15"]),
            ("18446744073709551615", &["18446744073709551615", "+18446744073709551615"]),
            ("rounded", &["9007199254740992.0", "1.4334955861976133e+17", "1e+16"]),
            ("true", &["true", "True", "TRUE"]),
            ("false", &["false", "False", "FALSE"]),
            ("missing", &["", " ", "NULL", "nan", "NaN", "None", "NA", "\\N", "<NA>", "NaT"]),
            ("2024-01-31", &["2024-01-31", "2024-01-31 00:00:00", "2024-01-31T00:00:00.000Z"]),
            (
                "2024-01-31T11:30:00",
                &["2024-01-31 11:30", "2024-01-31 12:30:00+01:00", "2024-01-31T11:30:00.000000"],
            ),
            ("01:02:03.5", &["01:02:03.500", "01:02:03.5"]),
        ] {
            for spelling in texts {
                assert_eq!(text(spelling), canonical, "{spelling}");
            }
        }
        for same in [
            "042",
            "+042",
            "12e4",
            "2.5",
            "2.50",
            "1e400",
            "1.2.3",
            "2024-13-45",
            "T",
            "f",
            "a",
            "x 1",
            ".5",
            "1_000",
            "0x1f",
        ] {
            assert_eq!(text(same), same);
        }
    }

    #[test]
    fn a_decimal_comma_writes_whole_numbers_too() {
        let comma = Spelling { decimal: ',', ..Spelling::default() };
        assert_eq!(spelled("42,0", &comma), Spelled::Other("42".to_owned()));
        assert_eq!(spelled("42.0", &comma), Spelled::Same("42.0"));
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
