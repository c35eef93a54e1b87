//! The columns of predictions: their names, and their values from the logits of a batch.

use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;
use esmm_core::{EsmmBackend, FunnelLogits};

use crate::correction::{CorrectedRow, Correction};

/// Names of the prediction columns: see [`Scorer::score`](super::Scorer::score).
pub fn prediction_columns(stages: &[String]) -> Vec<String> {
    if stages.len() == 2 {
        return ["pctr", "pcvr", "pctcvr"].map(String::from).to_vec();
    }
    let mut names = vec![format!("p_{}", stages[0])];
    for pair in stages.windows(2) {
        names.extend([format!("p_{}_given_{}", pair[1], pair[0]), format!("p_{}", pair[1])]);
    }
    names
}

/// Corrected columns in the order of [`prediction_columns`].
pub(super) fn corrected<B: EsmmBackend>(logits: &FunnelLogits<B>, correction: &Correction) -> Vec<Vec<f32>> {
    let stages = logits.stages();
    let conditional: Vec<f32> = logits.conditional.clone().into_data().iter::<f32>().collect();
    let mut columns = vec![Vec::with_capacity(conditional.len() / stages); 2 * stages - 1];
    let mut row = CorrectedRow::default();
    for logits in conditional.chunks_exact(stages) {
        correction.apply(logits, &mut row);
        columns[0].push(row.reach(0) as f32);
        for stage in 1..stages {
            columns[2 * stage - 1].push(row.conditional(stage) as f32);
            columns[2 * stage].push(row.reach(stage) as f32);
        }
    }
    columns
}

/// Columns in the order of [`prediction_columns`].
pub(super) fn probabilities<B: EsmmBackend>(logits: &FunnelLogits<B>) -> Vec<Vec<f32>> {
    let reach = logits.reach_probs();
    let conditional = sigmoid(logits.conditional.clone());
    let column = |matrix: &Tensor<B, 2>, stage: usize| {
        let rows = matrix.dims()[0];
        matrix.clone().slice([0..rows, stage..stage + 1]).into_data().iter::<f32>().collect::<Vec<f32>>()
    };
    let mut columns = vec![column(&reach, 0)];
    for stage in 1..logits.stages() {
        columns.extend([column(&conditional, stage), column(&reach, stage)]);
    }
    columns
}
