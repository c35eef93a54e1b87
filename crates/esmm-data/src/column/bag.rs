//! Bags: any number of keys a row, with or without weights.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use arrow::datatypes::DataType;

use super::key_column::{KEY_TYPES, KeyColumn, KeyError};
use super::lists::{Lists, Offsets};
use super::plain::{NoText, UTF8, plain};
use super::printed;
use super::real::RealColumn;
use super::spelling::CellReader;
use crate::error::{DataError, quoted};
use crate::read::chunk::Chunk;

/// What a printed list may be.
const PRINTED: &str = "a list such as a|b, or one that is printed whole and flat, such as [a, b]";
/// What a weight may be.
const WEIGHT: &str = "a finite weight that is not negative";

/// Where the weights of a bag are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weights<'a> {
    /// Nowhere.
    None,
    /// Beside each item.
    Inside,
    /// In a column of their own.
    Column(&'a str),
}

/// The bags of a chunk: those of row `i` are `offsets[i]..offsets[i + 1]`.
pub(crate) struct Bags {
    pub(crate) offsets: Vec<usize>,
    pub(crate) keys: KeyColumn,
    pub(crate) weights: Option<Vec<f32>>,
}

impl Bags {
    /// Reads a column of bags.
    pub(crate) fn read(chunk: &Chunk, column: &str, weights: Weights<'_>) -> Result<Self, DataError> {
        let array = usual(chunk, column, chunk.column(column)?)?;
        let mut bags = match (array.as_string_opt::<i32>(), weights) {
            (Some(texts), Weights::Inside) => Self::of_weighted_text(chunk, column, texts)?,
            (Some(texts), _) => Self::of_text(chunk, column, texts)?,
            (None, Weights::Inside) => Self::of_pairs(chunk, column, &array)?,
            (None, _) => Self::of_lists(chunk, column, &array)?,
        };
        if let Weights::Column(other) = weights {
            bags.weights = Some(read_weights(chunk, other, column, &bags.offsets)?);
        }
        Ok(bags)
    }

    fn of_text(chunk: &Chunk, column: &str, texts: &StringArray) -> Result<Self, DataError> {
        let Lists { offsets, items } = text_lists(chunk, column, texts)?;
        let keys = keys(chunk, column, &items, &offsets)?;
        Ok(Self { offsets, keys, weights: None })
    }

    fn of_weighted_text(chunk: &Chunk, column: &str, texts: &StringArray) -> Result<Self, DataError> {
        let format = chunk.lists();
        let reader = CellReader::new(chunk.spelling());
        let (mut offsets, mut items, mut weights) =
            (Offsets::new(chunk.rows()), StringBuilder::new(), Vec::new());
        for (row, cell) in texts.iter().enumerate() {
            let Some(cell) = cell.and_then(|cell| reader.present(cell)) else { continue };
            let mut push = |item: &str, id: &str, weight: &str| {
                let bad = || chunk.bad_cell(row, column, quoted(item), WEIGHT);
                let weight =
                    chunk.spelling().real(weight).ok().flatten().and_then(checked).ok_or_else(bad)?;
                offsets.count(row);
                items.append_value(id);
                weights.push(weight);
                Ok::<(), DataError>(())
            };
            let pair = format!("id{}weight", format.weight_separator);
            if printed::is_printed(cell) && !chunk.spelling().exact_keys {
                for item in printed_items(chunk, column, row, cell)? {
                    let halves = item.after_colon.as_deref().map(|weight| (item.text.as_str(), weight));
                    let halves = halves.or_else(|| item.text.rsplit_once(format.weight_separator));
                    let Some((id, weight)) = halves else {
                        return Err(chunk.bad_cell(row, column, quoted(&item.text), &pair));
                    };
                    push(&item.text, id, weight)?;
                }
                continue;
            }
            for item in cell.split(format.separator) {
                let Some((id, weight)) = item.rsplit_once(format.weight_separator) else {
                    return Err(chunk.bad_cell(row, column, quoted(item), &pair));
                };
                push(item, id, weight)?;
            }
        }
        let (offsets, items): (_, ArrayRef) = (offsets.finish(), Arc::new(items.finish()));
        let keys = keys(chunk, column, &items, &offsets)?;
        Ok(Self { offsets, keys, weights: Some(weights) })
    }

    fn of_lists(chunk: &Chunk, column: &str, array: &ArrayRef) -> Result<Self, DataError> {
        let Lists { offsets, items } = lists(chunk, column, array)?;
        let keys = keys(chunk, column, &items, &offsets)?;
        Ok(Self { offsets, keys, weights: None })
    }

    fn of_pairs(chunk: &Chunk, column: &str, array: &ArrayRef) -> Result<Self, DataError> {
        let Lists { offsets, items } = lists(chunk, column, array)?;
        let allowed =
            "text, maps and lists of structs with a field `id` or `key` and a field `weight` or `value`";
        let pair = items.as_struct_opt().and_then(|pairs| match array.data_type() {
            DataType::Map(..) => Some((pairs.column(0), pairs.column(1))),
            _ => {
                let find = |names: [&str; 2]| names.into_iter().find_map(|name| pairs.column_by_name(name));
                find(["id", "key"]).zip(find(["weight", "value"]))
            }
        });
        let (ids, weights) = pair.ok_or_else(|| chunk.bad_type(column, array.data_type(), allowed))?;
        let weights = checked_weights(chunk, column, weights, &offsets)?;
        let keys = keys(chunk, column, ids, &offsets)?;
        Ok(Self { offsets, keys, weights: Some(weights) })
    }
}

/// The row of an item.
pub(crate) fn row_of(offsets: &[usize], item: usize) -> usize {
    offsets.partition_point(|offset| *offset <= item) - 1
}

/// A column of text of any kind as the usual one, other columns as they are.
fn usual(chunk: &Chunk, column: &str, array: &ArrayRef) -> Result<ArrayRef, DataError> {
    plain(array).map_err(|error| match error {
        NoText::Type(kind) => chunk.bad_type(column, &kind, "text and lists"),
        NoText::Bytes { index, found } => chunk.bad_cell(index, column, found, UTF8),
    })
}

/// The items of texts like `a|b|c`, or of lists as programs print them. Null and the empty text are empty lists.
fn text_lists(chunk: &Chunk, column: &str, texts: &StringArray) -> Result<Lists<ArrayRef>, DataError> {
    let mut offsets = Offsets::new(chunk.rows());
    let mut items = StringBuilder::new();
    let exact = chunk.spelling().exact_keys;
    let reader = CellReader::new(chunk.spelling());
    for (row, cell) in texts.iter().enumerate() {
        let Some(cell) = cell.and_then(|cell| reader.present(cell)) else { continue };
        if printed::is_printed(cell) && !exact {
            for item in printed_items(chunk, column, row, cell)? {
                if item.after_colon.is_some() {
                    return Err(chunk.bad_cell(row, column, quoted(cell), PRINTED));
                }
                offsets.count(row);
                items.append_value(item.text);
            }
            continue;
        }
        for item in cell.split(chunk.lists().separator) {
            offsets.count(row);
            items.append_value(item);
        }
    }
    Ok(Lists { offsets: offsets.finish(), items: Arc::new(items.finish()) })
}

fn printed_items(
    chunk: &Chunk,
    column: &str,
    row: usize,
    cell: &str,
) -> Result<Vec<printed::Item>, DataError> {
    printed::items(cell).ok_or_else(|| chunk.bad_cell(row, column, quoted(cell), PRINTED))
}

fn lists(chunk: &Chunk, column: &str, array: &ArrayRef) -> Result<Lists<ArrayRef>, DataError> {
    Lists::of_array(array).ok_or_else(|| chunk.bad_type(column, array.data_type(), "text and lists"))
}

fn keys(chunk: &Chunk, column: &str, items: &ArrayRef, offsets: &[usize]) -> Result<KeyColumn, DataError> {
    KeyColumn::new(items, chunk.spelling()).map_err(|error| match error {
        KeyError::Type(kind) => {
            chunk.bad_type(column, &format!("a list of {kind}"), &format!("lists of {KEY_TYPES}"))
        }
        KeyError::Value { index, found, allowed } => {
            chunk.bad_cell(row_of(offsets, index), column, found, allowed)
        }
    })
}

fn checked(weight: f64) -> Option<f32> {
    let weight = weight as f32;
    (weight.is_finite() && weight >= 0.0).then_some(weight)
}

fn checked_weights(
    chunk: &Chunk,
    column: &str,
    items: &ArrayRef,
    offsets: &[usize],
) -> Result<Vec<f32>, DataError> {
    let reals = RealColumn::new(items, chunk.spelling()).map_err(|_| {
        chunk.bad_type(column, &format!("a list of weights of {}", items.data_type()), "numbers")
    })?;
    let weight = |index: usize| {
        let bad = |found| chunk.bad_cell(row_of(offsets, index), column, found, WEIGHT);
        match reals.value(index) {
            Ok(Some(value)) => checked(value).ok_or_else(|| bad(format!("`{value}`"))),
            Ok(None) => Err(bad("nothing".to_owned())),
            Err(found) => Err(bad(found)),
        }
    };
    (0..items.len()).map(weight).collect()
}

/// Weights from a column of their own, as many in each row as the bag has items.
fn read_weights(chunk: &Chunk, column: &str, bag: &str, expected: &[usize]) -> Result<Vec<f32>, DataError> {
    let array = usual(chunk, column, chunk.column(column)?)?;
    let Lists { offsets, items } = match array.as_string_opt::<i32>() {
        None => lists(chunk, column, &array)?,
        Some(texts) => text_lists(chunk, column, texts)?,
    };
    let lengths = |offsets: &[usize]| offsets.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>();
    let mut both = lengths(&offsets).into_iter().zip(lengths(expected)).enumerate();
    if let Some((row, (found, expected))) = both.find(|(_, (found, expected))| found != expected) {
        let allowed = format!("{expected}, one for each item of column `{bag}`");
        return Err(chunk.bad_cell(row, column, format!("{found} weights"), &allowed));
    }
    checked_weights(chunk, column, &items, &offsets)
}
