//! Scores of labelled rows, read back from the device.

use std::sync::Arc;

use burn::tensor::Tensor;
use esmm_core::{EsmmBackend, FunnelLogits};
use esmm_data::loader::RowLabels;
use esmm_metrics::{EvaluationRows, TruthRows};

use crate::config::NegativeRate;
use crate::correction::{CorrectedRow, Correction};

/// Scores of labelled rows in host memory.
#[derive(Debug, Clone, PartialEq)]
pub struct HostScores {
    /// `log P_k`, row-major `[B, K]`.
    pub log_reach: Vec<f32>,
    /// `log(1 - P_k)`, row-major `[B, K]`.
    pub log_not_reach: Vec<f32>,
    /// Conditional logits, row-major `[B, K]`.
    pub conditional: Vec<f32>,
    /// Labels of the rows.
    pub labels: Arc<RowLabels>,
}

impl HostScores {
    /// Reads the scores of a batch back from its device.
    pub fn new<B: EsmmBackend>(logits: &FunnelLogits<B>, labels: Arc<RowLabels>) -> Self {
        let logs = logits.reach_logs();
        let host = |tensor: Tensor<B, 2>| tensor.into_data().iter::<f32>().collect();
        Self {
            log_reach: host(logs.log_reach),
            log_not_reach: host(logs.log_not_reach),
            conditional: host(logits.conditional.clone()),
            labels,
        }
    }

    /// The same with corrected probabilities.
    #[must_use]
    pub fn corrected(mut self, correction: &Correction) -> Self {
        let stages = self.stages();
        let mut row = CorrectedRow::default();
        for (place, logits) in self.conditional.chunks_exact_mut(stages).enumerate() {
            correction.apply(logits, &mut row);
            for (stage, logit) in logits.iter_mut().enumerate() {
                let cell = place * stages + stage;
                self.log_reach[cell] = row.log_reach[stage] as f32;
                self.log_not_reach[cell] = row.log_not_reach[stage] as f32;
                *logit = row.conditional_logit(stage) as f32;
            }
        }
        self
    }

    /// As the evaluator reads them.
    pub fn rows(&self) -> EvaluationRows<'_> {
        let labels = &self.labels;
        EvaluationRows {
            log_reach: &self.log_reach,
            log_not_reach: &self.log_not_reach,
            conditional_logit: &self.conditional,
            depth: &labels.depth,
            group: labels.group.as_deref(),
            truth: labels.truth.as_ref().map(|truth| TruthRows {
                ctr: Some(&truth.ctr),
                cvr: &truth.cvr,
                ctcvr: truth.ctcvr.as_deref(),
            }),
            open: labels.counts.open.as_deref(),
        }
    }

    /// Number of stages, K.
    pub fn stages(&self) -> usize {
        self.log_reach.len() / self.labels.depth.len().max(1)
    }

    /// How many impressions of the full log each row stands for; `None` where each stands for itself.
    pub fn weights(&self, negative_rate: Option<NegativeRate>) -> Option<Vec<f32>> {
        let RowLabels { depth, counts, .. } = &*self.labels;
        if negative_rate.is_none() && counts.weight.is_none() && counts.negative_rate.is_none() {
            return None;
        }
        let sampled = |depth: u8| negative_rate.map_or(1.0, |rate| rate.weight(depth));
        let weight = |(row, depth): (usize, &u8)| sampled(*depth) * counts.weight(row, *depth) as f32;
        Some(depth.iter().enumerate().map(weight).collect())
    }

    /// Mean cross-entropy of reaching each stage, each row as many times as it stands for impressions of the full log. Rows
    /// whose outcome is open count for the first stage only.
    pub fn losses(&self, negative_rate: Option<NegativeRate>) -> Vec<f64> {
        let stages = self.stages();
        let weights = self.weights(negative_rate);
        let counts = &self.labels.counts;
        let (mut sums, mut losses) = (vec![0.0_f64; stages], vec![0.0_f64; stages]);
        for (row, &depth) in self.labels.depth.iter().enumerate() {
            let weight = weights.as_ref().map_or(1.0, |weights| f64::from(weights[row]));
            let known = if counts.is_open(row) { 1 } else { stages };
            for (stage, (loss, sum)) in losses.iter_mut().zip(&mut sums).enumerate().take(known) {
                let logs = if usize::from(depth) > stage { &self.log_reach } else { &self.log_not_reach };
                *loss -= weight * f64::from(logs[row * stages + stage]);
                *sum += weight;
            }
        }
        losses.iter().zip(&sums).map(|(loss, sum)| if *sum > 0.0 { loss / sum } else { 0.0 }).collect()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn data_and_metrics_agree_on_no_group() {
        assert_eq!(esmm_data::NO_GROUP, esmm_metrics::NO_GROUP);
    }
}
