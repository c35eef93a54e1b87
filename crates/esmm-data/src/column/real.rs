//! A column of real numbers, whatever its Arrow type.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};

use super::plain::{NoText, UTF8, plain};
use super::spelling::Spelling;
use crate::error::{DataError, quoted};
use crate::read::chunk::Chunk;

/// Types that hold real numbers, for messages.
const REAL_TYPES: &str = "numbers, booleans and text that is a number";
/// What a cell of such a column may be.
pub(crate) const FINITE: &str = "a finite number";

/// Reals of which each is finite once it was read.
pub(crate) enum RealColumn {
    Number(Float64Array),
    Text(StringArray, Arc<Spelling>),
}

/// Why a column holds no reals.
pub(crate) enum NoReals {
    /// Its type holds none.
    Type,
    /// The bytes at an index are no text; they are ready to be shown.
    Bytes { index: usize, found: String },
}

impl RealColumn {
    /// The reals of an array.
    pub(crate) fn new(array: &ArrayRef, spelling: &Arc<Spelling>) -> Result<Self, NoReals> {
        let array = plain(array).map_err(|error| match error {
            NoText::Type(_) => NoReals::Type,
            NoText::Bytes { index, found } => NoReals::Bytes { index, found },
        })?;
        match array.data_type() {
            DataType::Utf8 => Ok(Self::Text(array.as_string::<i32>().clone(), spelling.clone())),
            kind if kind.is_numeric() || matches!(kind, DataType::Null | DataType::Boolean) => {
                let numbers = cast(&array, &DataType::Float64).map_err(|_| NoReals::Type)?;
                Ok(Self::Number(numbers.as_primitive::<Float64Type>().clone()))
            }
            _ => Err(NoReals::Type),
        }
    }

    /// The number at an index, `None` when it is missing (null, NaN, nothing, or a word for it), or else the value that is
    /// no finite number, ready to be shown.
    pub(crate) fn value(&self, index: usize) -> Result<Option<f64>, String> {
        match self {
            Self::Number(array) if array.is_null(index) => Ok(None),
            Self::Number(array) => match array.value(index) {
                value if value.is_finite() => Ok(Some(value)),
                value if value.is_nan() => Ok(None),
                value => Err(format!("`{value}`")),
            },
            Self::Text(array, _) if array.is_null(index) => Ok(None),
            Self::Text(array, spelling) => {
                let text = array.value(index);
                spelling.real(text).map_err(|reason| format!("{}{}", quoted(text), reason.hint()))
            }
        }
    }

    /// The reals of a column of a chunk.
    ///
    /// # Errors
    /// A column that is not there, or whose type holds none.
    pub(crate) fn of(chunk: &Chunk, column: &str) -> Result<Self, DataError> {
        let array = chunk.column(column)?;
        Self::new(array, chunk.spelling()).map_err(|error| match error {
            NoReals::Type => chunk.bad_type(column, array.data_type(), REAL_TYPES),
            NoReals::Bytes { index, found } => chunk.bad_cell(index, column, found, UTF8),
        })
    }

    /// The reals of a column of a chunk, in order.
    pub(crate) fn read(
        chunk: &Chunk,
        column: &str,
        mut take: impl FnMut(usize, Option<f64>) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let reals = Self::of(chunk, column)?;
        for row in 0..chunk.rows() {
            let value = reals.value(row).map_err(|found| chunk.bad_cell(row, column, found, FINITE))?;
            take(row, value)?;
        }
        Ok(())
    }
}
