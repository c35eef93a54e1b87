//! A column of real numbers, whatever its Arrow type.

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};

use crate::error::{DataError, quoted};
use crate::read::chunk::Chunk;

/// Types that hold real numbers, for messages.
const REAL_TYPES: &str = "numbers, booleans and text that is a number";
/// What a cell of such a column may be.
pub(crate) const FINITE: &str = "a finite number";

/// Reals of which each is finite once it was read.
pub(crate) enum RealColumn {
    Number(Float64Array),
    Text(StringArray),
}

impl RealColumn {
    /// The reals of an array; `None` when its type holds none.
    pub(crate) fn new(array: &ArrayRef) -> Option<Self> {
        let convert = |kind: &DataType| cast(array, kind).ok();
        match array.data_type() {
            DataType::Utf8 => Some(Self::Text(array.as_string::<i32>().clone())),
            DataType::LargeUtf8 | DataType::Utf8View => Self::new(&convert(&DataType::Utf8)?),
            DataType::Dictionary(_, values) => Self::new(&convert(values)?),
            kind if kind.is_numeric() || matches!(kind, DataType::Null | DataType::Boolean) => {
                Some(Self::Number(convert(&DataType::Float64)?.as_primitive::<Float64Type>().clone()))
            }
            _ => None,
        }
    }

    /// The number at an index, `None` when it is null or an empty text, or else the value that is no finite number.
    pub(crate) fn value(&self, index: usize) -> Result<Option<f64>, String> {
        match self {
            Self::Number(array) if array.is_null(index) => Ok(None),
            Self::Text(array) if array.is_null(index) || array.value(index).is_empty() => Ok(None),
            Self::Number(array) => finite(Some(array.value(index)), || format!("`{}`", array.value(index))),
            Self::Text(array) => finite(array.value(index).parse().ok(), || quoted(array.value(index))),
        }
    }

    /// The reals of a column of a chunk, in order.
    pub(crate) fn read(
        chunk: &Chunk,
        column: &str,
        mut take: impl FnMut(usize, Option<f64>) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let array = chunk.column(column)?;
        let reals = Self::new(array).ok_or_else(|| chunk.bad_type(column, array.data_type(), REAL_TYPES))?;
        for row in 0..chunk.rows() {
            let value = reals.value(row).map_err(|found| chunk.bad_cell(row, column, found, FINITE))?;
            take(row, value)?;
        }
        Ok(())
    }
}

fn finite(value: Option<f64>, found: impl FnOnce() -> String) -> Result<Option<f64>, String> {
    match value {
        Some(value) if value.is_finite() => Ok(Some(value)),
        _ => Err(found()),
    }
}
