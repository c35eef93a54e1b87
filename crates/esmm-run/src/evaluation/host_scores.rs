//! Scores of labelled rows, read back from the device.

use std::sync::Arc;

use burn::tensor::Tensor;
use esmm_core::{EsmmBackend, FunnelLogits};
use esmm_data::loader::RowLabels;
use esmm_metrics::{EvaluationRows, TruthRows};

use crate::config::NegativeRate;

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
        }
    }

    /// Number of stages, K.
    pub fn stages(&self) -> usize {
        self.log_reach.len() / self.labels.depth.len().max(1)
    }

    /// Mean cross-entropy of reaching each stage, each row as many times as it stands for impressions of the full log.
    pub fn losses(&self, negative_rate: Option<NegativeRate>) -> Vec<f64> {
        let stages = self.stages();
        let weight = |depth: u8| negative_rate.map_or(1.0, |rate| f64::from(rate.weight(depth)));
        let rows: f64 = self.labels.depth.iter().map(|depth| weight(*depth)).sum();
        let mut losses = vec![0.0_f64; stages];
        for (row, &depth) in self.labels.depth.iter().enumerate() {
            for (stage, loss) in losses.iter_mut().enumerate() {
                let logs = if usize::from(depth) > stage { &self.log_reach } else { &self.log_not_reach };
                *loss -= weight(depth) * f64::from(logs[row * stages + stage]) / rows;
            }
        }
        losses
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn data_and_metrics_agree_on_no_group() {
        assert_eq!(esmm_data::NO_GROUP, esmm_metrics::NO_GROUP);
    }
}
