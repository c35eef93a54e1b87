//! Shuffled, de-duplicated batches of a [`Dataset`], built ahead of the training in a thread of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use esmm_core::{BatchBuilder, BatchInput, FeatureBatch, FeatureSchema, HostBatch, SparseInput};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{Dataset, SparseColumn, Truth};

/// Batches that may wait for the training.
const READ_AHEAD: usize = 2;

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
}

/// Where a loader goes on; shared with the one who resumes it.
#[derive(Debug, Default)]
pub struct LoaderPosition {
    /// Number of the next pass, which seeds its order.
    pub epoch: AtomicU64,
    /// Batches of the next pass that are left out, because they were done before.
    pub skip: AtomicUsize,
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

/// Hands out a [`Dataset`] in batches, in an order that depends on seed and pass alone.
#[derive(Debug, Clone)]
pub struct BatchLoader<B: Backend> {
    dataset: Arc<Dataset>,
    config: BatchLoaderConfig,
    position: Arc<LoaderPosition>,
    device: B::Device,
}

impl BatchLoaderConfig {
    /// A loader at its first pass.
    pub fn init<B: Backend>(self, dataset: Arc<Dataset>, device: &B::Device) -> BatchLoader<B> {
        BatchLoader { dataset, config: self, position: Arc::default(), device: device.clone() }
    }
}

impl<B: Backend> BatchLoader<B> {
    /// The shared position.
    pub fn position(&self) -> Arc<LoaderPosition> {
        self.position.clone()
    }

    /// Batches of a whole pass.
    pub fn num_batches(&self) -> usize {
        self.dataset.rows.div_ceil(self.config.batch_size)
    }

    fn order(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.dataset.rows as u32).collect();
        if let Purpose::Training { seed } = self.config.purpose {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(self.position.epoch.fetch_add(1, Ordering::Relaxed));
            order.shuffle(&mut rng);
        }
        order
    }
}

impl<B: Backend> DataLoader<B, EsmmBatch<B>> for BatchLoader<B> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<EsmmBatch<B>> + 'a> {
        let (sender, receiver) = sync_channel(READ_AHEAD);
        let (dataset, config, order) = (self.dataset.clone(), self.config.clone(), self.order());
        let skip = self.position.skip.swap(0, Ordering::Relaxed);
        let done = (skip * config.batch_size).min(dataset.rows);
        thread::spawn(move || {
            let mut builder = BatchBuilder::new(&config.schema);
            for rows in order.chunks(config.batch_size).skip(skip) {
                if sender.send(dataset.host_batch(rows, &config, &mut builder)).is_err() {
                    return;
                }
            }
        });
        Box::new(Batches {
            receiver,
            stages: self.config.stages,
            device: self.device.clone(),
            done,
            total: self.dataset.rows,
        })
    }

    fn num_items(&self) -> usize {
        self.dataset.rows
    }

    fn to_device(&self, device: &B::Device) -> Arc<dyn DataLoader<B, EsmmBatch<B>>> {
        Arc::new(Self { device: device.clone(), ..self.clone() })
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<B, EsmmBatch<B>>> {
        let rows: Vec<u32> = (start as u32..end as u32).collect();
        Arc::new(Self { dataset: Arc::new(self.dataset.take(&rows)), ..self.clone() })
    }
}

struct Batches<B: Backend> {
    receiver: Receiver<(HostBatch, RowLabels)>,
    stages: usize,
    device: B::Device,
    done: usize,
    total: usize,
}

impl<B: Backend> Iterator for Batches<B> {
    type Item = EsmmBatch<B>;

    fn next(&mut self) -> Option<EsmmBatch<B>> {
        let (host, labels) = self.receiver.recv().ok()?;
        self.done += host.rows();
        Some(EsmmBatch {
            features: host.to_device(&self.device),
            reached: labels.reached(self.stages, &self.device),
            labels: Arc::new(labels),
        })
    }
}

impl<B: Backend> DataLoaderIterator<EsmmBatch<B>> for Batches<B> {
    fn progress(&self) -> Progress {
        Progress::new(self.done, self.total)
    }
}

impl RowLabels {
    /// 1 where a row reached a stage, 0 where not, `[B, K]`.
    pub fn reached<B: Backend>(&self, stages: usize, device: &B::Device) -> Tensor<B, 2> {
        let cells = self
            .depth
            .iter()
            .flat_map(|&depth| (0..stages).map(move |stage| f32::from(u8::from(usize::from(depth) > stage))));
        let data = TensorData::new(cells.collect::<Vec<f32>>(), [self.depth.len(), stages]);
        Tensor::from_data(data, device)
    }
}

impl Dataset {
    /// A copy of some rows, in the order given.
    pub fn take(&self, rows: &[u32]) -> Self {
        let pick = |values: &[f32]| rows.iter().map(|&row| values[row as usize]).collect::<Vec<f32>>();
        Self {
            rows: rows.len(),
            sparse: self.sparse.iter().map(|column| column.take(rows)).collect(),
            dense: self.dense.iter().map(|column| pick(column)).collect(),
            depth: rows.iter().map(|&row| self.depth[row as usize]).collect(),
            group: self.group.as_ref().map(|group| rows.iter().map(|&row| group[row as usize]).collect()),
            truth: self.truth.as_ref().map(|truth| Truth {
                ctr: pick(&truth.ctr),
                cvr: pick(&truth.cvr),
                ctcvr: truth.ctcvr.as_deref().map(pick),
            }),
        }
    }

    /// The rows as a batch with their labels.
    fn host_batch(
        &self,
        rows: &[u32],
        config: &BatchLoaderConfig,
        builder: &mut BatchBuilder,
    ) -> (HostBatch, RowLabels) {
        let part = self.take(rows);
        let sparse: Vec<SparseInput<'_>> = part.sparse.iter().map(SparseColumn::as_input).collect();
        let dense: Vec<&[f32]> = part.dense.iter().map(Vec::as_slice).collect();
        let input = BatchInput { rows: part.rows, sparse: &sparse, dense: &dense };
        let batch = match config.purpose {
            Purpose::Training { .. } => builder.build(input),
            Purpose::Scoring => builder.build_for_inference(input),
        };
        let batch = batch.unwrap_or_else(|error| {
            panic!("the dataset does not fit the schema {:?}: {error}", config.schema)
        });
        (batch, RowLabels { depth: part.depth, group: part.group, truth: part.truth })
    }
}

impl SparseColumn {
    /// The column as the core reads it.
    pub fn as_input(&self) -> SparseInput<'_> {
        match self {
            Self::Single(ids) => SparseInput::Single(ids),
            Self::Bag { offsets, ids, weights } => {
                SparseInput::Bag { offsets, ids, weights: weights.as_deref() }
            }
        }
    }

    fn take(&self, rows: &[u32]) -> Self {
        match self {
            Self::Single(ids) => Self::Single(rows.iter().map(|&row| ids[row as usize]).collect()),
            Self::Bag { offsets, ids, weights } => {
                let ranges = || rows.iter().map(|&row| offsets[row as usize]..offsets[row as usize + 1]);
                let mut taken = Vec::with_capacity(rows.len() + 1);
                taken.push(0);
                taken.extend(ranges().scan(0, |total, range| {
                    *total += range.len();
                    Some(*total)
                }));
                Self::Bag {
                    offsets: taken,
                    ids: ranges().flat_map(|range| ids[range].iter().copied()).collect(),
                    weights: weights
                        .as_ref()
                        .map(|weights| ranges().flat_map(|range| weights[range].iter().copied()).collect()),
                }
            }
        }
    }
}
