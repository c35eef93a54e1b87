//! Columns of lists, whatever their Arrow type: where each row's items begin, and all items one after another.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::DataType;

/// All items of a column of lists; those of row `i` are `offsets[i]..offsets[i + 1]`.
#[derive(Debug)]
pub struct Lists<T> {
    /// Where each row's items begin, and where the last one's end: one entry more than there are rows.
    pub offsets: Vec<usize>,
    /// All items, one after another.
    pub items: T,
}

impl Lists<ArrayRef> {
    /// The items of lists, maps (as structs of key and value), and of single values as lists of one. Null is an empty
    /// list. `None` when Arrow refuses.
    pub fn of_array(array: &ArrayRef) -> Option<Self> {
        let (ranges, items): (Vec<Range<usize>>, ArrayRef) = match array.data_type() {
            DataType::List(_) => {
                (ranges(array.as_list::<i32>().value_offsets()), array.as_list::<i32>().values().clone())
            }
            DataType::LargeList(_) => {
                (ranges(array.as_list::<i64>().value_offsets()), array.as_list::<i64>().values().clone())
            }
            DataType::Map(..) => {
                let map = array.as_map();
                (ranges(map.value_offsets()), std::sync::Arc::new(map.entries().clone()))
            }
            DataType::FixedSizeList(_, width) => {
                let width = *width as usize;
                let ranges = (0..array.len()).map(|row| row * width..(row + 1) * width).collect();
                (ranges, array.as_fixed_size_list().values().clone())
            }
            _ => ((0..array.len()).map(|row| row..row + 1).collect(), array.clone()),
        };
        let mut indices = Vec::with_capacity(items.len());
        let mut offsets = vec![0];
        for (row, range) in ranges.into_iter().enumerate() {
            if array.is_valid(row) && array.data_type() != &DataType::Null {
                indices.extend(range.map(|index| index as u64));
            }
            offsets.push(indices.len());
        }
        let items = take(&items, &UInt64Array::from(indices), None).ok()?;
        Some(Self { offsets, items })
    }
}

fn ranges<O: OffsetSizeTrait>(offsets: &[O]) -> Vec<Range<usize>> {
    offsets.windows(2).map(|pair| pair[0].as_usize()..pair[1].as_usize()).collect()
}

/// Offsets of lists whose items come in the order of their rows.
#[derive(Debug)]
pub(crate) struct Offsets(Vec<usize>);

impl Offsets {
    /// Of as many empty lists as there are rows.
    pub(crate) fn new(rows: usize) -> Self {
        Self(vec![0; rows + 1])
    }

    /// One more item.
    pub(crate) fn count(&mut self, row: usize) {
        self.0[row + 1] += 1;
    }

    /// The sums.
    pub(crate) fn finish(mut self) -> Vec<usize> {
        let mut total = 0;
        for offset in &mut self.0 {
            total += *offset;
            *offset = total;
        }
        self.0
    }
}
