//! One batch of impressions, checked once and de-duplicated: what the model reads.

use std::sync::Arc;

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorPrimitive};

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

    /// Distinct table rows that the batch touches, U; `None` in a batch for inference, or for a device that finds them.
    pub fn num_touched(&self) -> Option<usize> {
        self.touched.as_ref().map(|touched| touched.values.len())
    }

    /// The batch for a device. What kernels read from host memory stays there; where a device does not read host memory, all
    /// that the batch has goes there in one upload.
    pub fn to_device<B: DeviceFacts + HostAccess>(&self, device: &B::Device) -> FeatureBatch<B> {
        self.clone().into_device(device)
    }

    /// The same, without a copy of its values in host memory on the way.
    pub fn into_device<B: DeviceFacts + HostAccess>(self, device: &B::Device) -> FeatureBatch<B> {
        let mut batch = self.for_kernels_of::<B>();
        let mut lines = Vec::new();
        batch.take_lines::<B>(&mut lines);
        let mut uploaded = Uploaded::new(lines, device);
        batch.with_lines(&mut uploaded, device)
    }

    /// The same together with a value for each row and stage, `[B, K]` row by row, in the same upload.
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
        let mut batch = self.for_kernels_of::<B>();
        let mut lines = vec![HostLine::Matrix { values: cells, columns }];
        batch.take_lines::<B>(&mut lines);
        let mut uploaded = Uploaded::new(lines, device);
        let cells = Tensor::from_primitive(TensorPrimitive::Float(uploaded.floats()));
        (batch.with_lines(&mut uploaded, device), cells)
    }

    /// The same as kernels of B read it, whatever it was built for: arena rows in place of places among distinct ones, and
    /// columns in place of positions among bins.
    fn for_kernels_of<B: DeviceFacts>(mut self) -> Self {
        if B::FINDS_ROWS
            && let Some(touched) = self.touched.take()
        {
            self.own.name_rows(&touched);
            if let Some(groups) = &mut self.groups {
                groups.part.name_rows(&touched);
            }
        }
        if !B::READS_POSITIONS {
            self.own = self.own.with_columns_of_bins();
            if let Some(groups) = &mut self.groups {
                groups.part = std::mem::take(&mut groups.part).with_columns_of_bins();
            }
        }
        self
    }

    /// Appends all that a device does not read in host memory.
    fn take_lines<B: DeviceFacts>(&mut self, lines: &mut Vec<HostLine>) {
        self.own.take_lines::<B>(lines);
        if let Some(groups) = &mut self.groups {
            groups.part.take_lines::<B>(lines);
            if B::QUEUES_WORK {
                lines.push(HostLine::Ints(groups.of_rows.values.clone()));
            }
        }
    }

    /// The batch with what [`take_lines`](Self::take_lines) listed on the device.
    fn with_lines<B: DeviceFacts>(self, uploaded: &mut Uploaded<B>, device: &B::Device) -> FeatureBatch<B> {
        let HostBatch { own, groups, touched, schema } = self;
        let rows = own.rows;
        let own = own.with_lines(uploaded, device);
        let groups = groups.map(|groups| {
            let HostGroups { part, of_rows, features } = *groups;
            let bags = part.with_lines(uploaded, device);
            GroupBags { bags, of_rows: uploaded.indices(of_rows, device), features }
        });
        let touched = touched.map(|touched| touched.to_device(device));
        FeatureBatch { rows, touched, bags: InputBags { own, groups }, schema }
    }
}

/// Uploaded lines, taken in the order in which they were listed.
struct Uploaded<B: Backend>(std::vec::IntoIter<DeviceLine<B>>);

impl<B: DeviceFacts> Uploaded<B> {
    fn new(lines: Vec<HostLine>, device: &B::Device) -> Self
    where
        B: HostAccess,
    {
        Self(B::upload(lines, device).into_iter())
    }

    fn floats(&mut self) -> FloatTensor<B> {
        match self.0.next() {
            Some(DeviceLine::Floats(floats)) => floats,
            Some(DeviceLine::Ints(_)) | None => panic!("an upload lost a line of floats"),
        }
    }

    /// Row numbers: uploaded ones, or where the device reads them in host memory those.
    fn indices(&mut self, host: HostIndices, device: &B::Device) -> Indices<B> {
        let indices = host.to_device(device);
        if !B::QUEUES_WORK {
            return indices;
        }
        match self.0.next() {
            Some(DeviceLine::Ints(ints)) => indices.with_tensor(ints),
            Some(DeviceLine::Floats(_)) | None => panic!("an upload lost a line of integers"),
        }
    }
}

impl HostPart {
    /// Arena rows in place of places among the distinct ones.
    fn name_rows(&mut self, touched: &HostIndices) {
        let rows = self.entries.values.iter().map(|&slot| touched.values[slot as usize]);
        self.entries = HostIndices::new(rows.collect());
    }

    /// Appends all that a device does not read in host memory.
    fn take_lines<B: DeviceFacts>(&mut self, lines: &mut Vec<HostLine>) {
        if B::QUEUES_WORK {
            lines.push(HostLine::Ints(self.entries.values.clone()));
        }
        if let Some((segments, weights)) = &mut self.weighted {
            if B::QUEUES_WORK {
                lines.push(HostLine::Ints(segments.values.clone()));
            }
            lines.push(HostLine::Floats(std::mem::take(weights)));
        }
        if self.num_dense > 0 {
            let values = std::mem::take(&mut self.dense);
            lines.push(HostLine::Matrix { values, columns: self.num_dense });
        }
    }

    /// Bags of one copy of the tables, with what [`take_lines`](Self::take_lines) listed on the device.
    fn with_lines<B: DeviceFacts>(
        self,
        uploaded: &mut Uploaded<B>,
        device: &B::Device,
    ) -> Bags<FloatTensor<B>, Indices<B>> {
        Bags {
            tables: 1,
            rows: self.rows,
            num_sparse: self.num_sparse,
            slots: uploaded.indices(self.entries, device),
            weighted: self.weighted.map(|(segments, _)| {
                let segments = uploaded.indices(segments, device);
                (segments, uploaded.floats())
            }),
            dense: (self.num_dense > 0).then(|| uploaded.floats()),
            bins: self.bins,
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

impl<B: DeviceFacts + HostAccess> FeatureBatch<B> {
    /// Checks the columns and uploads them: the short way for a single batch.
    ///
    /// # Errors
    /// As [`BatchBuilder::build`].
    pub fn new(schema: &FeatureSchema, input: BatchInput<'_>, device: &B::Device) -> Result<Self, EsmmError> {
        Ok(BatchBuilder::for_backend::<B>(schema).build(input)?.into_device(device))
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
