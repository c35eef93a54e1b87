//! A part of the features, and its share of the first layer.

use std::ops::Range;

use esmm_core::{DenseFeature, EsmmConfig, Feature, Pooling, SparseInput};
use pulp::Simd;

use crate::aligned::Aligned;
use crate::error::RankError;
use crate::kernel::{Bend, Matrix, Output, Rows, Start, add_scaled, layer, padded};
use crate::prefetch::Ahead;
use crate::stairs::{self, Stairs};
use crate::weights::{FoldedLayer, input_columns};

/// Tables, `[copy][table]`: each `[num_embeddings * D]`.
pub(crate) type Tables = Vec<Vec<Aligned<f32>>>;

/// Which part of a request a feature comes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// User and context: once a request.
    Query,
    /// The item: once a model for an item of the [`Catalogue`](crate::Catalogue).
    Item,
    /// Both, as the position of an item on the page: once a candidate.
    Pair,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 3] = [Self::Query, Self::Item, Self::Pair];
}

/// Columns of the features of one part, in the schema's order; ids are rows of the features' own tables.
#[derive(Debug, Clone, Copy, Default)]
pub struct Columns<'a> {
    /// Number of rows.
    pub rows: usize,
    /// One entry a sparse feature.
    pub sparse: &'a [SparseInput<'a>],
    /// One slice of as many values as rows for each dense feature: numbers, or positions among its bins.
    pub dense: &'a [&'a [f32]],
}

/// A sparse feature of a part.
#[derive(Debug)]
struct Lookup {
    name: String,
    /// Which table it reads.
    table: usize,
    /// Rows of the table.
    len: usize,
    bag: Option<Pooling>,
}

/// The features of a part with their weights of the first layer.
#[derive(Debug)]
pub(crate) struct Share {
    sparse: Vec<Lookup>,
    dense: Vec<DenseFeature>,
    dim: usize,
    /// Columns that are multiplied: those of features without [`Stairs`].
    width: usize,
    /// One a copy of the tables: `[width, outputs of the towers that read it]`.
    weights: Vec<Matrix>,
    /// One a copy of the tables: for each dense feature its bins, where it is added.
    stairs: Vec<Vec<Option<Stairs>>>,
    /// Floats a row of the first layer's sums of all towers.
    stride: usize,
}

impl Share {
    /// The part's features are those for which `belongs` holds, of all features of the schema.
    pub(crate) fn new(
        config: &EsmmConfig,
        first: &[FoldedLayer],
        belongs: impl Fn(&Feature) -> bool,
    ) -> Self {
        let dim = config.embedding_dim;
        let tables: Vec<&str> = config.schema.tables().map(|table| table.name.as_str()).collect();
        let ranges = config.schema.row_ranges();
        let (mut sparse, mut dense) = (Vec::new(), Vec::new());
        let mut embedded = Vec::new();
        let mut number = 0;
        for (feature, columns) in config.schema.features().iter().zip(input_columns(config)) {
            match feature {
                Feature::Sparse(feature_of_table) => {
                    if belongs(feature) {
                        let owner = feature_of_table.shares.as_deref().unwrap_or(&feature_of_table.name);
                        let table = tables.iter().position(|table| *table == owner).unwrap_or_default();
                        let (name, bag) = (feature_of_table.name.clone(), feature_of_table.bag);
                        sparse.push(Lookup { name, table, len: ranges[number].len, bag });
                        embedded.extend(columns);
                    }
                    number += 1;
                }
                Feature::Dense(feature_of_values) => {
                    if belongs(feature) {
                        dense.push((feature_of_values.clone(), columns));
                    }
                }
            }
        }
        let is_added = |feature: &DenseFeature| feature.bins.is_some_and(stairs::pays);
        let multiplied = dense.iter().filter(|(feature, _)| !is_added(feature));
        let inputs: Vec<usize> =
            embedded.into_iter().chain(multiplied.flat_map(|(_, columns)| columns.clone())).collect();
        let width_of_tower = padded(first[0].outputs);
        let matrix = |towers: &[FoldedLayer], inputs: &[usize]| {
            let mut matrix = Matrix::zeros(inputs.len(), towers.len() * width_of_tower);
            for (place, tower) in towers.iter().enumerate() {
                tower.write(inputs, &mut matrix, place * width_of_tower);
            }
            matrix
        };
        let copies = || first.chunks(config.stages / config.copies());
        let weights = copies().map(|towers| matrix(towers, &inputs)).collect();
        let stairs_of = |towers: &[FoldedLayer]| {
            let of_feature = |(feature, columns): &(DenseFeature, Range<usize>)| {
                let inputs: Vec<usize> = columns.clone().collect();
                is_added(feature).then(|| Stairs::new(&matrix(towers, &inputs)))
            };
            dense.iter().map(of_feature).collect()
        };
        let stairs = copies().map(stairs_of).collect();
        let stride = first.len() * width_of_tower;
        let dense = dense.into_iter().map(|(feature, _)| feature).collect();
        Self { sparse, dense, dim, width: inputs.len(), weights, stairs, stride }
    }

    /// Whether no feature belongs to it.
    pub(crate) fn is_empty(&self) -> bool {
        self.sparse.is_empty() && self.dense.is_empty()
    }

    /// Multiplications of a row, padding included.
    pub(crate) fn work(&self) -> u64 {
        let multiplied: u64 = self.weights.iter().map(|weight| (weight.inputs * weight.stride) as u64).sum();
        multiplied + self.all_stairs().map(Stairs::work).sum::<u64>()
    }

    /// Bytes of its weights.
    pub(crate) fn bytes(&self) -> u64 {
        let multiplied: u64 = self.weights.iter().map(Matrix::bytes).sum();
        multiplied + self.all_stairs().map(Stairs::bytes).sum::<u64>()
    }

    fn all_stairs(&self) -> impl Iterator<Item = &Stairs> {
        self.stairs.iter().flatten().flatten()
    }

    /// Checks columns once, so that the loops need not.
    pub(crate) fn check(&self, part: Part, columns: &Columns<'_>) -> Result<(), RankError> {
        let count = |what: &str, found: usize, expected: usize| match found == expected {
            true => Ok(()),
            false => Err(RankError::request(format!("{part:?}, {what}"), found, expected.to_string())),
        };
        count("sparse features", columns.sparse.len(), self.sparse.len())?;
        count("dense features", columns.dense.len(), self.dense.len())?;
        for (lookup, column) in self.sparse.iter().zip(columns.sparse) {
            lookup.check(columns.rows, column)?;
        }
        for (DenseFeature { name, bins, .. }, column) in self.dense.iter().zip(columns.dense) {
            if column.len() != columns.rows {
                let what = format!("feature `{name}`, values");
                return Err(RankError::request(what, column.len(), columns.rows.to_string()));
            }
            if let Some((row, value)) = column.iter().enumerate().find(|(_, value)| !value.is_finite()) {
                let what = format!("row {row}, feature `{name}`");
                return Err(RankError::request(what, value, "a finite number"));
            }
            let Some(bins) = bins else { continue };
            let is_beyond = |position: &f32| !(0.0..=*bins as f32).contains(position);
            if let Some((row, value)) = column.iter().enumerate().find(|(_, value)| is_beyond(value)) {
                let what = format!("row {row}, feature `{name}`");
                return Err(RankError::request(
                    what,
                    value,
                    format!("a position among its bins, 0 to {bins}"),
                ));
            }
        }
        Ok(())
    }

    /// The sums of the first layer for some rows: `bend(start + part * weights)`, `[rows, stride]`.
    #[expect(
        clippy::too_many_arguments,
        reason = "a loop of the engine; a struct would be built for each call"
    )]
    #[inline(always)]
    pub(crate) fn sums<S: Simd>(
        &self,
        simd: S,
        tables: &Tables,
        columns: &Columns<'_>,
        rows: Range<usize>,
        start: Start<'_>,
        bend: Bend,
        pooled: &mut Aligned<f32>,
        out: &mut [f32],
        ahead: &mut Ahead,
    ) {
        let count = rows.len();
        let mut column = 0;
        for ((tables, weight), stairs) in tables.iter().zip(&self.weights).zip(&self.stairs) {
            self.pool(simd, tables, columns, rows.clone(), pooled);
            let input = Rows { values: &pooled[..], stride: self.width, width: self.width };
            let mut start = match start {
                Start::Row(start) => Start::Row(&start[column..]),
                Start::Output => Start::Output,
            };
            if stairs.iter().any(Option::is_some) {
                for (row, out) in rows.clone().zip(out.chunks_exact_mut(self.stride)) {
                    let out = &mut out[column..][..weight.stride];
                    if let Start::Row(start) = start {
                        out.copy_from_slice(&start[..weight.stride]);
                    }
                    for (stairs, positions) in stairs.iter().zip(columns.dense) {
                        if let Some(stairs) = stairs {
                            stairs.add(simd, positions[row], out);
                        }
                    }
                }
                start = Start::Output;
            }
            let mut out = Output::Rows { values: &mut out[column..], stride: self.stride };
            layer(simd, count, input, weight, start, bend, &mut out, ahead);
            column += weight.stride;
        }
    }

    /// Asks for the embeddings of some rows ahead of their use.
    #[inline(always)]
    pub(crate) fn prefetch(
        &self,
        tables: &Tables,
        columns: &Columns<'_>,
        rows: Range<usize>,
        ahead: &mut Ahead,
    ) {
        if rows.is_empty() {
            return;
        }
        let dim = self.dim;
        for tables in tables {
            for (lookup, column) in self.sparse.iter().zip(columns.sparse) {
                let table = &tables[lookup.table];
                let ids = match *column {
                    SparseInput::Single(ids) => &ids[rows.clone()],
                    SparseInput::Bag { offsets, ids, .. } => &ids[offsets[rows.start]..offsets[rows.end]],
                };
                for id in ids {
                    let start = *id as usize * dim;
                    ahead.push(table, start..start + dim);
                }
            }
        }
    }

    /// What is multiplied of this part, `[rows, width]`: bags pooled, dense values after them.
    #[inline(always)]
    fn pool<S: Simd>(
        &self,
        simd: S,
        tables: &[Aligned<f32>],
        columns: &Columns<'_>,
        rows: Range<usize>,
        pooled: &mut Aligned<f32>,
    ) {
        if self.width == 0 {
            return;
        }
        pooled.at_least(rows.len() * self.width);
        let dim = self.dim;
        for (place, (lookup, column)) in self.sparse.iter().zip(columns.sparse).enumerate() {
            let table = &tables[lookup.table];
            for (row, out) in rows.clone().zip(pooled.chunks_exact_mut(self.width)) {
                let out = &mut out[place * dim..][..dim];
                match *column {
                    SparseInput::Single(ids) => {
                        out.copy_from_slice(&table[ids[row] as usize * dim..][..dim]);
                    }
                    SparseInput::Bag { offsets, ids, weights } => {
                        out.fill(0.0);
                        let range = offsets[row]..offsets[row + 1];
                        let weights = weights.map(|weights| &weights[range.clone()]);
                        let scale = lookup.scale(weights, range.len());
                        for (place, id) in ids[range].iter().enumerate() {
                            let weight = weights.map_or(1.0, |weights| weights[place]) * scale;
                            add_scaled(simd, &table[*id as usize * dim..][..dim], weight, out);
                        }
                    }
                }
            }
        }
        let mut place = self.sparse.len() * dim;
        for (feature, column) in self.dense.iter().zip(columns.dense) {
            if feature.bins.is_some_and(stairs::pays) {
                continue;
            }
            let width = feature.width();
            for (row, out) in rows.clone().zip(pooled.chunks_exact_mut(self.width)) {
                let out = out[place..][..width].iter_mut();
                out.zip(feature.values(column[row])).for_each(|(out, value)| *out = value);
            }
            place += width;
        }
    }
}

impl Lookup {
    /// What all weights of a bag are multiplied with.
    #[inline(always)]
    fn scale(&self, weights: Option<&[f32]>, len: usize) -> f32 {
        match self.bag {
            None | Some(Pooling::Sum) => 1.0,
            Some(Pooling::Mean) => {
                let total = weights.map_or(len as f32, |weights| weights.iter().sum());
                if total == 0.0 { 0.0 } else { total.recip() }
            }
        }
    }

    fn check(&self, rows: usize, column: &SparseInput<'_>) -> Result<(), RankError> {
        let name = &self.name;
        let refused = |what: &str, found: String, allowed: String| {
            Err(RankError::request(format!("feature `{name}`, {what}"), found, allowed))
        };
        let ids = match (*column, self.bag) {
            (SparseInput::Single(_), Some(_)) => {
                return refused("input", "single ids".to_owned(), "bags".to_owned());
            }
            (SparseInput::Bag { .. }, None) => {
                return refused("input", "bags".to_owned(), "single ids".to_owned());
            }
            (SparseInput::Single(ids), None) => {
                if ids.len() != rows {
                    return refused("ids", ids.len().to_string(), rows.to_string());
                }
                ids
            }
            (SparseInput::Bag { offsets, ids, weights }, Some(_)) => {
                let rising = offsets.windows(2).all(|pair| pair[0] <= pair[1]);
                let fits = offsets.len() == rows + 1 && offsets[0] == 0 && offsets[rows] == ids.len();
                if !rising || !fits {
                    let allowed = format!("{} numbers that rise from 0 to {}", rows + 1, ids.len());
                    return refused("offsets", "others".to_owned(), allowed);
                }
                if let Some(weights) = weights {
                    if weights.len() != ids.len() {
                        return refused("weights", weights.len().to_string(), ids.len().to_string());
                    }
                    if let Some(weight) = weights.iter().find(|weight| !weight.is_finite()) {
                        return refused("weights", weight.to_string(), "finite weights".to_owned());
                    }
                }
                ids
            }
        };
        match ids.iter().find(|id| **id as usize >= self.len) {
            None => Ok(()),
            Some(id) => refused("ids", id.to_string(), format!("rows of its table, 0 to {}", self.len - 1)),
        }
    }
}
