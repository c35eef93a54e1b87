//! The first layer of the towers, on rows of the table: pooling and a layer.

use burn::tensor::ops::FloatTensor;
use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData, TensorMetadata, backend::Backend};

use super::{float, ints, primitive};
use crate::backend::{
    EsmmBackend, GroupPlan, InferenceLayer, InputPlan, LayerOutput, LayerSpec, PooledGrads, PooledInput,
    PooledOutput, PooledSaved,
};

/// See [`EsmmBackend::pooled_layer`].
pub fn pooled_layer<B: EsmmBackend>(input: PooledInput<B>, spec: LayerSpec) -> PooledOutput<B> {
    let pooled = pool_input::<B>(input.table.clone(), input.plan.clone());
    let LayerOutput { output, saved } = B::tower_layer(input.on(pooled.clone()), spec);
    PooledOutput { output, saved: PooledSaved { pooled: vec![pooled], layer: saved } }
}

/// See [`EsmmBackend::pooled_layer_backward`].
pub fn pooled_layer_backward<B: EsmmBackend>(
    input: PooledInput<B>,
    saved: PooledSaved<B>,
    grad: FloatTensor<B>,
    spec: LayerSpec,
) -> PooledGrads<B> {
    let (plan, shape) = (input.plan.clone(), input.table.shape());
    let num_rows = shape[0] / plan.own.tables;
    let pooled = saved.pooled.into_iter().next();
    let pooled = pooled.unwrap_or_else(|| pool_input::<B>(input.table.clone(), plan.clone()));
    let grads = B::tower_layer_backward(input.on(pooled), saved.layer, grad, spec);
    PooledGrads {
        table: pool_input_backward::<B>(grads.input, plan, num_rows, shape[1]),
        weight: grads.weight,
        bias: grads.bias,
        gamma: grads.gamma,
        beta: grads.beta,
        slope: grads.slope,
    }
}

/// See [`EsmmBackend::infer_pooled_logits`].
pub fn infer_pooled_logits<B: EsmmBackend>(
    table: FloatTensor<B>,
    plan: InputPlan<B>,
    layers: Vec<InferenceLayer<B>>,
) -> FloatTensor<B> {
    match plan.groups {
        None => B::infer_logits(table, plan.own, layers),
        Some(_) => super::infer::apply_layers::<B>(pool_input::<B>(table, plan), layers),
    }
}

/// The towers' input: every row with the bags of its group, columns in the order of the model.
///
/// # Shapes
/// `table [T * U, D]` to `[T, B, F * D + V]`.
pub fn pool_input<B: EsmmBackend>(table: FloatTensor<B>, plan: InputPlan<B>) -> FloatTensor<B> {
    let InputPlan { own, groups } = plan;
    let Some(GroupPlan { bags, of_rows, features, .. }) = groups else { return B::bag_pool(table, own) };
    let dim = table.shape()[1];
    let own = float::<B, 3>(B::bag_pool(table.clone(), own));
    let shared = float::<B, 3>(B::bag_pool(table, bags)).select(1, ints(of_rows));
    // Column `i` of the input is column `places[i]` of the own columns followed by the shared ones.
    let columns = features.columns(false, dim).into_iter().chain(features.columns(true, dim)).flatten();
    let mut places: Vec<(usize, usize)> =
        columns.enumerate().map(|(place, column)| (column, place)).collect();
    places.sort_unstable();
    let places: Vec<usize> = places.into_iter().map(|(_, place)| place).collect();
    let places = numbers(&places, &own);
    primitive(Tensor::cat(vec![own, shared], 2).select(2, places))
}

/// Gradient of [`pool_input`] with respect to the rows of the table.
///
/// # Shapes
/// `grad [T, B, F * D + V]` to `[T * U, D]`, U = `num_rows`.
pub fn pool_input_backward<B: EsmmBackend>(
    grad: FloatTensor<B>,
    plan: InputPlan<B>,
    num_rows: usize,
    dim: usize,
) -> FloatTensor<B> {
    let InputPlan { own, groups } = plan;
    let Some(GroupPlan { bags, of_rows, features, .. }) = groups else {
        return B::bag_pool_backward(grad, own, num_rows);
    };
    let grad = float::<B, 3>(grad);
    let of = |shared: bool| {
        let columns: Vec<usize> = features.columns(shared, dim).into_iter().flatten().collect();
        grad.clone().select(2, numbers(&columns, &grad))
    };
    let (own_grad, row_grad) = (of(false), of(true));
    let [tables, _, width] = row_grad.dims();
    let zeros = Tensor::zeros([tables, bags.rows, width], &row_grad.device());
    let group_grad = zeros.select_assign(1, ints(of_rows), row_grad, IndexingUpdateOp::Add);
    let own = float::<B, 2>(B::bag_pool_backward(primitive(own_grad), own, num_rows));
    let shared = float::<B, 2>(B::bag_pool_backward(primitive(group_grad), bags, num_rows));
    primitive(own + shared)
}

fn numbers<B: Backend, const D: usize>(values: &[usize], like: &Tensor<B, D>) -> Tensor<B, 1, Int> {
    let values: Vec<i32> = values.iter().map(|&value| value as i32).collect();
    Tensor::from_data(TensorData::from(values.as_slice()), &like.device())
}
