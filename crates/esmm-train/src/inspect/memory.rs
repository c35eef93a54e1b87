//! The memory that a training will need, counted.

use std::collections::BTreeMap;

use esmm_core::EsmmConfig;
use esmm_run::config::TrainConfig;
use serde::Serialize;

use crate::device::padded_row_bytes;
use crate::experiment::plan;
use crate::sizes::{self, RowBytes, VALUE};
use crate::trainer::EVALUATION_BATCH;

/// The program, its threads, the reader and what the allocator keeps: what trainings of 2,000, 40,000 and 300,000
/// synthetic rows took beyond the other parts was 52, 92 and 109 MiB.
const PROGRAM: u64 = 90 << 20;
/// Batches in host memory at once: two that wait, one that is made, one that is used.
const HOST_BATCHES: u64 = 4;

/// The memory that a training will need, by what needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrainingMemory {
    /// The parts.
    pub parts: Vec<MemoryPart>,
    /// All of them; a lower bound when one is not known.
    pub total: u64,
    /// Whether every part is known.
    pub complete: bool,
    /// What of it is in the memory of a GPU.
    pub gpu: GpuMemory,
}

/// What a training takes of the memory of a GPU: weights, optimizer state and activations. `None` before the data was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GpuMemory {
    /// Where rows of tensors follow each other without a gap, as in wgpu's.
    pub dense: Option<u64>,
    /// Where rows are padded, as CUDA's are: 18 values take the room of 32.
    pub padded: Option<u64>,
}

/// One part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemoryPart {
    /// What needs it.
    pub name: &'static str,
    /// Bytes; `None` before the data was read.
    pub bytes: Option<u64>,
}

/// What the estimate rests on.
pub(super) struct Sizes<'a> {
    pub(super) config: &'a TrainConfig,
    pub(super) model: &'a EsmmConfig,
    /// Whether the size of every table is known.
    pub(super) tables_known: bool,
    /// Mean number of ids of lists.
    pub(super) lengths: &'a BTreeMap<String, f64>,
    /// Rows of the splits, once they are known.
    pub(super) rows: Option<Vec<u64>>,
}

impl TrainingMemory {
    pub(super) fn of(sizes: &Sizes<'_>) -> Self {
        let known = |bytes: u64| sizes.tables_known.then_some(bytes);
        let beside = sizes.models_beside();
        let [tables, table_state, towers, touched, activations] = sizes.on_device(&sizes::dense_rows);
        let mut parts = vec![
            part("embedding tables", known(tables)),
            part("optimizer state of the tables", known(table_state)),
            part("towers, their gradients and optimizer state", Some(towers)),
            part("touched rows of a batch and their gradients", Some(touched)),
            part("activations of a batch and their gradients", Some(activations)),
            part("batches in host memory, and row numbers", known(sizes.host_batches())),
            part("encoded rows", sizes.encoded_rows()),
            part("scores of the largest split, when it is measured", sizes.scores()),
            part(
                "a copy of the weights, while they are saved",
                known(tables + sizes::tower_values(sizes.model) * VALUE),
            ),
            part("the program, its reader and allocator, about", Some(PROGRAM)),
        ];
        if beside > 0 {
            let each = sum([tables, table_state, towers, touched, activations]);
            let bytes = beside.saturating_mul(each);
            parts.push(part("the models that are trained beside the first", known(bytes)));
        }
        let total = sum(parts.iter().filter_map(|part| part.bytes));
        let complete = parts.iter().all(|part| part.bytes.is_some());
        let on_gpu = |row_bytes| sizes.tables_known.then(|| sum(sizes.on_device(row_bytes)));
        let gpu = GpuMemory { dense: on_gpu(&sizes::dense_rows), padded: on_gpu(&padded_row_bytes) };
        Self { parts, total, complete, gpu }
    }
}

/// All together. A batch and layers as large as a run file may ask for are more than 64 bits count: the largest number then.
fn sum(bytes: impl IntoIterator<Item = u64>) -> u64 {
    bytes.into_iter().fold(0, u64::saturating_add)
}

fn part(name: &'static str, bytes: Option<u64>) -> MemoryPart {
    MemoryPart { name, bytes }
}

impl Sizes<'_> {
    /// Of several models (`train.seeds`) those that a CPU with this machine's cores trains beside the first.
    fn models_beside(&self) -> u64 {
        plan::at_once(self.model, self.config, true) as u64 - 1
    }

    /// What a GPU would hold: tables, their optimizer state, towers, touched rows and activations.
    fn on_device(&self, row_bytes: RowBytes<'_>) -> [u64; 5] {
        let Self { model, config, .. } = *self;
        [
            sizes::tables(model, row_bytes),
            sizes::table_state(model, config, row_bytes),
            sizes::towers(model, config),
            self.touched_rows().saturating_mul(2 * row_bytes(model.embedding_dim)),
            self.batch().saturating_mul(sizes::activations_of_row(model, row_bytes)),
        ]
    }

    /// Rows of a batch: no more than there are.
    fn batch(&self) -> u64 {
        sizes::batch(self.config, self.rows.as_ref().and_then(|rows| rows.first()).copied())
    }

    /// Ids of a row, of all features together.
    fn ids(&self) -> f64 {
        let length =
            |name: &String, is_bag| if is_bag { self.lengths.get(name).copied().unwrap_or(1.0) } else { 1.0 };
        self.model.schema.sparse().map(|feature| length(&feature.name, feature.bag.is_some())).sum()
    }

    /// Every id of a batch another row of its table, as far as the table has so many.
    fn touched_rows(&self) -> u64 {
        let mut ids = BTreeMap::<&str, f64>::new();
        for feature in self.model.schema.sparse() {
            let table = feature.shares.as_ref().unwrap_or(&feature.name);
            let bag = feature.bag.is_some();
            let length = if bag { self.lengths.get(&feature.name).copied().unwrap_or(1.0) } else { 1.0 };
            *ids.entry(table).or_default() += self.batch() as f64 * length;
        }
        let rows = self.model.schema.tables().map(|table| {
            let ids = ids.get(table.name.as_str()).copied().unwrap_or(0.0);
            if self.tables_known { ids.min(table.num_embeddings as f64) } else { ids }
        });
        rows.sum::<f64>() as u64 * self.model.copies() as u64
    }

    /// Ids, places and labels of the batches, and the builder's number for each row of the tables.
    fn host_batches(&self) -> u64 {
        let dense = self.model.schema.dense().count() as f64;
        let row = 3.0 * 4.0 * self.ids() + 4.0 * dense + 4.0 * self.model.stages as f64;
        let largest_split = self.rows.as_ref().and_then(|rows| rows.iter().max()).copied();
        let scored = largest_split.map_or(EVALUATION_BATCH as u64, |rows| rows.min(EVALUATION_BATCH as u64));
        HOST_BATCHES * (self.batch().max(scored) as f64 * row) as u64
            + 8 * self.model.schema.num_rows() as u64
    }

    /// Of a training that streams no more than what it may keep.
    fn encoded_rows(&self) -> Option<u64> {
        let rows = self.rows.as_ref()?;
        let bags = self.model.schema.sparse().filter(|feature| feature.bag.is_some()).count() as f64;
        let dense = self.model.schema.dense().count() as f64;
        let group = if self.config.group.is_some() { 8.0 } else { 0.0 };
        let truth = if self.config.truth.is_some() { 12.0 } else { 0.0 };
        let row = 4.0 * (self.ids() + dense) + 8.0 * bags + 1.0 + group + truth;
        let all = (rows.iter().sum::<u64>() as f64 * row) as u64;
        let reading = &self.config.reading;
        match reading.streaming {
            Some(true) => Some(all.min(reading.memory)),
            _ => Some(all + 4 * rows.first().copied().unwrap_or(0)), // And the order of the training rows.
        }
    }

    /// What the evaluator says that it keeps, with its room to grow, and the copy of one task's scores that is sorted.
    fn scores(&self) -> Option<u64> {
        let largest = self.rows.as_ref()?.iter().copied().max().unwrap_or(0);
        let group = if self.config.group.is_some() { 8 } else { 0 };
        let truth = if self.config.truth.is_some() { 16 } else { 0 };
        let kept = 1 + 4 * self.model.stages as u64 + group + truth;
        Some(largest * (kept + kept / 8 + 4 + 2 * group))
    }
}
