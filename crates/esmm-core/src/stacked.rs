//! The parts of a layer of all towers: matmul and batch norm, their weights stacked.

use burn::module::{Module, Param};
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorData, TensorPrimitive, backend::Backend};
use rand_chacha::ChaCha8Rng;

use crate::backend::{EsmmBackend, InferenceLayer, Kernels, LayerWeights, Moments, Norm, Running};
use crate::init;
use crate::state::StateTensor;
use crate::tower::{Activation, BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM};

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
    /// What [`Kernels::towers`] is told about a layer.
    pub(crate) fn weights(
        &self,
        norm: Option<&StackedBatchNorm<B>>,
        slope: Option<&Param<Tensor<B, 1>>>,
    ) -> LayerWeights<FloatTensor<B>> {
        LayerWeights {
            weight: primitive(self.weight.val()),
            bias: primitive(self.bias.val()),
            norm: norm.map(StackedBatchNorm::learned),
            slope: slope.map(|slope| primitive(slope.val())),
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

    /// The running statistics, taken out for a step on a batch of `rows` rows: until
    /// [`put_running`](Self::put_running) they are lost.
    pub(crate) fn take_running(&self, rows: usize) -> Running<FloatTensor<B>> {
        let unbiased = if rows > 1 { rows as f64 / (rows - 1) as f64 } else { 1.0 };
        Running {
            old: Moments {
                mean: primitive(self.running_mean.take()),
                variance: primitive(self.running_variance.take()),
            },
            keep: 1.0 - BATCH_NORM_MOMENTUM,
            take_mean: BATCH_NORM_MOMENTUM,
            take_variance: BATCH_NORM_MOMENTUM * unbiased,
        }
    }

    /// The running statistics after the step.
    pub(crate) fn put_running(&self, moved: Moments<FloatTensor<B>>) {
        self.running_mean.put(float(moved.mean));
        self.running_variance.put(float(moved.variance));
    }
}

pub(crate) fn float<B: Backend, const D: usize>(tensor: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(tensor))
}

pub(crate) fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}
