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
use esmm_core::{BatchBuilder, FeatureBatch, FeatureSchema, HostBatch};

use self::feed::{Feed, Sent};
use crate::load::rows::SplitRows;
use crate::{RowCounts, SparseColumn, Truth, UserGroups};

pub use feed::{LoaderThreads, num_builders};
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
    threads: LoaderThreads,
}

impl BatchLoaderConfig {
    /// A loader at its first pass.
    pub fn init<B: DeviceFacts>(self, rows: impl Into<SplitRows>, device: &B::Device) -> BatchLoader<B> {
        let threads = LoaderThreads::here(&self.schema);
        BatchLoader {
            rows: rows.into(),
            config: self,
            handle: Arc::default(),
            device: device.clone(),
            threads,
        }
    }
}

impl<B: Backend> BatchLoader<B> {
    /// Where it stands and how it fares.
    pub fn handle(&self) -> Arc<LoaderHandle> {
        self.handle.clone()
    }

    /// The same with so many threads, whatever the machine has room for.
    pub fn with_threads(self, threads: LoaderThreads) -> Self {
        Self { threads, ..self }
    }

    /// The batches of the next pass as copies of `builder` make them, in host memory: all that the loader's threads do.
    pub fn host_batches(&self, builder: &BatchBuilder) -> HostBatches {
        let (pass, skip) = self.handle.next_pass();
        self.begin(builder, pass, skip)
    }

    fn begin(&self, builder: &BatchBuilder, pass: u64, skip: usize) -> HostBatches {
        let feed = feed::start(&self.rows, &self.config, builder, pass, skip, self.threads);
        HostBatches { feed, handle: self.handle.clone() }
    }

    /// Batches of a whole pass.
    pub fn num_batches(&self) -> usize {
        self.rows.rows().div_ceil(self.config.batch_size)
    }
}

impl<B: DeviceFacts + HostAccess> DataLoader<B, EsmmBatch<B>> for BatchLoader<B> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<EsmmBatch<B>> + 'a> {
        let (pass, skip) = self.handle.next_pass();
        Box::new(Batches {
            host: self.begin(&BatchBuilder::for_backend::<B>(&self.config.schema), pass, skip),
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

/// A batch with its labels in host memory.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedBatch {
    /// What the model reads.
    pub features: HostBatch,
    /// 1 where the impression reached the stage, `[B, K]` row by row.
    pub reached: Vec<f32>,
    /// The labels.
    pub labels: Box<RowLabels>,
}

/// The batches of a pass in host memory. Ends with the pass, and after a failure, which the [`LoaderHandle`] tells.
pub struct HostBatches {
    feed: Feed,
    handle: Arc<LoaderHandle>,
}

impl Iterator for HostBatches {
    type Item = LoadedBatch;

    fn next(&mut self) -> Option<LoadedBatch> {
        let start = Instant::now();
        let sent = self.feed.recv();
        self.handle.add_waiting(start.elapsed());
        match sent {
            Ok(Sent::Batch(batch)) => Some(batch),
            Ok(Sent::End) => None,
            Ok(Sent::Failed(error)) => {
                self.handle.fail(error);
                None
            }
            Err(_) => {
                self.handle.fail(feed::stopped());
                None
            }
        }
    }
}

impl std::fmt::Debug for HostBatches {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("HostBatches").finish_non_exhaustive()
    }
}

struct Batches<B: Backend> {
    host: HostBatches,
    stages: usize,
    device: B::Device,
    done: usize,
    total: usize,
}

impl<B: DeviceFacts + HostAccess> Iterator for Batches<B> {
    type Item = EsmmBatch<B>;

    /// `None` at the end of the pass, and after a failure, which the [`LoaderHandle`] tells.
    fn next(&mut self) -> Option<EsmmBatch<B>> {
        let LoadedBatch { features, reached, labels } = self.host.next()?;
        self.done += features.rows();
        let (features, reached) = features.into_device_with(reached, self.stages, &self.device);
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
    ///
    /// # Examples
    /// ```
    /// use esmm_data::loader::RowLabels;
    ///
    /// let labels = RowLabels { depth: vec![0, 1, 2], ..RowLabels::default() };
    /// assert_eq!(labels.reached_cells(2), [0.0, 0.0, 1.0, 0.0, 1.0, 1.0]);
    /// ```
    pub fn reached_cells(&self, stages: usize) -> Vec<f32> {
        let mut cells = vec![0.0; self.depth.len() * stages];
        for (cells, &depth) in cells.chunks_exact_mut(stages.max(1)).zip(&self.depth) {
            for (stage, cell) in cells.iter_mut().enumerate() {
                *cell = f32::from(u8::from(usize::from(depth) > stage));
            }
        }
        cells
    }
}

/// Cells row by row to `[B, K]`. Uploaded as one row: CUDA uploads short rows one by one.
fn on_device<B: Backend>(cells: Vec<f32>, stages: usize, device: &B::Device) -> Tensor<B, 2> {
    let count = cells.len();
    Tensor::<B, 1>::from_data(TensorData::new(cells, [count]), device).reshape([count / stages, stages])
}
