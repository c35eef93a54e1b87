//! Random batches.

use esmm_core::{BatchInput, SparseInput};
use esmm_train::data::{Dataset, RowCounts, SparseColumn};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};

use super::Workload;

/// Share of impressions that are clicked, and of clicks that convert.
const CLICKS: f64 = 0.04;
const CONVERSIONS: f64 = 0.05;

/// Columns of a batch in host memory.
#[derive(Debug, Clone)]
pub(crate) struct RawBatch {
    /// Ids of each sparse feature.
    pub(crate) ids: Vec<Vec<u32>>,
    /// Values of each dense feature.
    pub(crate) dense: Vec<Vec<f32>>,
    /// Stages reached by each row: 0, 1 or 2.
    pub(crate) depth: Vec<u8>,
}

impl RawBatch {
    /// Calls `work` with the columns as the model takes them.
    pub(crate) fn with_input<R>(&self, work: impl FnOnce(BatchInput<'_>) -> R) -> R {
        let sparse: Vec<_> = self.ids.iter().map(|ids| SparseInput::Single(ids)).collect();
        let dense: Vec<_> = self.dense.iter().map(Vec::as_slice).collect();
        work(BatchInput { rows: self.depth.len(), sparse: &sparse, dense: &dense, groups: None })
    }
}

/// 1 where a row reached a stage, row-major `[B, 2]`.
pub(crate) fn reached(depth: &[u8]) -> Vec<f32> {
    depth.iter().flat_map(|&depth| [f32::from(depth > 0), f32::from(depth > 1)]).collect()
}

/// `count` batches of a workload. Ids are `floor(u^3 * rows)`, so small ids come often, as in real logs.
pub(crate) fn raw_batches(workload: &Workload, count: usize, seed: u64) -> Vec<RawBatch> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let rows = workload.batch;
    let mut batch = || RawBatch {
        ids: workload.tables.iter().map(|&size| ids(&mut rng, size, rows)).collect(),
        dense: (0..workload.dense).map(|_| (0..rows).map(|_| rng.random::<f32>()).collect()).collect(),
        depth: (0..rows)
            .map(|_| {
                let click = rng.random::<f64>() < CLICKS;
                u8::from(click) + u8::from(click && rng.random::<f64>() < CONVERSIONS)
            })
            .collect(),
    };
    (0..count).map(|_| batch()).collect()
}

/// Rows of a workload as a training has them in memory, for a [`Feed`](super::Feed).
pub(crate) fn dataset(workload: &Workload, rows: usize, seed: u64) -> Dataset {
    let rng = |stream: usize| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream as u64 + 1);
        rng
    };
    let column = |(feature, &size): (usize, &u32)| SparseColumn::Single(ids(&mut rng(feature), size, rows));
    let small = Workload { tables: Vec::new(), batch: rows, ..workload.clone() };
    let RawBatch { dense, depth, .. } = raw_batches(&small, 1, seed).remove(0);
    Dataset {
        rows,
        sparse: workload.tables.par_iter().enumerate().map(column).collect(),
        dense,
        depth,
        group: None,
        truth: None,
        counts: RowCounts::default(),
        users: None,
    }
}

fn ids(rng: &mut ChaCha8Rng, size: u32, rows: usize) -> Vec<u32> {
    let id = |u: f64| ((u * u * u * f64::from(size)) as u32).min(size - 1);
    (0..rows).map(|_| id(rng.random::<f64>())).collect()
}
