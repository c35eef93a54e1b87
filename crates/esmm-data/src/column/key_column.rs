//! A column of keys, whatever its Arrow type.

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, Int64Builder, StringArray, StringBuilder,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use twox_hash::XxHash64;

use super::key::{EXACT_WHOLE, Key, Spelled, time_of_day};
use super::moment::Stamp;
use super::plain::{NoText, UTF8, fits, nanos, plain};
use super::spelling::{CellReader, Spelling};
use crate::error::{DataError, quoted};
use crate::read::chunk::Chunk;

/// Types that hold keys, for messages.
pub(crate) const KEY_TYPES: &str =
    "text, integers, whole floats and decimals, booleans, dates, times and dictionaries of these";

/// Keys with a fast way to each row. Texts are canonical.
#[derive(Debug)]
pub(crate) enum KeyColumn {
    Int(Int64Array),
    Text(StringArray),
}

/// Why a column has no keys.
#[derive(Debug)]
pub(crate) enum KeyError {
    /// Its type holds none.
    Type(DataType),
    /// One of its values is no key.
    Value { index: usize, found: String, allowed: &'static str },
}

impl From<NoText> for KeyError {
    fn from(error: NoText) -> Self {
        match error {
            NoText::Type(kind) => Self::Type(kind),
            NoText::Bytes { index, found } => Self::Value { index, found, allowed: UTF8 },
        }
    }
}

impl KeyColumn {
    /// Keys of an array.
    pub(crate) fn new(array: &ArrayRef, spelling: &Spelling) -> Result<Self, KeyError> {
        if spelling.exact_keys {
            return Self::exact(array);
        }
        let array = &plain(array)?;
        let kind = array.data_type();
        match kind {
            DataType::Int64 => Ok(Self::Int(array.as_primitive::<Int64Type>().clone())),
            DataType::UInt64 if fits(array) => {
                Ok(Self::Int(convert(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone()))
            }
            DataType::Float16 | DataType::Float32 | DataType::Float64 => floats(array),
            DataType::Utf8 => canonical(array.as_string::<i32>(), spelling),
            DataType::Decimal32(..)
            | DataType::Decimal64(..)
            | DataType::Decimal128(..)
            | DataType::Decimal256(..) => decimals(convert(array, &DataType::Utf8)?.as_string::<i32>()),
            DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => moments(array),
            DataType::Time32(_) | DataType::Time64(_) => {
                let texts = convert(array, &DataType::Utf8)?;
                let texts = texts.as_string::<i32>().iter();
                let shortest = |text: &str| time_of_day(text).unwrap_or_else(|| text.to_owned());
                Ok(Self::Text(texts.map(|text| text.map(shortest)).collect()))
            }
            DataType::Null | DataType::Boolean | DataType::UInt64 => {
                Ok(Self::Text(convert(array, &DataType::Utf8)?.as_string::<i32>().clone()))
            }
            _ => Err(KeyError::Type(kind.clone())),
        }
    }

    /// Keys as run directories of format version 1 have them: the exact text of a cell, floats and dates as Arrow shows them.
    fn exact(array: &ArrayRef) -> Result<Self, KeyError> {
        let kind = array.data_type();
        match kind {
            DataType::Utf8 => Ok(Self::Text(array.as_string::<i32>().clone())),
            DataType::Int64 => Ok(Self::Int(array.as_primitive::<Int64Type>().clone())),
            DataType::Float16 | DataType::Float32 | DataType::Float64 => floats(array),
            DataType::Dictionary(_, values) => Self::exact(&convert(array, values)?),
            DataType::UInt64 if !fits(array) => Self::exact(&convert(array, &DataType::Utf8)?),
            kind if kind.is_integer() => Self::exact(&convert(array, &DataType::Int64)?),
            DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) if *scale > 0 => {
                Err(KeyError::Type(kind.clone()))
            }
            DataType::Null
            | DataType::Boolean
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::Date32
            | DataType::Timestamp(
                TimeUnit::Second | TimeUnit::Millisecond | TimeUnit::Microsecond | TimeUnit::Nanosecond,
                None,
            )
            | DataType::Decimal128(..)
            | DataType::Decimal256(..) => Self::exact(&convert(array, &DataType::Utf8)?),
            _ => Err(KeyError::Type(kind.clone())),
        }
    }

    /// The keys of a column of a chunk, one a row.
    pub(crate) fn read(chunk: &Chunk, column: &str) -> Result<Self, DataError> {
        Self::new(chunk.column(column)?, chunk.spelling()).map_err(|error| match error {
            KeyError::Type(kind) if kind.is_nested() => {
                chunk.bad_type(column, &kind, &format!("{KEY_TYPES}; a feature of lists needs a pooling"))
            }
            KeyError::Type(kind) => chunk.bad_type(column, &kind, KEY_TYPES),
            KeyError::Value { index, found, allowed } => chunk.bad_cell(index, column, found, allowed),
        })
    }

    /// The canonical text of each row's key, null where it is missing.
    pub(crate) fn texts(self) -> StringArray {
        match self {
            Self::Int(keys) => keys.iter().map(|key| key.map(|key| key.to_string())).collect(),
            Self::Text(texts) => texts.iter().map(|text| text.filter(|text| !text.is_empty())).collect(),
        }
    }

    /// The key of a row; `None` when it is missing.
    #[inline]
    pub(crate) fn key(&self, row: usize) -> Option<Key<'_>> {
        match self {
            Self::Int(array) => array.is_valid(row).then(|| Key::Int(array.value(row))),
            Self::Text(array) if array.is_valid(row) => Key::parse(array.value(row)),
            Self::Text(_) => None,
        }
    }
}

fn convert(array: &ArrayRef, kind: &DataType) -> Result<ArrayRef, KeyError> {
    cast(array, kind).map_err(|_| KeyError::Type(array.data_type().clone()))
}

/// Texts as keys: whole numbers where all of them are, or else texts in their canonical spelling.
fn canonical(texts: &StringArray, spelling: &Spelling) -> Result<KeyColumn, KeyError> {
    let cells = CellReader::new(spelling);
    let mut numbers = Int64Builder::with_capacity(texts.len());
    let mut all_digits = true;
    for (index, text) in texts.iter().enumerate() {
        let Some(text) = text else {
            numbers.append_null();
            continue;
        };
        match cells.key(text) {
            Spelled::Digits(number) => numbers.append_value(number),
            Spelled::Whole(number) => {
                all_digits = false;
                numbers.append_value(number);
            }
            Spelled::Missing => {
                all_digits &= text.is_empty();
                numbers.append_null();
            }
            Spelled::Rounded => return Err(rounded(index, text)),
            Spelled::Same(_) | Spelled::Other(_) => {
                let before = (!all_digits).then(|| numbers.finish());
                return canonical_texts(texts, &cells, index, before);
            }
        }
    }
    Ok(KeyColumn::Int(numbers.finish()))
}

/// Texts of which some are no whole numbers, from `start` on; the same array where all of them are canonical. Those before
/// are the numbers `before`, or canonical.
fn canonical_texts(
    texts: &StringArray,
    cells: &CellReader<'_>,
    start: usize,
    before: Option<Int64Array>,
) -> Result<KeyColumn, KeyError> {
    let builder = || StringBuilder::with_capacity(texts.len(), texts.value_data().len());
    let mut written = before.map(|numbers| {
        let mut builder = builder();
        numbers.iter().for_each(|number| builder.append_option(number.map(|number| number.to_string())));
        builder
    });
    for index in start..texts.len() {
        let text = texts.is_valid(index).then(|| texts.value(index));
        let found = text.map_or(Spelled::Missing, |text| cells.key(text));
        let is_same = match (&found, text) {
            (Spelled::Digits(_), _) => true,
            (Spelled::Same(part), Some(text)) => part.len() == text.len(),
            (Spelled::Missing, text) => text.is_none_or(str::is_empty),
            (Spelled::Same(_) | Spelled::Whole(_) | Spelled::Other(_) | Spelled::Rounded, _) => false,
        };
        if is_same && written.is_none() {
            continue;
        }
        let builder = written.get_or_insert_with(|| {
            let mut builder = builder();
            let cell = |before| texts.is_valid(before).then(|| texts.value(before));
            (0..index).for_each(|before| builder.append_option(cell(before)));
            builder
        });
        match (found, text) {
            (Spelled::Missing, _) => builder.append_null(),
            (Spelled::Digits(_), text) => builder.append_option(text),
            (Spelled::Same(text), _) => builder.append_value(text),
            (Spelled::Whole(number), _) => builder.append_value(number.to_string()),
            (Spelled::Other(text), _) => builder.append_value(text),
            (Spelled::Rounded, text) => return Err(rounded(index, text.unwrap_or_default())),
        }
    }
    Ok(KeyColumn::Text(written.map_or_else(|| texts.clone(), |mut builder| builder.finish())))
}

fn rounded(index: usize, text: &str) -> KeyError {
    KeyError::Value { index, found: quoted(text), allowed: EXACT_WHOLE }
}

/// Whole decimals as their digits.
fn decimals(texts: &StringArray) -> Result<KeyColumn, KeyError> {
    let mut whole = StringBuilder::new();
    for (index, text) in texts.iter().enumerate() {
        let Some(text) = text else {
            whole.append_null();
            continue;
        };
        match text.split_once('.') {
            None => whole.append_value(text),
            Some((digits, fraction)) if fraction.bytes().all(|byte| byte == b'0') => {
                whole.append_value(if digits == "-0" { "0" } else { digits });
            }
            Some(_) => {
                let allowed = "a whole number in a column of decimals (make it text, or use it as a number)";
                return Err(KeyError::Value { index, found: format!("`{text}`"), allowed });
            }
        }
    }
    Ok(KeyColumn::Text(whole.finish()))
}

fn moments(array: &ArrayRef) -> Result<KeyColumn, KeyError> {
    let Some(nanos) = nanos(array) else {
        return Err(KeyError::Type(array.data_type().clone()));
    };
    let mut texts = StringBuilder::new();
    for index in 0..array.len() {
        match nanos(index) {
            None => texts.append_null(),
            Some(nanos) => match Stamp::text(nanos) {
                Some(text) => texts.append_value(text),
                None => {
                    let allowed = "a date of the years -262,000 to 262,000";
                    return Err(KeyError::Value { index, found: "another date".to_owned(), allowed });
                }
            },
        }
    }
    drop(nanos);
    Ok(KeyColumn::Text(texts.finish()))
}

/// Whole floats that their type holds exactly, NaN as missing.
fn floats(array: &ArrayRef) -> Result<KeyColumn, KeyError> {
    match array.data_type() {
        DataType::Float64 => whole(array, 1 << 53, "a whole number below 2^53 in a column of floats"),
        _ => whole(array, 1 << 24, "a whole number below 2^24 in a column of 32-bit floats"),
    }
}

/// Whole floats below `limit` as integers, NaN as missing.
fn whole(array: &ArrayRef, limit: i64, allowed: &'static str) -> Result<KeyColumn, KeyError> {
    let floats = convert(array, &DataType::Float64)?;
    let floats: &Float64Array = floats.as_primitive();
    let key = |(index, value): (usize, Option<f64>)| match value {
        Some(value) if value.is_nan() => Ok(None),
        Some(value) if value.fract() == 0.0 && value.abs() < limit as f64 => Ok(Some(value as i64)),
        Some(value) => Err(KeyError::Value { index, found: format!("`{value}`"), allowed }),
        None => Ok(None),
    };
    let keys: Result<Int64Array, KeyError> = floats.iter().enumerate().map(key).collect();
    keys.map(KeyColumn::Int)
}

/// The hash of each row's key, of the empty text where it is missing.
pub(crate) fn hashes(
    chunk: &Chunk,
    column: &str,
    seed: u64,
) -> Result<impl Iterator<Item = u64> + use<>, DataError> {
    let keys = KeyColumn::read(chunk, column)?;
    let missing = XxHash64::oneshot(seed, b"");
    Ok((0..chunk.rows()).map(move |row| keys.key(row).map_or(missing, |key| key.hash(seed))))
}
