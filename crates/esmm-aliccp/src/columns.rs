//! Rows of features as columns of Arrow arrays, and packed as bytes while they wait to be sorted.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, Int32Array, ListArray};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field as ArrowField};

use crate::field::{FIELDS, Layout, Table, fields_of};
use crate::parse::Features;

/// A row that the layout cannot hold: a field that takes one value has several, or one that is not 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooNarrow {
    pub(crate) field: usize,
}

/// Columns that are being filled, one or two for each field of a table.
#[derive(Debug)]
pub(crate) struct Columns {
    columns: Vec<Column>,
}

#[derive(Debug)]
struct Column {
    field: usize,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Single { ids: Vec<i32>, valid: Vec<bool> },
    Bag { offsets: Vec<i32>, ids: Vec<i32>, weights: Vec<f32> },
}

/// The Arrow fields of a table: what [`Columns::finish`] returns.
pub(crate) fn arrow_fields(table: Table, layout: Layout) -> Vec<ArrowField> {
    let mut fields = Vec::new();
    for field in fields_of(table) {
        let code = FIELDS[field].code;
        match layout.is_bag(field) {
            false => fields.push(ArrowField::new(code, DataType::Int32, true)),
            true => {
                fields.push(ArrowField::new(code, list_of(DataType::Int32), false));
                fields.push(ArrowField::new(weights_column(code), list_of(DataType::Float32), false));
            }
        }
    }
    fields
}

/// The column with the weights of a field.
pub(crate) fn weights_column(code: &str) -> String {
    format!("{code}_weights")
}

fn list_of(kind: DataType) -> DataType {
    DataType::List(item(kind))
}

fn item(kind: DataType) -> Arc<ArrowField> {
    Arc::new(ArrowField::new("item", kind, false))
}

impl Columns {
    /// Without rows.
    pub(crate) fn new(table: Table, layout: Layout) -> Self {
        let column = |field| {
            let values = match layout.is_bag(field) {
                false => Values::Single { ids: Vec::new(), valid: Vec::new() },
                true => Values::Bag { offsets: vec![0], ids: Vec::new(), weights: Vec::new() },
            };
            Column { field, values }
        };
        Self { columns: fields_of(table).map(column).collect() }
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, features: &Features) -> Result<(), TooNarrow> {
        for Column { field, values } in &mut self.columns {
            let new = features.of(*field);
            match values {
                Values::Single { ids, valid } => match (new.ids.as_slice(), new.weights.as_slice()) {
                    ([], _) => {
                        ids.push(0);
                        valid.push(false);
                    }
                    ([id], [1.0]) => {
                        ids.push(*id);
                        valid.push(true);
                    }
                    _ => return Err(TooNarrow { field: *field }),
                },
                Values::Bag { offsets, ids, weights } => {
                    ids.extend_from_slice(&new.ids);
                    weights.extend_from_slice(&new.weights);
                    offsets.push(ids.len() as i32);
                }
            }
        }
        Ok(())
    }

    /// Adds a row that was packed with the same layout.
    ///
    /// # Errors
    /// `None` when the bytes are not what [`pack`] makes.
    pub(crate) fn push_packed(&mut self, mut bytes: &[u8]) -> Option<()> {
        for Column { field, values } in &mut self.columns {
            let count = match bytes {
                [place, rest @ ..] if usize::from(*place) == *field => {
                    let (count, rest) = rest.split_first_chunk::<4>()?;
                    bytes = rest;
                    u32::from_le_bytes(*count) as usize
                }
                _ => 0,
            };
            let (packed, rest) = bytes.split_at_checked(4 * count)?;
            bytes = rest;
            match values {
                Values::Single { ids, valid } => {
                    ids.push(numbers(packed).map(i32::from_le_bytes).next().unwrap_or(0));
                    valid.push(count > 0);
                }
                Values::Bag { offsets, ids, weights } => {
                    ids.extend(numbers(packed).map(i32::from_le_bytes));
                    let (packed, rest) = bytes.split_at_checked(4 * count)?;
                    bytes = rest;
                    weights.extend(numbers(packed).map(f32::from_le_bytes));
                    offsets.push(ids.len() as i32);
                }
            }
        }
        bytes.is_empty().then_some(())
    }

    /// The columns in the order of [`arrow_fields`].
    pub(crate) fn finish(self) -> Vec<ArrayRef> {
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(2 * self.columns.len());
        for column in self.columns {
            match column.values {
                Values::Single { ids, valid } => {
                    let nulls = NullBuffer::from(valid);
                    let nulls = (nulls.null_count() > 0).then_some(nulls);
                    arrays.push(Arc::new(Int32Array::new(ids.into(), nulls)));
                }
                Values::Bag { offsets, ids, weights } => {
                    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
                    let list = |kind, values| ListArray::new(item(kind), offsets.clone(), values, None);
                    arrays.push(Arc::new(list(DataType::Int32, Arc::new(Int32Array::from(ids)))));
                    arrays.push(Arc::new(list(DataType::Float32, Arc::new(Float32Array::from(weights)))));
                }
            }
        }
        arrays
    }
}

/// A row of a table as bytes: for each field that is there its place, the count, the ids, and in a bag the weights.
pub(crate) fn pack(
    table: Table,
    layout: Layout,
    features: &Features,
    bytes: &mut Vec<u8>,
) -> Result<(), TooNarrow> {
    for field in fields_of(table) {
        let values = features.of(field);
        if values.ids.is_empty() {
            continue;
        }
        bytes.push(field as u8);
        bytes.extend((values.ids.len() as u32).to_le_bytes());
        values.ids.iter().for_each(|id| bytes.extend(id.to_le_bytes()));
        match layout.is_bag(field) {
            true => values.weights.iter().for_each(|weight| bytes.extend(weight.to_le_bytes())),
            false if values.weights == [1.0] => {}
            false => return Err(TooNarrow { field }),
        }
    }
    Ok(())
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> {
    bytes.as_chunks::<4>().0.iter().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::CommonLine;

    /// Packed and pushed directly, rows make the same arrays.
    #[test]
    fn packing_keeps_everything() {
        let lines: [&[u8]; 3] = [
            b"a,5,101\x027\x031.0\x01109_14\x021\x030.5\x01109_14\x022\x031.5\x01127\x023\x031.0\x01109_14\x021\x032.5",
            b"b,0,",
            b"c,1,150_14\x029\x030.25",
        ];
        let layout = Layout::official();
        let mut direct = Columns::new(Table::Common, layout);
        let mut packed = Columns::new(Table::Common, layout);
        let mut features = Features::default();
        for line in lines {
            CommonLine::cut(line).unwrap().read(&mut features).unwrap();
            direct.push(&features).unwrap();
            let mut bytes = Vec::new();
            pack(Table::Common, layout, &features, &mut bytes).unwrap();
            packed.push_packed(&bytes).unwrap();
            bytes.pop();
            assert!(bytes.is_empty() || Columns::new(Table::Common, layout).push_packed(&bytes).is_none());
        }
        let direct = direct.finish();
        let packed = packed.finish();
        assert_eq!(direct.len(), arrow_fields(Table::Common, layout).len());
        assert_eq!(direct, packed);
    }

    #[test]
    fn a_second_value_needs_a_wider_layout() {
        let mut features = Features::default();
        let layout = Layout::official();
        for line in [&b"a,2,101\x027\x031.0\x01101\x028\x031.0"[..], b"a,1,101\x027\x030.5"] {
            CommonLine::cut(line).unwrap().read(&mut features).unwrap();
            let narrow = Err(TooNarrow { field: 0 });
            assert_eq!(Columns::new(Table::Common, layout).push(&features), narrow);
            assert_eq!(pack(Table::Common, layout, &features, &mut Vec::new()), narrow);
            assert_eq!(Columns::new(Table::Common, layout.widened(0)).push(&features), Ok(()));
        }
    }
}
