//! The operations of [`EsmmBackend`](super::EsmmBackend) in terms of Burn's own: their definition, on every backend.

mod bags;
mod block;
mod funnel;
mod linear;
mod rows;

use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{Int, Tensor, TensorPrimitive};

pub use bags::{bag_pool, bag_pool_backward};
pub use block::{activate, tower_block, tower_block_backward};
pub use funnel::{funnel_loss, funnel_loss_backward};
pub use linear::{stacked_linear, stacked_linear_backward};
pub use rows::update_rows;

fn float<B: Backend, const D: usize>(tensor: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(tensor))
}

fn ints<B: Backend>(tensor: IntTensor<B>) -> Tensor<B, 1, Int> {
    Tensor::from_primitive(tensor)
}

fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}
