//! The kernels of a backend under autodiff: hand-written backward passes, each of which calls a `*_backward`.

mod funnel;
mod layers;

use std::marker::PhantomData;

use self::funnel::{FunnelLossOp, LogNotReachOp, LogReachOp};
use self::layers::{TowersOp, fits, parents};
use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::ops::FloatTensor;

use super::{
    Blend, DeviceFacts, DeviceLine, EsmmBackend, FirstLayer, FirstLayerGrads, GroupedLayer,
    GroupedLayerGrads, HostAccess, HostLine, Indices, InferenceLayer, InputBags, Kernels, Layer, LayerOutput,
    LayerSaved, LayerSpec, LayerWeights, Moments, Norm, Pooled, RowUpdate, Running, TowersGrads, TowersInput,
    TowersOperands, TowersOutput, WeightUpdate, WithGrad, WithMoments, towers,
};
use crate::precision::Precision;

/// The kernels K of a backend B, differentiable on `Autodiff<B>`. What has no backward is no part of a graph, and
/// neither are the backward functions: gradients of gradients do not exist. Results of `infer` and `funnel_probs` are in the
/// graph only to say, in a backward pass, that they have no gradients.
#[derive(Debug)]
pub struct Differentiated<K>(PhantomData<K>);

impl<B: EsmmBackend, C: CheckpointStrategy> EsmmBackend for Autodiff<B, C> {
    type Kernels = Differentiated<B::Kernels>;
}

impl<B: EsmmBackend, C: CheckpointStrategy> DeviceFacts for Autodiff<B, C> {
    const QUEUES_WORK: bool = B::QUEUES_WORK;
    const FINDS_ROWS: bool = B::FINDS_ROWS;
    const READS_POSITIONS: bool = B::READS_POSITIONS;

    fn precisions(device: &Self::Device) -> Vec<Precision> {
        B::precisions(device)
    }
}

impl<B: EsmmBackend, C: CheckpointStrategy> HostAccess for Autodiff<B, C> {
    fn with_values(tensor: FloatTensor<Self>, look: &mut dyn FnMut(&[f32])) {
        B::with_values(tensor.primitive, look);
    }

    fn upload(lines: Vec<HostLine>, device: &Self::Device) -> Vec<DeviceLine<Self>> {
        let outer = |line| match line {
            DeviceLine::Floats(floats) => DeviceLine::Floats(Self::from_inner(floats)),
            DeviceLine::Ints(ints) => DeviceLine::Ints(ints),
        };
        B::upload(lines, device).into_iter().map(outer).collect()
    }

    fn fill_values(tensor: FloatTensor<Self>, fill: &mut dyn FnMut(&mut [f32])) -> FloatTensor<Self> {
        Self::from_inner(B::fill_values(tensor.primitive, fill))
    }
}

/// The tensor of the inner backend.
fn inner<B: Backend, C: CheckpointStrategy>(tensor: FloatTensor<Autodiff<B, C>>) -> FloatTensor<B> {
    tensor.primitive
}

/// A tensor outside of any graph.
fn outside<B: Backend, C: CheckpointStrategy>(tensor: FloatTensor<B>) -> FloatTensor<Autodiff<B, C>> {
    Autodiff::<B, C>::from_inner(tensor)
}

fn indices<B: Backend, C: CheckpointStrategy>(indices: Indices<Autodiff<B, C>>) -> Indices<B> {
    indices.same()
}

impl<B: Backend, C: CheckpointStrategy, K: Kernels<B>> Kernels<Autodiff<B, C>> for Differentiated<K> {
    type Saved = K::Saved;

    fn gather_rows(
        table: FloatTensor<Autodiff<B, C>>,
        rows: Indices<Autodiff<B, C>>,
    ) -> FloatTensor<Autodiff<B, C>> {
        outside::<B, C>(K::gather_rows(table.primitive, indices(rows)))
    }

    fn first_layer(
        layer: FirstLayer<FloatTensor<Autodiff<B, C>>, Indices<Autodiff<B, C>>>,
        spec: LayerSpec,
    ) -> (LayerOutput<FloatTensor<Autodiff<B, C>>>, Self::Saved) {
        let FirstLayer { table, bags, weights } = layer;
        let input = TowersInput::Rows(table, Box::new(bags));
        let towers = TowersOperands { input, layers: vec![weights] };
        let TowersOutput { layers, first, .. } =
            <Self as Kernels<Autodiff<B, C>>>::towers(towers, Vec::new(), &[spec]);
        let Some((output, saved)) = layers.into_iter().next().zip(first) else {
            panic!("a first layer kept nothing for backward");
        };
        (output, saved)
    }

    fn first_layer_backward(
        layer: FirstLayer<FloatTensor<Autodiff<B, C>>, Indices<Autodiff<B, C>>>,
        saved: LayerSaved<FloatTensor<Autodiff<B, C>>>,
        own: Self::Saved,
        grad: FloatTensor<Autodiff<B, C>>,
        spec: LayerSpec,
    ) -> FirstLayerGrads<FloatTensor<Autodiff<B, C>>> {
        let layer = layer.map(inner::<B, C>, indices::<B, C>);
        let saved = saved.map(inner::<B, C>);
        K::first_layer_backward(layer, saved, own, grad.primitive, spec).map(outside::<B, C>)
    }

    fn layer(
        layer: Layer<FloatTensor<Autodiff<B, C>>>,
        spec: LayerSpec,
    ) -> LayerOutput<FloatTensor<Autodiff<B, C>>> {
        let Layer { input, weights } = layer;
        only_layer::<B, C, K>(TowersInput::Values(input), weights, spec)
    }

    fn layer_backward(
        layer: Layer<FloatTensor<Autodiff<B, C>>>,
        saved: LayerSaved<FloatTensor<Autodiff<B, C>>>,
        grad: FloatTensor<Autodiff<B, C>>,
        spec: LayerSpec,
    ) -> Layer<FloatTensor<Autodiff<B, C>>> {
        let layer = layer.map(inner::<B, C>);
        let saved = saved.map(inner::<B, C>);
        K::layer_backward(layer, saved, grad.primitive, spec).map(outside::<B, C>)
    }

    fn grouped_layer(
        layer: GroupedLayer<FloatTensor<Autodiff<B, C>>, Indices<Autodiff<B, C>>>,
        spec: LayerSpec,
    ) -> LayerOutput<FloatTensor<Autodiff<B, C>>> {
        let GroupedLayer { input, weights } = layer;
        only_layer::<B, C, K>(TowersInput::Grouped(Box::new(input)), weights, spec)
    }

    fn grouped_layer_backward(
        layer: GroupedLayer<FloatTensor<Autodiff<B, C>>, Indices<Autodiff<B, C>>>,
        saved: LayerSaved<FloatTensor<Autodiff<B, C>>>,
        grad: FloatTensor<Autodiff<B, C>>,
        spec: LayerSpec,
    ) -> GroupedLayerGrads<FloatTensor<Autodiff<B, C>>> {
        let layer = layer.map(inner::<B, C>, indices::<B, C>);
        let saved = saved.map(inner::<B, C>);
        K::grouped_layer_backward(layer, saved, grad.primitive, spec).map(outside::<B, C>)
    }

    /// One operation for as many layers as it can have parents for; else layer by layer.
    fn towers(
        towers: TowersOperands<FloatTensor<Autodiff<B, C>>, Indices<Autodiff<B, C>>>,
        running: Vec<Option<Running<FloatTensor<Autodiff<B, C>>>>>,
        specs: &[LayerSpec],
    ) -> TowersOutput<FloatTensor<Autodiff<B, C>>, Self::Saved> {
        if !fits(&towers) {
            return towers::forward::<Autodiff<B, C>, Self>(towers, running, specs);
        }
        let nodes = parents(&towers).map(|tensor| tensor.node.clone());
        let towers = towers.map(inner::<B, C>, indices::<B, C>);
        let running = running.into_iter().map(|running| running.map(|running| running.map(inner::<B, C>)));
        let mut found = K::towers(towers.clone(), running.collect(), specs);
        // The graph holds no statistics: they change in place.
        let moved = std::mem::take(&mut found.running);
        let mut outer = found.clone().map(outside::<B, C>);
        if let Some((last, of_inner)) = outer.layers.last_mut().zip(found.layers.last()) {
            let output = of_inner.output.clone();
            last.output = match TowersOp::<K>::new().prepare::<C>(nodes).compute_bound().stateful() {
                OpsKind::Tracked(prep) => prep.finish((towers, found, specs.to_vec()), output),
                OpsKind::UnTracked(prep) => prep.finish(output),
            };
        }
        let moved = moved.into_iter().map(|moments| moments.map(|moments| moments.map(outside::<B, C>)));
        TowersOutput { running: moved.collect(), ..outer }
    }

    fn towers_backward(
        towers: TowersOperands<FloatTensor<Autodiff<B, C>>, Indices<Autodiff<B, C>>>,
        saved: TowersOutput<FloatTensor<Autodiff<B, C>>, Self::Saved>,
        grad: FloatTensor<Autodiff<B, C>>,
        specs: &[LayerSpec],
    ) -> TowersGrads<FloatTensor<Autodiff<B, C>>> {
        let towers = towers.map(inner::<B, C>, indices::<B, C>);
        let saved = saved.map(inner::<B, C>);
        K::towers_backward(towers, saved, grad.primitive, specs).map(outside::<B, C>)
    }

    fn blend(blends: Vec<Blend<FloatTensor<Autodiff<B, C>>>>) -> Vec<FloatTensor<Autodiff<B, C>>> {
        let blends = blends.into_iter().map(|blend| blend.map(inner::<B, C>)).collect();
        K::blend(blends).into_iter().map(outside::<B, C>).collect()
    }

    fn fold_norm(
        bias: FloatTensor<Autodiff<B, C>>,
        norm: Norm<FloatTensor<Autodiff<B, C>>>,
        running: Moments<FloatTensor<Autodiff<B, C>>>,
        epsilon: f64,
    ) -> [FloatTensor<Autodiff<B, C>>; 2] {
        let norm = norm.map(inner::<B, C>);
        let running = running.map(inner::<B, C>);
        K::fold_norm(bias.primitive, norm, running, epsilon).map(outside::<B, C>)
    }

    fn infer(
        table: FloatTensor<Autodiff<B, C>>,
        bags: InputBags<FloatTensor<Autodiff<B, C>>, Indices<Autodiff<B, C>>>,
        layers: Vec<InferenceLayer<FloatTensor<Autodiff<B, C>>>>,
    ) -> FloatTensor<Autodiff<B, C>> {
        let last_weight = layers.last().map(|layer| layer.weight.clone());
        let bags = bags.map(inner::<B, C>, indices::<B, C>);
        let layers = layers.into_iter().map(|layer| layer.map(inner::<B, C>)).collect();
        let logits = K::infer(table.primitive, bags, layers);
        match last_weight {
            Some(weight) => without_gradients::<B, C>(&weight, INFER, logits),
            None => outside::<B, C>(logits),
        }
    }

    fn funnel_logs(logits: FloatTensor<Autodiff<B, C>>) -> [FloatTensor<Autodiff<B, C>>; 2] {
        let node = logits.node;
        let logits = logits.primitive;
        let [log_reach, log_not_reach] = K::funnel_logs(logits.clone());
        let saved = (logits.clone(), log_reach.clone(), log_not_reach.clone());
        let log_reach = match LogReachOp.prepare::<C>([node.clone()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(logits, log_reach),
            OpsKind::UnTracked(prep) => prep.finish(log_reach),
        };
        let log_not_reach = match LogNotReachOp.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(saved, log_not_reach),
            OpsKind::UnTracked(prep) => prep.finish(log_not_reach),
        };
        [log_reach, log_not_reach]
    }

    fn funnel_probs(logits: FloatTensor<Autodiff<B, C>>) -> [FloatTensor<Autodiff<B, C>>; 3] {
        K::funnel_probs(logits.primitive.clone())
            .map(|probs| without_gradients::<B, C>(&logits, PROBS, probs))
    }

    fn funnel_loss(
        logits: FloatTensor<Autodiff<B, C>>,
        reached: FloatTensor<Autodiff<B, C>>,
    ) -> FloatTensor<Autodiff<B, C>> {
        let node = logits.node;
        let logits = logits.primitive;
        let reached = reached.primitive;
        match FunnelLossOp::<K>::new().prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let output = K::funnel_loss(logits.clone(), reached.clone());
                prep.finish((logits, reached), output)
            }
            OpsKind::UnTracked(prep) => prep.finish(K::funnel_loss(logits, reached)),
        }
    }

    fn funnel_loss_backward(
        logits: FloatTensor<Autodiff<B, C>>,
        reached: FloatTensor<Autodiff<B, C>>,
        grad: FloatTensor<Autodiff<B, C>>,
    ) -> FloatTensor<Autodiff<B, C>> {
        outside::<B, C>(K::funnel_loss_backward(logits.primitive, reached.primitive, grad.primitive))
    }

    fn update_rows(
        table: WithMoments<FloatTensor<Autodiff<B, C>>>,
        rows: Indices<Autodiff<B, C>>,
        grads: FloatTensor<Autodiff<B, C>>,
        update: RowUpdate,
    ) -> WithMoments<FloatTensor<Autodiff<B, C>>> {
        let table = table.map(inner::<B, C>);
        K::update_rows(table, indices(rows), grads.primitive, update).map(outside::<B, C>)
    }

    fn pool(
        table: FloatTensor<Autodiff<B, C>>,
        bags: InputBags<FloatTensor<Autodiff<B, C>>, Indices<Autodiff<B, C>>>,
    ) -> Pooled<FloatTensor<Autodiff<B, C>>> {
        K::pool(table.primitive, bags.map(inner::<B, C>, indices::<B, C>)).map(outside::<B, C>)
    }

    fn row_grads(
        bags: InputBags<FloatTensor<Autodiff<B, C>>, Indices<Autodiff<B, C>>>,
        grads: Pooled<FloatTensor<Autodiff<B, C>>>,
        num_rows: usize,
    ) -> FloatTensor<Autodiff<B, C>> {
        let bags = bags.map(inner::<B, C>, indices::<B, C>);
        outside::<B, C>(K::row_grads(bags, grads.map(inner::<B, C>), num_rows))
    }

    fn update_pooled(
        table: WithMoments<FloatTensor<Autodiff<B, C>>>,
        bags: InputBags<FloatTensor<Autodiff<B, C>>, Indices<Autodiff<B, C>>>,
        grads: Pooled<FloatTensor<Autodiff<B, C>>>,
        update: RowUpdate,
    ) -> WithMoments<FloatTensor<Autodiff<B, C>>> {
        let bags = bags.map(inner::<B, C>, indices::<B, C>);
        let grads = grads.map(inner::<B, C>);
        K::update_pooled(table.map(inner::<B, C>), bags, grads, update).map(outside::<B, C>)
    }

    fn update_weights(
        weights: Vec<WithGrad<FloatTensor<Autodiff<B, C>>>>,
        update: WeightUpdate,
    ) -> Vec<WithMoments<FloatTensor<Autodiff<B, C>>>> {
        let weights = weights.into_iter().map(|weight| weight.map(inner::<B, C>)).collect();
        K::update_weights(weights, update).into_iter().map(|weight| weight.map(outside::<B, C>)).collect()
    }
}

/// The output of a single layer.
#[allow(clippy::type_complexity, reason = "Burn's names of tensors are long")]
fn only_layer<B: Backend, C: CheckpointStrategy, K: Kernels<B>>(
    input: TowersInput<FloatTensor<Autodiff<B, C>>, Indices<Autodiff<B, C>>>,
    weights: LayerWeights<FloatTensor<Autodiff<B, C>>>,
    spec: LayerSpec,
) -> LayerOutput<FloatTensor<Autodiff<B, C>>> {
    let towers = TowersOperands { input, layers: vec![weights] };
    let found = <Differentiated<K> as Kernels<Autodiff<B, C>>>::towers(towers, Vec::new(), &[spec]);
    let output = found.layers.into_iter().next();
    let Some(output) = output else { panic!("a layer without an output") };
    output
}

/// What a backward pass from `infer` says.
const INFER: &str = "logits of `Esmm::forward` have no gradients: in a training call `Esmm::forward_train`";
/// What a backward pass from `funnel_probs` says.
const PROBS: &str =
    "probabilities of `FunnelLogits::probs` have no gradients: `FunnelLogits::reach_logs` has them";

/// A result without gradients. It is part of the graph of `of` all the same: were it not, a loss on it would leave
/// everything untrained without a word.
fn without_gradients<B: Backend, C: CheckpointStrategy>(
    of: &FloatTensor<Autodiff<B, C>>,
    what: &'static str,
    result: FloatTensor<B>,
) -> FloatTensor<Autodiff<B, C>> {
    match NoGradientsOp.prepare::<C>([of.node.clone()]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(what, result),
        OpsKind::UnTracked(prep) => prep.finish(result),
    }
}

/// An operation whose backward says what to call instead.
#[derive(Debug)]
struct NoGradientsOp;

impl<B: Backend> Backward<B, 1> for NoGradientsOp {
    type State = &'static str;

    fn backward(self, ops: Ops<Self::State, 1>, _: &mut Gradients, _: &mut Checkpointer) {
        panic!("{}", ops.state);
    }
}
