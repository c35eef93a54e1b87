//! Columns of Arrow's other types for the same values as columns of the usual types.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};

use crate::error::quoted;

/// What text in a binary column must be.
pub(crate) const UTF8: &str =
    "UTF-8 text in a binary column (convert other bytes to text, for instance to hexadecimal digits)";

/// Why a column has no usual type.
#[derive(Debug)]
pub(crate) enum NoText {
    /// Arrow does not convert it.
    Type(DataType),
    /// The bytes at an index are no text; they are ready to be shown.
    Bytes { index: usize, found: String },
}

/// A column of another Arrow type for the same values as the usual one: texts as `Utf8`, binary ones too, dictionaries as
/// their values, whole numbers as `Int64`. `None` where bytes are no text or Arrow does not convert.
pub fn usual_type(array: &ArrayRef) -> Option<ArrayRef> {
    plain(array).ok()
}

/// Texts of all kinds, binary ones included, as `Utf8`; dictionaries and runs as their values; whole numbers as `Int64`
/// unless they are unsigned with 64 bits. Everything else as it is.
pub(crate) fn plain(array: &ArrayRef) -> Result<ArrayRef, NoText> {
    let kind = array.data_type();
    let convert = |to: &DataType| cast(array, to).map_err(|_| NoText::Type(kind.clone()));
    match kind {
        DataType::Dictionary(_, values) => plain(&convert(values)?),
        DataType::RunEndEncoded(_, values) => plain(&convert(values.data_type())?),
        DataType::LargeUtf8 | DataType::Utf8View => convert(&DataType::Utf8),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            text(convert(&DataType::Binary)?.as_binary::<i32>())
        }
        DataType::Int64 | DataType::UInt64 => Ok(array.clone()),
        kind if kind.is_integer() => convert(&DataType::Int64),
        _ => Ok(array.clone()),
    }
}

fn text(bytes: &BinaryArray) -> Result<ArrayRef, NoText> {
    let mut texts = StringBuilder::with_capacity(bytes.len(), bytes.value_data().len());
    for (index, cell) in bytes.iter().enumerate() {
        match cell.map(std::str::from_utf8) {
            None => texts.append_null(),
            Some(Ok(text)) => texts.append_value(text),
            Some(Err(_)) => {
                let found = quoted(&String::from_utf8_lossy(bytes.value(index)));
                return Err(NoText::Bytes { index, found });
            }
        }
    }
    Ok(std::sync::Arc::new(texts.finish()))
}

/// The moments of a column of dates or timestamps, in nanoseconds since 1970, by row; `None` for other types. A time zone is
/// only for display.
pub(crate) fn nanos(array: &ArrayRef) -> Option<Box<dyn Fn(usize) -> Option<i128> + '_>> {
    const DAY: i128 = 86_400_000_000_000;
    macro_rules! moments {
        ($kind:ty, $unit:expr) => {{
            let array = array.as_primitive::<$kind>();
            Box::new(move |row| array.is_valid(row).then(|| i128::from(array.value(row)) * $unit))
        }};
    }
    Some(match array.data_type() {
        DataType::Date32 => moments!(Date32Type, DAY),
        DataType::Date64 => moments!(Date64Type, 1_000_000),
        DataType::Timestamp(TimeUnit::Second, _) => moments!(TimestampSecondType, 1_000_000_000),
        DataType::Timestamp(TimeUnit::Millisecond, _) => moments!(TimestampMillisecondType, 1_000_000),
        DataType::Timestamp(TimeUnit::Microsecond, _) => moments!(TimestampMicrosecondType, 1000),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => moments!(TimestampNanosecondType, 1),
        _ => return None,
    })
}

/// Whether all numbers of an unsigned column fit into a signed one.
pub(crate) fn fits(array: &ArrayRef) -> bool {
    let numbers = array.as_primitive::<arrow::datatypes::UInt64Type>();
    numbers.iter().flatten().all(|value| i64::try_from(value).is_ok())
}
