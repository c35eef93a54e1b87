//! What the parts of a training take, counted in bytes; rows of tensors may be padded, as CUDA's are.

use esmm_core::{EsmmConfig, ModelSummary};
use esmm_run::config::TrainConfig;

use crate::optimizer::TowerOptimizerConfig;

/// Bytes of a value.
pub(crate) const VALUE: u64 = size_of::<f32>() as u64;

/// Bytes from one row of a tensor to the next, by its width in values.
pub(crate) type RowBytes<'a> = &'a dyn Fn(usize) -> u64;

/// Rows that follow each other without a gap.
pub(crate) fn dense_rows(width: usize) -> u64 {
    width as u64 * VALUE
}

/// Rows of the largest batch of a training on so many rows; `None`: on more than a batch has.
pub(crate) fn batch(config: &TrainConfig, rows: Option<u64>) -> u64 {
    (config.train.batch_size as u64).min(rows.unwrap_or(u64::MAX).max(1))
}

/// The embedding tables.
pub(crate) fn tables(model: &EsmmConfig, row_bytes: RowBytes<'_>) -> u64 {
    table_rows(model) * row_bytes(model.embedding_dim)
}

/// What the optimizer remembers of the rows of the tables.
pub(crate) fn table_state(model: &EsmmConfig, config: &TrainConfig, row_bytes: RowBytes<'_>) -> u64 {
    let widths = config.train.tables.rule.widths(model.embedding_dim);
    table_rows(model) * widths.into_iter().map(row_bytes).sum::<u64>()
}

fn table_rows(model: &EsmmConfig) -> u64 {
    (model.copies() * model.schema.num_rows()) as u64
}

/// Values of the towers: weights and running statistics.
pub(crate) fn tower_values(model: &EsmmConfig) -> u64 {
    let summary = ModelSummary::new(model);
    let layers = summary.layers.iter().filter(|layer| !layer.kind.ends_with("mbedding"));
    layers.map(|layer| layer.parameters + layer.buffers).sum()
}

/// The towers: weights, gradients, and what the optimizer keeps for each.
pub(crate) fn towers(model: &EsmmConfig, config: &TrainConfig) -> u64 {
    let copies = match config.train.towers {
        TowerOptimizerConfig::Adam { .. } | TowerOptimizerConfig::AdamW { .. } => 4,
        TowerOptimizerConfig::Sgd { momentum, .. } => 2 + u64::from(momentum > 0.0),
    };
    tower_values(model) * copies * VALUE
}

/// What a row of a batch adds to a step: what the forward pass keeps (input, and of each hidden layer matmul and output), and
/// the largest gradients that the backward pass holds at once.
pub(crate) fn activations_of_row(model: &EsmmConfig, row_bytes: RowBytes<'_>) -> u64 {
    let input = input_of_row(model, row_bytes);
    let hidden = hidden_of_row(model, row_bytes);
    let linear = model.towers.activation == esmm_core::Activation::None
        && !model.towers.batch_norm
        && model.towers.dropout.iter().all(|dropout| *dropout == 0.0);
    let kept = input + hidden.iter().map(|width| width * (2 - u64::from(linear))).sum::<u64>();
    let inputs = std::iter::once(input).chain(hidden.iter().copied());
    let gradients = inputs.zip(&hidden).map(|(input, output)| input + output).max().unwrap_or(input);
    kept + gradients
}

/// What a row of a batch takes in the widest tensor of a step.
pub(crate) fn widest_of_row(model: &EsmmConfig, row_bytes: RowBytes<'_>) -> u64 {
    hidden_of_row(model, row_bytes).into_iter().fold(input_of_row(model, row_bytes), u64::max)
}

fn input_of_row(model: &EsmmConfig, row_bytes: RowBytes<'_>) -> u64 {
    model.copies() as u64 * row_bytes(model.schema.input_width(model.embedding_dim))
}

fn hidden_of_row(model: &EsmmConfig, row_bytes: RowBytes<'_>) -> Vec<u64> {
    model.towers.hidden.iter().map(|width| model.stages as u64 * row_bytes(*width)).collect()
}
