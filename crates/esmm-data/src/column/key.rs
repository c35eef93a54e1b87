//! Keys: what identifies a value of a sparse feature, the same in CSV and in Parquet.
//!
//! One value has one key, whatever wrote it; `docs/src/values.md` has the table. Whole numbers are numbers, however they
//! are written (`42`, `42.0`, `4.2e+01`), but not with zeros in front (`042` is a text). `True`, `TRUE` and `true` are one
//! key. Dates and times are moments. Everything else is its text, without blanks around it. Keys never pass through a
//! floating-point number.

use std::sync::Arc;

use twox_hash::XxHash64;

use super::moment::Stamp;
use super::spelling::{CellReader, truth};

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
    /// The whole number whose digits the text is.
    Digits(i64),
    /// A whole number that is written in another way.
    Whole(i64),
    /// A part of the text, which is canonical and no whole number.
    Same(&'a str),
    /// Another canonical text, no whole number.
    Other(String),
    /// A number that may be a neighbour's as well.
    Rounded,
}

impl CellReader<'_> {
    /// The key of a cell. Whole numbers that fit are numbers, whatever they are written as.
    #[inline]
    pub(crate) fn key<'a>(&self, text: &'a str) -> Spelled<'a> {
        if self.is_plain_text(text) {
            return Spelled::Same(text);
        }
        match canonical_int(text) {
            Some(number) => Spelled::Digits(number),
            None => self.other_key(text),
        }
    }

    fn other_key<'a>(&self, text: &'a str) -> Spelled<'a> {
        let Some(text) = self.present(text) else { return Spelled::Missing };
        match text.as_bytes()[0] {
            b'0'..=b'9' | b'+' | b'-' => match self.number(text) {
                Some(Number::Whole(number)) => Spelled::Whole(number),
                Some(Number::Long(digits)) => Spelled::Other(digits),
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

    /// The whole number that a text without blanks is: in its shortest form, with a sign, a fraction of zeros, or an exponent.
    pub(crate) fn number(&self, text: &str) -> Option<Number> {
        let written = Written::parse(text.as_bytes(), self.spelling.decimal as u8)?;
        // A leading zero makes a code.
        if written.whole.len() > 1 && written.whole[0] == b'0' {
            return None;
        }
        match (written.fraction, written.exponent) {
            (None, None) => Some(written.digits(written.whole)),
            _ => written.moved(),
        }
    }
}

/// A whole number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Number {
    /// It.
    Whole(i64),
    /// The digits of one that is longer.
    Long(String),
    /// So large that the float which wrote it may have been rounded.
    Rounded,
}

/// The parts of a decimal number.
struct Written<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: Option<&'a [u8]>,
    exponent: Option<i32>,
}

impl<'a> Written<'a> {
    /// `-12.50e+3`: at least one digit, then perhaps a fraction, then perhaps an exponent.
    fn parse(bytes: &'a [u8], decimal: u8) -> Option<Self> {
        let unsigned = match bytes {
            [b'+' | b'-', rest @ ..] => rest,
            _ => bytes,
        };
        let (whole, mut rest) = split_digits(unsigned);
        if whole.is_empty() {
            return None;
        }
        let mut fraction = None;
        if let Some((_, after)) = rest.split_first().filter(|(first, _)| **first == decimal) {
            let (digits, after) = split_digits(after);
            fraction = Some(digits);
            rest = after;
        }
        let exponent = match rest {
            [] => None,
            [b'e' | b'E', exponent @ ..] => Some(parse_exponent(exponent, fraction.is_some())?),
            _ => return None,
        };
        Some(Self { negative: bytes[0] == b'-', whole, fraction, exponent })
    }

    fn digits(&self, digits: &[u8]) -> Number {
        if digits.len() < 19 {
            let number = digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
            return Number::Whole(if self.negative { -number } else { number });
        }
        let sign = if self.negative { "-" } else { "" };
        let text = format!("{sign}{}", String::from_utf8_lossy(digits));
        text.parse().map_or(Number::Long(text), Number::Whole)
    }

    /// The number with its point moved; `None` when it has a fraction that is not zero.
    fn moved(&self) -> Option<Number> {
        let fraction = self.fraction.unwrap_or_default();
        let all = || self.whole.iter().chain(fraction);
        let last_of = |digits: &[u8]| digits.iter().rposition(|digit| *digit != b'0');
        let in_fraction = last_of(fraction).map(|place| self.whole.len() + place);
        let Some(last) = in_fraction.or_else(|| last_of(self.whole)) else {
            return Some(Number::Whole(0));
        };
        let point = self.whole.len() as i32 + self.exponent.unwrap_or(0);
        let point = usize::try_from(point).ok().filter(|point| last < *point)?;
        let first = all().take_while(|digit| **digit == b'0').count();
        if point - first > 16 {
            return Some(Number::Rounded);
        }
        let kept = all().chain(std::iter::repeat(&b'0')).take(point);
        let number = kept.fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
        match number < 1 << 53 {
            true => Some(Number::Whole(if self.negative { -number } else { number })),
            false => Some(Number::Rounded),
        }
    }
}

fn split_digits(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len());
    bytes.split_at(end)
}

/// One to three digits, with a sign unless a fraction stands before them: `12e4` may be a code, and programs that write
/// numbers put a sign or a fraction there.
fn parse_exponent(bytes: &[u8], after_fraction: bool) -> Option<i32> {
    let (negative, digits) = match bytes {
        [sign @ (b'+' | b'-'), digits @ ..] => (*sign == b'-', digits),
        _ if after_fraction => (false, bytes),
        _ => return None,
    };
    if !(1..=3).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let size = digits.iter().fold(0, |size, digit| size * 10 + i32::from(digit - b'0'));
    Some(if negative { -size } else { size })
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
#[inline]
pub(crate) fn canonical_int(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let (negative, digits) = match bytes {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] => return (!negative).then_some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    // 19 digits fit into 64 bits without a sign.
    let mut size = 0_u64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        size = size * 10 + u64::from(digit);
    }
    match negative {
        true => 0_i64.checked_sub_unsigned(size),
        false => i64::try_from(size).ok(),
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
    use crate::column::spelling::Spelling;

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
        let usual = CellReader::new(&usual);
        let text = |text: &str| match usual.key(text) {
            Spelled::Missing => "missing".to_owned(),
            Spelled::Digits(number) => {
                assert_eq!(number.to_string(), text);
                number.to_string()
            }
            Spelled::Whole(number) => number.to_string(),
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

    /// The short way to most keys leads to the same ones.
    #[test]
    fn plain_texts_are_their_own_keys() {
        let usual = Spelling::default();
        let words = Spelling { null: vec!["ü".to_owned(), "x-".to_owned()], trim: false, ..usual.clone() };
        for spelling in [usual, words] {
            let cells = CellReader::new(&spelling);
            let bytes = || (0..=u8::MAX).map(char::from);
            let pairs = bytes().flat_map(|first| bytes().map(move |last| [first, last]));
            for [first, last] in pairs {
                for text in
                    [format!("{first}{last}"), format!("{first}ull{last}"), format!("{first}rue{last}")]
                {
                    if cells.is_plain_text(&text) {
                        assert_eq!(
                            (canonical_int(&text), cells.other_key(&text)),
                            (None, Spelled::Same(text.as_str()))
                        );
                    }
                }
            }
            assert!(cells.is_plain_text("u17") && !cells.is_plain_text("True") && !cells.is_plain_text("a "));
        }
    }

    #[test]
    fn a_decimal_comma_writes_whole_numbers_too() {
        let comma = Spelling { decimal: ',', ..Spelling::default() };
        assert_eq!(CellReader::new(&comma).key("42,0"), Spelled::Whole(42));
        assert_eq!(CellReader::new(&comma).key("42.0"), Spelled::Same("42.0"));
    }

    /// The rules of `docs/src/values.md` for whole numbers, slowly: every text of up to six of these characters, and the same
    /// characters after digits that reach the limits.
    #[test]
    fn whole_numbers_are_what_the_table_says() {
        const LETTERS: [char; 8] = ['0', '1', '5', '.', 'e', '+', '-', 'x'];
        let usual = Spelling::default();
        let cells = CellReader::new(&usual);
        let mut texts = vec![String::new()];
        let mut whole = 0;
        for _ in 0..6 {
            let longer = texts.iter().flat_map(|text| LETTERS.map(|letter| format!("{text}{letter}")));
            texts = longer.collect();
            for text in &texts {
                let prefixes = ["", "900719925474099", "-922337203685477580"];
                for text in prefixes[..if text.len() < 5 { 3 } else { 1 }]
                    .iter()
                    .map(|prefix| format!("{prefix}{text}"))
                {
                    let expected = by_definition(&text);
                    whole += u32::from(expected.is_some());
                    assert_eq!(cells.number(&text), expected, "{text}");
                    let digits = text.parse().ok().filter(|number: &i64| number.to_string() == text);
                    assert_eq!(canonical_int(&text), digits, "{text}");
                }
            }
        }
        assert!(whole > 1000, "{whole}");
    }

    /// What a text is as a whole number: `[+-]?(0|[1-9][0-9]*)([.][0-9]*)?([eE][+-]?[0-9]{1,3})?`, its exponent with a sign or
    /// after a point, its value without a fraction.
    fn by_definition(text: &str) -> Option<Number> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, Some(exponent)),
            None => (unsigned, None),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = |text: &str| text.chars().all(|letter| letter.is_ascii_digit());
        if whole.is_empty()
            || !digits(whole)
            || !digits(fraction)
            || whole.len() > 1 && whole.starts_with('0')
        {
            return None;
        }
        let has_point = mantissa.contains('.');
        let shift: i32 = match exponent {
            None => 0,
            Some(exponent) => {
                let bare = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
                if !digits(bare) || !(1..=3).contains(&bare.len()) || !has_point && bare == exponent {
                    return None;
                }
                exponent.parse().unwrap()
            }
        };
        // The value is `digits * 10^(shift - fraction.len())`.
        let mut digits = format!("{whole}{fraction}").trim_start_matches('0').to_owned();
        let mut power = shift - fraction.len() as i32;
        while power < 0 && digits.ends_with('0') {
            digits.pop();
            power += 1;
        }
        if digits.is_empty() {
            return Some(Number::Whole(0));
        }
        if power < 0 {
            return None;
        }
        digits.push_str(&"0".repeat(power as usize));
        let by_float = has_point || exponent.is_some();
        if by_float && (digits.len() > 16 || digits.parse::<u64>().unwrap() >= 1 << 53) {
            return Some(Number::Rounded);
        }
        if text.starts_with('-') {
            digits.insert(0, '-');
        }
        Some(digits.parse().map_or(Number::Long(digits), Number::Whole))
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
