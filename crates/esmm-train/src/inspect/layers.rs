//! Layers with what they cost.

use std::collections::BTreeMap;

use esmm_core::{EsmmConfig, ModelSummary};
use serde::Serialize;

/// The backward pass of a matmul is two matmuls: a step costs three times the forward pass.
const STEP_OVER_FORWARD: u64 = 3;

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerCost {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: String,
    /// Shape of its output; the batch is written B.
    pub output: String,
    /// Learned parameters; `None` for a table whose vocabulary is not known yet.
    pub parameters: Option<u64>,
    /// Bytes of its weights.
    pub bytes: Option<u64>,
    /// Floating-point operations that a row costs forward.
    pub flops_per_row: u64,
    /// Bytes that a row reads: its own ids, table rows and numbers, and its share of the weights, which are read once a
    /// batch.
    pub bytes_read_per_row: u64,
}

/// What a training step costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StepCost {
    /// Rows of a batch.
    pub batch_size: u64,
    /// Floating-point operations of a row forward.
    pub flops_per_row: u64,
    /// Of a training step, forward and backward; the optimizers are not counted. At most what 64 bits count.
    pub flops_per_step: u64,
    /// Bytes that a row reads forward.
    pub bytes_read_per_row: u64,
}

/// The layers of a model whose tables in `unknown` have no size yet; `lengths` are the mean numbers of ids of lists.
pub(super) fn layers(
    model: &EsmmConfig,
    unknown: &[String],
    lengths: &BTreeMap<String, f64>,
    batch_size: u64,
) -> Vec<LayerCost> {
    let length = |name: &str| lengths.get(name).copied().unwrap_or(1.0);
    let cost = |layer: esmm_core::LayerSummary| {
        let known = !unknown.contains(&layer.name);
        let shared = if is_table(layer.kind) { 0 } else { layer.bytes().div_ceil(batch_size.max(1)) };
        LayerCost {
            kind: layer.kind.to_owned(),
            parameters: known.then_some(layer.parameters),
            bytes: known.then_some(layer.bytes()),
            flops_per_row: layer.flops,
            bytes_read_per_row: layer.row_bytes + shared,
            output: layer.output,
            name: layer.name,
        }
    };
    ModelSummary::with_bag_lengths(model, length).layers.into_iter().map(cost).collect()
}

fn is_table(kind: &str) -> bool {
    kind.ends_with("mbedding")
}

impl StepCost {
    pub(super) fn of(layers: &[LayerCost], batch_size: u64) -> Self {
        let flops_per_row = layers.iter().map(|layer| layer.flops_per_row).sum();
        Self {
            batch_size,
            flops_per_row,
            flops_per_step: (STEP_OVER_FORWARD * batch_size).saturating_mul(flops_per_row),
            bytes_read_per_row: layers.iter().map(|layer| layer.bytes_read_per_row).sum(),
        }
    }
}
