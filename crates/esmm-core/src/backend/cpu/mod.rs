//! Kernels on slices, for the backends whose tensors lie in host memory.
//!
//! * `tensor.rs`, `ndarray.rs`, `flex.rs`: from tensors to slices and back; `ops.rs`, `ops_pooled.rs`: the operations
//!   on tensors.
//! * `bags.rs`, `layer.rs`, `layer_backward.rs`, `pooled.rs`, `infer.rs`, `funnel.rs`, `rows.rs`, `weights.rs`: the
//!   kernels.
//! * `parts.rs`, `shared.rs`: what many rows of a batch have in common, multiplied once.
//! * `block.rs`, `moments.rs`, `dropout.rs`, `product.rs`: their inner loops; `work.rs`: how work and memory are cut.
//!
//! Work is cut into tasks by the shapes alone and partial sums are joined in a fixed order: results do not depend on
//! the number of threads. Products go through the `gemm` crate; the loops are plain Rust that the compiler vectorizes
//! once for each instruction set, chosen when the program runs ([`mod@multiversion`]). A tensor that is not f32 goes to the
//! [reference](super::reference).

/// Implements [`EsmmBackend`](super::EsmmBackend) for a [`HostBackend`](tensor::HostBackend) with the kernels.
macro_rules! run_on_cpu_kernels {
    ($backend:ty) => {
        impl crate::backend::EsmmBackend for $backend {
            fn gather_rows(table: FloatTensor<Self>, rows: IntTensor<Self>) -> FloatTensor<Self> {
                ops::gather_rows::<Self>(table, rows)
            }

            fn bag_pool(table: FloatTensor<Self>, plan: BagPlan<Self>) -> FloatTensor<Self> {
                ops::bag_pool::<Self>(table, plan)
            }

            fn bag_pool_backward(
                grad: FloatTensor<Self>,
                plan: BagPlan<Self>,
                num_rows: usize,
            ) -> FloatTensor<Self> {
                ops::bag_pool_backward::<Self>(grad, plan, num_rows)
            }

            fn tower_layer(input: LayerInput<Self>, spec: LayerSpec) -> LayerOutput<Self> {
                ops::tower_layer::<Self>(input, spec)
            }

            fn tower_layer_backward(
                input: LayerInput<Self>,
                saved: LayerSaved<Self>,
                grad: FloatTensor<Self>,
                spec: LayerSpec,
            ) -> LayerGrads<Self> {
                ops::tower_layer_backward::<Self>(input, saved, grad, spec)
            }

            fn pooled_layer(input: PooledInput<Self>, spec: LayerSpec) -> PooledOutput<Self> {
                ops_pooled::pooled_layer::<Self>(input, spec)
            }

            fn pooled_layer_backward(
                input: PooledInput<Self>,
                saved: PooledSaved<Self>,
                grad: FloatTensor<Self>,
                spec: LayerSpec,
            ) -> PooledGrads<Self> {
                ops_pooled::pooled_layer_backward::<Self>(input, saved, grad, spec)
            }

            fn fold_norm(norm: NormInput<Self>, epsilon: f64) -> [FloatTensor<Self>; 2] {
                ops::fold_norm::<Self>(norm, epsilon)
            }

            fn infer_logits(
                table: FloatTensor<Self>,
                plan: BagPlan<Self>,
                layers: Vec<InferenceLayer<Self>>,
            ) -> FloatTensor<Self> {
                ops::infer_logits::<Self>(table, plan, layers)
            }

            fn infer_pooled_logits(
                table: FloatTensor<Self>,
                plan: InputPlan<Self>,
                layers: Vec<InferenceLayer<Self>>,
            ) -> FloatTensor<Self> {
                ops_pooled::infer_pooled_logits::<Self>(table, plan, layers)
            }

            fn funnel_logs(logits: FloatTensor<Self>) -> [FloatTensor<Self>; 2] {
                ops::funnel_logs::<Self>(logits)
            }

            fn funnel_probs(logits: FloatTensor<Self>) -> [FloatTensor<Self>; 3] {
                ops::funnel_probs::<Self>(logits)
            }

            fn funnel_loss(logits: FloatTensor<Self>, reached: FloatTensor<Self>) -> FloatTensor<Self> {
                ops::funnel_loss::<Self>(logits, reached)
            }

            fn funnel_loss_backward(
                logits: FloatTensor<Self>,
                reached: FloatTensor<Self>,
                grad: FloatTensor<Self>,
            ) -> FloatTensor<Self> {
                ops::funnel_loss_backward::<Self>(logits, reached, grad)
            }

            fn update_rows(
                state: RowState<Self>,
                rows: IntTensor<Self>,
                grads: FloatTensor<Self>,
                update: RowUpdate,
            ) -> RowState<Self> {
                ops::update_rows::<Self>(state, rows, grads, update)
            }

            fn with_values(tensor: FloatTensor<Self>, look: &mut dyn FnMut(&[f32])) {
                ops::with_values::<Self>(tensor, look);
            }

            fn fill_values(tensor: FloatTensor<Self>, fill: &mut dyn FnMut(&mut [f32])) -> FloatTensor<Self> {
                ops::fill_values::<Self>(tensor, fill)
            }

            fn update_weights(
                state: WeightState<Self>,
                grad: FloatTensor<Self>,
                update: WeightUpdate,
            ) -> WeightState<Self> {
                ops::update_weights::<Self>(state, grad, update)
            }
        }
    };
}

mod bags;
mod block;
mod dropout;
#[cfg(feature = "flex")]
mod flex;
mod funnel;
mod infer;
mod layer;
mod layer_backward;
mod moments;
#[cfg(feature = "ndarray")]
mod ndarray;
mod ops;
mod ops_pooled;
mod parts;
mod pooled;
mod product;
mod rows;
mod shared;
mod tensor;
mod weights;
mod work;
