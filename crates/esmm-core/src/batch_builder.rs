//! From columns to a batch: checked once, here, and de-duplicated without hashing.

use std::sync::Arc;

use crate::backend::{DeviceFacts, HostIndices, SharedFeatures};
use crate::batch::{HostBatch, HostGroups, HostPart};
use crate::batch_columns::{Column, Columns, is_of_users};
use crate::batch_input::{BatchInput, SparseInput, expect_len};
use crate::error::EsmmError;
use crate::placed_ids::{self, IdColumn};
use crate::row_numbers::RowNumbers;
use crate::schema::{DenseFeature, FeatureSchema, Pooling, RowRange};

/// Turns columns into checked, de-duplicated batches. Reuses its scratch space, one stamp a table row.
///
/// # Examples
/// ```
/// use esmm_core::{BatchBuilder, BatchInput, Feature, FeatureSchema, Side, SparseInput};
///
/// # fn main() -> Result<(), esmm_core::EsmmError> {
/// let schema = FeatureSchema::new(vec![Feature::sparse("user", Side::User, 1000)])?;
/// let mut builder = BatchBuilder::new(&schema);
/// let users = |ids: &[u32]| {
///     let sparse = [SparseInput::Single(ids)];
///     builder.build(BatchInput { rows: ids.len(), sparse: &sparse, dense: &[], groups: None })
/// };
/// let [first, second] = [&[17, 4, 17][..], &[1000]].map(users);
/// assert_eq!(first?.num_touched(), Some(2));
/// let told = "row 0, feature `user`: id 1000 is out of range, allowed are 0 to 999";
/// assert!(second.is_err_and(|error| error.to_string() == told));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    names: Vec<String>,
    pooling: Vec<Option<Pooling>>,
    dense: Vec<DenseFeature>,
    ranges: Vec<RowRange>,
    /// The features of users: what groups share.
    users: Arc<SharedFeatures>,
    numbers: RowNumbers,
    /// Places of the ids of one column, or of several one after the other.
    slots: Vec<u32>,
    schema: Arc<FeatureSchema>,
    /// Whether the device finds the distinct rows.
    leaves_rows: bool,
    /// Whether the device reads positions among bins.
    leaves_positions: bool,
}

/// Where the entries of a part find their rows, and with bags which bag each belongs to and with what weight.
struct Entries {
    slots: Vec<u32>,
    weighted: Option<(Vec<u32>, Vec<f32>)>,
}

impl BatchBuilder {
    /// A builder for batches of this schema. Takes 4 bytes for each table row.
    pub fn new(schema: &FeatureSchema) -> Self {
        Self::with_stamps(schema, schema.num_rows())
    }

    /// A builder for batches that kernels of B will train on. Where these find the distinct rows themselves, batches are only
    /// checked, and the builder keeps nothing for each table row; where they read a column for each bin of a dense feature,
    /// it writes them.
    pub fn for_backend<B: DeviceFacts>(schema: &FeatureSchema) -> Self {
        let stamped = if B::FINDS_ROWS { 0 } else { schema.num_rows() };
        Self {
            leaves_rows: B::FINDS_ROWS,
            leaves_positions: B::READS_POSITIONS,
            ..Self::with_stamps(schema, stamped)
        }
    }

    /// A builder with room for the numbers of so many table rows.
    fn with_stamps(schema: &FeatureSchema, stamped: usize) -> Self {
        Self {
            names: schema.sparse().map(|feature| feature.name.clone()).collect(),
            pooling: schema.sparse().map(|feature| feature.bag).collect(),
            dense: schema.dense().cloned().collect(),
            ranges: schema.row_ranges(),
            users: Arc::new(SharedFeatures::of_users(schema)),
            numbers: RowNumbers::new(stamped),
            slots: Vec::new(),
            schema: Arc::new(schema.clone()),
            leaves_rows: false,
            leaves_positions: true,
        }
    }

    /// The same, leaving it to the device to find the distinct rows of batches: [`DeviceFacts::FINDS_ROWS`].
    pub fn leaving_rows(self) -> Self {
        Self { leaves_rows: true, ..self }
    }

    /// Checks the columns and numbers the distinct table rows, unless the device is to find them.
    ///
    /// # Shapes
    /// `input.sparse`: F columns of B rows; `input.dense`: one column of B values a dense feature. With
    /// `input.groups` the columns of user features have G entries.
    ///
    /// # Errors
    /// Columns that do not fit the schema or each other, ids beyond their table, values and weights that are not
    /// finite, positions beyond a feature's bins. The error names row (or group) and feature.
    pub fn build(&mut self, input: BatchInput<'_>) -> Result<HostBatch, EsmmError> {
        self.collect(input, Some(Vec::new()))
    }

    /// As [`build`](Self::build), but without looking for distinct rows: less work, for batches that are only scored.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_for_inference(&mut self, input: BatchInput<'_>) -> Result<HostBatch, EsmmError> {
        self.collect(input, None)
    }

    fn collect(
        &mut self,
        input: BatchInput<'_>,
        mut touched: Option<Vec<u32>>,
    ) -> Result<HostBatch, EsmmError> {
        self.check_shape(&input)?;
        self.numbers.start_batch(input.sparse.iter().map(|column| column.ids().len()).sum());
        let (own, shared) = Columns::split(&input, &self.users, &self.dense);
        if self.leaves_rows {
            touched = None;
        }
        let own = self.part(&own, &mut touched)?;
        let groups = match shared {
            None => None,
            Some((columns, of_rows)) => Some(Box::new(HostGroups {
                part: self.part(&columns, &mut touched)?,
                of_rows: HostIndices::new(of_rows.to_vec()),
                features: self.users.clone(),
            })),
        };
        Ok(HostBatch { own, groups, touched: touched.map(touched_rows), schema: self.schema.clone() })
    }

    fn part(&mut self, columns: &Columns<'_>, touched: &mut Option<Vec<u32>>) -> Result<HostPart, EsmmError> {
        let is_bag = |column: &Column<'_, SparseInput<'_>>| matches!(column.values, SparseInput::Bag { .. });
        let mut entries = if columns.sparse.iter().any(is_bag) {
            self.place_bags(columns.rows, &columns.sparse, touched)?
        } else {
            self.place_singles(columns.rows, &columns.sparse, touched)?
        };
        entries.avoid_none();
        let mut dense = Vec::with_capacity(columns.rows * columns.dense.len());
        for row in 0..columns.rows {
            for column in &columns.dense {
                let entry = column.entry(row);
                dense.push(checked(column.values[entry], entry, &self.dense[column.feature])?);
            }
        }
        let weighted = entries.weighted.map(|(segments, weights)| (HostIndices::new(segments), weights));
        let features = || columns.dense.iter().map(|column| &self.dense[column.feature]);
        let has_bins = features().any(|feature| feature.bins.is_some());
        let part = HostPart {
            rows: columns.rows,
            num_sparse: columns.sparse.len(),
            entries: HostIndices::new(entries.slots),
            weighted,
            dense,
            num_dense: columns.dense.len(),
            bins: has_bins.then(|| features().map(DenseFeature::width).collect()),
        };
        Ok(if self.leaves_positions { part } else { part.with_columns_of_bins() })
    }

    fn place_singles(
        &mut self,
        rows: usize,
        columns: &[Column<'_, SparseInput<'_>>],
        touched: &mut Option<Vec<u32>>,
    ) -> Result<Entries, EsmmError> {
        if touched.is_none() && columns.iter().all(|column| column.entry_of.is_none()) {
            let table = |column: &Column<'_, _>| self.ranges[column.feature];
            let ids =
                columns.iter().map(|column| IdColumn { ids: column.values.ids(), table: table(column) });
            let placed = placed_ids::place(&ids.collect::<Vec<_>>(), rows);
            let slots = placed.map_err(|beyond| self.out_of_range(&columns[beyond]))?;
            return Ok(Entries { slots, weighted: None });
        }
        let mut slots = vec![0; rows * columns.len()];
        for (place, column) in columns.iter().enumerate() {
            self.slots.clear();
            self.find_slots(column, touched)?;
            let places = slots[place..].iter_mut().step_by(columns.len());
            for (row, entry) in places.enumerate() {
                *entry = self.slots[column.entry(row)];
            }
        }
        Ok(Entries { slots, weighted: None })
    }

    fn place_bags(
        &mut self,
        rows: usize,
        columns: &[Column<'_, SparseInput<'_>>],
        touched: &mut Option<Vec<u32>>,
    ) -> Result<Entries, EsmmError> {
        // Where the places of each column begin among those of all.
        let mut firsts = Vec::with_capacity(columns.len());
        self.slots.clear();
        for column in columns {
            firsts.push(self.slots.len());
            self.find_slots(column, touched)?;
            self.check_weights(column)?;
        }
        let mut slots = Vec::with_capacity(self.slots.len());
        let mut segments = Vec::with_capacity(self.slots.len());
        let mut weights = Vec::with_capacity(self.slots.len());
        let mut bag = 0;
        for row in 0..rows {
            for (column, first) in columns.iter().zip(&firsts) {
                let range = column.values.range(column.entry(row));
                slots.extend_from_slice(&self.slots[first + range.start..first + range.end]);
                segments.extend(std::iter::repeat_n(bag, range.len()));
                self.weigh(column, range, &mut weights);
                bag += 1;
            }
        }
        Ok(Entries { slots, weighted: Some((segments, weights)) })
    }

    fn check_weights(&self, column: &Column<'_, SparseInput<'_>>) -> Result<(), EsmmError> {
        let values = column.values;
        let Some(weights) = values.weights() else { return Ok(()) };
        // All of them, so that the processor looks at several at once.
        if weights.iter().fold(true, |finite, weight| finite & weight.is_finite()) {
            return Ok(());
        }
        let name = &self.names[column.feature];
        (0..values.len()).try_for_each(|entry| {
            let of_entry = weights[values.range(entry)].iter();
            of_entry.copied().try_for_each(|weight| finite(weight, entry, name).map(|_| ()))
        })
    }

    /// Appends the weights of a bag, the sum of a mean divided out.
    fn weigh(
        &self,
        column: &Column<'_, SparseInput<'_>>,
        bag: std::ops::Range<usize>,
        weights: &mut Vec<f32>,
    ) {
        let first = weights.len();
        match column.values.weights() {
            Some(of_column) => weights.extend_from_slice(&of_column[bag]),
            None => weights.extend(std::iter::repeat_n(1.0, bag.len())),
        }
        if self.pooling[column.feature] == Some(Pooling::Mean) {
            let weights = &mut weights[first..];
            let total: f32 = weights.iter().sum();
            let scale = if total == 0.0 { 0.0 } else { total.recip() };
            weights.iter_mut().for_each(|weight| *weight *= scale);
        }
    }

    /// Appends the place in `touched` of every id of a column, or its row of the arena where nobody asks.
    fn find_slots(
        &mut self,
        column: &Column<'_, SparseInput<'_>>,
        touched: &mut Option<Vec<u32>>,
    ) -> Result<(), EsmmError> {
        let ids = column.values.ids();
        let range = self.ranges[column.feature];
        let largest = ids.iter().fold(0, |largest: u32, id| largest.max(*id));
        if !ids.is_empty() && largest as usize >= range.len {
            return Err(self.out_of_range(column));
        }
        match touched {
            Some(touched) => self.numbers.number(range, ids, touched, &mut self.slots),
            None => self.slots.extend(ids.iter().map(|&id| range.start as u32 + id)),
        }
        Ok(())
    }

    fn out_of_range(&self, column: &Column<'_, SparseInput<'_>>) -> EsmmError {
        let values = column.values;
        let len = self.ranges[column.feature].len;
        let beyond = |row: &usize| values.ids()[values.range(*row)].iter().any(|&id| id as usize >= len);
        let row = (0..values.len()).find(beyond).unwrap_or(0);
        let found = values.ids()[values.range(row)].iter().copied().find(|&id| id as usize >= len);
        let name = self.names[column.feature].clone();
        let found = u64::from(found.unwrap_or(0));
        EsmmError::IdOutOfRange { row, name, found, max: len as u64 - 1 }
    }

    fn check_shape(&self, input: &BatchInput<'_>) -> Result<(), EsmmError> {
        expect_len("sparse features", input.sparse.len(), self.names.len())?;
        expect_len("dense features", input.dense.len(), self.dense.len())?;
        expect_at_least_one(input.rows)?;
        let mut of_users = input.rows;
        if let Some(groups) = input.groups {
            groups.check(input.rows)?;
            of_users = groups.count;
        }
        let entries = |is_users: bool| if is_users { of_users } else { input.rows };
        for (feature, column) in input.sparse.iter().enumerate() {
            let is_bag = self.pooling[feature].is_some();
            column.check(entries(self.users.sparse[feature]), &self.names[feature], is_bag)?;
        }
        for (feature, column) in input.dense.iter().enumerate() {
            let what = format!("feature `{}`, values", self.dense[feature].name);
            expect_len(&what, column.len(), entries(is_of_users(&self.dense[feature])))?;
        }
        Ok(())
    }
}

impl Entries {
    /// Not every backend takes tensors without elements: where there is no entry, one reads row 0 with weight 0.
    fn avoid_none(&mut self) {
        if self.slots.is_empty() {
            self.slots.push(0);
            if let Some((segments, weights)) = &mut self.weighted {
                segments.push(0);
                weights.push(0.0);
            }
        }
    }
}

/// The distinct rows; where there is none, row 0.
fn touched_rows(mut rows: Vec<u32>) -> HostIndices {
    if rows.is_empty() {
        rows.push(0);
    }
    HostIndices::new(rows)
}

/// A number of a dense feature.
fn checked(found: f32, row: usize, feature: &DenseFeature) -> Result<f32, EsmmError> {
    let DenseFeature { name, bins, .. } = feature;
    let number = finite(found, row, name)?;
    match *bins {
        Some(bins) if !(0.0..=bins as f32).contains(&number) => {
            Err(EsmmError::OutOfBins { row, name: name.clone(), found, bins })
        }
        Some(_) | None => Ok(number),
    }
}

fn finite(found: f32, row: usize, name: &str) -> Result<f32, EsmmError> {
    if found.is_finite() {
        Ok(found)
    } else {
        Err(EsmmError::NotFinite { row, name: name.to_owned(), found })
    }
}

fn expect_at_least_one(rows: usize) -> Result<(), EsmmError> {
    if rows > 0 {
        return Ok(());
    }
    Err(EsmmError::BatchShape { what: "rows".into(), found: "0".into(), expected: "at least 1".into() })
}

#[cfg(test)]
mod tests;
