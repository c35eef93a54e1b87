//! The memory that a training will need, counted.

use std::collections::BTreeMap;

use esmm_core::EsmmConfig;
use esmm_run::config::TrainConfig;
use serde::Serialize;

use crate::experiment::plan;
use crate::optimizer::TowerOptimizerConfig;
use crate::trainer::EVALUATION_BATCH;

/// Bytes of a value.
const VALUE: u64 = 4;
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
        let towers = sizes.tower_values();
        let beside = sizes.models_beside();
        let mut parts = vec![
            part("embedding tables", known(sizes.table_values() * VALUE)),
            part("optimizer state of the tables", known(sizes.row_state_values() * VALUE)),
            part("towers, their gradients and optimizer state", Some(towers * sizes.tower_copies() * VALUE)),
            part("touched rows of a batch and their gradients", Some(2 * sizes.touched_values() * VALUE)),
            part("activations of a batch and their gradients", Some(sizes.activations() * VALUE)),
            part("batches in host memory, and row numbers", known(sizes.host_batches())),
            part("encoded rows", sizes.encoded_rows()),
            part("scores of the largest split, when it is measured", sizes.scores()),
            part(
                "a copy of the weights, while they are saved",
                known((sizes.table_values() + towers) * VALUE),
            ),
            part("the program, its reader and allocator, about", Some(PROGRAM)),
        ];
        if beside > 0 {
            let each = sizes.table_values() + sizes.row_state_values() + towers * sizes.tower_copies();
            let each = each + 2 * sizes.touched_values() + sizes.activations();
            parts.push(part("the models that are trained beside the first", known(beside * each * VALUE)));
        }
        let total = parts.iter().filter_map(|part| part.bytes).sum();
        let complete = parts.iter().all(|part| part.bytes.is_some());
        Self { parts, total, complete }
    }
}

fn part(name: &'static str, bytes: Option<u64>) -> MemoryPart {
    MemoryPart { name, bytes }
}

impl Sizes<'_> {
    /// Of several models (`train.seeds`) those that a CPU with this machine's cores trains beside the first.
    fn models_beside(&self) -> u64 {
        plan::at_once(self.model, self.config, true) as u64 - 1
    }

    fn table_rows(&self) -> u64 {
        (self.model.copies() * self.model.schema.num_rows()) as u64
    }

    fn table_values(&self) -> u64 {
        self.table_rows() * self.model.embedding_dim as u64
    }

    fn row_state_values(&self) -> u64 {
        let widths = self.config.train.tables.rule.widths(self.model.embedding_dim);
        self.table_rows() * widths.iter().sum::<usize>() as u64
    }

    fn tower_values(&self) -> u64 {
        let summary = esmm_core::ModelSummary::new(self.model);
        let layers = summary.layers.iter().filter(|layer| !layer.kind.ends_with("mbedding"));
        layers.map(|layer| layer.parameters + layer.buffers).sum()
    }

    /// Weights, gradients, and what the optimizer keeps for each.
    fn tower_copies(&self) -> u64 {
        match self.config.train.towers {
            TowerOptimizerConfig::Adam { .. } | TowerOptimizerConfig::AdamW { .. } => 4,
            TowerOptimizerConfig::Sgd { momentum, .. } => 2 + u64::from(momentum > 0.0),
        }
    }

    fn batch(&self) -> f64 {
        self.config.train.batch_size as f64
    }

    /// Ids of a row, of all features together.
    fn ids(&self) -> f64 {
        let length =
            |name: &String, is_bag| if is_bag { self.lengths.get(name).copied().unwrap_or(1.0) } else { 1.0 };
        self.model.schema.sparse().map(|feature| length(&feature.name, feature.bag.is_some())).sum()
    }

    /// Every id of a batch another row of its table, as far as the table has so many.
    fn touched_values(&self) -> u64 {
        let mut ids = BTreeMap::<&str, f64>::new();
        for feature in self.model.schema.sparse() {
            let table = feature.shares.as_ref().unwrap_or(&feature.name);
            let bag = feature.bag.is_some();
            let length = if bag { self.lengths.get(&feature.name).copied().unwrap_or(1.0) } else { 1.0 };
            *ids.entry(table).or_default() += self.batch() * length;
        }
        let rows = self.model.schema.tables().map(|table| {
            let ids = ids.get(table.name.as_str()).copied().unwrap_or(0.0);
            if self.tables_known { ids.min(table.num_embeddings as f64) } else { ids }
        });
        rows.sum::<f64>() as u64 * (self.model.copies() * self.model.embedding_dim) as u64
    }

    /// What the forward pass keeps (input, and of each hidden layer matmul and output), and the largest gradients that
    /// the backward pass holds at once.
    fn activations(&self) -> u64 {
        let model = self.model;
        let batch = self.config.train.batch_size as u64;
        let input = (model.copies() * model.schema.input_width(model.embedding_dim)) as u64;
        let linear = model.towers.activation == esmm_core::Activation::None
            && !model.towers.batch_norm
            && model.towers.dropout.iter().all(|dropout| *dropout == 0.0);
        let widths: Vec<u64> =
            model.towers.hidden.iter().map(|width| (model.stages * width) as u64).collect();
        let kept = input + widths.iter().map(|width| width * (2 - u64::from(linear))).sum::<u64>();
        let inputs = std::iter::once(input).chain(widths.iter().copied());
        let gradients = inputs.zip(&widths).map(|(input, output)| input + output).max().unwrap_or(input);
        batch * (kept + gradients)
    }

    /// Ids, places and labels of the batches, and the builder's number for each row of the tables.
    fn host_batches(&self) -> u64 {
        let dense = self.model.schema.dense().count() as f64;
        let row = 3.0 * 4.0 * self.ids() + 4.0 * dense + 4.0 * self.model.stages as f64;
        let scored = EVALUATION_BATCH as f64 * row;
        HOST_BATCHES * (self.batch() * row).max(scored) as u64 + 8 * self.model.schema.num_rows() as u64
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
