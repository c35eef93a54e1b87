//! What a training minimizes: labels and named logits in, a loss out.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use esmm_core::{EsmmBackend, FunnelLogits};
use esmm_run::config::NegativeRate;

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
    /// Mean cross-entropy of reaching each stage, unweighted, `[K]`.
    pub tasks: Tensor<B, 1>,
}

/// The same logits, that of a click raised by `offset`.
fn with_click_offset<B: EsmmBackend>(logits: &FunnelLogits<B>, offset: f64) -> FunnelLogits<B> {
    let mut offsets = vec![0.0_f32; logits.stages()];
    offsets[0] = offset as f32;
    let offsets = Tensor::<B, 1>::from_floats(offsets.as_slice(), &logits.conditional.device());
    FunnelLogits { conditional: logits.conditional.clone() + offsets.unsqueeze::<2>() }
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
        let (stages, weights) = (logits.stages(), self.task_weights.len());
        assert_eq!(stages, weights, "{stages} stages and {weights} task weights");
        let tasks = match self.negative_rate {
            None => logits.losses(reached),
            Some(rate) => with_click_offset(logits, rate.click_offset()).losses(reached),
        };
        let weighted = if self.task_weights.iter().all(|&weight| weight == 1.0) {
            tasks.clone()
        } else {
            tasks.clone() * Tensor::<B, 1>::from_floats(self.task_weights.as_slice(), &tasks.device())
        };
        LossOutput { total: weighted.sum(), tasks }
    }
}
