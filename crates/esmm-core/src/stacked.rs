//! The parts of a layer of all towers: product and batch norm, their weights stacked.

use burn::module::{Module, Param};
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorData, TensorPrimitive, backend::Backend};
use rand_chacha::ChaCha8Rng;

use crate::backend::{
    EsmmBackend, InferenceLayer, InputPlan, LayerInput, LayerOutput, LayerSaved, LayerSpec, NormInput,
    PooledInput, PooledOutput,
};
use crate::init;
use crate::state::StateTensor;
use crate::tower::{Activation, BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM};

/// What a layer reads.
pub(crate) enum TowerInput<B: Backend> {
    /// `[1 or K, B, I]`.
    Tensor(Tensor<B, 3>),
    /// Rows of the table, `[T * U, D]`, and how they are pooled.
    Rows(Tensor<B, 2>, InputPlan<B>),
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

impl<B: Backend> TowerInput<B> {
    /// Rows of the batch, B.
    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::Tensor(input) => input.dims()[1],
            Self::Rows(_, plan) => plan.own.rows,
        }
    }
}

impl<B: Backend> StackedLinear<B> {
    pub(crate) fn init(
        towers: usize,
        input: usize,
        output: usize,
        rng: &mut ChaCha8Rng,
        device: &B::Device,
    ) -> Self {
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
    pub(crate) fn layer(
        &self,
        input: TowerInput<B>,
        norm: Option<&StackedBatchNorm<B>>,
        slope: Option<&Param<Tensor<B, 1>>>,
        spec: LayerSpec,
    ) -> LayerOutput<B> {
        let (weight, bias) = (primitive(self.weight.val()), primitive(self.bias.val()));
        let (gamma, beta) = match norm {
            Some(norm) => (primitive(norm.gamma.val()), primitive(norm.beta.val())),
            None => (self.unused(), self.unused()),
        };
        let slope = slope.map_or_else(|| self.unused(), |slope| primitive(slope.val()));
        match input {
            TowerInput::Tensor(input) => {
                let (x, w) = (input.dims(), self.weight.dims());
                let fits = x[2] == w[1] && (x[0] == 1 || x[0] == w[0]);
                assert!(fits, "input {x:?} does not fit the weights {w:?}");
                let input = primitive(input);
                B::tower_layer(LayerInput { input, weight, bias, gamma, beta, slope }, spec)
            }
            TowerInput::Rows(table, plan) => {
                let table = primitive(table);
                let input = PooledInput { table, plan, weight, bias, gamma, beta, slope };
                let PooledOutput { output, saved } = B::pooled_layer(input, spec);
                LayerOutput { output, saved: saved.layer }
            }
        }
    }

    pub(crate) fn inference_layer(
        &self,
        norm: Option<&StackedBatchNorm<B>>,
        activation: Activation,
        slope: Option<&Param<Tensor<B, 1>>>,
    ) -> InferenceLayer<B> {
        let bias = primitive(self.bias.val());
        let (scale, shift) = match norm {
            Some(norm) => {
                let norm = NormInput {
                    bias,
                    gamma: primitive(norm.gamma.val()),
                    beta: primitive(norm.beta.val()),
                    mean: primitive(norm.running_mean.value()),
                    variance: primitive(norm.running_variance.value()),
                };
                let [scale, shift] = B::fold_norm(norm, BATCH_NORM_EPSILON);
                (Some(scale), shift)
            }
            None => (None, bias),
        };
        InferenceLayer {
            weight: primitive(self.weight.val()),
            scale,
            shift,
            activation,
            slope: slope.map_or_else(|| self.unused(), |slope| primitive(slope.val())),
        }
    }

    /// Stands for a tensor that is not read: one that is there anyway, outside of the graph. A new one would be a launch.
    fn unused(&self) -> FloatTensor<B> {
        primitive(self.bias.val().detach())
    }

    pub(crate) fn device(&self) -> B::Device {
        self.weight.val().device()
    }
}

impl<B: Backend> StackedBatchNorm<B> {
    pub(crate) fn init(towers: usize, hidden: usize, device: &B::Device) -> Self {
        let ones = || Tensor::ones([towers, hidden], device);
        let zeros = || Tensor::zeros([towers, hidden], device);
        Self {
            gamma: Param::from_tensor(ones()),
            beta: Param::from_tensor(zeros()),
            running_mean: StateTensor::new(zeros()),
            running_variance: StateTensor::new(ones()),
        }
    }
}

impl<B: EsmmBackend> StackedBatchNorm<B> {
    /// Moves the running statistics towards those of a batch of `rows` rows.
    pub(crate) fn observe(&self, saved: &LayerSaved<B>, rows: usize) {
        let unbiased = if rows > 1 { rows as f64 / (rows - 1) as f64 } else { 1.0 };
        let keep = 1.0 - BATCH_NORM_MOMENTUM;
        let moved = |old: Tensor<B, 2>, new: FloatTensor<B>, take: f64| {
            float(B::blend(primitive(old), new, [keep, take]))
        };
        self.running_mean.update(|old| moved(old, saved.mean.clone(), BATCH_NORM_MOMENTUM));
        self.running_variance
            .update(|old| moved(old, saved.variance.clone(), BATCH_NORM_MOMENTUM * unbiased));
    }
}

pub(crate) fn float<B: Backend, const D: usize>(tensor: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(tensor))
}

pub(crate) fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}
