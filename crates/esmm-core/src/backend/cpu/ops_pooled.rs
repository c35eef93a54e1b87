//! The operations that pool and multiply, on tensors.

use std::borrow::Cow;

use burn::tensor::ops::FloatTensor;

use super::infer;
use super::layer::Layer;
use super::layer_backward::Saved;
use super::ops::{HostPlan, layer_output, plan_is_f32};
use super::parts::Parts;
use super::pooled::{Groups, Pooled, PooledLayer, addends, products, shared_parts};
use super::shared::{WeightRows, pick_rows};
use super::tensor::{Host, HostBackend, all_f32};
use crate::backend::{
    InferenceLayer, InputPlan, LayerSpec, PooledGrads, PooledInput, PooledOutput, PooledSaved,
    SharedFeatures, reference,
};

/// An [`InputPlan`] in host memory.
struct HostInput<B: HostBackend> {
    own: HostPlan<B>,
    groups: Option<HostGroups<B>>,
}

struct HostGroups<B: HostBackend> {
    plan: HostPlan<B>,
    of_rows: Vec<u32>,
    features: std::sync::Arc<SharedFeatures>,
}

impl<B: HostBackend> HostInput<B> {
    fn new(plan: InputPlan<B>) -> Self {
        let groups = plan.groups.map(|groups| HostGroups {
            plan: HostPlan::new(groups.bags),
            of_rows: B::indices(groups.of_rows),
            features: groups.features,
        });
        Self { own: HostPlan::new(plan.own), groups }
    }

    fn groups(&self) -> Option<Groups<'_>> {
        self.groups.as_ref().map(|groups| Groups {
            bags: groups.plan.bags(),
            of_rows: &groups.of_rows,
            features: &groups.features,
        })
    }
}

fn input_is_f32<B: HostBackend>(plan: &InputPlan<B>) -> bool {
    plan_is_f32(&plan.own) && plan.groups.as_ref().is_none_or(|groups| plan_is_f32(&groups.bags))
}

/// A [`PooledInput`] in host memory.
struct HostPooled<B: HostBackend> {
    table: Host<B>,
    plan: HostInput<B>,
    weight: Host<B>,
    bias: Host<B>,
    gamma: Host<B>,
    beta: Host<B>,
    slope: Host<B>,
}

impl<B: HostBackend> HostPooled<B> {
    fn new(input: PooledInput<B>) -> Self {
        Self {
            table: Host::new(input.table),
            plan: HostInput::new(input.plan),
            weight: Host::new(input.weight),
            bias: Host::new(input.bias),
            gamma: Host::new(input.gamma),
            beta: Host::new(input.beta),
            slope: Host::new(input.slope),
        }
    }

    fn layer(&self, spec: LayerSpec) -> PooledLayer<'_> {
        let layer = Layer {
            spec,
            towers: self.weight.shape[0],
            groups: self.plan.own.tables,
            rows: self.plan.own.rows,
            inputs: self.weight.shape[1],
            outputs: self.weight.shape[2],
            input: &[],
            weight: self.weight.values(),
            bias: self.bias.values(),
            gamma: self.gamma.values(),
            beta: self.beta.values(),
            slope: self.slope.values(),
            addends: &[],
        };
        let table = (self.table.values(), self.table.shape[1]);
        PooledLayer::new(layer, table, self.plan.own.bags(), self.plan.groups())
    }
}

fn is_f32<B: HostBackend>(input: &PooledInput<B>) -> bool {
    let PooledInput { table, plan, weight, bias, gamma, beta, slope } = input;
    all_f32::<B>(&[table, weight, bias, gamma, beta, slope]) && input_is_f32(plan)
}

pub(super) fn pooled_layer<B: HostBackend + crate::EsmmBackend>(
    input: PooledInput<B>,
    spec: LayerSpec,
) -> PooledOutput<B> {
    if !is_f32(&input) {
        return reference::pooled_layer::<B>(input, spec);
    }
    let input = HostPooled::<B>::new(input);
    let layer = input.layer(spec);
    let pooled = layer.pool();
    let output = layer_output(&layer.layer, layer.forward(&pooled));
    let line = |values: Cow<'_, [f32]>| {
        let len = values.len();
        B::tensor(values.into_owned(), &[len])
    };
    let pooled = [pooled.own, pooled.groups].into_iter().filter(|values| !values.is_empty()).map(line);
    PooledOutput {
        output: output.output,
        saved: PooledSaved { pooled: pooled.collect(), layer: output.saved },
    }
}

pub(super) fn pooled_layer_backward<B: HostBackend + crate::EsmmBackend>(
    input: PooledInput<B>,
    saved: PooledSaved<B>,
    grad: FloatTensor<B>,
    spec: LayerSpec,
) -> PooledGrads<B> {
    if !(is_f32(&input) && all_f32::<B>(&[&grad, &saved.layer.hidden])) {
        return reference::pooled_layer_backward::<B>(input, saved, grad, spec);
    }
    let input = HostPooled::<B>::new(input);
    let pooled: Vec<_> = saved.pooled.into_iter().map(Host::<B>::new).collect();
    let part = |index: usize| pooled.get(index).map_or(&[][..], Host::values).into();
    let pooled = Pooled { own: part(0), groups: part(1) };
    let saved = saved.layer;
    let [hidden, mean, variance] = [saved.hidden, saved.mean, saved.variance].map(Host::<B>::new);
    let saved = Saved { hidden: hidden.values(), mean: mean.values(), variance: variance.values() };
    let (layer, mut grad) = (input.layer(spec), Host::<B>::new(grad));
    let grads = layer.backward(&pooled, saved, grad.values_mut());
    let Layer { towers, outputs, .. } = layer.layer;
    let columns: &[usize] = if spec.batch_norm { &[towers, outputs] } else { &[1, 1] };
    let slopes = grads.layer.slope.len();
    PooledGrads {
        table: B::tensor(grads.table, &input.table.shape),
        weight: B::tensor(grads.weight, &input.weight.shape),
        bias: B::tensor(grads.layer.bias, &[towers, outputs]),
        gamma: B::tensor(grads.layer.gamma, columns),
        beta: B::tensor(grads.layer.beta, columns),
        slope: B::tensor(grads.layer.slope, &[slopes]),
    }
}

pub(super) fn infer_pooled_logits<B: HostBackend + crate::EsmmBackend>(
    table: FloatTensor<B>,
    plan: InputPlan<B>,
    layers: Vec<InferenceLayer<B>>,
) -> FloatTensor<B> {
    let is_f32 = |layer: &InferenceLayer<B>| {
        all_f32::<B>(&[&layer.weight, &layer.shift, &layer.slope])
            && all_f32::<B>(&Vec::from_iter(&layer.scale))
    };
    if !(all_f32::<B>(&[&table]) && input_is_f32(&plan) && layers.iter().all(is_f32)) {
        return reference::infer_pooled_logits::<B>(table, plan, layers);
    }
    let (table, plan) = (Host::<B>::new(table), HostInput::new(plan));
    let host = |layer: InferenceLayer<B>| {
        let [weight, shift, slope] = [layer.weight, layer.shift, layer.slope].map(Host::<B>::new);
        (weight, layer.scale.map(Host::<B>::new), shift, layer.activation, slope)
    };
    let layers: Vec<_> = layers.into_iter().map(host).collect();
    let slices = layers.iter().map(|(weight, scale, shift, activation, slope)| infer::Layer {
        inputs: weight.shape[1],
        outputs: weight.shape[2],
        weight: weight.values(),
        scale: scale.as_ref().map(Host::values),
        shift: shift.values(),
        activation: *activation,
        slope: slope.values(),
    });
    let towers = layers.first().map_or(1, |(weight, ..)| weight.shape[0]);
    let slices: Vec<_> = slices.collect();
    let logits = infer_parts((table.values(), table.shape[1]), &plan, &slices, towers);
    B::tensor(logits, &[plan.own.rows, towers])
}

fn infer_parts<B: HostBackend>(
    (table, dim): (&[f32], usize),
    plan: &HostInput<B>,
    layers: &[infer::Layer<'_>],
    towers: usize,
) -> Vec<f32> {
    let Some((first, others)) = layers.split_first() else { return Vec::new() };
    let groups = plan.groups();
    let parts = Parts::new(plan.own.bags(), groups.as_ref().map(|groups| groups.features), dim);
    let pooled = groups.as_ref().map(|groups| groups.bags.pool(table, dim)).unwrap_or_default();
    let weight_of =
        |columns: &[std::ops::Range<usize>]| WeightRows::pick(first.weight, towers, first.outputs, columns);
    let groups = groups.as_ref().map(|groups| (groups, &pooled[..]));
    let shared = shared_parts(&parts, (table, dim), groups, weight_of);
    let products = products(&shared, towers, first.outputs);
    let weight = pick_rows(first.weight, towers, first.outputs, &parts.own_columns);
    let inputs = weight.len() / (towers * first.outputs);
    let layers: Vec<_> = std::iter::once(infer::Layer { inputs, weight: &weight, ..*first })
        .chain(others.iter().copied())
        .collect();
    infer::logits(table, dim, &parts.own(), &layers, &addends(&shared, &products), towers)
}
