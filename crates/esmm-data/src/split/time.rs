//! Moments of a time column, in order: numbers or ISO dates.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};
use arrow::error::ArrowError;

use crate::column::key::Key;
use crate::column::key_column::KeyColumn;
use crate::column::real::{FINITE, RealColumn};
use crate::error::{DataError, quoted};
use crate::read::chunk::Chunk;

const DATE: &str = "an ISO date, as 2024-01-31 or 2024-01-31T23:59:59";
const TIME_TYPES: &str = "numbers, dates, timestamps and text";

/// A moment. A column has either numbers or texts.
#[derive(Debug, Clone)]
pub(crate) enum Moment {
    /// A number, and all its digits when it is whole.
    Number(f64, i64),
    /// An ISO date.
    Text(Box<str>),
}

impl Ord for Moment {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(real, whole), Self::Number(other, than)) => {
                real.total_cmp(other).then_with(|| whole.cmp(than))
            }
            (Self::Text(text), Self::Text(other)) => text.cmp(other),
            (Self::Number(..), Self::Text(_)) => Ordering::Less,
            (Self::Text(_), Self::Number(..)) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Moment {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Moment {}

impl Moment {
    fn whole(number: i64) -> Self {
        Self::Number(number as f64, number)
    }

    fn real(number: f64) -> Self {
        let number = number + 0.0;
        Self::Number(number, if number.fract() == 0.0 { number as i64 } else { 0 })
    }

    fn parse(text: &str) -> Option<Self> {
        match Key::parse(text)? {
            Key::Int(number) => Some(Self::whole(number)),
            Key::Text(text) => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => Some(Self::real(number)),
                _ => is_date(text).then(|| Self::Text(text.into())),
            },
        }
    }
}

fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 10
        && bytes[..10].iter().enumerate().all(|(place, byte)| match place {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

/// The moments of a chunk.
///
/// # Errors
/// A missing value, a value that is neither a finite number nor an ISO date, and numbers among dates.
pub(crate) fn read(chunk: &Chunk, column: &str) -> Result<Vec<Moment>, DataError> {
    let array = chunk.column(column)?;
    let times = as_integers(array);
    let missing = |row| chunk.bad_cell(row, column, "nothing".to_owned(), "a time, to split by it");
    if let DataType::Utf8 | DataType::Int64 = times.data_type() {
        let keys = KeyColumn::read_array(chunk, column, &times)?;
        let moment = |row| match (&keys, keys.key(row)) {
            (_, None) => Err(missing(row)),
            (KeyColumn::Int(array), _) => Ok(Moment::whole(array.value(row))),
            (KeyColumn::Text(array), _) => Moment::parse(array.value(row)).ok_or_else(|| {
                chunk.bad_cell(row, column, quoted(array.value(row)), &format!("a number or {DATE}"))
            }),
        };
        return (0..chunk.rows()).map(moment).collect();
    }
    let reals =
        RealColumn::new(&times).ok_or_else(|| chunk.bad_type(column, array.data_type(), TIME_TYPES))?;
    let moment = |row| match reals.value(row) {
        Ok(Some(value)) => Ok(Moment::real(value)),
        Ok(None) => Err(missing(row)),
        Err(found) => Err(chunk.bad_cell(row, column, found, FINITE)),
    };
    (0..chunk.rows()).map(moment).collect()
}

/// Integers and timestamps as 64-bit integers, texts as the usual ones, others as they are.
fn as_integers(array: &ArrayRef) -> ArrayRef {
    let converted = match array.data_type() {
        DataType::Timestamp(unit, _) => microseconds(array, *unit),
        DataType::Date32 => cast(array, &DataType::Int32).and_then(|days| cast(&days, &DataType::Int64)),
        DataType::Date64 => cast(array, &DataType::Int64),
        DataType::LargeUtf8 | DataType::Utf8View => cast(array, &DataType::Utf8),
        DataType::Dictionary(_, values) => {
            return cast(array, values).map_or(array.clone(), |array| as_integers(&array));
        }
        kind if kind.is_integer() && kind != &DataType::UInt64 => cast(array, &DataType::Int64),
        _ => return array.clone(),
    };
    converted.unwrap_or_else(|_| array.clone())
}

/// Timestamps as microseconds; the time zone is only for display.
fn microseconds(array: &ArrayRef, unit: TimeUnit) -> Result<ArrayRef, ArrowError> {
    let plain = cast(&cast(array, &DataType::Int64)?, &DataType::Timestamp(unit, None))?;
    cast(&cast(&plain, &DataType::Timestamp(TimeUnit::Microsecond, None))?, &DataType::Int64)
}

/// How often each moment occurs.
#[derive(Debug, Default)]
pub(crate) struct Moments {
    counts: BTreeMap<Moment, u64>,
}

impl Moments {
    /// Counts the moments of a chunk.
    ///
    /// # Errors
    /// As [`read`], and numbers among dates or dates among numbers.
    pub(crate) fn observe(&mut self, chunk: &Chunk, column: &str) -> Result<(), DataError> {
        for (row, moment) in read(chunk, column)?.into_iter().enumerate() {
            let texts = self.counts.keys().next().map(|first| matches!(first, Moment::Text(_)));
            match (texts, &moment) {
                (Some(true), Moment::Number(number, _)) => {
                    return Err(chunk.bad_cell(
                        row,
                        column,
                        format!("`{number}`"),
                        &format!("{DATE}, as in the rows before"),
                    ));
                }
                (Some(false), Moment::Text(text)) => {
                    return Err(chunk.bad_cell(row, column, quoted(text), "a number, as in the rows before"));
                }
                _ => *self.counts.entry(moment).or_default() += 1,
            }
        }
        Ok(())
    }

    /// The first moment of which all rows have at least this rank, counted from 0: rows that are alike stay together,
    /// on the side of the first of them. `None` past the last moment.
    pub(crate) fn first_from(&self, rank: u64) -> Option<Moment> {
        let mut before = 0;
        for (moment, count) in &self.counts {
            if before >= rank {
                return Some(moment.clone());
            }
            before += count;
        }
        None
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> u64 {
        self.counts.values().sum()
    }
}
