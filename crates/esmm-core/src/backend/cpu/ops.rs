//! The operations of [`EsmmBackend`](crate::EsmmBackend) on tensors: slices in, kernel, tensor out.

use burn::tensor::ops::{FloatTensor, IntTensor};

use super::bags::Bags;
use super::layer::{Layer, LayerResult};
use super::layer_backward::Saved;
use super::tensor::{Host, HostBackend, all_f32};
use super::{funnel, ops_pooled, rows, weights};
use crate::backend::{
    BagPlan, EsmmBackend, InferenceLayer, InputPlan, LayerGrads, LayerInput, LayerOutput, LayerSaved,
    LayerSpec, NormInput, RowState, RowUpdate, WeightState, WeightUpdate, reference,
};

/// A [`BagPlan`] in host memory.
pub(super) struct HostPlan<B: HostBackend> {
    pub(super) tables: usize,
    pub(super) rows: usize,
    num_sparse: usize,
    slots: Vec<u32>,
    bags: Option<(Vec<u32>, Host<B>)>,
    dense: Option<Host<B>>,
}

impl<B: HostBackend> HostPlan<B> {
    pub(super) fn new(plan: BagPlan<B>) -> Self {
        Self {
            tables: plan.tables,
            rows: plan.rows,
            num_sparse: plan.num_sparse,
            slots: B::indices(plan.slots),
            bags: plan.bags.map(|(segments, weights)| (B::indices(segments), Host::new(weights))),
            dense: plan.dense.map(Host::new),
        }
    }

    pub(super) fn bags(&self) -> Bags<'_> {
        Bags {
            tables: self.tables,
            rows: self.rows,
            num_sparse: self.num_sparse,
            slots: &self.slots,
            bags: self.bags.as_ref().map(|(segments, weights)| (segments.as_slice(), weights.values())),
            dense: self.dense.as_ref().map_or(&[], |dense| dense.values()),
        }
    }
}

pub(super) fn plan_is_f32<B: HostBackend>(plan: &BagPlan<B>) -> bool {
    let weights = plan.bags.iter().map(|(_, weights)| weights);
    all_f32::<B>(&weights.chain(&plan.dense).collect::<Vec<_>>())
}

pub(super) fn gather_rows<B: HostBackend>(table: FloatTensor<B>, rows: IntTensor<B>) -> FloatTensor<B> {
    if !all_f32::<B>(&[&table]) {
        return reference::gather_rows::<B>(table, rows);
    }
    let (table, slots) = (Host::<B>::new(table), B::indices(rows));
    let (rows, dim) = (slots.len(), table.shape[1]);
    let bags = Bags { tables: 1, rows, num_sparse: 1, slots: &slots, bags: None, dense: &[] };
    B::tensor(bags.pool(table.values(), dim), &[rows, dim])
}

pub(super) fn bag_pool<B: HostBackend>(table: FloatTensor<B>, plan: BagPlan<B>) -> FloatTensor<B> {
    if !(all_f32::<B>(&[&table]) && plan_is_f32(&plan)) {
        return reference::bag_pool::<B>(table, plan);
    }
    let (table, plan) = (Host::<B>::new(table), HostPlan::new(plan));
    let (dim, bags) = (table.shape[1], plan.bags());
    B::tensor(bags.pool(table.values(), dim), &[plan.tables, plan.rows, bags.width(dim)])
}

pub(super) fn bag_pool_backward<B: HostBackend>(
    grad: FloatTensor<B>,
    plan: BagPlan<B>,
    num_rows: usize,
) -> FloatTensor<B> {
    if !(all_f32::<B>(&[&grad]) && plan_is_f32(&plan)) {
        return reference::bag_pool_backward::<B>(grad, plan, num_rows);
    }
    let (grad, plan) = (Host::<B>::new(grad), HostPlan::new(plan));
    let bags = plan.bags();
    let dim = (grad.shape[2] - bags.width(0)) / plan.num_sparse;
    B::tensor(bags.pool_backward(grad.values(), num_rows, dim), &[plan.tables * num_rows, dim])
}

/// A [`LayerInput`] in host memory.
struct HostLayer<B: HostBackend> {
    input: Host<B>,
    weight: Host<B>,
    bias: Host<B>,
    gamma: Host<B>,
    beta: Host<B>,
    slope: Host<B>,
}

impl<B: HostBackend> HostLayer<B> {
    fn new(input: LayerInput<B>) -> Self {
        Self {
            input: Host::new(input.input),
            weight: Host::new(input.weight),
            bias: Host::new(input.bias),
            gamma: Host::new(input.gamma),
            beta: Host::new(input.beta),
            slope: Host::new(input.slope),
        }
    }

    fn layer(&self, spec: LayerSpec) -> Layer<'_> {
        Layer {
            spec,
            towers: self.weight.shape[0],
            groups: self.input.shape[0],
            rows: self.input.shape[1],
            inputs: self.weight.shape[1],
            outputs: self.weight.shape[2],
            input: self.input.values(),
            weight: self.weight.values(),
            bias: self.bias.values(),
            gamma: self.gamma.values(),
            beta: self.beta.values(),
            slope: self.slope.values(),
            addends: &[],
        }
    }
}

fn layer_is_f32<B: HostBackend>(input: &LayerInput<B>) -> bool {
    let LayerInput { input, weight, bias, gamma, beta, slope } = input;
    all_f32::<B>(&[input, weight, bias, gamma, beta, slope])
}

pub(super) fn tower_layer<B: HostBackend>(input: LayerInput<B>, spec: LayerSpec) -> LayerOutput<B> {
    if !layer_is_f32(&input) {
        return reference::tower_layer::<B>(input, spec);
    }
    let input = HostLayer::<B>::new(input);
    let layer = input.layer(spec);
    layer_output(&layer, layer.forward())
}

/// The result of a layer as tensors.
pub(super) fn layer_output<B: HostBackend>(layer: &Layer<'_>, result: LayerResult) -> LayerOutput<B> {
    let shape = [layer.towers, layer.rows, layer.outputs];
    let columns: &[usize] = if layer.spec.batch_norm { &[layer.towers, layer.outputs] } else { &[1, 1] };
    let hidden = B::tensor(result.hidden, &shape);
    let output = result.output.map_or_else(|| hidden.clone(), |output| B::tensor(output, &shape));
    let (mean, variance) = (B::tensor(result.mean, columns), B::tensor(result.variance, columns));
    LayerOutput { output, saved: LayerSaved { hidden, mean, variance } }
}

pub(super) fn tower_layer_backward<B: HostBackend>(
    input: LayerInput<B>,
    saved: LayerSaved<B>,
    grad: FloatTensor<B>,
    spec: LayerSpec,
) -> LayerGrads<B> {
    if !(layer_is_f32(&input) && all_f32::<B>(&[&grad, &saved.hidden])) {
        return reference::tower_layer_backward::<B>(input, saved, grad, spec);
    }
    let input = HostLayer::<B>::new(input);
    let [hidden, mean, variance] = [saved.hidden, saved.mean, saved.variance].map(Host::<B>::new);
    let saved = Saved { hidden: hidden.values(), mean: mean.values(), variance: variance.values() };
    let (layer, mut grad) = (input.layer(spec), Host::<B>::new(grad));
    let grads = layer.backward(saved, grad.values_mut());
    let Layer { towers, inputs, outputs, .. } = layer;
    let columns: &[usize] = if spec.batch_norm { &[towers, outputs] } else { &[1, 1] };
    let slopes = grads.slope.len();
    LayerGrads {
        input: B::tensor(grads.input, &input.input.shape),
        weight: B::tensor(grads.weight, &[towers, inputs, outputs]),
        bias: B::tensor(grads.bias, &[towers, outputs]),
        gamma: B::tensor(grads.gamma, columns),
        beta: B::tensor(grads.beta, columns),
        slope: B::tensor(grads.slope, &[slopes]),
    }
}

pub(super) fn infer_logits<B: HostBackend + EsmmBackend>(
    table: FloatTensor<B>,
    plan: BagPlan<B>,
    layers: Vec<InferenceLayer<B>>,
) -> FloatTensor<B> {
    ops_pooled::infer_pooled_logits(table, InputPlan { own: plan, groups: None }, layers)
}

pub(super) fn fold_norm<B: HostBackend>(norm: NormInput<B>, epsilon: f64) -> [FloatTensor<B>; 2] {
    let NormInput { bias, gamma, beta, mean, variance } = &norm;
    if !all_f32::<B>(&[bias, gamma, beta, mean, variance]) {
        return reference::fold_norm::<B>(norm, epsilon);
    }
    let NormInput { bias, gamma, beta, mean, variance } = norm;
    let [bias, gamma, beta, mean, variance] = [bias, gamma, beta, mean, variance].map(Host::<B>::new);
    let roots = variance.values().iter().map(|variance| (variance + epsilon as f32).sqrt());
    let scale: Vec<f32> = gamma.values().iter().zip(roots).map(|(gamma, root)| gamma / root).collect();
    let centred = bias.values().iter().zip(mean.values()).map(|(bias, mean)| bias - mean);
    let shift = centred.zip(&scale).zip(beta.values()).map(|((x, scale), beta)| x * scale + beta).collect();
    [scale, shift].map(|values| B::tensor(values, &gamma.shape))
}

pub(super) fn funnel_logs<B: HostBackend>(logits: FloatTensor<B>) -> [FloatTensor<B>; 2] {
    if !all_f32::<B>(&[&logits]) {
        return reference::funnel_logs::<B>(logits);
    }
    let logits = Host::<B>::new(logits);
    funnel::logs(logits.values(), logits.shape[1]).map(|logs| B::tensor(logs, &logits.shape))
}

pub(super) fn funnel_probs<B: HostBackend>(logits: FloatTensor<B>) -> [FloatTensor<B>; 3] {
    if !all_f32::<B>(&[&logits]) {
        return reference::funnel_probs::<B>(logits);
    }
    let logits = Host::<B>::new(logits);
    funnel::probs(logits.values(), logits.shape[1]).map(|probs| B::tensor(probs, &logits.shape[..1]))
}

pub(super) fn funnel_loss<B: HostBackend>(logits: FloatTensor<B>, reached: FloatTensor<B>) -> FloatTensor<B> {
    if !all_f32::<B>(&[&logits, &reached]) {
        return reference::funnel_loss::<B>(logits, reached);
    }
    let (logits, reached) = (Host::<B>::new(logits), Host::<B>::new(reached));
    let stages = logits.shape[1];
    B::tensor(funnel::loss(logits.values(), reached.values(), stages), &[stages])
}

pub(super) fn funnel_loss_backward<B: HostBackend>(
    logits: FloatTensor<B>,
    reached: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    if !all_f32::<B>(&[&logits, &reached, &grad]) {
        return reference::funnel_loss_backward::<B>(logits, reached, grad);
    }
    let [logits, reached, grad] = [logits, reached, grad].map(Host::<B>::new);
    let out = funnel::loss_backward(logits.values(), reached.values(), grad.values());
    B::tensor(out, &logits.shape)
}

pub(super) fn update_rows<B: HostBackend>(
    state: RowState<B>,
    rows: IntTensor<B>,
    grads: FloatTensor<B>,
    update: RowUpdate,
) -> RowState<B> {
    let tensors: Vec<_> = [&state.table, &grads].into_iter().chain(&state.moments).collect();
    if !all_f32::<B>(&tensors) {
        return reference::update_rows::<B>(state, rows, grads, update);
    }
    let grads = Host::<B>::new(grads);
    let mut tables: Vec<_> = std::iter::once(state.table).chain(state.moments).map(Host::<B>::new).collect();
    let widths: Vec<usize> = tables.iter().map(|table| table.shape[1]).collect();
    let slices = tables.iter_mut().map(Host::values_mut).collect();
    rows::update(slices, &widths, &B::indices(rows), grads.values(), &update);
    let mut tables = tables.into_iter().map(Host::into_tensor);
    match tables.next() {
        Some(table) => RowState { table, moments: tables.collect() },
        None => unreachable!("the table went in"),
    }
}

pub(super) fn with_values<B: HostBackend>(tensor: FloatTensor<B>, look: &mut dyn FnMut(&[f32])) {
    match all_f32::<B>(&[&tensor]) {
        true => look(Host::<B>::new(tensor).values()),
        false => reference::with_values::<B>(tensor, look),
    }
}

pub(super) fn fill_values<B: HostBackend>(
    tensor: FloatTensor<B>,
    fill: &mut dyn FnMut(&mut [f32]),
) -> FloatTensor<B> {
    if !all_f32::<B>(&[&tensor]) {
        return reference::fill_values::<B>(tensor, fill);
    }
    let mut host = Host::<B>::new(tensor);
    fill(host.values_mut());
    host.into_tensor()
}

pub(super) fn update_weights<B: HostBackend>(
    state: WeightState<B>,
    grad: FloatTensor<B>,
    update: WeightUpdate,
) -> WeightState<B> {
    let tensors: Vec<_> = [&state.weight, &grad].into_iter().chain(&state.moments).collect();
    if !all_f32::<B>(&tensors) {
        return reference::update_weights::<B>(state, grad, update);
    }
    let (weight, grad) = (Host::<B>::new(state.weight), Host::<B>::new(grad));
    let mut moments: Vec<_> = state.moments.into_iter().map(Host::<B>::new).collect();
    let slices = moments.iter_mut().map(Host::values_mut).collect();
    let next = weights::update(weight.values(), grad.values(), slices, &update);
    let moments = moments.into_iter().map(Host::into_tensor).collect();
    WeightState { weight: B::tensor(next, &weight.shape), moments }
}
