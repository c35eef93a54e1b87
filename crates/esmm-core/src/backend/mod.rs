//! What this model asks of a Burn backend beyond Burn's own operations.
//!
//! [`EsmmBackend`] is a handful of fused operations. Each has a default body made of Burn's operations
//! ([`mod@reference`]), which is its definition: a kernel that replaces it must compute the same. `cpu/` replaces them
//! for NdArray and Flex, `cube/` for wgpu and CUDA. `autodiff.rs` gives the differentiated ones a hand-written backward,
//! which calls the matching `*_backward` operation.

mod autodiff;
#[cfg(feature = "cpu-kernels")]
#[allow(unsafe_code, reason = "gemm's raw pointers, and memory that is not cleared before it is written")]
mod cpu;
#[cfg(feature = "cube-kernels")]
#[allow(unsafe_code, reason = "kernels are launched without CubeCL's checks of every index")]
mod cube;
mod operands;
mod pooled;
pub mod random;
pub mod reference;
mod weights;

use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};

use crate::precision::Precision;

pub use operands::{
    BagPlan, InferenceLayer, LayerGrads, LayerInput, LayerOutput, LayerSaved, LayerSpec, NormInput, RowRule,
    RowState, RowUpdate,
};
pub use pooled::{GroupPlan, InputPlan, PooledGrads, PooledInput, PooledOutput, PooledSaved, SharedFeatures};
pub use weights::{WeightRule, WeightState, WeightUpdate};

/// A backend with the operations of this model. Generic code asks for `B: EsmmBackend`; training code for
/// `B: AutodiffBackend + EsmmBackend` with `B::InnerBackend: EsmmBackend`.
///
/// Every method has a default body, so `impl EsmmBackend for MyBackend {}` is enough. The letters of the shapes are
/// declared in the [crate documentation](crate).
pub trait EsmmBackend: Backend {
    /// Whether work is only queued, so that reading a value waits for all of it: a training then reads seldom.
    const QUEUES_WORK: bool = false;

    /// In which numbers this device can compute the products of a [`LayerSpec`]; f32 is always among them.
    fn precisions(device: &Self::Device) -> Vec<Precision> {
        let _ = device;
        vec![Precision::F32]
    }

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

    /// [`bag_pool`](Self::bag_pool) and the first [`tower_layer`](Self::tower_layer) in one, with features that groups
    /// of rows share. A kernel may multiply what many rows have in common once.
    fn pooled_layer(input: PooledInput<Self>, spec: LayerSpec) -> PooledOutput<Self> {
        reference::pooled_layer::<Self>(input, spec)
    }

    /// Gradients of [`pooled_layer`](Self::pooled_layer).
    ///
    /// # Shapes
    /// `grad [K, B, O]`; `saved` as the layer gave it.
    fn pooled_layer_backward(
        input: PooledInput<Self>,
        saved: PooledSaved<Self>,
        grad: FloatTensor<Self>,
        spec: LayerSpec,
    ) -> PooledGrads<Self> {
        reference::pooled_layer_backward::<Self>(input, saved, grad, spec)
    }

    /// `old * factors[0] + new * factors[1]`: how running statistics move. Not differentiable.
    ///
    /// # Shapes
    /// Two of one shape to the same.
    fn blend(old: FloatTensor<Self>, new: FloatTensor<Self>, factors: [f64; 2]) -> FloatTensor<Self> {
        reference::blend::<Self>(old, new, factors)
    }

    /// Factor and shift behind `x * W` that stand for a bias and a batch norm: for inference. Not differentiable.
    ///
    /// # Shapes
    /// All `[K, O]`.
    fn fold_norm(norm: NormInput<Self>, epsilon: f64) -> [FloatTensor<Self>; 2] {
        reference::fold_norm::<Self>(norm, epsilon)
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

    /// [`infer_logits`](Self::infer_logits) with features that groups of rows share.
    ///
    /// # Shapes
    /// `table [T * R, D]` to `[B, K]`.
    fn infer_pooled_logits(
        table: FloatTensor<Self>,
        plan: InputPlan<Self>,
        layers: Vec<InferenceLayer<Self>>,
    ) -> FloatTensor<Self> {
        reference::infer_pooled_logits::<Self>(table, plan, layers)
    }

    /// `log P_k` and `log(1 - P_k)` of reaching each stage, in log space as `funnel.rs` says.
    ///
    /// # Shapes
    /// `logits [B, K]` (conditional) to `[B, K]` each.
    fn funnel_logs(logits: FloatTensor<Self>) -> [FloatTensor<Self>; 2] {
        reference::funnel_logs::<Self>(logits)
    }

    /// pCTR, pCVR and pCTCVR: the probabilities of the first two stages and their product.
    ///
    /// # Shapes
    /// `logits [B, K]` (conditional) to `[B]` each.
    fn funnel_probs(logits: FloatTensor<Self>) -> [FloatTensor<Self>; 3] {
        reference::funnel_probs::<Self>(logits)
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

    /// Changes a weight of any shape and its optimizer state.
    fn update_weights(
        state: WeightState<Self>,
        grad: FloatTensor<Self>,
        update: WeightUpdate,
    ) -> WeightState<Self> {
        reference::update_weights::<Self>(state, grad, update)
    }
}
