//! The operations of [`EsmmBackend`](super::EsmmBackend) in terms of Burn's own: their definition, on every backend.

mod bags;
mod block;
mod funnel;
mod infer;
mod layer;
mod linear;
mod pooled;
mod rows;
mod values;
mod weights;

use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{Int, Tensor, TensorPrimitive};

pub use bags::{bag_pool, bag_pool_backward, gather_rows};
pub use block::{activate, blend, fold_norm};
pub use funnel::{funnel_logs, funnel_loss, funnel_loss_backward, funnel_probs};
pub use infer::infer_logits;
pub use layer::{tower_layer, tower_layer_backward};
pub use linear::{stacked_product, stacked_product_backward};
pub use pooled::{infer_pooled_logits, pool_input, pool_input_backward, pooled_layer, pooled_layer_backward};
pub use rows::update_rows;
pub use values::{fill_values, with_values};
pub use weights::update_weights;

fn float<B: Backend, const D: usize>(tensor: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(tensor))
}

fn ints<B: Backend>(tensor: IntTensor<B>) -> Tensor<B, 1, Int> {
    Tensor::from_primitive(tensor)
}

fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}
