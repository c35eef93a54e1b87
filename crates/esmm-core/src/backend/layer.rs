//! Operands of a layer of all towers, generic over the handle of a tensor: T is a backend's tensor, a slice, or whatever
//! a kernel makes of it.

use super::bags::{GroupBags, InputBags};
use super::operands::Operands;
use super::random;
use crate::precision::Precision;
use crate::tower::Activation;

/// What happens around the matmul of a layer, beside its weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerSpec {
    /// Added to the variance, where the layer has a batch norm.
    pub epsilon: f64,
    /// Applied after the normalization.
    pub activation: Activation,
    /// Applied last.
    pub dropout: Option<random::Dropout>,
    /// What the factors of the matmuls are rounded to: one of
    /// [`DeviceFacts::precisions`](super::DeviceFacts::precisions).
    pub precision: Precision,
}

/// The weights of a layer, or their gradients.
#[derive(Debug, Clone, Copy)]
pub struct LayerWeights<T> {
    /// `[K, I, O]`.
    pub weight: T,
    /// `[K, O]`.
    pub bias: T,
    /// `None`: the layer has no batch norm.
    pub norm: Option<Norm<T>>,
    /// Slope of a PReLU, `[K]`; `None` for other activations.
    pub slope: Option<T>,
}

/// The learned part of a batch norm, or its gradients.
#[derive(Debug, Clone, Copy)]
pub struct Norm<T> {
    /// Scale, `[K, O]`.
    pub gamma: T,
    /// Shift, `[K, O]`.
    pub beta: T,
}

/// Mean and biased variance over the rows of a batch, or running ones.
#[derive(Debug, Clone, Copy)]
pub struct Moments<T> {
    /// `[K, O]`.
    pub mean: T,
    /// `[K, O]`.
    pub variance: T,
}

/// A hidden layer with its input, or the gradients of both.
#[derive(Debug, Clone, Copy)]
pub struct Layer<T> {
    /// `[1 or K, B, I]`: an input of one tower is read by all.
    pub input: T,
    /// The weights.
    pub weights: LayerWeights<T>,
}

/// The first layer of the towers: its input is pooled from rows of a table.
#[derive(Debug, Clone)]
pub struct FirstLayer<T, I> {
    /// `[T * U, D]`.
    pub table: T,
    /// How its rows become the input `[T, B, F * D + V]`.
    pub bags: InputBags<T, I>,
    /// The weights, I = F * D + V.
    pub weights: LayerWeights<T>,
}

/// Gradients of a [`FirstLayer`].
#[derive(Debug, Clone)]
pub struct FirstLayerGrads<T> {
    /// `[T * U, D]`.
    pub table: T,
    /// Of the weights.
    pub weights: LayerWeights<T>,
}

/// What a first layer reads where groups of rows share features.
#[derive(Debug, Clone)]
pub struct GroupedInput<T, I> {
    /// What each row has of its own, `[1 or K, B, own columns]`.
    pub own: T,
    /// What each group shares, `[1 or K, G, shared columns]`.
    pub shared: T,
    /// How both were pooled: of which group each row is, and whose the columns of the layer's weights are.
    pub bags: InputBags<T, I>,
    /// Rows of one copy of the table that they were pooled from.
    pub num_rows: usize,
}

/// The first layer of the towers on what was pooled, where groups of rows share features.
#[derive(Debug, Clone)]
pub struct GroupedLayer<T, I> {
    /// What it reads.
    pub input: GroupedInput<T, I>,
    /// The weights, for the columns of all features in their order.
    pub weights: LayerWeights<T>,
}

/// Gradients of a [`GroupedLayer`].
#[derive(Debug, Clone)]
pub struct GroupedLayerGrads<T> {
    /// Of what each row has of its own.
    pub own: T,
    /// Of what each group shares: the sum over its rows.
    pub shared: T,
    /// Of the weights.
    pub weights: LayerWeights<T>,
}

/// The output of a layer in training.
#[derive(Debug, Clone)]
pub struct LayerOutput<T> {
    /// `[K, B, O]`.
    pub output: T,
    /// What backward reads.
    pub saved: LayerSaved<T>,
}

/// What the backward pass of a layer reads besides its operands.
#[derive(Debug, Clone)]
pub struct LayerSaved<T> {
    /// The matmul with its bias, `[K, B, O]`.
    pub hidden: T,
    /// Its moments over the batch; `None` without batch norm.
    pub moments: Option<Moments<T>>,
}

/// A layer for inference: `activation(x * W * scale + shift)`.
#[derive(Debug, Clone)]
pub struct InferenceLayer<T> {
    /// `[K, I, O]`.
    pub weight: T,
    /// Factor of each output, `[K, O]`; `None` for 1.
    pub scale: Option<T>,
    /// `[K, O]`.
    pub shift: T,
    /// The activation.
    pub activation: Activation,
    /// Slope of a PReLU, `[K]`; `None` for other activations.
    pub slope: Option<T>,
}

impl LayerSpec {
    /// Nothing but the matmul and its bias, in f32.
    pub const LINEAR: Self =
        Self { epsilon: 0.0, activation: Activation::None, dropout: None, precision: Precision::F32 };

    /// Whether nothing follows the matmul and its bias in a layer with these weights.
    pub fn is_linear<T>(&self, weights: &LayerWeights<T>) -> bool {
        weights.norm.is_none() && self.activation == Activation::None && self.dropout.is_none()
    }
}

impl<T> LayerWeights<T> {
    /// The same weights over other handles.
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> LayerWeights<U> {
        LayerWeights {
            weight: change(self.weight),
            bias: change(self.bias),
            norm: self.norm.map(|norm| norm.map(&mut change)),
            slope: self.slope.map(&mut change),
        }
    }

    /// Borrows every handle.
    pub fn as_ref(&self) -> LayerWeights<&T> {
        LayerWeights {
            weight: &self.weight,
            bias: &self.bias,
            norm: self.norm.as_ref().map(Norm::as_ref),
            slope: self.slope.as_ref(),
        }
    }
}

impl<T> Norm<T> {
    /// The same over other handles.
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> Norm<U> {
        Norm { gamma: change(self.gamma), beta: change(self.beta) }
    }

    /// Borrows both handles.
    pub fn as_ref(&self) -> Norm<&T> {
        Norm { gamma: &self.gamma, beta: &self.beta }
    }
}

impl<T> Moments<T> {
    /// The same over other handles.
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> Moments<U> {
        Moments { mean: change(self.mean), variance: change(self.variance) }
    }

    /// Borrows both handles.
    pub fn as_ref(&self) -> Moments<&T> {
        Moments { mean: &self.mean, variance: &self.variance }
    }
}

impl<T> Layer<T> {
    /// The same over other handles.
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> Layer<U> {
        Layer { input: change(self.input), weights: self.weights.map(change) }
    }
}

impl<T, I> FirstLayer<T, I> {
    /// The same over other handles.
    pub fn map<U, J>(self, mut floats: impl FnMut(T) -> U, ints: impl FnMut(I) -> J) -> FirstLayer<U, J> {
        FirstLayer {
            table: floats(self.table),
            bags: self.bags.map(&mut floats, ints),
            weights: self.weights.map(floats),
        }
    }
}

impl<T> FirstLayerGrads<T> {
    /// The same over other handles.
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> FirstLayerGrads<U> {
        FirstLayerGrads { table: change(self.table), weights: self.weights.map(change) }
    }
}

impl<T, I> GroupedInput<T, I> {
    /// The same over other handles.
    pub fn map<U, J>(self, mut floats: impl FnMut(T) -> U, ints: impl FnMut(I) -> J) -> GroupedInput<U, J> {
        GroupedInput {
            own: floats(self.own),
            shared: floats(self.shared),
            bags: self.bags.map(floats, ints),
            num_rows: self.num_rows,
        }
    }

    /// What the rows share.
    ///
    /// # Panics
    /// When the bags have no groups.
    pub fn groups(&self) -> &GroupBags<T, I> {
        match &self.bags.groups {
            Some(groups) => groups,
            None => panic!("the input of a grouped layer has no groups"),
        }
    }
}

impl<T, I> GroupedLayer<T, I> {
    /// The same over other handles.
    pub fn map<U, J>(self, mut floats: impl FnMut(T) -> U, ints: impl FnMut(I) -> J) -> GroupedLayer<U, J> {
        GroupedLayer { input: self.input.map(&mut floats, ints), weights: self.weights.map(floats) }
    }
}

impl<T> GroupedLayerGrads<T> {
    /// The same over other handles.
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> GroupedLayerGrads<U> {
        GroupedLayerGrads {
            own: change(self.own),
            shared: change(self.shared),
            weights: self.weights.map(change),
        }
    }
}

impl<T> LayerOutput<T> {
    /// The same over other handles.
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> LayerOutput<U> {
        LayerOutput { output: change(self.output), saved: self.saved.map(change) }
    }
}

impl<T> LayerSaved<T> {
    /// The same over other handles.
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> LayerSaved<U> {
        LayerSaved { hidden: change(self.hidden), moments: self.moments.map(|moments| moments.map(change)) }
    }
}

impl<T> InferenceLayer<T> {
    /// The same over other handles.
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> InferenceLayer<U> {
        InferenceLayer {
            weight: change(self.weight),
            scale: self.scale.map(&mut change),
            shift: change(self.shift),
            activation: self.activation,
            slope: self.slope.map(change),
        }
    }

    /// Borrows every handle.
    pub fn as_ref(&self) -> InferenceLayer<&T> {
        InferenceLayer {
            weight: &self.weight,
            scale: self.scale.as_ref(),
            shift: &self.shift,
            activation: self.activation,
            slope: self.slope.as_ref(),
        }
    }
}

impl<T> Operands<T> for LayerWeights<T> {
    fn each(&self, see: &mut dyn FnMut(&T)) {
        self.as_ref().map(see);
    }
}

impl<T> Operands<T> for Norm<T> {
    fn each(&self, see: &mut dyn FnMut(&T)) {
        self.as_ref().map(see);
    }
}

impl<T> Operands<T> for Moments<T> {
    fn each(&self, see: &mut dyn FnMut(&T)) {
        self.as_ref().map(see);
    }
}

impl<T> Operands<T> for Layer<T> {
    fn each(&self, see: &mut dyn FnMut(&T)) {
        see(&self.input);
        self.weights.each(see);
    }
}

impl<T, I> Operands<T> for FirstLayer<T, I> {
    fn each(&self, see: &mut dyn FnMut(&T)) {
        see(&self.table);
        self.bags.each(see);
        self.weights.each(see);
    }
}

impl<T, I> Operands<T> for GroupedInput<T, I> {
    fn each(&self, see: &mut dyn FnMut(&T)) {
        see(&self.own);
        see(&self.shared);
        self.bags.each(see);
    }
}

impl<T, I> Operands<T> for GroupedLayer<T, I> {
    fn each(&self, see: &mut dyn FnMut(&T)) {
        self.input.each(see);
        self.weights.each(see);
    }
}

impl<T> Operands<T> for LayerSaved<T> {
    fn each(&self, see: &mut dyn FnMut(&T)) {
        see(&self.hidden);
        if let Some(moments) = &self.moments {
            moments.each(see);
        }
    }
}

impl<T> Operands<T> for InferenceLayer<T> {
    fn each(&self, see: &mut dyn FnMut(&T)) {
        self.as_ref().map(see);
    }
}

impl<T> Operands<T> for Vec<InferenceLayer<T>> {
    fn each(&self, see: &mut dyn FnMut(&T)) {
        self.iter().for_each(|layer| layer.each(see));
    }
}
