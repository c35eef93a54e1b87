//! From outcomes to the columns of an Arrow batch.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, Float64Array, Int64Array, ListArray, StringArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{Field, FieldRef};
use arrow::record_batch::RecordBatch;

use super::outcome::Outcome;
use super::population::Population;

/// The outcomes as a batch; no column has nulls.
pub(super) fn to_batch(rows: &[Outcome], population: &Population) -> RecordBatch {
    let user = |row: &Outcome| &population.users[row.impression.user];
    let item = |row: &Outcome| &population.items[row.impression.item];
    RecordBatch::from(StructArray::from(vec![
        integers("impression_id", rows, |row| row.id as i64),
        integers("time", rows, |row| row.impression.time),
        integers("user_id", rows, |row| row.impression.user as i64),
        integers("segment", rows, |row| user(row).segment as i64),
        integers("age", rows, |row| user(row).age),
        history(rows, population),
        spend(rows, population),
        integers("item_id", rows, |row| row.impression.item as i64),
        categories("category", rows.iter().map(|row| item(row).category), population),
        reals("price", rows, |row| row.impression.price),
        reals("rating", rows, |row| item(row).rating),
        integers("hour", rows, |row| row.impression.hour()),
        integers("position", rows, |row| row.impression.position),
        integers("campaign", rows, |row| row.impression.campaign),
        integers("click", rows, |row| i64::from(row.click)),
        integers("conversion", rows, |row| i64::from(row.conversion)),
        reals("true_ctr", rows, |row| row.truth.ctr),
        reals("true_cvr", rows, |row| row.truth.cvr),
        reals("true_ctcvr", rows, |row| row.truth.ctcvr),
    ]))
}

type Column = (FieldRef, ArrayRef);

fn column(name: &str, array: ArrayRef) -> Column {
    let field = Field::new(name, array.data_type().clone(), false);
    (Arc::new(field), array)
}

fn integers(name: &str, rows: &[Outcome], value: impl Fn(&Outcome) -> i64) -> Column {
    let values = rows.iter().map(value);
    column(name, Arc::new(Int64Array::from_iter_values(values)))
}

fn reals(name: &str, rows: &[Outcome], value: impl Fn(&Outcome) -> f64) -> Column {
    let values = rows.iter().map(value);
    column(name, Arc::new(Float64Array::from_iter_values(values)))
}

fn categories(name: &str, numbers: impl Iterator<Item = usize>, population: &Population) -> Column {
    let names = numbers.map(|number| &population.categories[number].name);
    column(name, Arc::new(StringArray::from_iter_values(names)))
}

fn history(rows: &[Outcome], population: &Population) -> Column {
    let lengths = rows.iter().map(|row| row.impression.history.len());
    let entries = rows.iter().flat_map(|row| row.impression.history.iter().copied());
    list("user_history", lengths, categories("item", entries, population))
}

fn spend(rows: &[Outcome], population: &Population) -> Column {
    let lengths = rows.iter().map(|row| row.impression.spend.len());
    let entries = || rows.iter().flat_map(|row| &row.impression.spend);
    let ids = categories("id", entries().map(|entry| entry.category), population);
    let weights = Float32Array::from_iter_values(entries().map(|entry| entry.weight));
    let pairs = StructArray::from(vec![ids, column("weight", Arc::new(weights))]);
    list("user_spend", lengths, column("item", Arc::new(pairs)))
}

fn list(name: &str, lengths: impl Iterator<Item = usize>, (field, values): Column) -> Column {
    let offsets = OffsetBuffer::from_lengths(lengths);
    column(name, Arc::new(ListArray::new(field, offsets, values, None)))
}
