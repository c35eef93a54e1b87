//! What this model asks of a Burn backend beyond Burn's own operations.
//!
//! [`EsmmBackend`] is a handful of fused operations. Each has a default body made of Burn's operations
//! ([`mod@reference`]), which is its definition: a kernel that replaces it must compute the same. `autodiff.rs` gives
//! the differentiated ones a hand-written backward, which calls the matching `*_backward` operation.

mod autodiff;
pub mod random;
pub mod reference;

use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};

use crate::tower::Activation;

/// Which entries make up which bag: see [`FeatureBatch`](crate::FeatureBatch).
#[derive(Debug, Clone)]
pub struct BagPlan<B: Backend> {
    /// Rows of the batch, B.
    pub rows: usize,
    /// Sparse features, F.
    pub num_sparse: usize,
    /// Place of each entry among the touched rows, `[N]`.
    pub slots: IntTensor<B>,
    /// Bag of each entry and its weight, `[N]` each; `None` when entry `i` is bag `i` with weight 1.
    pub bags: Option<(IntTensor<B>, FloatTensor<B>)>,
}

/// What follows the product in a hidden layer of all towers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockSpec {
    /// Normalize with the statistics of this batch.
    pub batch_norm: bool,
    /// Added to the variance.
    pub epsilon: f64,
    /// Applied after the normalization.
    pub activation: Activation,
    /// Applied last.
    pub dropout: Option<random::Dropout>,
}

/// The tensors that [`EsmmBackend::tower_block`] reads. Unused ones hold a single zero.
#[derive(Debug, Clone)]
pub struct BlockInput<B: Backend> {
    /// `[K, B, H]`.
    pub hidden: FloatTensor<B>,
    /// Scale of the batch norm, `[K, H]`.
    pub gamma: FloatTensor<B>,
    /// Shift of the batch norm, `[K, H]`.
    pub beta: FloatTensor<B>,
    /// Slope of a PReLU, `[K]`.
    pub slope: FloatTensor<B>,
}

/// What [`EsmmBackend::tower_block`] gives.
#[derive(Debug, Clone)]
pub struct BlockOutput<B: Backend> {
    /// `[K, B, H]`.
    pub output: FloatTensor<B>,
    /// Mean over the batch, `[K, H]`; one zero without batch norm.
    pub mean: FloatTensor<B>,
    /// Biased variance over the batch, `[K, H]`; one zero without batch norm.
    pub variance: FloatTensor<B>,
}

/// Gradients with respect to a [`BlockInput`].
#[derive(Debug, Clone)]
pub struct BlockGrads<B: Backend> {
    /// `[K, B, H]`.
    pub hidden: FloatTensor<B>,
    /// `[K, H]`.
    pub gamma: FloatTensor<B>,
    /// `[K, H]`.
    pub beta: FloatTensor<B>,
    /// `[K]`.
    pub slope: FloatTensor<B>,
}

/// How touched rows of a table change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RowRule {
    /// `w -= lr * g`.
    Sgd,
    /// One accumulator a row: `s += mean(g^2)`, `w -= lr * g / (sqrt(s) + epsilon)`.
    RowWiseAdagrad {
        /// Keeps the first steps finite.
        epsilon: f64,
    },
    /// Adam on the rows that have a gradient, with the semantics of `torch.optim.SparseAdam`: moments of untouched
    /// rows stay, the bias correction counts all steps.
    LazyAdam {
        /// Decay of the first moment.
        beta_1: f64,
        /// Decay of the second moment.
        beta_2: f64,
        /// Added to the root of the second moment.
        epsilon: f64,
        /// Number of this step, from 1.
        step: u64,
    },
}

/// A row update: rule, learning rate and L2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowUpdate {
    /// The rule.
    pub rule: RowRule,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// `g += l2 * w` on touched rows only.
    pub l2: f64,
}

/// A table with the optimizer state of its rows.
#[derive(Debug, Clone)]
pub struct RowState<B: Backend> {
    /// `[R, D]`.
    pub table: FloatTensor<B>,
    /// What the rule keeps: nothing (SGD), `[[R, 1]]` (row-wise Adagrad), `[[R, D], [R, D]]` (lazy Adam).
    pub moments: Vec<FloatTensor<B>>,
}

/// A backend with the operations of this model. Generic code asks for `B: EsmmBackend`; training code for
/// `B: AutodiffBackend + EsmmBackend` with `B::InnerBackend: EsmmBackend`.
///
/// Every method has a default body, so `impl EsmmBackend for MyBackend {}` is enough. The letters of the shapes are
/// declared in the [crate documentation](crate).
pub trait EsmmBackend: Backend {
    /// Weighted sums of touched rows, bag by bag.
    ///
    /// # Shapes
    /// `touched [T, U, D]` to `[T, B, F * D]`, T = 1, or K where towers have their own tables.
    fn bag_pool(touched: FloatTensor<Self>, plan: BagPlan<Self>) -> FloatTensor<Self> {
        reference::bag_pool::<Self>(touched, plan)
    }

    /// Gradient of [`bag_pool`](Self::bag_pool) with respect to the touched rows.
    ///
    /// # Shapes
    /// `grad [T, B, F * D]` to `[T, U, D]`, U = `num_touched`.
    fn bag_pool_backward(
        grad: FloatTensor<Self>,
        plan: BagPlan<Self>,
        num_touched: usize,
    ) -> FloatTensor<Self> {
        reference::bag_pool_backward::<Self>(grad, plan, num_touched)
    }

    /// `x * W + b` of all towers. An input of one tower is read by all.
    ///
    /// # Shapes
    /// `input [1 or K, B, I]`, `weight [K, I, O]`, `bias [K, O]` to `[K, B, O]`.
    fn stacked_linear(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        reference::stacked_linear::<Self>(input, weight, bias)
    }

    /// Gradients of [`stacked_linear`](Self::stacked_linear) with respect to input, weight and bias.
    fn stacked_linear_backward(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 3] {
        reference::stacked_linear_backward::<Self>(input, weight, grad)
    }

    /// Batch norm with batch statistics, activation, dropout.
    fn tower_block(input: BlockInput<Self>, spec: BlockSpec) -> BlockOutput<Self> {
        reference::tower_block::<Self>(input, spec)
    }

    /// Gradients of [`tower_block`](Self::tower_block); `mean` and `variance` as it gave them.
    fn tower_block_backward(
        input: BlockInput<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        spec: BlockSpec,
    ) -> BlockGrads<Self> {
        reference::tower_block_backward::<Self>(input, mean, variance, grad, spec)
    }

    /// Mean cross-entropy of reaching each stage, over all impressions: eq. 3 of arXiv 1804.07931, extended to K
    /// stages, in log space.
    ///
    /// # Shapes
    /// `logits [B, K]` (conditional), `reached [B, K]` (1 where the impression reached the stage) to `[K]`.
    fn funnel_loss(logits: FloatTensor<Self>, reached: FloatTensor<Self>) -> FloatTensor<Self> {
        reference::funnel_loss::<Self>(logits, reached)
    }

    /// Gradient of [`funnel_loss`](Self::funnel_loss) with respect to the logits, in closed form.
    ///
    /// # Shapes
    /// `grad [K]` to `[B, K]`.
    fn funnel_loss_backward(
        logits: FloatTensor<Self>,
        reached: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        reference::funnel_loss_backward::<Self>(logits, reached, grad)
    }

    /// Changes the touched rows of a table and of its optimizer state; all others keep their bits.
    ///
    /// # Shapes
    /// `rows [U]` without repetition, `grads [U, D]`.
    fn update_rows(
        state: RowState<Self>,
        rows: IntTensor<Self>,
        grads: FloatTensor<Self>,
        update: RowUpdate,
    ) -> RowState<Self> {
        reference::update_rows::<Self>(state, rows, grads, update)
    }
}

#[cfg(feature = "ndarray")]
impl EsmmBackend for burn_ndarray::NdArray {}

#[cfg(feature = "flex")]
impl EsmmBackend for burn_flex::Flex {}

#[cfg(feature = "wgpu")]
impl EsmmBackend for burn_wgpu::Wgpu {}

#[cfg(feature = "cuda")]
impl EsmmBackend for burn_cuda::Cuda {}
