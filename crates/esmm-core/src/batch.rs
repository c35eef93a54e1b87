//! One batch of impressions, checked once and de-duplicated: what the model reads.

use std::sync::Arc;

use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{Tensor, TensorData, TensorPrimitive};

use crate::backend::{
    Bags, DeviceFacts, DeviceLine, GroupBags, HostAccess, HostIndices, HostLine, Indices, InputBags,
    SharedFeatures,
};
use crate::batch_builder::BatchBuilder;
use crate::batch_input::BatchInput;
use crate::error::EsmmError;
use crate::schema::{FeatureSchema, share};

/// A batch in host memory, free of any backend, so that another thread can build it.
#[derive(Debug, Clone, PartialEq)]
pub struct HostBatch {
    /// What each row has of its own.
    pub(crate) own: HostPart,
    /// What groups of rows share.
    pub(crate) groups: Option<Box<HostGroups>>,
    /// Distinct rows, where they were looked for.
    pub(crate) touched: Option<HostIndices>,
    /// What it was made for.
    pub(crate) schema: Arc<FeatureSchema>,
}

/// Some features for some rows.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct HostPart {
    pub(crate) rows: usize,
    pub(crate) num_sparse: usize,
    /// Place of each entry among the distinct rows, or else its row of the arena.
    pub(crate) entries: HostIndices,
    /// Bag of each entry, and its weight.
    pub(crate) weighted: Option<(HostIndices, Vec<f32>)>,
    /// Row by row: a number for each dense feature.
    pub(crate) dense: Vec<f32>,
    /// Numbers in a row.
    pub(crate) num_dense: usize,
    /// Columns of each, where some are positions among bins: see [`Bags::bins`].
    pub(crate) bins: Option<Arc<[usize]>>,
}

/// Features that were given once a group.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HostGroups {
    pub(crate) part: HostPart,
    pub(crate) of_rows: HostIndices,
    pub(crate) features: Arc<SharedFeatures>,
}

/// A batch on a device: what [`Esmm`](crate::Esmm) reads.
///
/// # Examples
/// ```
/// use burn_ndarray::NdArray;
/// use esmm_core::{BatchInput, Feature, FeatureBatch, FeatureSchema, Side, SparseInput};
///
/// # fn main() -> Result<(), esmm_core::EsmmError> {
/// let schema = FeatureSchema::new(vec![
///     Feature::sparse("user", Side::User, 1000),
///     Feature::dense("price", Side::Item),
/// ])?;
/// // Rows 0 and 2 name the same user.
/// let input = BatchInput {
///     rows: 3,
///     sparse: &[SparseInput::Single(&[17, 4, 17])],
///     dense: &[&[0.5, 1.2, 0.1]],
///     groups: None,
/// };
/// let batch = FeatureBatch::<NdArray>::new(&schema, input, &Default::default())?;
/// assert_eq!(batch.touched.map(|rows| rows.host().to_vec()), Some(vec![17, 4]));
/// assert_eq!(batch.bags.own.slots.host(), [0, 1, 0]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct FeatureBatch<B: Backend> {
    /// Rows, B.
    pub rows: usize,
    /// The arena rows that the batch touches, each once, `[U]`: each then gets one gradient. `None` in a batch that names
    /// the arena row of each entry: for inference, or for a device that finds the distinct rows itself.
    pub touched: Option<Indices<B>>,
    /// The bags of the towers' input, of places in `touched`, or else of arena rows.
    pub bags: InputBags<FloatTensor<B>, Indices<B>>,
    /// What it was made for: a model of another schema refuses it.
    pub(crate) schema: Arc<FeatureSchema>,
}

impl HostBatch {
    /// Rows, B.
    pub fn rows(&self) -> usize {
        self.own.rows
    }

    /// Groups whose features are given once, G; `None` when each row has all of its features.
    pub fn num_groups(&self) -> Option<usize> {
        self.groups.as_ref().map(|groups| groups.part.rows)
    }

    /// Distinct table rows that the batch touches, U; `None` in a batch for inference.
    pub fn num_touched(&self) -> Option<usize> {
        self.touched.as_ref().map(|touched| touched.values.len())
    }

    /// Sorts the entries of a batch for training by the rows that they read, for devices that sum gradients so.
    pub(crate) fn sort(&mut self) {
        let Some(touched) = self.num_touched() else { return };
        self.own.entries.sort(touched);
        if let Some(groups) = &mut self.groups {
            groups.part.entries.sort(touched);
            groups.of_rows.sort(groups.part.rows);
        }
    }

    /// The batch for a device. What kernels read from host memory stays there; a device gets its copy when it first
    /// asks.
    pub fn to_device<B: DeviceFacts>(&self, device: &B::Device) -> FeatureBatch<B> {
        self.clone().into_device(device)
    }

    /// The same, without a copy of its values in host memory on the way.
    pub fn into_device<B: DeviceFacts>(self, device: &B::Device) -> FeatureBatch<B> {
        let HostBatch { own, groups, touched, schema } = self;
        let groups = groups.map(|groups| groups.into_device(device));
        FeatureBatch {
            rows: own.rows,
            touched: touched.map(|touched| touched.to_device(device)),
            bags: InputBags { own: own.into_device::<B>(device), groups },
            schema,
        }
    }
}

impl HostBatch {
    /// The batch for a device together with a value for each row and stage, `[B, K]` row by row: where the device does not
    /// read host memory, all that a batch without groups has goes there in one upload.
    ///
    /// # Panics
    /// When `cells` are not `columns` for each row.
    pub fn into_device_with<B: DeviceFacts + HostAccess>(
        self,
        cells: Vec<f32>,
        columns: usize,
        device: &B::Device,
    ) -> (FeatureBatch<B>, Tensor<B, 2>) {
        let rows = self.rows();
        assert_eq!(cells.len(), rows * columns, "cells of {rows} rows, {columns} each");
        let matrix = |values, columns| HostLine::Matrix { values, columns };
        let mut lines = vec![matrix(cells, columns)];
        let mut batch = self;
        if !B::READS_POSITIONS {
            batch.own = batch.own.with_columns_of_bins();
        }
        if B::QUEUES_WORK {
            lines.push(HostLine::Ints(batch.own.entries.values.clone()));
            if let Some((segments, weights)) = &mut batch.own.weighted {
                lines.push(HostLine::Ints(segments.values.clone()));
                lines.push(HostLine::Floats(std::mem::take(weights)));
            }
            if batch.own.num_dense > 0 {
                lines.push(matrix(std::mem::take(&mut batch.own.dense), batch.own.num_dense));
            }
        }
        let mut uploaded = Uploaded(B::upload(lines, device).into_iter());
        let cells = Tensor::from_primitive(TensorPrimitive::Float(uploaded.floats()));
        if !B::QUEUES_WORK {
            return (batch.into_device(device), cells);
        }
        let HostBatch { own, groups, touched, schema } = batch;
        let own = Bags {
            tables: 1,
            rows,
            num_sparse: own.num_sparse,
            slots: own.entries.to_device(device).with_tensor(uploaded.ints()),
            weighted: own.weighted.map(|(segments, _)| {
                let segments = segments.to_device(device).with_tensor(uploaded.ints());
                (segments, uploaded.floats())
            }),
            dense: (own.num_dense > 0).then(|| uploaded.floats()),
            bins: own.bins,
        };
        let groups = groups.map(|groups| groups.into_device(device));
        let touched = touched.map(|touched| touched.to_device(device));
        (FeatureBatch { rows, touched, bags: InputBags { own, groups }, schema }, cells)
    }
}

/// Uploaded lines, taken in the order in which they were listed.
struct Uploaded<B: Backend>(std::vec::IntoIter<DeviceLine<B>>);

impl<B: Backend> Uploaded<B> {
    fn floats(&mut self) -> FloatTensor<B> {
        match self.0.next() {
            Some(DeviceLine::Floats(floats)) => floats,
            Some(DeviceLine::Ints(_)) | None => panic!("an upload lost a line of floats"),
        }
    }

    fn ints(&mut self) -> IntTensor<B> {
        match self.0.next() {
            Some(DeviceLine::Ints(ints)) => ints,
            Some(DeviceLine::Floats(_)) | None => panic!("an upload lost a line of integers"),
        }
    }
}

impl HostGroups {
    fn into_device<B: DeviceFacts>(self, device: &B::Device) -> GroupBags<FloatTensor<B>, Indices<B>> {
        let Self { part, of_rows, features } = self;
        GroupBags { bags: part.into_device::<B>(device), of_rows: of_rows.to_device(device), features }
    }
}

impl HostPart {
    /// Bags of one copy of the tables.
    fn into_device<B: DeviceFacts>(self, device: &B::Device) -> Bags<FloatTensor<B>, Indices<B>> {
        let part = if B::READS_POSITIONS { self } else { self.with_columns_of_bins() };
        let weighted = part.weighted.map(|(segments, weights)| {
            (segments.to_device(device), floats::<B>(weights, device).into_primitive().tensor())
        });
        // As one row: CUDA uploads short rows one by one.
        let dense = (part.num_dense > 0).then(|| {
            let dense = floats::<B>(part.dense, device).reshape([part.rows, part.num_dense]);
            dense.into_primitive().tensor()
        });
        Bags {
            tables: 1,
            rows: part.rows,
            num_sparse: part.num_sparse,
            slots: part.entries.to_device(device),
            weighted,
            dense,
            bins: part.bins,
        }
    }

    /// The same with a column for each bin in place of the positions among them.
    pub(crate) fn with_columns_of_bins(self) -> Self {
        let Some(bins) = &self.bins else { return self };
        let num_dense = bins.iter().sum();
        let mut dense = Vec::with_capacity(self.rows * num_dense);
        for row in self.dense.chunks_exact(self.num_dense) {
            for (&number, &bins) in row.iter().zip(bins.iter()) {
                match bins {
                    1 => dense.push(number),
                    _ => dense.extend((0..bins).map(|bin| share(number, bin))),
                }
            }
        }
        Self { dense, num_dense, bins: None, ..self }
    }
}

fn floats<B: Backend>(values: Vec<f32>, device: &B::Device) -> Tensor<B, 1> {
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}

impl<B: DeviceFacts> FeatureBatch<B> {
    /// Checks the columns and uploads them: the short way for a single batch.
    ///
    /// # Errors
    /// As [`BatchBuilder::build`].
    pub fn new(schema: &FeatureSchema, input: BatchInput<'_>, device: &B::Device) -> Result<Self, EsmmError> {
        Ok(BatchBuilder::new(schema).build(input)?.to_device(device))
    }
}

impl<B: Backend> FeatureBatch<B> {
    /// Whether no feature is sparse.
    pub(crate) fn is_dense(&self) -> bool {
        self.bags.own.num_sparse == 0 && self.bags.groups.is_none()
    }

    /// The bags of the touched rows, or of the arena in a batch for inference, in each copy of the tables.
    pub(crate) fn touched_bags(&self, tables: usize) -> InputBags<FloatTensor<B>, Indices<B>> {
        self.bags.clone().with_tables(tables)
    }

    /// The bags of the arena.
    pub(crate) fn arena_bags(&self, tables: usize) -> InputBags<FloatTensor<B>, Indices<B>> {
        let mut bags = self.touched_bags(tables);
        if let Some(touched) = &self.touched {
            let rows = |slots: &Indices<B>| {
                let rows = slots.host().iter().map(|&slot| touched.host()[slot as usize]);
                Indices::new(rows.collect(), touched.device())
            };
            bags.own.slots = rows(&bags.own.slots);
            if let Some(groups) = &mut bags.groups {
                groups.bags.slots = rows(&groups.bags.slots);
            }
        }
        bags
    }
}
