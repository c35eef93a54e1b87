//! The parts of a layer of all towers: matmul and batch norm, their weights stacked.

use burn::module::{Module, Param};
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorData, TensorPrimitive, backend::Backend};
use rand_chacha::ChaCha8Rng;

use crate::backend::{
    Blend, EsmmBackend, FirstLayer, Indices, InferenceLayer, InputBags, Kernels, Layer, LayerOutput,
    LayerSpec, LayerWeights, Moments, Norm,
};
use crate::init;
use crate::state::StateTensor;
use crate::tower::{Activation, BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM};

/// What a layer reads.
pub(crate) enum TowerInput<B: Backend> {
    /// `[1 or K, B, I]`.
    Tensor(Tensor<B, 3>),
    /// Rows of the table, `[T * U, D]`, and how they are pooled.
    Rows(Tensor<B, 2>, Box<InputBags<FloatTensor<B>, Indices<B>>>),
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
            Self::Rows(_, bags) => bags.own.rows,
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
    /// # Panics
    /// When an input tensor does not fit the weights.
    pub(crate) fn layer(
        &self,
        input: TowerInput<B>,
        norm: Option<&StackedBatchNorm<B>>,
        slope: Option<&Param<Tensor<B, 1>>>,
        spec: LayerSpec,
    ) -> LayerOutput<FloatTensor<B>> {
        let weights = LayerWeights {
            weight: primitive(self.weight.val()),
            bias: primitive(self.bias.val()),
            norm: norm.map(StackedBatchNorm::learned),
            slope: slope.map(|slope| primitive(slope.val())),
        };
        match input {
            TowerInput::Tensor(input) => {
                let x = input.dims();
                let w = self.weight.dims();
                let fits = x[2] == w[1] && (x[0] == 1 || x[0] == w[0]);
                assert!(fits, "input {x:?} does not fit the weights {w:?}");
                B::Kernels::layer(Layer { input: primitive(input), weights }, spec)
            }
            TowerInput::Rows(table, bags) => {
                let (output, _) = B::Kernels::first_layer(
                    FirstLayer { table: primitive(table), bags: *bags, weights },
                    spec,
                );
                output
            }
        }
    }

    pub(crate) fn inference_layer(
        &self,
        norm: Option<&StackedBatchNorm<B>>,
        activation: Activation,
        slope: Option<&Param<Tensor<B, 1>>>,
    ) -> InferenceLayer<FloatTensor<B>> {
        let bias = primitive(self.bias.val());
        let (scale, shift) = match norm {
            Some(norm) => {
                let running = Moments {
                    mean: primitive(norm.running_mean.value()),
                    variance: primitive(norm.running_variance.value()),
                };
                let [scale, shift] = B::Kernels::fold_norm(bias, norm.learned(), running, BATCH_NORM_EPSILON);
                (Some(scale), shift)
            }
            None => (None, bias),
        };
        InferenceLayer {
            weight: primitive(self.weight.val()),
            scale,
            shift,
            activation,
            slope: slope.map(|slope| primitive(slope.val())),
        }
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
    fn learned(&self) -> Norm<FloatTensor<B>> {
        Norm { gamma: primitive(self.gamma.val()), beta: primitive(self.beta.val()) }
    }

    /// Moves running statistics towards those of a batch of `rows` rows, all of a step at once.
    pub(crate) fn move_all(norms: Vec<(&Self, Moments<FloatTensor<B>>)>, rows: usize) {
        let unbiased = if rows > 1 { rows as f64 / (rows - 1) as f64 } else { 1.0 };
        let keep = 1.0 - BATCH_NORM_MOMENTUM;
        let mut states = Vec::new();
        let mut blends = Vec::new();
        for (norm, Moments { mean, variance }) in norms {
            let steps = [
                (&norm.running_mean, mean, BATCH_NORM_MOMENTUM),
                (&norm.running_variance, variance, BATCH_NORM_MOMENTUM * unbiased),
            ];
            for (state, new, take) in steps {
                blends.push(Blend { old: primitive(state.take()), new, keep, take });
                states.push(state);
            }
        }
        for (state, moved) in states.into_iter().zip(B::Kernels::blend(blends)) {
            state.put(float(moved));
        }
    }
}

pub(crate) fn float<B: Backend, const D: usize>(tensor: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(tensor))
}

pub(crate) fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}
