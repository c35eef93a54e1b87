//! One segment: impressions, their groups once, and who belongs to whom.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Schema, UInt64Type};
use arrow::record_batch::RecordBatch;

use super::GROUP_COLUMN;
use crate::column::spelling::Spelling;
use crate::error::DataError;
use crate::read::chunk::{CHUNK_ROWS, Chunk};

/// List items of group columns in a flat chunk at most, unless a single row has more.
const CHUNK_ITEMS: usize = 8 << 20;

/// A piece of the data that needs nothing of the rest.
#[derive(Debug, Clone)]
pub struct Segment {
    /// The columns that were asked for and stand in the file of impressions, one row an impression.
    pub impressions: Chunk,
    /// The columns that were asked for and stand in the file of groups, one row a group.
    pub groups: Chunk,
    /// The row of `groups` for each impression. Starts at 0 and grows by 0 or 1 from row to row.
    pub group_of: Vec<u32>,
    columns: Vec<String>,
}

impl Segment {
    /// Matches the keys of both in one walk.
    pub(super) fn join(
        columns: Vec<String>,
        (impressions, keys): (Chunk, &[u64]),
        (groups, group_keys): (Chunk, &[u64]),
    ) -> Result<Self, DataError> {
        let mut group_of = Vec::with_capacity(keys.len());
        let mut at = 0;
        let mut used = 0;
        for (row, key) in keys.iter().enumerate() {
            if row > 0 && *key != keys[row - 1] {
                at += 1;
            }
            match group_keys.get(at) {
                Some(found) if found == key => group_of.push(at as u32),
                found => {
                    let path = groups.origin().path().display();
                    let allowed = match found {
                        Some(next) => format!("{next}, the next group of {path}"),
                        None => format!("a group of this segment, of which {path} has no more"),
                    };
                    return Err(impressions.bad_cell(row, GROUP_COLUMN, format!("`{key}`"), &allowed));
                }
            }
            used = at + 1;
        }
        if used < group_keys.len() {
            let row = used;
            let key = group_keys[used];
            return Err(groups.bad_cell(row, GROUP_COLUMN, format!("`{key}`"), "a group with impressions"));
        }
        Ok(Self { impressions, groups, group_of, columns })
    }

    /// The same in pieces of so many impressions, each with the groups that it needs.
    ///
    /// # Panics
    /// When `rows` is 0.
    pub fn pieces(&self, rows: usize) -> impl Iterator<Item = Self> {
        assert!(rows > 0, "pieces of 0 rows");
        (0..self.rows()).step_by(rows).map(move |start| {
            let range = start..self.rows().min(start + rows);
            let first = self.group_of[start];
            let last = self.group_of[range.end - 1];
            Self {
                impressions: self.impressions.slice(range.clone()),
                groups: self.groups.slice(first as usize..last as usize + 1),
                group_of: self.group_of[range].iter().map(|group| group - first).collect(),
                columns: self.columns.clone(),
            }
        })
    }

    /// Some columns of all impressions, those of the groups repeated.
    ///
    /// # Errors
    /// As [`flat`](Self::flat).
    pub fn columns(&self, names: &[String]) -> Result<Chunk, DataError> {
        let only = Self { columns: names.to_vec(), ..self.clone() };
        only.flat(0..self.rows())
    }

    /// The same rows in another spelling.
    pub(crate) fn spelled(self, spelling: &Arc<Spelling>) -> Self {
        Self {
            impressions: self.impressions.spelled(spelling),
            groups: self.groups.spelled(spelling),
            ..self
        }
    }

    /// Number of impressions.
    pub fn rows(&self) -> usize {
        self.group_of.len()
    }

    /// Some impressions as a flat chunk: the columns that were asked for, in that order, those of the groups repeated.
    ///
    /// # Errors
    /// Lists that Arrow cannot repeat, because they would have more than 2^31 items.
    ///
    /// # Panics
    /// When there are no such rows.
    pub fn flat(&self, rows: Range<usize>) -> Result<Chunk, DataError> {
        let own = self.impressions.slice(rows.clone());
        let taken = UInt32Array::from(self.group_of[rows].to_vec());
        let (mut fields, mut arrays): (Vec<Arc<Field>>, Vec<ArrayRef>) = (Vec::new(), Vec::new());
        for name in &self.columns {
            let (from, array) = match own.batch().column_by_name(name) {
                Some(array) => (own.batch(), array.clone()),
                None => (self.groups.batch(), self.repeated(name, &taken)?),
            };
            let (_, field) =
                from.schema_ref().fields().find(name).ok_or_else(|| self.failed("a column is lost"))?;
            fields.push(field.clone());
            arrays.push(array);
        }
        let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(taken.len()));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
            .map_err(|error| self.failed(error))?;
        Ok(own.with_batch(batch))
    }

    /// All impressions as flat chunks, in order.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = Result<Chunk, DataError>> {
        let items = self.items();
        let mut row = 0;
        std::iter::from_fn(move || {
            let start = row;
            (start < self.rows()).then(|| {
                row = self.chunk_end(start, &items);
                self.flat(start..row)
            })
        })
    }

    /// Where a flat chunk that starts at a row ends: after 8192 rows, or before they have too many list items.
    pub(super) fn chunk_end(&self, start: usize, items: &[usize]) -> usize {
        let last = self.rows().min(start + CHUNK_ROWS);
        let mut total = 0;
        for row in start..last {
            total += items[self.group_of[row] as usize];
            if total > CHUNK_ITEMS && row > start {
                return row;
            }
        }
        last
    }

    /// List items of each group, in its longest column.
    pub(super) fn items(&self) -> Vec<usize> {
        let mut items = vec![0; self.groups.rows()];
        for column in self.groups.batch().columns() {
            if let Some(list) = column.as_list_opt::<i32>() {
                let lengths = list.value_offsets().windows(2).map(|pair| (pair[1] - pair[0]) as usize);
                items.iter_mut().zip(lengths).for_each(|(most, length)| *most = (*most).max(length));
            }
        }
        items
    }

    fn repeated(&self, column: &str, rows: &UInt32Array) -> Result<ArrayRef, DataError> {
        take(self.groups.column(column)?, rows, None).map_err(|error| self.failed(error))
    }

    fn failed(&self, reason: impl std::fmt::Display) -> DataError {
        DataError::file(self.groups.origin().path(), reason)
    }
}

/// The keys of a chunk.
pub(super) fn keys(chunk: &Chunk) -> Result<Vec<u64>, DataError> {
    let array = chunk.column(GROUP_COLUMN)?;
    let numbers = match array.data_type() {
        kind if kind.is_integer() => cast(array, &DataType::UInt64).ok(),
        _ => None,
    };
    let numbers =
        numbers.ok_or_else(|| chunk.bad_type(GROUP_COLUMN, array.data_type(), "unsigned integers"))?;
    let numbers = numbers.as_primitive::<UInt64Type>();
    match (0..numbers.len()).find(|row| numbers.is_null(*row)) {
        None => Ok(numbers.values().to_vec()),
        Some(row) => Err(chunk.bad_cell(row, GROUP_COLUMN, "nothing".to_owned(), "a number from 0")),
    }
}
