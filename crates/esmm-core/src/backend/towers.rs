//! All layers of the towers in training, one after the other: what a device may compute in fewer pieces than layer by layer.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;

use super::operands::Operands;
use super::{
    FirstLayer, FirstLayerGrads, GroupedInput, GroupedLayer, GroupedLayerGrads, Indices, InputBags, Kernels,
    Layer, LayerOutput, LayerSaved, LayerSpec, LayerWeights, Moments, Running,
};

/// What the first layer of the towers reads.
#[derive(Debug, Clone)]
pub enum TowersInput<T, I> {
    /// `[1 or K, B, I]`: an input of one tower is read by all.
    Values(T),
    /// What was pooled, where groups of rows share a part of it.
    Grouped(Box<GroupedInput<T, I>>),
    /// Rows of a table, `[T * U, D]`, which the layer pools.
    Rows(T, Box<InputBags<T, I>>),
}

/// The layers of all towers, with what the first one reads.
#[derive(Debug, Clone)]
pub struct TowersOperands<T, I> {
    /// What the first layer reads; every other reads the output of the one before.
    pub input: TowersInput<T, I>,
    /// The weights of each layer, at least one.
    pub layers: Vec<LayerWeights<T>>,
}

/// What the layers of the towers returned, and keep for backward.
#[derive(Debug, Clone)]
pub struct TowersOutput<T, S> {
    /// Of each layer.
    pub layers: Vec<LayerOutput<T>>,
    /// What the first layer keeps for its own backward, where it pools.
    pub first: Option<S>,
    /// Running statistics after the step, of each layer that has some.
    pub running: Vec<Option<Moments<T>>>,
}

/// Gradients of [`TowersOperands`].
#[derive(Debug, Clone)]
pub struct TowersGrads<T> {
    /// In the shape of the values, of what rows have of their own, or of the table.
    pub input: T,
    /// In the shape of what groups share, where they share something.
    pub shared: Option<T>,
    /// Of each layer.
    pub layers: Vec<LayerWeights<T>>,
}

impl<T, I> TowersOperands<T, I> {
    /// The same over other handles.
    pub fn map<U, J>(self, mut floats: impl FnMut(T) -> U, ints: impl FnMut(I) -> J) -> TowersOperands<U, J> {
        let input = match self.input {
            TowersInput::Values(values) => TowersInput::Values(floats(values)),
            TowersInput::Grouped(input) => TowersInput::Grouped(Box::new(input.map(&mut floats, ints))),
            TowersInput::Rows(table, bags) => {
                let table = floats(table);
                TowersInput::Rows(table, Box::new(bags.map(&mut floats, ints)))
            }
        };
        let layers = self.layers.into_iter().map(|weights| weights.map(&mut floats)).collect();
        TowersOperands { input, layers }
    }

    /// The tensors that the first layer reads and that have gradients: values, or the table; where groups share something,
    /// that as well.
    pub fn input_tensors(&self) -> (&T, Option<&T>) {
        match &self.input {
            TowersInput::Values(tensor) | TowersInput::Rows(tensor, _) => (tensor, None),
            TowersInput::Grouped(input) => (&input.own, Some(&input.shared)),
        }
    }
}

impl<T, S> TowersOutput<T, S> {
    /// The same over other handles.
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> TowersOutput<U, S> {
        let layers = self.layers.into_iter().map(|layer| layer.map(&mut change)).collect();
        let running = self.running.into_iter().map(|moments| moments.map(|moments| moments.map(&mut change)));
        TowersOutput { layers, first: self.first, running: running.collect() }
    }
}

impl<T> TowersGrads<T> {
    /// The same over other handles.
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> TowersGrads<U> {
        let input = change(self.input);
        let shared = self.shared.map(&mut change);
        let layers = self.layers.into_iter().map(|weights| weights.map(&mut change)).collect();
        TowersGrads { input, shared, layers }
    }
}

impl<T, I> Operands<T> for TowersOperands<T, I> {
    fn each(&self, see: &mut dyn FnMut(&T)) {
        match &self.input {
            TowersInput::Values(values) => see(values),
            TowersInput::Grouped(input) => GroupedInput::each(input, see),
            TowersInput::Rows(table, bags) => {
                see(table);
                InputBags::each(bags, see);
            }
        }
        self.layers.iter().for_each(|weights| weights.each(see));
    }
}

/// The towers, layer by layer.
pub(super) fn forward<B: Backend, K: Kernels<B>>(
    towers: TowersOperands<FloatTensor<B>, Indices<B>>,
    running: Vec<Option<Running<FloatTensor<B>>>>,
    specs: &[LayerSpec],
) -> TowersOutput<FloatTensor<B>, K::Saved> {
    walk(
        towers,
        running,
        specs,
        |layer, running, spec| {
            let output = K::layer(layer, spec);
            let moved = moved::<B, K>(running, &output);
            (output, moved)
        },
        |layer, running, spec| {
            let output = K::grouped_layer(layer, spec);
            let moved = moved::<B, K>(running, &output);
            (output, moved)
        },
        first_layer::<B, K>,
    )
}

/// The first layer where it pools, and its running statistics after the step.
#[allow(clippy::type_complexity, reason = "three things that its callers take apart")]
pub(super) fn first_layer<B: Backend, K: Kernels<B>>(
    layer: FirstLayer<FloatTensor<B>, Indices<B>>,
    running: Option<Running<FloatTensor<B>>>,
    spec: LayerSpec,
) -> (LayerOutput<FloatTensor<B>>, K::Saved, Option<Moments<FloatTensor<B>>>) {
    let (output, own) = K::first_layer(layer, spec);
    let moved = moved::<B, K>(running, &output);
    (output, own, moved)
}

/// Running statistics after the step, where a layer has some.
fn moved<B: Backend, K: Kernels<B>>(
    running: Option<Running<FloatTensor<B>>>,
    output: &LayerOutput<FloatTensor<B>>,
) -> Option<Moments<FloatTensor<B>>> {
    let (running, new) = running.zip(output.saved.moments.clone())?;
    let mut moved = K::blend(running.blends(new).into()).into_iter();
    let (mean, variance) = moved.next().zip(moved.next())?;
    Some(Moments { mean, variance })
}

/// From the first layer to the last: its output and its running statistics after the step; with what the first one keeps for
/// backward.
///
/// # Panics
/// Without a layer.
pub(super) fn walk<T: Clone, I, S>(
    towers: TowersOperands<T, I>,
    running: Vec<Option<Running<T>>>,
    specs: &[LayerSpec],
    mut layer: impl FnMut(Layer<T>, Option<Running<T>>, LayerSpec) -> (LayerOutput<T>, Option<Moments<T>>),
    grouped_layer: impl FnOnce(
        GroupedLayer<T, I>,
        Option<Running<T>>,
        LayerSpec,
    ) -> (LayerOutput<T>, Option<Moments<T>>),
    first_layer: impl FnOnce(
        FirstLayer<T, I>,
        Option<Running<T>>,
        LayerSpec,
    ) -> (LayerOutput<T>, S, Option<Moments<T>>),
) -> TowersOutput<T, S> {
    let mut running = running.into_iter();
    let mut layers = towers.layers.into_iter().zip(specs.iter().copied());
    let Some((weights, spec)) = layers.next() else { panic!("towers without a layer") };
    let statistics = running.next().flatten();
    let (output, first, moved) = match towers.input {
        TowersInput::Values(input) => {
            let (output, moved) = layer(Layer { input, weights }, statistics, spec);
            (output, None, moved)
        }
        TowersInput::Grouped(input) => {
            let (output, moved) = grouped_layer(GroupedLayer { input: *input, weights }, statistics, spec);
            (output, None, moved)
        }
        TowersInput::Rows(table, bags) => {
            let operands = FirstLayer { table, bags: *bags, weights };
            let (output, own, moved) = first_layer(operands, statistics, spec);
            (output, Some(own), moved)
        }
    };
    let mut last = output.output.clone();
    let mut outputs = vec![output];
    let mut all_moved = vec![moved];
    for (weights, spec) in layers {
        let (output, moved) = layer(Layer { input: last, weights }, running.next().flatten(), spec);
        last = output.output.clone();
        outputs.push(output);
        all_moved.push(moved);
    }
    TowersOutput { layers: outputs, first, running: all_moved }
}

/// The same backward.
pub(super) fn backward<B: Backend, K: Kernels<B>>(
    towers: TowersOperands<FloatTensor<B>, Indices<B>>,
    saved: TowersOutput<FloatTensor<B>, K::Saved>,
    grad: FloatTensor<B>,
    specs: &[LayerSpec],
) -> TowersGrads<FloatTensor<B>> {
    walk_back(
        towers,
        saved,
        grad,
        specs,
        |layer, saved, grad, spec| {
            let Layer { input, weights } = K::layer_backward(layer, saved, grad, spec);
            (input, weights)
        },
        |layer, saved, grad, spec| {
            let GroupedLayerGrads { own, shared, weights } =
                K::grouped_layer_backward(layer, saved, grad, spec);
            ([own, shared], weights)
        },
        first_layer_backward::<B, K>,
        |layers| layers,
    )
}

/// The first layer where it pools, backward: gradients of the table and of the weights.
pub(super) fn first_layer_backward<B: Backend, K: Kernels<B>>(
    layer: FirstLayer<FloatTensor<B>, Indices<B>>,
    saved: LayerSaved<FloatTensor<B>>,
    own: K::Saved,
    grad: FloatTensor<B>,
    spec: LayerSpec,
) -> (FloatTensor<B>, LayerWeights<FloatTensor<B>>) {
    let FirstLayerGrads { table, weights } = K::first_layer_backward(layer, saved, own, grad, spec);
    (table, weights)
}

/// From the last layer to the first. What a layer hands to the one below it is a `D`: the gradient of its input, or what that
/// can be made of. `whole` makes gradients of what each layer returns for its weights, all of them at once.
///
/// # Panics
/// When `saved` is of other towers.
#[allow(clippy::too_many_arguments, reason = "four of them are what is done, layer by layer and at the end")]
pub(super) fn walk_back<T: Clone, I, S, D: From<T> + Into<T>, G>(
    towers: TowersOperands<T, I>,
    saved: TowersOutput<T, S>,
    grad: T,
    specs: &[LayerSpec],
    mut layer: impl FnMut(Layer<T>, LayerSaved<T>, D, LayerSpec) -> (D, G),
    grouped_layer: impl FnOnce(GroupedLayer<T, I>, LayerSaved<T>, D, LayerSpec) -> ([T; 2], G),
    first_layer: impl FnOnce(FirstLayer<T, I>, LayerSaved<T>, S, D, LayerSpec) -> (T, G),
    whole: impl FnOnce(Vec<G>) -> Vec<LayerWeights<T>>,
) -> TowersGrads<T> {
    let TowersOperands { input, layers } = towers;
    let TowersOutput { layers: mut outputs, first: own, .. } = saved;
    assert_eq!(layers.len(), outputs.len(), "towers and what they saved differ in their layers");
    let mut layers: Vec<_> = layers.into_iter().zip(specs.iter().copied()).collect();
    let mut grad = D::from(grad);
    let mut grads = Vec::new();
    while outputs.len() > 1
        && let Some((weights, spec)) = layers.pop()
        && let Some(LayerOutput { saved, .. }) = outputs.pop()
    {
        let input = outputs[outputs.len() - 1].output.clone();
        let (of_input, of_weights) = layer(Layer { input, weights }, saved, grad, spec);
        grad = of_input;
        grads.push(of_weights);
    }
    let Some(((weights, spec), output)) = layers.pop().zip(outputs.pop()) else {
        panic!("towers without a layer");
    };
    let (input, shared, of_weights) = match (input, own) {
        (TowersInput::Values(input), _) => {
            let (input, of_weights) = layer(Layer { input, weights }, output.saved, grad, spec);
            (input.into(), None, of_weights)
        }
        (TowersInput::Grouped(input), _) => {
            let operands = GroupedLayer { input: *input, weights };
            let ([own, shared], of_weights) = grouped_layer(operands, output.saved, grad, spec);
            (own, Some(shared), of_weights)
        }
        (TowersInput::Rows(table, bags), Some(own)) => {
            let operands = FirstLayer { table, bags: *bags, weights };
            let (table, of_weights) = first_layer(operands, output.saved, own, grad, spec);
            (table, None, of_weights)
        }
        (TowersInput::Rows(..), None) => panic!("a first layer that pools kept nothing for backward"),
    };
    grads.push(of_weights);
    grads.reverse();
    TowersGrads { input, shared, layers: whole(grads) }
}
