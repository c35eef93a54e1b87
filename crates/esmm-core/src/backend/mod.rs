//! What this model asks of a Burn backend beyond Burn's own operations.
//!
//! [`EsmmBackend`] is a handful of fused operations. Each has a default body made of Burn's operations
//! ([`mod@reference`]), which is its definition: a kernel that replaces it must compute the same. `cpu/` replaces them
//! for NdArray and Flex. `autodiff.rs` gives the differentiated ones a hand-written backward, which calls the matching
//! `*_backward` operation.

mod autodiff;
#[cfg(feature = "cpu-kernels")]
#[allow(unsafe_code, reason = "gemm's raw pointers, and memory that is not cleared before it is written")]
mod cpu;
pub mod random;
pub mod reference;

use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};

use crate::tower::Activation;

/// Which entries make up which bag: see [`FeatureBatch`](crate::FeatureBatch).
#[derive(Debug, Clone)]
pub struct BagPlan<B: Backend> {
    /// Copies of the table, T: 1, or K where towers have their own.
    pub tables: usize,
    /// Rows of the batch, B.
    pub rows: usize,
    /// Sparse features, F.
    pub num_sparse: usize,
    /// Row that each entry reads in every copy of the table, `[N]`.
    pub slots: IntTensor<B>,
    /// Bag of each entry and its weight, `[N]` each; `None` when entry `i` is bag `i` with weight 1.
    pub bags: Option<(IntTensor<B>, FloatTensor<B>)>,
    /// Values that follow the bags of each row, `[B, V]`.
    pub dense: Option<FloatTensor<B>>,
}

/// What happens around the product in a layer of all towers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerSpec {
    /// Normalize with the statistics of this batch.
    pub batch_norm: bool,
    /// Added to the variance.
    pub epsilon: f64,
    /// Applied after the normalization.
    pub activation: Activation,
    /// Applied last.
    pub dropout: Option<random::Dropout>,
}

impl LayerSpec {
    /// The product and nothing behind it.
    pub const LINEAR: Self =
        Self { batch_norm: false, epsilon: 0.0, activation: Activation::None, dropout: None };

    /// Whether nothing follows the product.
    pub fn is_linear(&self) -> bool {
        !self.batch_norm && self.activation == Activation::None && self.dropout.is_none()
    }
}

/// The tensors that [`EsmmBackend::tower_layer`] reads. Unused ones hold a single zero.
#[derive(Debug, Clone)]
pub struct LayerInput<B: Backend> {
    /// `[1 or K, B, I]`: an input of one tower is read by all.
    pub input: FloatTensor<B>,
    /// `[K, I, O]`.
    pub weight: FloatTensor<B>,
    /// `[K, O]`.
    pub bias: FloatTensor<B>,
    /// Scale of the batch norm, `[K, O]`.
    pub gamma: FloatTensor<B>,
    /// Shift of the batch norm, `[K, O]`.
    pub beta: FloatTensor<B>,
    /// Slope of a PReLU, `[K]`.
    pub slope: FloatTensor<B>,
}

/// What [`EsmmBackend::tower_layer`] gives.
#[derive(Debug, Clone)]
pub struct LayerOutput<B: Backend> {
    /// `[K, B, O]`.
    pub output: FloatTensor<B>,
    /// What the way back needs.
    pub saved: LayerSaved<B>,
}

/// What the backward pass of a layer reads besides its input.
#[derive(Debug, Clone)]
pub struct LayerSaved<B: Backend> {
    /// The product with its bias, `[K, B, O]`.
    pub hidden: FloatTensor<B>,
    /// Mean of the product over the batch, `[K, O]`; one zero without batch norm.
    pub mean: FloatTensor<B>,
    /// Its biased variance, `[K, O]`; one zero without batch norm.
    pub variance: FloatTensor<B>,
}

/// Gradients with respect to a [`LayerInput`]. Those of unused tensors hold a single zero.
#[derive(Debug, Clone)]
pub struct LayerGrads<B: Backend> {
    /// `[1 or K, B, I]`.
    pub input: FloatTensor<B>,
    /// `[K, I, O]`.
    pub weight: FloatTensor<B>,
    /// `[K, O]`.
    pub bias: FloatTensor<B>,
    /// `[K, O]`.
    pub gamma: FloatTensor<B>,
    /// `[K, O]`.
    pub beta: FloatTensor<B>,
    /// `[K]`.
    pub slope: FloatTensor<B>,
}

/// A layer of all towers for inference: `activation(x * W * scale + shift)`.
#[derive(Debug, Clone)]
pub struct InferenceLayer<B: Backend> {
    /// `[K, I, O]`.
    pub weight: FloatTensor<B>,
    /// Factor of each output, `[K, O]`; `None` for 1.
    pub scale: Option<FloatTensor<B>>,
    /// `[K, O]`.
    pub shift: FloatTensor<B>,
    /// The activation.
    pub activation: Activation,
    /// Slope of a PReLU, `[K]`; else one zero.
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
    /// Copies rows of a table. Not differentiable.
    ///
    /// # Shapes
    /// `table [R, D]`, `rows [N]` to `[N, D]`.
    fn gather_rows(table: FloatTensor<Self>, rows: IntTensor<Self>) -> FloatTensor<Self> {
        reference::gather_rows::<Self>(table, rows)
    }

    /// Weighted sums of table rows, bag by bag, with the dense values behind them.
    ///
    /// # Shapes
    /// `table [T * U, D]` to `[T, B, F * D + V]`.
    fn bag_pool(table: FloatTensor<Self>, plan: BagPlan<Self>) -> FloatTensor<Self> {
        reference::bag_pool::<Self>(table, plan)
    }

    /// Gradient of [`bag_pool`](Self::bag_pool) with respect to the rows of the table.
    ///
    /// # Shapes
    /// `grad [T, B, F * D + V]` to `[T * U, D]`, U = `num_rows`.
    fn bag_pool_backward(grad: FloatTensor<Self>, plan: BagPlan<Self>, num_rows: usize) -> FloatTensor<Self> {
        reference::bag_pool_backward::<Self>(grad, plan, num_rows)
    }

    /// A layer of all towers in training: `x * W + b`, batch norm with batch statistics, activation, dropout.
    fn tower_layer(input: LayerInput<Self>, spec: LayerSpec) -> LayerOutput<Self> {
        reference::tower_layer::<Self>(input, spec)
    }

    /// Gradients of [`tower_layer`](Self::tower_layer).
    ///
    /// # Shapes
    /// `grad [K, B, O]`; `saved` as the layer gave it.
    fn tower_layer_backward(
        input: LayerInput<Self>,
        saved: LayerSaved<Self>,
        grad: FloatTensor<Self>,
        spec: LayerSpec,
    ) -> LayerGrads<Self> {
        reference::tower_layer_backward::<Self>(input, saved, grad, spec)
    }

    /// All layers of all towers on the pooled table, for inference. Not differentiable.
    ///
    /// # Shapes
    /// `table [T * R, D]` to `[B, K]`.
    fn infer_logits(
        table: FloatTensor<Self>,
        plan: BagPlan<Self>,
        layers: Vec<InferenceLayer<Self>>,
    ) -> FloatTensor<Self> {
        reference::infer_logits::<Self>(table, plan, layers)
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

    /// Shows the values of a tensor, row by row: where they lie, if that is host memory, or else a copy of them.
    fn with_values(tensor: FloatTensor<Self>, look: &mut dyn FnMut(&[f32])) {
        reference::with_values::<Self>(tensor, look);
    }

    /// Replaces the values of a tensor, row by row: where they lie, if that is host memory and has no other owner.
    /// `fill` must write all of them; what it finds there is not defined.
    fn fill_values(tensor: FloatTensor<Self>, fill: &mut dyn FnMut(&mut [f32])) -> FloatTensor<Self> {
        reference::fill_values::<Self>(tensor, fill)
    }
}

#[cfg(feature = "wgpu")]
impl EsmmBackend for burn_wgpu::Wgpu {}

#[cfg(feature = "cuda")]
impl EsmmBackend for burn_cuda::Cuda {}
