//! The backward pass of the towers' layers: one operation of the graph for all of them.

use std::marker::PhantomData;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;

use crate::backend::{Indices, Kernels, LayerSpec, LayerWeights, TowersGrads, TowersOperands, TowersOutput};

/// Parents that an operation of several layers has room for: its inputs and the weights of a dozen layers.
const PARENTS: usize = 64;

/// The weights of a layer that it has, in one order.
fn parts<T>(weights: LayerWeights<T>) -> impl Iterator<Item = T> {
    let LayerWeights { weight, bias, norm, slope } = weights;
    let norm = norm.into_iter().flat_map(|norm| [norm.gamma, norm.beta]);
    [weight, bias].into_iter().chain(norm).chain(slope)
}

/// What the first layer reads, then the weights of each layer.
fn tensors<T, I>(towers: &TowersOperands<T, I>) -> Vec<&T> {
    let (input, shared) = towers.input_tensors();
    let weights = towers.layers.iter().flat_map(|weights| parts(weights.as_ref()));
    std::iter::once(input).chain(shared).chain(weights).collect()
}

/// Whether one operation has room for the parents of all layers.
pub(super) fn fits<T, I>(towers: &TowersOperands<T, I>) -> bool {
    tensors(towers).len() <= PARENTS
}

/// The parents of an operation. The first one stands in for those that there is room for and that there are not: they get no
/// gradient.
pub(super) fn parents<T, I>(towers: &TowersOperands<T, I>) -> [&T; PARENTS] {
    let found = tensors(towers);
    std::array::from_fn(|index| found.get(index).copied().unwrap_or(found[0]))
}

/// The gradients in the order of [`parents`].
fn gradients<T>(grads: TowersGrads<T>) -> impl Iterator<Item = T> {
    let weights = grads.layers.into_iter().flat_map(parts);
    std::iter::once(grads.input).chain(grads.shared).chain(weights)
}

/// Layers one after the other, the first of them on values, on what rows and groups have, or on rows of the table.
#[derive(Debug)]
pub(super) struct TowersOp<K>(PhantomData<K>);

impl<K> TowersOp<K> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<B: Backend, K: Kernels<B>> Backward<B, PARENTS> for TowersOp<K> {
    type State =
        (TowersOperands<FloatTensor<B>, Indices<B>>, TowersOutput<FloatTensor<B>, K::Saved>, Vec<LayerSpec>);

    fn backward(self, ops: Ops<Self::State, PARENTS>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (towers, saved, specs) = ops.state;
        let found = K::towers_backward(towers, saved, grad, &specs);
        for (node, part) in ops.parents.into_iter().zip(gradients(found)) {
            if let Some(node) = node {
                grads.register::<B>(node.id, part);
            }
        }
    }
}
