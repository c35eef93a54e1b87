//! The towers: MLPs of one shape, their weights stacked, one logit each.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::backend::random::DropoutKey;
use burn::tensor::ops::FloatTensor;

use crate::backend::{
    EsmmBackend, GroupedInput, Indices, InferenceLayer, InputBags, Kernels, LayerOutput, LayerSpec,
    TowersInput, TowersOperands,
};
use crate::error::EsmmError;
use crate::esmm::MOST_WIDE;
use crate::precision::Precision;
use crate::stacked::{StackedBatchNorm, StackedLinear, float, primitive};

/// Added to a variance before its root, as in PyTorch.
pub(crate) const BATCH_NORM_EPSILON: f64 = 1e-5;
/// Share of a batch's statistics in the running ones, as in PyTorch.
pub(crate) const BATCH_NORM_MOMENTUM: f64 = 0.1;
/// Initial slope of a PReLU, as in PyTorch.
pub(crate) const PRELU_SLOPE: f64 = 0.25;

/// The function after each hidden matmul.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// Identity, as in the notebook.
    None,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0) + negative_slope * min(x, 0)`.
    LeakyRelu {
        /// Slope below zero.
        negative_slope: f64,
    },
    /// As leaky ReLU, with one learned slope for each tower and layer.
    Prelu,
}

/// Shape of every tower.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TowersConfig {
    /// Widths of the hidden layers. Empty: a linear model.
    pub hidden: Vec<usize>,
    /// The activation of every hidden layer.
    pub activation: Activation,
    /// Whether hidden layers have a batch norm, between matmul and activation.
    pub batch_norm: bool,
    /// One dropout probability a hidden layer, in `[0, 1)`.
    pub dropout: Vec<f64>,
}

/// Stacked towers: tower k predicts the logit of stage k.
#[derive(Module, Debug)]
pub struct Towers<B: Backend> {
    /// The hidden layers.
    pub layers: Vec<TowerLayer<B>>,
    /// The matmul to the logits, `[K, last, 1]`.
    pub output: StackedLinear<B>,
    #[module(skip)]
    config: TowersConfig,
    #[module(skip)]
    precision: Precision,
}

/// One hidden layer of all towers: matmul, batch norm, activation, dropout.
#[derive(Module, Debug)]
pub struct TowerLayer<B: Backend> {
    /// The matmul and its bias.
    pub linear: StackedLinear<B>,
    /// The batch norm, if there is one.
    pub norm: Option<StackedBatchNorm<B>>,
    /// Slopes of the PReLU, `[K]`, if there is one.
    pub slope: Option<Param<Tensor<B, 1>>>,
}

impl TowersConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// A hidden width of 0, a dropout outside `[0, 1)`, or not one dropout a layer.
    pub fn validate(&self) -> Result<(), EsmmError> {
        let error =
            |key, found, allowed: &str| Err(EsmmError::Config { key, found, allowed: allowed.to_owned() });
        if self.hidden.contains(&0) {
            return error("towers.hidden", format!("{:?}", self.hidden), "widths must be at least 1");
        }
        if self.hidden.iter().any(|width| *width > MOST_WIDE) {
            let found = format!("{:?}", self.hidden);
            return error("towers.hidden", found, "widths must be at most 1048576");
        }
        if self.dropout.len() != self.hidden.len() {
            let allowed = format!("one probability for each of the {} hidden layers", self.hidden.len());
            return error("towers.dropout", format!("{:?}", self.dropout), &allowed);
        }
        if self.dropout.iter().any(|p| !(0.0..1.0).contains(p)) {
            return error("towers.dropout", format!("{:?}", self.dropout), "probabilities must be in [0, 1)");
        }
        Ok(())
    }

    /// `towers` towers that read `input` values, with the initial values of PyTorch's `Linear` and `BatchNorm1d`.
    pub fn init<B: Backend>(
        &self,
        towers: usize,
        input: usize,
        rng: &mut ChaCha8Rng,
        device: &B::Device,
    ) -> Towers<B> {
        let mut width = input;
        let mut layers = Vec::new();
        for &hidden in &self.hidden {
            let linear = StackedLinear::init(towers, width, hidden, rng, device);
            let norm = self.batch_norm.then(|| StackedBatchNorm::init(towers, hidden, device));
            let slope = (self.activation == Activation::Prelu)
                .then(|| Param::from_tensor(Tensor::full([towers], PRELU_SLOPE, device)));
            layers.push(TowerLayer { linear, norm, slope });
            width = hidden;
        }
        let output = StackedLinear::init(towers, width, 1, rng, device);
        Towers { layers, output, config: self.clone(), precision: Precision::F32 }
    }
}

impl<B: EsmmBackend> Towers<B> {
    /// Logits for training: batch statistics, which also move the running ones, and dropout by `key`.
    ///
    /// # Shapes
    /// `[1 or K, B, input]` to `[B, K]`.
    ///
    /// # Panics
    /// When the input has another width.
    pub fn forward_train(&self, input: Tensor<B, 3>, key: DropoutKey) -> Tensor<B, 2> {
        let x = input.dims();
        let w = self.layers.first().map_or(&self.output, |layer| &layer.linear).weight.dims();
        let fits = x[2] == w[1] && (x[0] == 1 || x[0] == w[0]);
        assert!(fits, "input {x:?} does not fit the weights {w:?}");
        self.run(TowersInput::Values(primitive(input)), x[1], key)
    }

    /// The same on rows of the table: the first layer pools what it reads.
    ///
    /// # Shapes
    /// `rows [T * U, D]` to `[B, K]`.
    ///
    /// # Panics
    /// When the bags make another width.
    pub fn forward_train_pooled(
        &self,
        rows: Tensor<B, 2>,
        bags: InputBags<FloatTensor<B>, Indices<B>>,
        key: DropoutKey,
    ) -> Tensor<B, 2> {
        let batch_rows = bags.own.rows;
        self.run(TowersInput::Rows(primitive(rows), Box::new(bags)), batch_rows, key)
    }

    /// The same on what was pooled, where groups of rows share features.
    ///
    /// # Shapes
    /// To `[B, K]`.
    ///
    /// # Panics
    /// When the input has another width, or its bags have no groups.
    pub fn forward_train_grouped(
        &self,
        input: GroupedInput<FloatTensor<B>, Indices<B>>,
        key: DropoutKey,
    ) -> Tensor<B, 2> {
        let batch_rows = input.bags.own.rows;
        self.run(TowersInput::Grouped(Box::new(input)), batch_rows, key)
    }

    fn run(
        &self,
        input: TowersInput<FloatTensor<B>, Indices<B>>,
        rows: usize,
        key: DropoutKey,
    ) -> Tensor<B, 2> {
        let hidden = self.layers.iter().enumerate().map(|(index, layer)| {
            let spec = LayerSpec {
                epsilon: BATCH_NORM_EPSILON,
                activation: self.config.activation,
                dropout: key.layer(index, self.config.dropout[index]),
                precision: self.precision,
            };
            (layer.linear.weights(layer.norm.as_ref(), layer.slope.as_ref()), spec)
        });
        let output = (self.output.weights(None, None), LayerSpec::LINEAR);
        let (layers, specs): (Vec<_>, Vec<_>) = hidden.chain([output]).unzip();
        let norms = || self.layers.iter().map(|layer| layer.norm.as_ref());
        let running = norms().map(|norm| norm.map(|norm| norm.take_running(rows))).collect();
        let found = B::Kernels::towers(TowersOperands { input, layers }, running, &specs);
        for (norm, moved) in norms().zip(found.running) {
            if let Some((norm, moved)) = norm.zip(moved) {
                norm.put_running(moved);
            }
        }
        let Some(LayerOutput { output: logits, .. }) = found.layers.into_iter().last() else {
            panic!("towers without a layer");
        };
        float::<B, 3>(logits).squeeze_dim::<2>(2).transpose()
    }

    /// The same towers, their hidden matmuls in a training computed in another precision.
    ///
    /// # Errors
    /// A precision that the device of the weights does not have; the message names those that it has.
    pub fn with_precision(mut self, precision: Precision) -> Result<Self, EsmmError> {
        let has = B::precisions(&self.output.device());
        if !has.contains(&precision) {
            return Err(precision.missing(&has));
        }
        self.precision = precision;
        Ok(self)
    }

    /// Precision of the hidden matmuls in a training.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The layers for [`Kernels::infer`](crate::backend::Kernels::infer): running statistics folded to a factor and a shift, no dropout.
    pub fn inference_layers(&self) -> Vec<InferenceLayer<FloatTensor<B>>> {
        let output = self.output.inference_layer(None, Activation::None, None);
        let hidden = self.layers.iter().map(|layer| {
            let norm = layer.norm.as_ref();
            let slope = layer.slope.as_ref();
            layer.linear.inference_layer(norm, self.config.activation, slope)
        });
        hidden.chain([output]).collect()
    }

    /// The shape of the towers.
    pub fn config(&self) -> &TowersConfig {
        &self.config
    }
}
