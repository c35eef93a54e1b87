//! Every operation on every backend against its definition on burn-ndarray, at odd shapes.
//!
//! The kernels of the first layer are those of CPUs alone, those of layers with groups those of GPUs alone: the others take
//! the definition.
//!
//! One file an operation: a generator of cases, each of which makes the same operands on any backend, and what is asked
//! of it. `rows.rs` and `weights.rs` hold the definition itself to loops in f64; that of the layers is held to finite
//! differences in `gradients/`, that of the funnel to 50-digit arithmetic in `funnel.rs`.
//!
//! Tolerance: 1e-5 of the largest expected value on CPUs, for sums in other orders; 2e-5 on GPUs, whose exponentials,
//! roots and quotients Vulkan lets be off by a few units in the last place. All inputs are of size 1: where even the
//! largest expected value is below 0.01, it is what cancellation left, and 0.01 takes its place. Where nothing but
//! cancellation is seen (a batch norm over two rows, the one sum that is the gradient of a slope), 1 does.
//!
//! With Mesa's software Vulkan (`mesa-vulkan-drivers`) the tests of wgpu need no GPU.

mod compared;
mod contracts;
mod first_layer;
mod funnel;
mod grouped;
mod infer;
mod layer;
mod nan;
mod padded;
mod pooled;
mod rows;
mod small;
mod threads;
mod towers;
mod weights;

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn_ndarray::NdArray;
use esmm_core::EsmmBackend;
use esmm_core::backend::random::Dropout;
use esmm_core::backend::{FirstLayerGrads, LayerSaved, LayerWeights};
use esmm_core::{Activation, DropoutKey};

use crate::common::{assert_near, flat, moved};

/// Runs a generic test on every backend that is compiled in.
macro_rules! on_all_backends {
    ($($name:ident),*) => {
        mod ndarray { $(#[test] fn $name() { super::$name::<burn_ndarray::NdArray>(); })* }
        #[cfg(feature = "flex")]
        mod flex { $(#[test] fn $name() { super::$name::<burn_flex::Flex>(); })* }
        #[cfg(feature = "wgpu")]
        mod wgpu { $(#[test] fn $name() { super::$name::<burn_wgpu::Wgpu>(); })* }
        #[cfg(feature = "cuda")]
        mod cuda { $(#[test] fn $name() { super::$name::<burn_cuda::Cuda>(); })* }
    };
}
pub(crate) use on_all_backends;

/// The same on the GPU backends alone.
macro_rules! on_gpu_backends {
    ($($name:ident),*) => {
        #[cfg(feature = "wgpu")]
        mod wgpu { $(#[test] fn $name() { super::$name::<burn_wgpu::Wgpu>(); })* }
        #[cfg(feature = "cuda")]
        mod cuda { $(#[test] fn $name() { super::$name::<burn_cuda::Cuda>(); })* }
    };
}
pub(crate) use on_gpu_backends;

/// The same on the CPU backends alone.
macro_rules! on_cpu_backends {
    ($($name:ident),*) => {
        mod ndarray { $(#[test] fn $name() { super::$name::<burn_ndarray::NdArray>(); })* }
        #[cfg(feature = "flex")]
        mod flex { $(#[test] fn $name() { super::$name::<burn_flex::Flex>(); })* }
    };
}
pub(crate) use on_cpu_backends;

/// Where definitions run.
pub(crate) type Expected = NdArray;

/// Rows of a batch. CPUs: one, two, few, around the size of a task (512), three tasks. GPUs: around the size of a chunk
/// (128), and several; fewer and smaller, for the software ones.
pub(crate) fn batch_rows<B: EsmmBackend>() -> &'static [usize] {
    if B::QUEUES_WORK { &[1, 2, 37, 128, 129, 300] } else { &[1, 2, 37, 511, 512, 513, 1100] }
}

/// Largest difference relative to the largest expected value.
pub(crate) fn tolerance<B: EsmmBackend>() -> f64 {
    if B::QUEUES_WORK { 2e-5 } else { 1e-5 }
}

pub(crate) fn near<B: EsmmBackend>(what: &str, found: &FloatTensor<B>, expected: &FloatTensor<Expected>) {
    near_above::<B>(0.01, what, found, expected);
}

pub(crate) fn near_above<B: EsmmBackend>(
    floor: f64,
    what: &str,
    found: &FloatTensor<B>,
    expected: &FloatTensor<Expected>,
) {
    let expected = flat::<Expected>(expected);
    let scale = expected.iter().fold(floor, |scale, value| scale.max(value.abs()));
    assert_near(what, &flat::<B>(found), &expected, tolerance::<B>() * scale, 0.0);
}

/// All activations. A new variant does not compile until it is listed.
pub(crate) fn activations() -> [Activation; 4] {
    let leaky = Activation::LeakyRelu { negative_slope: 0.1 };
    let all = [Activation::None, Activation::Relu, leaky, Activation::Prelu];
    for activation in all {
        match activation {
            Activation::None | Activation::Relu | Activation::LeakyRelu { .. } | Activation::Prelu => {}
        }
    }
    all
}

/// Every activation, with batch norm and without, and with each kind of dropout.
pub(crate) fn blocks() -> Vec<(Activation, bool, Option<Dropout>)> {
    let mut blocks = Vec::new();
    for activation in activations() {
        for batch_norm in [false, true] {
            for (index, probability) in [0.0, 0.3, 0.9].into_iter().enumerate() {
                let key = DropoutKey { seed: 5, step: index as u64 };
                blocks.push((activation, batch_norm, key.layer(2, probability)));
            }
        }
    }
    blocks
}

/// What forward saved, on another backend.
pub(crate) fn moved_saved<B: Backend>(
    saved: &LayerSaved<FloatTensor<Expected>>,
) -> LayerSaved<FloatTensor<B>> {
    saved.clone().map(moved::<Expected, B>)
}

pub(crate) fn near_saved<B: EsmmBackend>(
    what: &dyn Fn(&str) -> String,
    found: &LayerSaved<FloatTensor<B>>,
    expected: &LayerSaved<FloatTensor<Expected>>,
) {
    near::<B>(&what("hidden"), &found.hidden, &expected.hidden);
    assert_eq!(found.moments.is_some(), expected.moments.is_some(), "{}", what("moments"));
    if let Some((found, expected)) = found.moments.as_ref().zip(expected.moments.as_ref()) {
        near::<B>(&what("mean"), &found.mean, &expected.mean);
        near::<B>(&what("variance"), &found.variance, &expected.variance);
    }
}

/// Gradients of weights; `floor` is for those that cancellation may leave nothing of.
pub(crate) fn near_weights<B: EsmmBackend>(
    what: &dyn Fn(&str) -> String,
    floor: f64,
    found: &LayerWeights<FloatTensor<B>>,
    expected: &LayerWeights<FloatTensor<Expected>>,
) {
    near_above::<B>(floor, &what("weight"), &found.weight, &expected.weight);
    assert_eq!(found.norm.is_some(), expected.norm.is_some(), "{}", what("batch norm"));
    match found.norm.as_ref().zip(expected.norm.as_ref()) {
        // A batch norm takes the bias away again: its gradient is 0, of which the definition has the rounding.
        Some((norm, expected_norm)) => {
            let bias = flat::<B>(&found.bias);
            assert!(bias.iter().all(|&grad| grad == 0.0), "{}", what("bias"));
            assert_near(&what("bias"), &bias, &flat::<Expected>(&expected.bias), 1e-3, 0.0);
            near_above::<B>(floor, &what("gamma"), &norm.gamma, &expected_norm.gamma);
            near_above::<B>(floor, &what("beta"), &norm.beta, &expected_norm.beta);
        }
        None => near_above::<B>(floor, &what("bias"), &found.bias, &expected.bias),
    }
    assert_eq!(found.slope.is_some(), expected.slope.is_some(), "{}", what("slope"));
    if let Some((found, expected)) = found.slope.as_ref().zip(expected.slope.as_ref()) {
        near_above::<B>(1.0, &what("slope"), found, expected);
    }
}

pub(crate) fn near_first_layer<B: EsmmBackend>(
    what: &dyn Fn(&str) -> String,
    floor: f64,
    found: &FirstLayerGrads<FloatTensor<B>>,
    expected: &FirstLayerGrads<FloatTensor<Expected>>,
) {
    near_above::<B>(floor, &what("table"), &found.table, &expected.table);
    near_weights::<B>(what, floor, &found.weights, &expected.weights);
}
