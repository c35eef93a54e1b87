//! From columns to a batch: checked once, here, and de-duplicated without hashing.

use burn::tensor::backend::Backend;

use crate::batch::{BatchInput, FeatureBatch, HostBags, HostBatch, SparseInput};
use crate::error::EsmmError;
use crate::schema::{FeatureSchema, Pooling, RowRange};

/// Turns columns into checked, de-duplicated batches. Reuses its scratch space, one stamp a table row.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    names: Vec<String>,
    pooling: Vec<Option<Pooling>>,
    dense_names: Vec<String>,
    ranges: Vec<RowRange>,
    /// Generation in which a row was last seen, and its slot then.
    stamps: Vec<(u32, u32)>,
    generation: u32,
}

impl BatchBuilder {
    /// A builder for batches of this schema. Takes 8 bytes for each table row.
    pub fn new(schema: &FeatureSchema) -> Self {
        Self {
            names: schema.sparse().map(|feature| feature.name.clone()).collect(),
            pooling: schema.sparse().map(|feature| feature.bag).collect(),
            dense_names: schema.dense().map(|feature| feature.name.clone()).collect(),
            ranges: schema.row_ranges(),
            stamps: vec![(0, 0); schema.num_rows()],
            generation: 0,
        }
    }

    /// Checks the columns and numbers the distinct table rows.
    ///
    /// # Shapes
    /// `input.sparse`: F columns of B rows; `input.dense`: one column of B values a dense feature.
    ///
    /// # Errors
    /// Columns that do not fit the schema or each other, ids beyond their table, values and weights that are not
    /// finite. The error names row and feature.
    pub fn build(&mut self, input: BatchInput<'_>) -> Result<HostBatch, EsmmError> {
        self.next_generation();
        self.collect(input, Some(Vec::new()))
    }

    /// As [`build`](Self::build), but without looking for distinct rows: less work, for batches that are only scored.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_for_inference(&mut self, input: BatchInput<'_>) -> Result<HostBatch, EsmmError> {
        self.collect(input, None)
    }

    fn collect(&mut self, input: BatchInput<'_>, touched: Option<Vec<i32>>) -> Result<HostBatch, EsmmError> {
        self.check_shape(&input)?;
        let has_bags = input.sparse.iter().any(|column| matches!(column, SparseInput::Bag { .. }));
        let mut batch = HostBatch {
            rows: input.rows,
            num_sparse: self.names.len(),
            touched,
            entries: Vec::with_capacity(input.rows * input.sparse.len()),
            bags: has_bags.then(|| HostBags { segments: Vec::new(), weights: Vec::new() }),
            dense: Vec::with_capacity(input.rows * input.dense.len()),
            num_dense: input.dense.len(),
        };
        if has_bags {
            for row in 0..input.rows {
                for (feature, column) in input.sparse.iter().enumerate() {
                    self.push_bag(&mut batch, row, feature, column)?;
                }
            }
        } else {
            self.place_singles(&mut batch, input.sparse)?;
        }
        for row in 0..input.rows {
            for (feature, column) in input.dense.iter().enumerate() {
                batch.dense.push(finite(column[row], row, &self.dense_names[feature])?);
            }
        }
        batch.fill_if_empty();
        Ok(batch)
    }

    /// Columns of single ids, feature by feature: the stamps of one table stay in the cache, and the touched rows of
    /// a feature lie together.
    fn place_singles(&mut self, batch: &mut HostBatch, columns: &[SparseInput<'_>]) -> Result<(), EsmmError> {
        batch.entries.resize(batch.rows * columns.len(), 0);
        for (feature, column) in columns.iter().enumerate() {
            let SparseInput::Single(ids) = column else { continue };
            let places = batch.entries[feature..].iter_mut().step_by(columns.len());
            for (row, (&id, place)) in ids.iter().zip(places).enumerate() {
                let arena_row = self.arena_row(row, feature, id)?;
                *place = match &mut batch.touched {
                    Some(touched) => self.slot(touched, arena_row),
                    None => arena_row as i32,
                };
            }
        }
        Ok(())
    }

    fn next_generation(&mut self) {
        if self.generation == u32::MAX {
            self.stamps.fill((0, 0));
            self.generation = 0;
        }
        self.generation += 1;
    }

    fn push_bag(
        &mut self,
        batch: &mut HostBatch,
        row: usize,
        feature: usize,
        column: &SparseInput<'_>,
    ) -> Result<(), EsmmError> {
        let (ids, weights) = column.bag(row);
        let scale = match self.pooling[feature] {
            Some(Pooling::Mean) => mean_scale(ids.len(), weights),
            _ => 1.0,
        };
        for (position, &id) in ids.iter().enumerate() {
            let arena_row = self.arena_row(row, feature, id)?;
            batch.entries.push(match &mut batch.touched {
                Some(touched) => self.slot(touched, arena_row),
                None => arena_row as i32,
            });
            if let Some(bags) = &mut batch.bags {
                let weight = weights.map_or(1.0, |weights| weights[position]);
                bags.segments.push((row * self.names.len() + feature) as i32);
                bags.weights.push(finite(weight, row, &self.names[feature])? * scale);
            }
        }
        Ok(())
    }

    #[inline]
    fn arena_row(&self, row: usize, feature: usize, id: u32) -> Result<usize, EsmmError> {
        let range = self.ranges[feature];
        if id as usize >= range.len {
            let name = self.names[feature].clone();
            let (found, max) = (u64::from(id), range.len as u64 - 1);
            return Err(EsmmError::IdOutOfRange { row, name, found, max });
        }
        Ok(range.start + id as usize)
    }

    /// The place of a row in `touched`.
    #[inline]
    fn slot(&mut self, touched: &mut Vec<i32>, arena_row: usize) -> i32 {
        let stamp = &mut self.stamps[arena_row];
        if stamp.0 != self.generation {
            *stamp = (self.generation, touched.len() as u32);
            touched.push(arena_row as i32);
        }
        stamp.1 as i32
    }

    fn check_shape(&self, input: &BatchInput<'_>) -> Result<(), EsmmError> {
        expect_len("sparse features", input.sparse.len(), self.names.len())?;
        expect_len("dense features", input.dense.len(), self.dense_names.len())?;
        expect_at_least_one(input.rows)?;
        for (column, (name, pooling)) in input.sparse.iter().zip(self.names.iter().zip(&self.pooling)) {
            column.check(input.rows, name, pooling.is_some())?;
        }
        for (column, name) in input.dense.iter().zip(&self.dense_names) {
            expect_len(&format!("feature `{name}`, values"), column.len(), input.rows)?;
        }
        Ok(())
    }
}

impl<'a> SparseInput<'a> {
    fn bag(&self, row: usize) -> (&'a [u32], Option<&'a [f32]>) {
        match *self {
            Self::Single(ids) => (&ids[row..=row], None),
            Self::Bag { offsets, ids, weights } => {
                let range = offsets[row]..offsets[row + 1];
                (&ids[range.clone()], weights.map(|weights| &weights[range]))
            }
        }
    }

    fn check(&self, rows: usize, name: &str, is_bag: bool) -> Result<(), EsmmError> {
        let shape = |what: &str, found: String, expected: String| EsmmError::BatchShape {
            what: format!("feature `{name}`, {what}"),
            found,
            expected,
        };
        match *self {
            Self::Single(_) if is_bag => Err(shape("input", "single ids".into(), "bags".into())),
            Self::Bag { .. } if !is_bag => Err(shape("input", "bags".into(), "single ids".into())),
            Self::Single(ids) => expect_len(&format!("feature `{name}`, ids"), ids.len(), rows),
            Self::Bag { offsets, ids, weights } => {
                expect_len(&format!("feature `{name}`, offsets"), offsets.len(), rows + 1)?;
                let rising = offsets[0] == 0 && offsets.windows(2).all(|pair| pair[0] <= pair[1]);
                if !rising || offsets[rows] != ids.len() {
                    let expected = format!("numbers rising from 0 to {}", ids.len());
                    return Err(shape("offsets", "others".into(), expected));
                }
                weights.map_or(Ok(()), |weights| {
                    expect_len(&format!("feature `{name}`, weights"), weights.len(), ids.len())
                })
            }
        }
    }
}

impl<B: Backend> FeatureBatch<B> {
    /// Checks the columns and uploads them: the short way for a single batch.
    ///
    /// # Errors
    /// As [`BatchBuilder::build`].
    pub fn new(schema: &FeatureSchema, input: BatchInput<'_>, device: &B::Device) -> Result<Self, EsmmError> {
        Ok(BatchBuilder::new(schema).build(input)?.to_device(device))
    }
}

fn mean_scale(len: usize, weights: Option<&[f32]>) -> f32 {
    let total = weights.map_or(len as f32, |weights| weights.iter().sum());
    if total == 0.0 { 0.0 } else { total.recip() }
}

fn finite(found: f32, row: usize, name: &str) -> Result<f32, EsmmError> {
    if found.is_finite() {
        Ok(found)
    } else {
        Err(EsmmError::NotFinite { row, name: name.to_owned(), found })
    }
}

fn expect_len(what: &str, found: usize, expected: usize) -> Result<(), EsmmError> {
    if found == expected {
        return Ok(());
    }
    Err(EsmmError::BatchShape { what: what.into(), found: found.to_string(), expected: expected.to_string() })
}

fn expect_at_least_one(rows: usize) -> Result<(), EsmmError> {
    if rows > 0 {
        return Ok(());
    }
    Err(EsmmError::BatchShape { what: "rows".into(), found: "0".into(), expected: "at least 1".into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Feature, Side};

    fn schema() -> FeatureSchema {
        FeatureSchema::new(vec![
            Feature::sparse("user", Side::User, 5),
            Feature::bag("history", Side::User, 0, Pooling::Mean).sharing("item"),
            Feature::sparse("item", Side::Item, 4),
            Feature::dense("price", Side::Item),
        ])
        .unwrap()
    }

    fn build(user: &[u32], weights: Option<&[f32]>, price: &[f32]) -> Result<HostBatch, EsmmError> {
        let history = SparseInput::Bag { offsets: &[0, 2, 2], ids: &[3, 1], weights };
        let sparse = [SparseInput::Single(user), history, SparseInput::Single(&[1, 1])];
        BatchBuilder::new(&schema()).build(BatchInput { rows: 2, sparse: &sparse, dense: &[price] })
    }

    #[test]
    fn rows_are_numbered_once_and_means_divided() {
        let batch = build(&[4, 4], Some(&[1.0, 3.0]), &[0.5, 1.5]).unwrap();
        assert_eq!(batch.touched.unwrap(), [4, 8, 6]);
        assert_eq!(batch.entries, [0, 1, 2, 2, 0, 2]);
        let bags = batch.bags.unwrap();
        assert_eq!(bags.segments, [0, 1, 1, 2, 3, 5]);
        assert_eq!(bags.weights, [1.0, 0.25, 0.75, 1.0, 1.0, 1.0]);
        assert_eq!(batch.dense, [0.5, 1.5]);
    }

    #[test]
    fn batches_for_inference_name_their_rows() {
        let sparse = [
            SparseInput::Single(&[4, 4]),
            SparseInput::Bag { offsets: &[0, 2, 2], ids: &[3, 1], weights: None },
            SparseInput::Single(&[1, 1]),
        ];
        let input = BatchInput { rows: 2, sparse: &sparse, dense: &[&[0.5, 1.5]] };
        let batch = BatchBuilder::new(&schema()).build_for_inference(input).unwrap();
        assert_eq!((batch.num_touched(), batch.entries), (None, vec![4, 8, 6, 6, 4, 6]));
        assert_eq!(batch.bags.unwrap().weights, [1.0, 0.5, 0.5, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn a_builder_forgets_the_batch_before() {
        let schema = FeatureSchema::new(vec![Feature::sparse("user", Side::User, 5)]).unwrap();
        let mut builder = BatchBuilder::new(&schema);
        for user in [3, 4, 3] {
            let sparse = [SparseInput::Single(&[user])];
            let batch = builder.build(BatchInput { rows: 1, sparse: &sparse, dense: &[] }).unwrap();
            assert_eq!((batch.touched.unwrap(), batch.entries), (vec![user as i32], vec![0]));
        }
    }

    #[test]
    fn bad_input_names_row_and_feature() {
        let message = |result: Result<HostBatch, EsmmError>| result.unwrap_err().to_string();
        assert_eq!(
            message(build(&[0, 5], None, &[0.0, 0.0])),
            "row 1, feature `user`: id 5 is out of range, allowed are 0 to 4"
        );
        assert_eq!(
            message(build(&[0, 0], None, &[0.0, f32::NAN])),
            "row 1, feature `price`: NaN is not a finite number"
        );
        assert!(message(build(&[0, 0], Some(&[1.0, f32::INFINITY]), &[0.0, 0.0])).contains("`history`: inf"));
        assert!(message(build(&[0], None, &[0.0, 0.0])).contains("feature `user`, ids: found 1, expected 2"));
        assert!(message(build(&[0, 0], None, &[0.0])).contains("`price`, values: found 1, expected 2"));
    }
}
