//! The towers: MLPs of one shape, their weights stacked, one logit each.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData, TensorPrimitive, backend::Backend};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::backend::random::{Dropout, DropoutKey};
use crate::backend::{BlockInput, BlockSpec, EsmmBackend, reference};
use crate::error::EsmmError;
use crate::init;
use crate::state::StateTensor;

/// Added to a variance before its root, as in PyTorch.
pub(crate) const BATCH_NORM_EPSILON: f64 = 1e-5;
/// Share of a batch's statistics in the running ones, as in PyTorch.
pub(crate) const BATCH_NORM_MOMENTUM: f64 = 0.1;
/// First slope of a PReLU, as in PyTorch.
pub(crate) const PRELU_SLOPE: f64 = 0.25;

/// The function behind each hidden product.
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
    /// Whether hidden layers have a batch norm, between product and activation.
    pub batch_norm: bool,
    /// One dropout probability a hidden layer, in `[0, 1)`.
    pub dropout: Vec<f64>,
}

/// Stacked towers: tower k gives the logit of stage k.
#[derive(Module, Debug)]
pub struct Towers<B: Backend> {
    /// The hidden layers.
    pub layers: Vec<TowerLayer<B>>,
    /// The product that gives the logits, `[K, last, 1]`.
    pub output: StackedLinear<B>,
    #[module(skip)]
    config: TowersConfig,
}

/// One hidden layer of all towers: product, batch norm, activation, dropout.
#[derive(Module, Debug)]
pub struct TowerLayer<B: Backend> {
    /// The product.
    pub linear: StackedLinear<B>,
    /// The batch norm, if there is one.
    pub norm: Option<StackedBatchNorm<B>>,
    /// Slopes of the PReLU, `[K]`, if there is one.
    pub slope: Option<Param<Tensor<B, 1>>>,
}

/// `x * W + b` of all towers.
#[derive(Module, Debug)]
pub struct StackedLinear<B: Backend> {
    /// `[K, in, out]`.
    pub weight: Param<Tensor<B, 3>>,
    /// `[K, out]`.
    pub bias: Param<Tensor<B, 2>>,
}

/// Batch norm of all towers.
#[derive(Module, Debug)]
pub struct StackedBatchNorm<B: Backend> {
    /// Scale, `[K, H]`.
    pub gamma: Param<Tensor<B, 2>>,
    /// Shift, `[K, H]`.
    pub beta: Param<Tensor<B, 2>>,
    /// Running mean, `[K, H]`.
    pub running_mean: StateTensor<B, 2>,
    /// Running variance, unbiased as in PyTorch, `[K, H]`.
    pub running_variance: StateTensor<B, 2>,
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
        if self.dropout.len() != self.hidden.len() {
            let allowed = format!("one probability for each of the {} hidden layers", self.hidden.len());
            return error("towers.dropout", format!("{:?}", self.dropout), &allowed);
        }
        if self.dropout.iter().any(|p| !(0.0..1.0).contains(p)) {
            return error("towers.dropout", format!("{:?}", self.dropout), "probabilities must be in [0, 1)");
        }
        Ok(())
    }

    /// `towers` towers that read `input` values, with the first values of PyTorch's `Linear` and `BatchNorm1d`.
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
        Towers { layers, output, config: self.clone() }
    }
}

impl<B: EsmmBackend> Towers<B> {
    /// Logits for inference: running statistics, no dropout.
    ///
    /// # Shapes
    /// `[1 or K, B, input]` to `[B, K]`.
    pub fn forward(&self, input: Tensor<B, 3>) -> Tensor<B, 2> {
        let hidden =
            self.layers.iter().fold(input, |hidden, layer| layer.forward(hidden, self.config.activation));
        stack_logits(self.output.forward(hidden))
    }

    /// Logits for training: batch statistics, which also move the running ones, and dropout by `key`.
    ///
    /// # Shapes
    /// `[1 or K, B, input]` to `[B, K]`.
    pub fn forward_train(&self, input: Tensor<B, 3>, key: DropoutKey) -> Tensor<B, 2> {
        let mut hidden = input;
        for (index, layer) in self.layers.iter().enumerate() {
            let dropout = key.layer(index, self.config.dropout[index]);
            hidden = layer.forward_train(hidden, self.config.activation, dropout);
        }
        stack_logits(self.output.forward(hidden))
    }

    /// The shape of the towers.
    pub fn config(&self) -> &TowersConfig {
        &self.config
    }
}

impl<B: EsmmBackend> TowerLayer<B> {
    fn forward(&self, input: Tensor<B, 3>, activation: Activation) -> Tensor<B, 3> {
        let (weight, bias) = match &self.norm {
            Some(norm) => norm.fold(self.linear.weight.val(), self.linear.bias.val()),
            None => (self.linear.weight.val(), self.linear.bias.val()),
        };
        let hidden = linear(input, weight, bias);
        let slope = self.slope(&hidden.device());
        reference::activate(hidden, slope, activation)
    }

    fn forward_train(
        &self,
        input: Tensor<B, 3>,
        activation: Activation,
        dropout: Option<Dropout>,
    ) -> Tensor<B, 3> {
        let hidden = self.linear.forward(input);
        let (rows, device) = (hidden.dims()[1], hidden.device());
        let unused = || Tensor::<B, 2>::zeros([1, 1], &device);
        let (gamma, beta) = match &self.norm {
            Some(norm) => (norm.gamma.val(), norm.beta.val()),
            None => (unused(), unused()),
        };
        let input = BlockInput {
            hidden: hidden.into_primitive().tensor(),
            gamma: gamma.into_primitive().tensor(),
            beta: beta.into_primitive().tensor(),
            slope: self.slope(&device).into_primitive().tensor(),
        };
        let batch_norm = self.norm.is_some();
        let spec = BlockSpec { batch_norm, epsilon: BATCH_NORM_EPSILON, activation, dropout };
        let block = B::tower_block(input, spec);
        if let Some(norm) = &self.norm {
            norm.observe(float(block.mean), float(block.variance), rows);
        }
        float(block.output)
    }

    fn slope(&self, device: &B::Device) -> Tensor<B, 1> {
        self.slope.as_ref().map_or_else(|| Tensor::zeros([1], device), |slope| slope.val())
    }
}

impl<B: Backend> StackedLinear<B> {
    fn init(towers: usize, input: usize, output: usize, rng: &mut ChaCha8Rng, device: &B::Device) -> Self {
        let bound = 1.0 / (input as f64).sqrt();
        let weight = init::uniform(rng, towers * input * output, bound);
        let bias = init::uniform(rng, towers * output, bound);
        Self {
            weight: Param::from_data(TensorData::new(weight, [towers, input, output]), device),
            bias: Param::from_data(TensorData::new(bias, [towers, output]), device),
        }
    }
}

impl<B: EsmmBackend> StackedLinear<B> {
    /// # Shapes
    /// `[1 or K, B, in]` to `[K, B, out]`.
    ///
    /// # Panics
    /// When the input has another width.
    pub fn forward(&self, input: Tensor<B, 3>) -> Tensor<B, 3> {
        linear(input, self.weight.val(), self.bias.val())
    }
}

impl<B: Backend> StackedBatchNorm<B> {
    fn init(towers: usize, hidden: usize, device: &B::Device) -> Self {
        let ones = || Tensor::ones([towers, hidden], device);
        let zeros = || Tensor::zeros([towers, hidden], device);
        Self {
            gamma: Param::from_tensor(ones()),
            beta: Param::from_tensor(zeros()),
            running_mean: StateTensor::new(zeros()),
            running_variance: StateTensor::new(ones()),
        }
    }

    /// The product before it with this batch norm's running statistics folded in.
    fn fold(&self, weight: Tensor<B, 3>, bias: Tensor<B, 2>) -> (Tensor<B, 3>, Tensor<B, 2>) {
        let scale = self.gamma.val() / (self.running_variance.value() + BATCH_NORM_EPSILON).sqrt();
        let bias = (bias - self.running_mean.value()) * scale.clone() + self.beta.val();
        (weight * scale.unsqueeze_dim(1), bias)
    }

    /// Moves the running statistics towards those of a batch of `rows` rows.
    fn observe(&self, mean: Tensor<B, 2>, variance: Tensor<B, 2>, rows: usize) {
        let unbiased = if rows > 1 { rows as f64 / (rows - 1) as f64 } else { 1.0 };
        let keep = 1.0 - BATCH_NORM_MOMENTUM;
        self.running_mean.update(|old| old * keep + mean.detach() * BATCH_NORM_MOMENTUM);
        self.running_variance.update(|old| old * keep + variance.detach() * (BATCH_NORM_MOMENTUM * unbiased));
    }
}

fn linear<B: EsmmBackend>(input: Tensor<B, 3>, weight: Tensor<B, 3>, bias: Tensor<B, 2>) -> Tensor<B, 3> {
    let (x, w) = (input.dims(), weight.dims());
    assert!(x[2] == w[1] && (x[0] == 1 || x[0] == w[0]), "input {x:?} does not fit the weights {w:?}");
    let [input, weight] = [input, weight].map(|tensor| tensor.into_primitive().tensor());
    float(B::stacked_linear(input, weight, bias.into_primitive().tensor()))
}

/// `[K, B, 1]` to `[B, K]`.
fn stack_logits<B: Backend>(logits: Tensor<B, 3>) -> Tensor<B, 2> {
    logits.squeeze_dim::<2>(2).transpose()
}

fn float<B: Backend, const D: usize>(tensor: burn::tensor::ops::FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(tensor))
}
