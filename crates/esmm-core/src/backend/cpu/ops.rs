//! From tensors to slices and back: what surrounds the kernels of the layers.

use burn::tensor::ops::FloatTensor;

use super::bags::HostBags;
use super::first_layer::{
    HostFirstLayer, HostGroups, PooledParts, addends, shared_parts, stair_addends, stair_tables,
};
use super::infer::{self, HostInferenceLayer};
use super::layer::{HostLayer, LayerResult};
use super::parts::Parts;
use super::shared::{self, Addends, WeightRows, pick_rows};
use super::tensor::{Host, HostBackend};
use super::weights::{self, HostWeight};
use crate::backend::{
    Bags, FirstLayer, FirstLayerGrads, GroupBags, Indices, InferenceLayer, InputBags, Layer, LayerOutput,
    LayerSaved, LayerSpec, LayerWeights, WeightUpdate, WithGrad, WithMoments,
};

fn slices<'a, B: HostBackend>(bags: &'a Bags<Host<B>, Indices<B>>) -> HostBags<'a> {
    bags.as_ref().map(Host::values, Indices::host)
}

fn group_slices<'a, B: HostBackend>(groups: &'a GroupBags<Host<B>, Indices<B>>) -> HostGroups<'a> {
    groups.as_ref().map(Host::values, Indices::host)
}

fn layer_slices<B: HostBackend>(layer: &Layer<Host<B>>, spec: LayerSpec) -> HostLayer<'_> {
    let input = &layer.input;
    let weight = &layer.weights.weight;
    HostLayer {
        spec,
        towers: weight.dim(0),
        groups: input.dim(0),
        rows: input.dim(1),
        inputs: weight.dim(1),
        outputs: weight.dim(2),
        input: input.values(),
        weights: layer.weights.as_ref().map(Host::values),
        addends: Addends::default(),
    }
}

fn first_layer_slices<B: HostBackend>(
    layer: &FirstLayer<Host<B>, Indices<B>>,
    spec: LayerSpec,
) -> HostFirstLayer<'_> {
    let own = &layer.bags.own;
    let weight = &layer.weights.weight;
    HostFirstLayer {
        layer: HostLayer {
            spec,
            towers: weight.dim(0),
            groups: own.tables,
            rows: own.rows,
            inputs: weight.dim(1),
            outputs: weight.dim(2),
            input: &[],
            weights: layer.weights.as_ref().map(Host::values),
            addends: Addends::default(),
        },
        table: layer.table.values(),
        dim: layer.table.dim(1),
        own: slices(own),
        groups: layer.bags.groups.as_ref().map(group_slices),
    }
}

/// The result of a layer as tensors.
fn output<B: HostBackend>(layer: &HostLayer<'_>, result: LayerResult) -> LayerOutput<FloatTensor<B>> {
    let shape = [layer.towers, layer.rows, layer.outputs];
    let hidden = B::tensor(result.hidden, &shape);
    let output = result.output.map_or_else(|| hidden.clone(), |output| B::tensor(output, &shape));
    let moments =
        result.moments.map(|moments| moments.map(|values| B::tensor(values, &[shape[0], shape[2]])));
    LayerOutput { output, saved: LayerSaved { hidden, moments } }
}

/// Gradients of weights `[K, I, O]` as tensors.
fn weight_grads<B: HostBackend>(
    grads: LayerWeights<Vec<f32>>,
    shape: &[usize],
) -> LayerWeights<FloatTensor<B>> {
    let columns = [shape[0], shape[2]];
    LayerWeights {
        weight: B::tensor(grads.weight, shape),
        bias: B::tensor(grads.bias, &columns),
        norm: grads.norm.map(|norm| norm.map(|values| B::tensor(values, &columns))),
        slope: grads.slope.map(|values| B::tensor(values, &shape[..1])),
    }
}

pub(super) fn layer<B: HostBackend>(
    operands: Layer<FloatTensor<B>>,
    spec: LayerSpec,
) -> LayerOutput<FloatTensor<B>> {
    let operands = operands.map(Host::<B>::new);
    let layer = layer_slices(&operands, spec);
    output::<B>(&layer, layer.forward())
}

pub(super) fn layer_backward<B: HostBackend>(
    operands: Layer<FloatTensor<B>>,
    saved: LayerSaved<FloatTensor<B>>,
    grad: FloatTensor<B>,
    spec: LayerSpec,
) -> Layer<FloatTensor<B>> {
    let operands = operands.map(Host::<B>::new);
    let saved = saved.map(Host::<B>::new);
    let mut grad = Host::<B>::new(grad);
    let layer = layer_slices(&operands, spec);
    let grads = layer.backward(&saved_slices(&saved), grad.values_mut());
    Layer {
        input: B::tensor(grads.input, &operands.input.shape),
        weights: weight_grads::<B>(grads.weights, &operands.weights.weight.shape),
    }
}

fn saved_slices<B: HostBackend>(saved: &LayerSaved<Host<B>>) -> LayerSaved<&[f32]> {
    LayerSaved {
        hidden: saved.hidden.values(),
        moments: saved.moments.as_ref().map(|moments| moments.as_ref().map(Host::values)),
    }
}

pub(super) fn first_layer<B: HostBackend>(
    operands: FirstLayer<FloatTensor<B>, Indices<B>>,
    spec: LayerSpec,
) -> (LayerOutput<FloatTensor<B>>, PooledParts) {
    let operands = operands.map(Host::<B>::new, |indices| indices);
    let layer = first_layer_slices(&operands, spec);
    let pooled = layer.pool();
    (output::<B>(&layer.layer, layer.forward(&pooled)), pooled)
}

pub(super) fn first_layer_backward<B: HostBackend>(
    operands: FirstLayer<FloatTensor<B>, Indices<B>>,
    saved: LayerSaved<FloatTensor<B>>,
    pooled: &PooledParts,
    grad: FloatTensor<B>,
    spec: LayerSpec,
) -> FirstLayerGrads<FloatTensor<B>> {
    let operands = operands.map(Host::<B>::new, |indices| indices);
    let saved = saved.map(Host::<B>::new);
    let mut grad = Host::<B>::new(grad);
    let layer = first_layer_slices(&operands, spec);
    let grads = layer.backward(pooled, &saved_slices(&saved), grad.values_mut());
    FirstLayerGrads {
        table: B::tensor(grads.table, &operands.table.shape),
        weights: weight_grads::<B>(grads.weights, &operands.weights.weight.shape),
    }
}

/// # Panics
/// Without a layer.
pub(super) fn infer<B: HostBackend>(
    table: FloatTensor<B>,
    bags: InputBags<FloatTensor<B>, Indices<B>>,
    layers: Vec<InferenceLayer<FloatTensor<B>>>,
) -> FloatTensor<B> {
    let table = Host::<B>::new(table);
    let bags = bags.map(Host::<B>::new, |indices| indices);
    let layers: Vec<_> = layers.into_iter().map(|layer| layer.map(Host::<B>::new)).collect();
    let widths = layers.iter().map(|layer| HostInferenceLayer {
        inputs: layer.weight.dim(1),
        outputs: layer.weight.dim(2),
        layer: layer.as_ref().map(Host::values),
    });
    let widths: Vec<_> = widths.collect();
    let Some(first) = layers.first() else { panic!("towers without a layer") };
    let towers = first.weight.dim(0);
    let logits = infer_parts((table.values(), table.dim(1)), &bags, &widths, towers);
    B::tensor(logits, &[bags.own.rows, towers])
}

fn infer_parts<B: HostBackend>(
    (table, dim): (&[f32], usize),
    bags: &InputBags<Host<B>, Indices<B>>,
    layers: &[HostInferenceLayer<'_>],
    towers: usize,
) -> Vec<f32> {
    let Some((first, others)) = layers.split_first() else { return Vec::new() };
    let own = slices(&bags.own);
    let groups = bags.groups.as_ref().map(group_slices);
    let parts = Parts::new(&own, groups.as_ref().map(|groups| groups.features.as_ref()), dim);
    let pooled = groups.as_ref().map(|groups| groups.bags.pool(table, dim)).unwrap_or_default();
    let outputs = first.outputs;
    let groups = groups.as_ref().map(|groups| (groups, &pooled[..]));
    let shared = shared_parts(&parts, (table, dim, own.tables), groups, |columns| {
        WeightRows::pick(first.layer.weight, towers, outputs, columns)
    });
    let matmuls = shared::matmuls(&shared, towers, outputs);
    let weight = pick_rows(first.layer.weight, towers, outputs, &parts.own_columns);
    let own_first = HostInferenceLayer {
        inputs: weight.len() / (towers * outputs),
        outputs,
        layer: InferenceLayer { weight: &weight[..], ..first.layer.clone() },
    };
    let layers: Vec<_> = std::iter::once(own_first).chain(others.iter().cloned()).collect();
    let shared = addends(&shared, &matmuls, towers, outputs);
    let tables = stair_tables(&parts.stairs, first.layer.weight, towers, outputs);
    let stairs = stair_addends(&parts.stairs, &tables);
    let addends = Addends { shared: &shared, stairs: &stairs };
    infer::logits(table, dim, &parts.own(&own), &layers, addends, towers)
}

pub(super) fn update_weights<B: HostBackend>(
    weights: Vec<WithGrad<FloatTensor<B>>>,
    update: &WeightUpdate,
) -> Vec<WithMoments<FloatTensor<B>>> {
    let mut weights: Vec<_> = weights.into_iter().map(|weight| weight.map(Host::<B>::new)).collect();
    let slices = weights.iter_mut().map(|WithGrad { weight, grad }| HostWeight {
        weight: weight.tensor.values(),
        grad: grad.values(),
        moments: weight.moments.iter_mut().map(Host::values_mut).collect(),
    });
    let next = weights::update(slices.collect(), update);
    let updated = weights.into_iter().zip(next).map(|(WithGrad { weight, .. }, next)| WithMoments {
        tensor: B::tensor(next, &weight.tensor.shape),
        moments: weight.moments.into_iter().map(Host::into_tensor).collect(),
    });
    updated.collect()
}
