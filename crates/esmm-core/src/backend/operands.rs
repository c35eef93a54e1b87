//! What the operations of [`EsmmBackend`](super::EsmmBackend) read and give.

use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};

use super::random;
use crate::precision::Precision;
use crate::slot_order::SlotOrder;
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
    /// The entries by slot, where the batch brought them: read by the backward of devices.
    pub order: Option<SlotOrder<B>>,
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
    /// Numbers of the products, of those that [`EsmmBackend::precisions`](super::EsmmBackend::precisions) names.
    pub precision: Precision,
}

impl LayerSpec {
    /// The product and nothing behind it.
    pub const LINEAR: Self = Self {
        batch_norm: false,
        epsilon: 0.0,
        activation: Activation::None,
        dropout: None,
        precision: Precision::F32,
    };

    /// Whether nothing follows the product.
    pub fn is_linear(&self) -> bool {
        !self.batch_norm && self.activation == Activation::None && self.dropout.is_none()
    }
}

/// The tensors that [`EsmmBackend::tower_layer`](super::EsmmBackend::tower_layer) reads. What stands in for unused ones, of any
/// shape, is not read.
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

/// What [`EsmmBackend::tower_layer`](super::EsmmBackend::tower_layer) gives.
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
    /// Mean of the product over the batch, `[K, O]`; without batch norm anything.
    pub mean: FloatTensor<B>,
    /// Its biased variance, `[K, O]`; without batch norm anything.
    pub variance: FloatTensor<B>,
}

/// Gradients with respect to a [`LayerInput`]. Those of unused tensors mean nothing.
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

/// A batch norm with running statistics, behind a product with a bias; all `[K, O]`.
#[derive(Debug, Clone)]
pub struct NormInput<B: Backend> {
    /// Bias of the product.
    pub bias: FloatTensor<B>,
    /// Scale of the batch norm.
    pub gamma: FloatTensor<B>,
    /// Shift of the batch norm.
    pub beta: FloatTensor<B>,
    /// Running mean.
    pub mean: FloatTensor<B>,
    /// Running variance.
    pub variance: FloatTensor<B>,
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
    /// Slope of a PReLU, `[K]`; else anything.
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
    /// The same with one second moment a row, that of `mean(g^2)`: two thirds of the memory. FBGEMM calls it
    /// `PARTIAL_ROWWISE_ADAM`.
    RowWiseAdam {
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
    /// What the rule keeps: nothing (SGD), `[[R, 1]]` (row-wise Adagrad), `[[R, D], [R, D]]` (lazy Adam),
    /// `[[R, D], [R, 1]]` (row-wise Adam).
    pub moments: Vec<FloatTensor<B>>,
}
