//! How the cells of a source are spelled, so that a value is the same whatever wrote it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::key::Spelled;

/// Words for a missing value, as pandas, R, SQL databases, Hive and spreadsheets write them.
const NULL_WORDS: [&str; 17] = [
    "NULL", "null", "None", "NaN", "nan", "-NaN", "-nan", "NA", "N/A", "n/a", "<NA>", "NaT", "\\N", "#N/A",
    "#NA", "NAN", "Null",
];

/// How texts become values: in every column of CSV files, and in the text columns of Parquet files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spelling {
    /// Whether blanks at both ends of a cell, and of a column's name in CSV, are left out.
    pub trim: bool,
    /// Words that stand for a missing value, beside the empty text.
    pub null: Vec<String>,
    /// Between the whole part and the fraction of a number: `.` or `,`.
    pub decimal: char,
    /// Between groups of three digits of a number; `None`: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thousands: Option<char>,
    /// The IANA zone of times that name neither zone nor offset, as `Europe/Berlin`; `None`: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Whether a key is its exact text, as in run directories of format version 1.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exact_keys: bool,
}

impl Default for Spelling {
    fn default() -> Self {
        Self {
            trim: true,
            null: NULL_WORDS.map(str::to_owned).to_vec(),
            decimal: '.',
            thousands: None,
            time_zone: None,
            exact_keys: false,
        }
    }
}

impl Spelling {
    /// The spelling of run directories that were written before there was a choice: a cell is its exact text.
    pub fn exact() -> Self {
        Self { trim: false, null: Vec::new(), exact_keys: true, ..Self::default() }
    }

    /// Checks the settings.
    pub(crate) fn validate(&self) -> Result<(), String> {
        if !matches!(self.decimal, '.' | ',') {
            return Err(format!("decimal = {:?}, it must be \".\" or \",\"", self.decimal));
        }
        match self.thousands {
            Some(mark) if mark == self.decimal => {
                return Err(format!("decimal and thousands are both {mark:?}, they must differ"));
            }
            Some(mark) if mark.is_ascii_alphanumeric() || matches!(mark, '+' | '-') => {
                return Err(format!(
                    "thousands = {mark:?}, it must be a mark such as \".\", \",\", \"'\" or a blank"
                ));
            }
            _ => {}
        }
        self.zone().map(|_| ())
    }

    /// The zone of times without one.
    pub(crate) fn zone(&self) -> Result<Option<chrono_tz::Tz>, String> {
        let Some(name) = &self.time_zone else { return Ok(None) };
        let unknown =
            |_| format!("time_zone = \"{name}\", it must be an IANA name such as \"Europe/Berlin\"");
        name.parse().map(Some).map_err(unknown)
    }

    /// The finite number that a cell stands for, if it is one.
    pub fn number(&self, cell: &str) -> Option<f64> {
        self.real(cell).ok().flatten()
    }

    /// The canonical text of the key that a cell stands for: `42` of `42.0`. `None` when it is missing, or a number that may be
    /// a neighbour's as well.
    pub fn key<'a>(&self, cell: &'a str) -> Option<Cow<'a, str>> {
        if self.exact_keys {
            return (!cell.is_empty()).then_some(Cow::Borrowed(cell));
        }
        match CellReader::new(self).key(cell) {
            Spelled::Digits(_) => Some(Cow::Borrowed(cell)),
            Spelled::Same(text) => Some(Cow::Borrowed(text)),
            Spelled::Whole(number) => Some(Cow::Owned(number.to_string())),
            Spelled::Other(text) => Some(Cow::Owned(text)),
            Spelled::Missing | Spelled::Rounded => None,
        }
    }

    /// A cell without its blanks; `None` when it is missing.
    #[inline]
    pub fn present<'a>(&self, cell: &'a str) -> Option<&'a str> {
        let cell = self.trimmed(cell);
        (!cell.is_empty() && !self.is_null(cell)).then_some(cell)
    }

    #[inline]
    fn trimmed<'a>(&self, cell: &'a str) -> &'a str {
        let plain = |byte: Option<&u8>| byte.is_none_or(|byte| *byte > b' ' && *byte < 0x80);
        let bytes = cell.as_bytes();
        if !self.trim || plain(bytes.first()) && plain(bytes.last()) { cell } else { cell.trim() }
    }

    #[inline]
    fn is_null(&self, cell: &str) -> bool {
        self.null.iter().any(|word| word == cell)
    }

    /// The finite number that a cell stands for: `Ok(None)` when it is missing, NaN included, or else why it is none.
    pub(crate) fn real(&self, cell: &str) -> Result<Option<f64>, NoNumber> {
        let parsed = match (self.decimal, self.thousands) {
            ('.', None) => cell.parse::<f64>().ok(),
            _ => None,
        };
        let parsed = match parsed {
            Some(number) => Some(number),
            None => {
                let Some(cell) = self.present(cell) else { return Ok(None) };
                match self.plain_number(cell) {
                    Some(text) => text.parse::<f64>().ok(),
                    None => None,
                }
                .or_else(|| truth(cell).map(f64::from))
            }
        };
        match parsed {
            Some(number) if number.is_finite() => Ok(Some(number)),
            Some(number) if number.is_nan() => Ok(None),
            Some(_) => Err(NoNumber::Infinite),
            None if self.decimal == '.' && has_decimal_comma(cell) => Err(NoNumber::DecimalComma),
            None => Err(NoNumber::Text),
        }
    }

    /// A number with a decimal point and without marks between thousands.
    fn plain_number(&self, cell: &str) -> Option<String> {
        let unsigned = cell.strip_prefix(['+', '-']).unwrap_or(cell);
        let (whole, rest) = match unsigned.find([self.decimal, 'e', 'E']) {
            Some(place) => unsigned.split_at(place),
            None => (unsigned, ""),
        };
        let other_mark = if self.decimal == ',' { '.' } else { ',' };
        if rest.contains(other_mark) {
            return None;
        }
        let whole = match self.thousands {
            Some(mark) if whole.contains(mark) => joined_thousands(whole, mark)?,
            _ if whole.contains(other_mark) => return None,
            _ => whole.to_owned(),
        };
        let sign = if cell.starts_with('-') { "-" } else { "" };
        Some(format!("{sign}{whole}{}", rest.replacen(self.decimal, ".", 1)))
    }
}

/// Reads many cells in a spelling: most are no word for a missing value, which their first byte and length tell.
#[derive(Debug, Clone)]
pub(crate) struct CellReader<'a> {
    pub(crate) spelling: &'a Spelling,
    /// Bit `n`: a word for a missing value has `n` bytes; bit 63: or more.
    lengths: u64,
    /// The first bytes of these words.
    null_starts: ByteSet,
    /// First bytes of texts that are nothing else: no number or time, no boolean, no word for a missing value.
    text_starts: ByteSet,
}

/// Some bytes: bit `n % 64` of entry `n / 64` is byte `n`.
#[derive(Debug, Clone, Copy, Default)]
struct ByteSet([u64; 4]);

impl ByteSet {
    fn insert(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    #[inline]
    fn contains(self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] >> (byte & 63) & 1 == 1
    }
}

impl<'a> CellReader<'a> {
    /// Reads cells in this spelling.
    pub(crate) fn new(spelling: &'a Spelling) -> Self {
        let mut lengths = 0;
        let mut null_starts = ByteSet::default();
        for word in spelling.null.iter().map(|word| word.as_bytes()).filter(|word| !word.is_empty()) {
            lengths |= 1 << word.len().min(63);
            null_starts.insert(word[0]);
        }
        let mut text_starts = ByteSet::default();
        let is_other =
            |byte: &u8| byte.is_ascii_digit() || b"+-tTfF".contains(byte) || null_starts.contains(*byte);
        (b'!'..=b'~').filter(|byte| !is_other(byte)).for_each(|byte| text_starts.insert(byte));
        Self { spelling, lengths, null_starts, text_starts }
    }

    /// Whether its first and its last byte tell that a cell is a text without blanks around it, and nothing else. Most are.
    #[inline]
    pub(crate) fn is_plain_text(&self, cell: &str) -> bool {
        match cell.as_bytes() {
            [first, .., last] => self.text_starts.contains(*first) && matches!(*last, b'!'..=b'~'),
            _ => false,
        }
    }

    /// A cell without its blanks; `None` when it is missing.
    #[inline]
    pub(crate) fn present<'b>(&self, cell: &'b str) -> Option<&'b str> {
        let cell = self.spelling.trimmed(cell);
        let first = *cell.as_bytes().first()?;
        let may_be_null = self.null_starts.contains(first) && self.lengths >> cell.len().min(63) & 1 == 1;
        (!may_be_null || !self.spelling.is_null(cell)).then_some(cell)
    }
}

/// Why a text is no finite number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoNumber {
    /// It is an infinity.
    Infinite,
    /// It would be one with a decimal comma.
    DecimalComma,
    /// It is something else.
    Text,
}

impl NoNumber {
    /// A way out, to be put after the value that was found.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::DecimalComma => " (for a decimal comma say data.decimal = \",\")",
            Self::Infinite | Self::Text => "",
        }
    }
}

/// The value of `true` and `false` as programs write them.
pub(crate) fn truth(cell: &str) -> Option<bool> {
    match cell {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

fn has_decimal_comma(cell: &str) -> bool {
    let cell = cell.trim();
    let unsigned = cell.strip_prefix(['+', '-']).unwrap_or(cell);
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    unsigned.rsplit_once(',').is_some_and(|(whole, rest)| digits(rest) && digits(&whole.replace('.', "")))
}

/// `1.234.567` as `1234567`: one to three digits, then groups of three. None begins with a 0: `0.500` is half of one, and not
/// written with this mark.
fn joined_thousands(whole: &str, mark: char) -> Option<String> {
    let mut groups = whole.split(mark);
    let digits = |group: &str| group.bytes().all(|byte| byte.is_ascii_digit());
    let first = groups.next().filter(|first| (1..=3).contains(&first.len()) && digits(first))?;
    if first.starts_with('0') {
        return None;
    }
    let mut joined = first.to_owned();
    for group in groups {
        if group.len() != 3 || !digits(group) {
            return None;
        }
        joined.push_str(group);
    }
    Some(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_and_words_for_nothing_are_seen() {
        let usual = Spelling::default();
        assert_eq!(usual.present(" a b\u{a0}"), Some("a b"));
        let reader = CellReader::new(&usual);
        for word in usual.null.iter().map(String::as_str).chain(["", " ", "\t", " NULL "]) {
            assert_eq!(usual.present(word), None, "{word:?}");
            assert_eq!(reader.present(word), None, "{word:?}");
        }
        let long = "-".repeat(70);
        let words =
            Spelling { null: ["é", "x", long.as_str()].map(str::to_owned).to_vec(), ..usual.clone() };
        let reader = CellReader::new(&words);
        for cell in ["é", "x", "xx", "e", "É", &long, &long[1..], "NULL", "éé", "y", " x "] {
            assert_eq!(reader.present(cell), words.present(cell), "{cell}");
        }
        let exact = Spelling::exact();
        assert_eq!(
            (exact.present(" a"), exact.present("NULL"), exact.present("")),
            (Some(" a"), Some("NULL"), None)
        );
    }

    #[test]
    fn numbers_are_read_with_either_mark() {
        let usual = Spelling::default();
        for (text, number) in [("1.5", 1.5), (" +2e3 ", 2000.0), ("True", 1.0), ("FALSE", 0.0), (".5", 0.5)] {
            assert_eq!(usual.real(text), Ok(Some(number)), "{text}");
        }
        assert_eq!((usual.real("NaN"), usual.real("nan"), usual.real("")), (Ok(None), Ok(None), Ok(None)));
        assert_eq!(usual.real("-inf"), Err(NoNumber::Infinite));
        assert_eq!(usual.real("1.234,5"), Err(NoNumber::DecimalComma));
        assert_eq!((usual.real("1.2.3"), usual.real("12 000")), (Err(NoNumber::Text), Err(NoNumber::Text)));
        let comma = Spelling { decimal: ',', ..Spelling::default() };
        assert_eq!((comma.real("-12,50"), comma.real("1,5e2")), (Ok(Some(-12.5)), Ok(Some(150.0))));
        assert_eq!(
            comma.real("1.234"),
            Err(NoNumber::Text),
            "a point may be a decimal point or a thousand's"
        );
        let both = Spelling { thousands: Some('.'), ..comma };
        assert_eq!(
            (both.real("1.234,5"), both.real("12.345.678")),
            (Ok(Some(1234.5)), Ok(Some(12_345_678.0)))
        );
        for text in ["1.23,5", "1.5", "0.500", "00.500", "012.345,5"] {
            assert_eq!(both.real(text), Err(NoNumber::Text), "{text}");
        }
        assert_eq!(
            (both.real("0,5"), both.real("0"), both.real("100.000")),
            (Ok(Some(0.5)), Ok(Some(0.0)), Ok(Some(1e5)))
        );
    }

    #[test]
    fn marks_and_zones_that_cannot_be_are_refused() {
        let usual = Spelling::default();
        for wrong in [
            Spelling { decimal: ';', ..usual.clone() },
            Spelling { thousands: Some('.'), ..usual.clone() },
            Spelling { thousands: Some('0'), ..usual.clone() },
            Spelling { time_zone: Some("Mars/Base".to_owned()), ..usual.clone() },
        ] {
            assert!(wrong.validate().is_err(), "{wrong:?}");
        }
        let berlin = Spelling { time_zone: Some("Europe/Berlin".to_owned()), ..usual };
        assert_eq!(berlin.validate(), Ok(()));
    }
}
