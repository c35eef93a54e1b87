//! A column of keys, whatever its Arrow type.

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit, UInt64Type};
use twox_hash::XxHash64;

use super::key::Key;
use crate::error::DataError;
use crate::read::chunk::Chunk;

/// Types that hold keys, for messages.
pub(crate) const KEY_TYPES: &str = "text, integers, whole floats, booleans, dates and dictionaries of these";

/// Keys with a fast way to each row.
pub(crate) enum KeyColumn {
    Int(Int64Array),
    Text(StringArray),
}

/// Why a column gives no keys.
pub(crate) enum KeyError {
    /// Its type holds none.
    Type(DataType),
    /// One of its floats is not a whole number that the type holds exactly.
    Value { index: usize, found: String, allowed: &'static str },
}

impl KeyColumn {
    /// Keys of an array. Booleans become `true` and `false`, dates their ISO text.
    pub(crate) fn new(array: &ArrayRef) -> Result<Self, KeyError> {
        let kind = array.data_type();
        match kind {
            DataType::Utf8 => Ok(Self::Text(array.as_string::<i32>().clone())),
            DataType::Int64 => Ok(Self::Int(array.as_primitive::<Int64Type>().clone())),
            DataType::Float16 | DataType::Float32 => {
                whole(array, 1 << 24, "a whole number below 2^24 in a column of 32-bit floats")
            }
            DataType::Float64 => whole(array, 1 << 53, "a whole number below 2^53 in a column of floats"),
            DataType::Dictionary(_, values) => Self::new(&convert(array, values)?),
            DataType::UInt64 if !fits(array) => {
                convert(array, &DataType::Utf8).and_then(|text| Self::new(&text))
            }
            kind if kind.is_integer() => convert(array, &DataType::Int64).and_then(|ints| Self::new(&ints)),
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
            | DataType::Decimal256(..) => convert(array, &DataType::Utf8).and_then(|text| Self::new(&text)),
            _ => Err(KeyError::Type(kind.clone())),
        }
    }

    /// The keys of a column of a chunk, one a row.
    pub(crate) fn read(chunk: &Chunk, column: &str) -> Result<Self, DataError> {
        Self::read_array(chunk, column, chunk.column(column)?)
    }

    /// The keys of an array that was made from a column of a chunk.
    pub(crate) fn read_array(chunk: &Chunk, column: &str, array: &ArrayRef) -> Result<Self, DataError> {
        Self::new(array).map_err(|error| match error {
            KeyError::Type(kind) if kind.is_nested() => {
                chunk.bad_type(column, &kind, &format!("{KEY_TYPES}; a feature of lists needs a pooling"))
            }
            KeyError::Type(kind) => chunk.bad_type(column, &kind, KEY_TYPES),
            KeyError::Value { index, found, allowed } => chunk.bad_cell(index, column, found, allowed),
        })
    }

    /// The key of a row; `None` when it is missing: null, NaN or an empty text.
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

fn fits(array: &ArrayRef) -> bool {
    array.as_primitive::<UInt64Type>().iter().flatten().all(|value| i64::try_from(value).is_ok())
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
