//! Batches as a training gets them: from its loader.

use std::sync::Arc;

use burn::data::dataloader::{DataLoader, DataLoaderIterator};
use esmm_core::EsmmBackend;
use esmm_train::data::loader::{
    BatchLoader, BatchLoaderConfig, EsmmBatch, LoaderHandle, Purpose, UnknownShares,
};

use super::{Workload, data::dataset};

/// Rows that a pass has at least: so many that its beginning is a small part of it.
const ROWS: usize = 2_000_000;
/// Batches that a pass has at least.
const BATCHES: usize = 24;

/// The loader of a training or a scoring, and where it says what went wrong.
pub(crate) struct Feed<B: EsmmBackend> {
    loader: BatchLoader<B>,
    handle: Arc<LoaderHandle>,
}

/// Batches without end. The next pass begins to be built while the one before it is handed out: what is measured is the
/// middle of a pass.
pub(crate) struct Batches<'a, B: EsmmBackend> {
    feed: &'a Feed<B>,
    this: Box<dyn DataLoaderIterator<EsmmBatch<B>> + 'a>,
    next: Box<dyn DataLoaderIterator<EsmmBatch<B>> + 'a>,
}

impl<B: EsmmBackend> Feed<B> {
    /// A loader of random rows in memory.
    pub(crate) fn new(workload: &Workload, device: &B::Device, purpose: Purpose, seed: u64) -> Self {
        let batch_size = workload.batch;
        let rows = batch_size * BATCHES.max(ROWS / batch_size);
        let unknown = UnknownShares::default();
        let config = BatchLoaderConfig { schema: workload.schema(), stages: 2, batch_size, purpose, unknown };
        let loader: BatchLoader<B> = config.init(Arc::new(dataset(workload, rows, seed)), device);
        let handle = loader.handle();
        Self { loader, handle }
    }

    pub(crate) fn batches(&self) -> Batches<'_, B> {
        Batches { feed: self, this: self.loader.iter(), next: self.loader.iter() }
    }

    /// Seconds that were spent waiting for batches so far.
    pub(crate) fn waited(&self) -> f64 {
        self.handle.waited().as_secs_f64()
    }
}

impl<B: EsmmBackend> Batches<'_, B> {
    pub(crate) fn take(&mut self) -> EsmmBatch<B> {
        if let Some(batch) = self.this.next() {
            return batch;
        }
        self.feed.handle.check().expect("the loader comes to the end of a pass");
        self.this = std::mem::replace(&mut self.next, self.feed.loader.iter());
        self.this.next().expect("a pass has batches")
    }
}
