//! What a training minimizes: labels and named logits in, a loss out.

mod weights;

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use esmm_core::{EsmmBackend, FunnelLogits};
use esmm_data::RowCounts;
use esmm_run::config::NegativeRate;

use self::weights::weighted_losses;

/// The loss of ESMM, eq. 3 of arXiv 1804.07931: cross-entropy of click and of click-and-conversion, each over all
/// impressions. There is no CVR term.
///
/// # Examples
/// ```
/// use burn::tensor::Tensor;
/// use burn_ndarray::NdArray;
/// use esmm_core::FunnelLogits;
/// use esmm_train::EsmmLoss;
///
/// let device = Default::default();
/// // One impression that was clicked and did not convert; both conditional logits are 0.
/// let logits = FunnelLogits { conditional: Tensor::<NdArray, 2>::zeros([1, 2], &device) };
/// let loss = EsmmLoss::new(2).forward(&logits, Tensor::from_floats([[1.0, 0.0]], &device));
/// // -log P(click) - log(1 - P(click and conversion)) = -log 0.5 - log 0.75
/// let expected = -(0.5_f32.ln()) - 0.75_f32.ln();
/// assert!((loss.total.into_scalar() - expected).abs() < 1e-6);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct EsmmLoss {
    /// One weight a stage; the paper has 1 and 1.
    pub task_weights: Vec<f64>,
    /// The share of impressions without a click that the rows still hold; `None`: all of them. The loss is that of the
    /// rows as they are, whose odds of a click are those of the full log over this rate; the logits stay the full log's.
    pub negative_rate: Option<NegativeRate>,
}

/// The loss of one batch.
#[derive(Debug, Clone)]
pub struct LossOutput<B: Backend> {
    /// Weighted sum of the tasks, `[1]`.
    pub total: Tensor<B, 1>,
    /// Mean cross-entropy of reaching each stage, the tasks unweighted, `[K]`.
    pub tasks: Tensor<B, 1>,
}

/// The same logits, that of a click raised by `offset`.
fn with_click_offset<B: EsmmBackend>(logits: &FunnelLogits<B>, offset: f64) -> FunnelLogits<B> {
    let mut offsets = vec![0.0_f32; logits.stages()];
    offsets[0] = offset as f32;
    let offsets = Tensor::<B, 1>::from_floats(offsets.as_slice(), &logits.conditional.device());
    FunnelLogits { conditional: logits.conditional.clone() + offsets.unsqueeze::<2>() }
}

/// The same logits, that of a click raised by an offset for each row.
fn with_click_offsets<B: EsmmBackend>(logits: &FunnelLogits<B>, offsets: &[f32]) -> FunnelLogits<B> {
    let [rows, stages] = logits.conditional.dims();
    let mut cells = vec![0.0_f32; rows * stages];
    for (row, offset) in cells.chunks_exact_mut(stages).zip(offsets) {
        row[0] = *offset;
    }
    let offsets = TensorData::new(cells, [rows, stages]);
    let offsets = Tensor::<B, 2>::from_data(offsets, &logits.conditional.device());
    FunnelLogits { conditional: logits.conditional.clone() + offsets }
}

impl EsmmLoss {
    /// The paper's loss for `stages` stages.
    pub fn new(stages: usize) -> Self {
        Self { task_weights: vec![1.0; stages], negative_rate: None }
    }

    /// # Shapes
    /// `reached`: `[B, K]`, 1 where the impression reached the stage, 0 where not.
    ///
    /// # Panics
    /// When labels, logits and weights disagree in shape.
    pub fn forward<B: EsmmBackend>(&self, logits: &FunnelLogits<B>, reached: Tensor<B, 2>) -> LossOutput<B> {
        self.of_rows(logits, reached, &RowCounts::default())
    }

    /// The same for rows that count in ways of their own. Each task is the mean over the rows that count for it, weighted
    /// within the batch: rows of weight 2 are rows that are there twice. Rows whose outcome is open count for the first
    /// stage only. The logits stay those of the full log where each row says at which rate rows without a click were kept.
    ///
    /// # Shapes
    /// `reached`: `[B, K]`, 1 where the impression reached the stage, 0 where not; `counts` of B rows.
    ///
    /// # Panics
    /// When labels, logits, weights and counts disagree in shape.
    pub fn of_rows<B: EsmmBackend>(
        &self,
        logits: &FunnelLogits<B>,
        reached: Tensor<B, 2>,
        counts: &RowCounts,
    ) -> LossOutput<B> {
        let (stages, weights) = (logits.stages(), self.task_weights.len());
        assert_eq!(stages, weights, "{stages} stages and {weights} task weights");
        let offset = match (self.negative_rate, &counts.negative_rate) {
            (Some(rate), _) => Some(with_click_offset(logits, rate.click_offset())),
            (None, Some(rates)) => {
                let offsets: Vec<f32> = rates.iter().map(|rate| -f64::from(*rate).ln() as f32).collect();
                Some(with_click_offsets(logits, &offsets))
            }
            (None, None) => None,
        };
        let logits = offset.as_ref().unwrap_or(logits);
        let tasks = match counts.weight.is_some() || counts.open.is_some() {
            true => weighted_losses(logits, reached, counts),
            false => logits.losses(reached),
        };
        let weighted = if self.task_weights.iter().all(|&weight| weight == 1.0) {
            tasks.clone()
        } else {
            tasks.clone() * Tensor::<B, 1>::from_floats(self.task_weights.as_slice(), &tasks.device())
        };
        LossOutput { total: weighted.sum(), tasks }
    }
}
