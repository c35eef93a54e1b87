//! Timestamps with a time zone as text, for people and for files that know no zones.

use arrow::array::{Array, ArrayRef, StringBuilder};
use arrow::datatypes::DataType;

use super::moment::{Stamp, ZoneName};
use super::plain::nanos;

/// A column of timestamps with a zone as text, as pandas and DuckDB write them: `2024-03-31 01:30:00+01:00`. `None` for
/// columns of other types.
///
/// # Errors
/// A zone that nobody knows, a moment too far away.
pub fn zoned_text(array: &ArrayRef) -> Result<Option<ArrayRef>, String> {
    let DataType::Timestamp(_, Some(name)) = array.data_type() else {
        return Ok(None);
    };
    let zone = ZoneName::parse(name).ok_or_else(|| format!("the time zone `{name}` is unknown"))?;
    let Some(nanos) = nanos(array) else { return Ok(None) };
    let mut texts = StringBuilder::new();
    for row in 0..array.len() {
        match nanos(row).map(|nanos| Stamp::zoned_text(nanos, &zone)) {
            None => texts.append_null(),
            Some(Some(text)) => texts.append_value(text),
            Some(None) => return Err(format!("row {} is a moment too far away", row + 1)),
        }
    }
    drop(nanos);
    Ok(Some(std::sync::Arc::new(texts.finish())))
}
