//! Shuffled, de-duplicated batches, built ahead of the training in threads of their own.
//!
//! Rows in memory are shuffled as a whole. Rows in files are shuffled within windows, whose blocks of the files come in
//! an order of their own in every pass. Either order depends on seed, pass and data alone, never on the speed of a thread.

mod feed;
mod handle;
mod host_batch;
mod unknown;

use std::sync::Arc;
use std::time::Instant;

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use esmm_core::backend::{DeviceFacts, HostAccess};
use esmm_core::{BatchBuilder, FeatureBatch, FeatureSchema};

use self::feed::{Feed, Sent};
use crate::load::rows::SplitRows;
use crate::{RowCounts, SparseColumn, Truth, UserGroups};

pub use feed::num_builders;
pub use handle::LoaderHandle;
pub use unknown::UnknownShares;

/// A batch with its labels, on a device.
#[derive(Debug, Clone)]
pub struct EsmmBatch<B: Backend> {
    /// What the model reads.
    pub features: FeatureBatch<B>,
    /// 1 where the impression reached the stage, `[B, K]`.
    pub reached: Tensor<B, 2>,
    /// The labels in host memory.
    pub labels: Arc<RowLabels>,
}

/// What is known about the outcome of some rows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RowLabels {
    /// Stages that the impression reached, 0 to K.
    pub depth: Vec<u8>,
    /// Group of the impression, for GAUC.
    pub group: Option<Vec<u64>>,
    /// True rates, of synthetic data.
    pub truth: Option<Truth>,
    /// How each row counts; parts that change nothing are left out.
    pub counts: RowCounts,
    /// The rows' features, of batches that are scored.
    pub encoded: Option<Box<EncodedRows>>,
}

/// The encoded features of some rows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EncodedRows {
    /// One entry for each sparse feature, in schema order.
    pub sparse: Vec<SparseColumn>,
    /// One entry for each dense feature, in schema order.
    pub dense: Vec<Vec<f32>>,
    /// Where the user's columns have an entry a group: which group each row has.
    pub users: Option<UserGroups>,
}

impl EncodedRows {
    /// Where a row's entry lies in the column of a sparse feature.
    pub fn sparse_entry(&self, feature: usize, row: usize) -> usize {
        match &self.users {
            Some(users) if users.sides.sparse[feature] => users.of_rows[row] as usize,
            _ => row,
        }
    }

    /// Where a row's entry lies in the column of a dense feature.
    pub fn dense_entry(&self, feature: usize, row: usize) -> usize {
        match &self.users {
            Some(users) if users.sides.dense[feature] => users.of_rows[row] as usize,
            _ => row,
        }
    }
}

/// What a [`BatchLoader`] needs to know besides its data.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchLoaderConfig {
    /// The features.
    pub schema: FeatureSchema,
    /// Stages of the funnel, K.
    pub stages: usize,
    /// Rows of a batch; the last one may be shorter, no row is left out.
    pub batch_size: usize,
    /// What the batches are for.
    pub purpose: Purpose,
    /// Training: the ids that are taken as unknown.
    pub unknown: UnknownShares,
}

/// What batches are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Training: shuffled, and with the distinct rows that a batch touches.
    Training {
        /// Seed of the order.
        seed: u64,
    },
    /// Scoring: in the order of the data, and without looking for distinct rows.
    Scoring,
}

/// Hands out the rows of a split in batches, in an order that depends on seed and pass alone.
#[derive(Debug, Clone)]
pub struct BatchLoader<B: Backend> {
    rows: SplitRows,
    config: BatchLoaderConfig,
    handle: Arc<LoaderHandle>,
    device: B::Device,
}

impl BatchLoaderConfig {
    /// A loader at its first pass.
    pub fn init<B: DeviceFacts>(self, rows: impl Into<SplitRows>, device: &B::Device) -> BatchLoader<B> {
        BatchLoader { rows: rows.into(), config: self, handle: Arc::default(), device: device.clone() }
    }
}

impl<B: Backend> BatchLoader<B> {
    /// Where it stands and how it fares.
    pub fn handle(&self) -> Arc<LoaderHandle> {
        self.handle.clone()
    }

    /// Batches of a whole pass.
    pub fn num_batches(&self) -> usize {
        self.rows.rows().div_ceil(self.config.batch_size)
    }
}

impl<B: DeviceFacts> BatchLoader<B> {
    fn builder(&self) -> BatchBuilder {
        BatchBuilder::for_backend::<B>(&self.config.schema)
    }
}

impl<B: DeviceFacts + HostAccess> DataLoader<B, EsmmBatch<B>> for BatchLoader<B> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<EsmmBatch<B>> + 'a> {
        let (pass, skip) = self.handle.next_pass();
        Box::new(Batches {
            feed: feed::start(&self.rows, &self.config, self.builder(), pass, skip),
            handle: self.handle.clone(),
            stages: self.config.stages,
            device: self.device.clone(),
            done: (skip * self.config.batch_size).min(self.rows.rows()),
            total: self.rows.rows(),
        })
    }

    fn num_items(&self) -> usize {
        self.rows.rows()
    }

    fn to_device(&self, device: &B::Device) -> Arc<dyn DataLoader<B, EsmmBatch<B>>> {
        Arc::new(Self { device: device.clone(), ..self.clone() })
    }

    /// # Panics
    /// When the rows are in files: they are handed out as a whole.
    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<B, EsmmBatch<B>>> {
        let SplitRows::Memory(dataset) = &self.rows else {
            panic!("rows {start} to {end} of rows in files: only rows in memory can be sliced");
        };
        let rows: Vec<u32> = (start as u32..end as u32).collect();
        Arc::new(Self { rows: SplitRows::Memory(Arc::new(dataset.take(&rows))), ..self.clone() })
    }
}

struct Batches<B: Backend> {
    feed: Feed,
    handle: Arc<LoaderHandle>,
    stages: usize,
    device: B::Device,
    done: usize,
    total: usize,
}

impl<B: DeviceFacts + HostAccess> Iterator for Batches<B> {
    type Item = EsmmBatch<B>;

    /// `None` at the end of the pass, and after a failure, which the [`LoaderHandle`] tells.
    fn next(&mut self) -> Option<EsmmBatch<B>> {
        let start = Instant::now();
        let sent = self.feed.recv();
        self.handle.add_waiting(start.elapsed());
        let (host, labels, reached) = match sent {
            Ok(Sent::Batch(host, labels, reached)) => (host, labels, reached),
            Ok(Sent::End) => return None,
            Ok(Sent::Failed(error)) => {
                self.handle.fail(error);
                return None;
            }
            Err(_) => {
                self.handle.fail(feed::stopped());
                return None;
            }
        };
        self.done += host.rows();
        let (features, reached) = host.into_device_with(reached, self.stages, &self.device);
        Some(EsmmBatch { features, reached, labels: Arc::from(labels) })
    }
}

impl<B: DeviceFacts + HostAccess> DataLoaderIterator<EsmmBatch<B>> for Batches<B> {
    fn progress(&self) -> Progress {
        Progress::new(self.done, self.total)
    }
}

impl RowLabels {
    /// 1 where a row reached a stage, 0 where not, `[B, K]`.
    pub fn reached<B: Backend>(&self, stages: usize, device: &B::Device) -> Tensor<B, 2> {
        on_device(self.reached_cells(stages), stages, device)
    }

    /// The same in host memory, row by row.
    fn reached_cells(&self, stages: usize) -> Vec<f32> {
        let of_row =
            |&depth: &u8| (0..stages).map(move |stage| f32::from(u8::from(usize::from(depth) > stage)));
        self.depth.iter().flat_map(of_row).collect()
    }
}

/// Cells row by row to `[B, K]`. Uploaded as one row: CUDA uploads short rows one by one.
fn on_device<B: Backend>(cells: Vec<f32>, stages: usize, device: &B::Device) -> Tensor<B, 2> {
    let count = cells.len();
    Tensor::<B, 1>::from_data(TensorData::new(cells, [count]), device).reshape([count / stages, stages])
}
