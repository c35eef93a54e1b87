//! What a training minimizes: labels and named logits in, a loss out.

mod weights;

use std::fmt::Debug;

use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use esmm_core::{EsmmBackend, FunnelLogits};
use esmm_data::RowCounts;
use esmm_data::loader::EsmmBatch;
use esmm_run::config::NegativeRate;

use self::weights::weighted_losses;

/// A loss that an [`EsmmLearner`](crate::EsmmLearner) can minimize. [`EsmmLoss`] is the paper's.
///
/// # Examples
/// ESMM with a weight on the rows that were clicked, in a loop with Burn's own optimizer trait.
/// ```
/// use std::sync::Arc;
///
/// use burn::backend::Autodiff;
/// use burn::tensor::Tensor;
/// use burn::train::TrainStep;
/// use burn_ndarray::NdArray;
/// use esmm_core::{
///     BatchInput, EsmmBackend, EsmmConfig, Feature, FeatureBatch, FeatureSchema, FunnelLogits, Side, SparseInput,
/// };
/// use esmm_train::data::loader::{EsmmBatch, RowLabels};
/// use esmm_train::optimizer::{SharedOptimizer, TableOptimizerConfig, TableRule, TowerOptimizerConfig};
/// use esmm_train::{EsmmLearnerConfig, FunnelLoss, LossOutput};
///
/// type B = Autodiff<NdArray>;
///
/// #[derive(Debug, Clone)]
/// struct ClicksCountTwice;
///
/// impl FunnelLoss for ClicksCountTwice {
///     fn forward<B: EsmmBackend>(
///         &self,
///         logits: &FunnelLogits<B>,
///         batch: &EsmmBatch<B>,
///     ) -> LossOutput<B> {
///         // Log-probabilities of reaching each stage and of not reaching it, [B, K].
///         let logs = logits.reach_logs();
///         let reached = batch.reached.clone();
///         let likelihood = reached.clone() * logs.log_reach + (reached.clone() * -1.0 + 1.0) * logs.log_not_reach;
///         let click = reached.narrow(1, 0, 1);
///         let losses = likelihood * (click + 1.0) * -1.0;
///         let tasks = losses.mean_dim(0).squeeze_dim::<1>(0);
///         LossOutput { weighted: tasks.clone(), tasks }
///     }
/// }
///
/// # fn main() -> Result<(), esmm_core::EsmmError> {
/// let schema = FeatureSchema::new(vec![Feature::sparse("user", Side::User, 100)])?;
/// let device = Default::default();
/// let tables = TableOptimizerConfig { rule: TableRule::Sgd, learning_rate_ratio: 1.0, l2: 0.0 };
/// let config = EsmmLearnerConfig { loss: ClicksCountTwice, tables, clip_norm: None, seed: 1 };
/// let mut learner = config.init(EsmmConfig::new(schema.clone()).init::<B>(&device)?);
/// let towers = TowerOptimizerConfig::Sgd { momentum: 0.0, weight_decay: 0.0 };
/// let mut optimizer = SharedOptimizer::new(&towers);
///
/// let input = BatchInput { rows: 2, sparse: &[SparseInput::Single(&[7, 8])], dense: &[], groups: None };
/// let labels = RowLabels { depth: vec![2, 0], ..RowLabels::default() };
/// let batch = EsmmBatch {
///     features: FeatureBatch::new(&schema, input, &device)?,
///     reached: labels.reached(2, &device),
///     labels: Arc::new(labels),
/// };
/// let mut losses = Vec::new();
/// for _ in 0..3 {
///     let step = TrainStep::step(&learner, batch.clone());
///     losses.push(step.item.report().total);
///     learner = learner.optimize::<B, _>(&mut optimizer, 0.1, step.grads);
/// }
/// assert!(losses[1] < losses[0] && losses[2] < losses[1]);
/// # Ok(())
/// # }
/// ```
pub trait FunnelLoss: Clone + Debug + Send + 'static {
    /// The loss of a batch from its labels and the logits of its rows.
    ///
    /// # Shapes
    /// `logits.conditional` and `batch.reached`: `[B, K]`.
    fn forward<B: EsmmBackend>(&self, logits: &FunnelLogits<B>, batch: &EsmmBatch<B>) -> LossOutput<B>;

    /// The share of impressions without a click that the rows still hold; `None`: all of them. The losses of a validation
    /// are then those of the rows as they are.
    fn negative_rate(&self) -> Option<NegativeRate> {
        None
    }
}

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
/// assert!((loss.total().into_scalar() - expected).abs() < 1e-6);
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
    /// The tasks times their weights, `[K]`: their sum is what a training minimizes.
    pub weighted: Tensor<B, 1>,
    /// Mean cross-entropy of reaching each stage, the tasks unweighted, `[K]`.
    pub tasks: Tensor<B, 1>,
}

impl<B: Backend> LossOutput<B> {
    /// The weighted sum of the tasks, `[1]`.
    pub fn total(&self) -> Tensor<B, 1> {
        self.weighted.clone().sum()
    }
}

impl<B: AutodiffBackend> LossOutput<B> {
    /// The gradients of [`total`](Self::total). The sum itself is not computed: on a GPU it would be two launches of a step
    /// that reads no loss.
    pub fn backward(&self) -> B::Gradients {
        self.weighted.backward()
    }
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

impl FunnelLoss for EsmmLoss {
    fn forward<B: EsmmBackend>(&self, logits: &FunnelLogits<B>, batch: &EsmmBatch<B>) -> LossOutput<B> {
        self.of_rows(logits, batch.reached.clone(), &batch.labels.counts)
    }

    fn negative_rate(&self) -> Option<NegativeRate> {
        self.negative_rate
    }
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
        LossOutput { weighted, tasks }
    }
}
