//! Random operands of operations, and the comparison of a kernel with its definition.
//!
//! Tolerance: 1e-5 of the largest expected value. Kernel and reference add in different orders, and where terms
//! cancel a relative error of each single value says nothing. All inputs are of size 1: where even the largest expected
//! value is below 0.01, it is what cancellation left, and 0.01 takes its place.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use esmm_core::backend::LayerSpec;
use esmm_core::backend::random::Dropout;
use esmm_core::{Activation, DropoutKey};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{assert_near, float, primitive, tensor, uniform, values};

/// Runs a generic test on every CPU backend that is compiled in.
macro_rules! on_cpu_backends {
    ($($name:ident),*) => {
        #[cfg(feature = "ndarray")]
        mod ndarray { $(#[test] fn $name() { super::$name::<burn_ndarray::NdArray>(); })* }
        #[cfg(feature = "flex")]
        mod flex { $(#[test] fn $name() { super::$name::<burn_flex::Flex>(); })* }
    };
}
pub(crate) use on_cpu_backends;

/// Largest difference relative to the largest expected value.
pub(crate) const TOLERANCE: f64 = 1e-5;

pub(crate) fn near(what: &str, found: &[f64], expected: &[f64]) {
    near_above(0.01, what, found, expected);
}

pub(crate) fn near_above(floor: f64, what: &str, found: &[f64], expected: &[f64]) {
    let scale = expected.iter().fold(floor, |scale, value| scale.max(value.abs()));
    assert_near(what, found, expected, TOLERANCE * scale, 0.0);
}

pub(crate) fn flat<B: Backend>(primitive: &FloatTensor<B>) -> Vec<f64> {
    let tensor = float::<B, 1>(B::float_reshape(primitive.clone(), [len::<B>(primitive)].into()));
    values(tensor)
}

pub(crate) fn len<B: Backend>(primitive: &FloatTensor<B>) -> usize {
    use burn::tensor::TensorMetadata;
    primitive.shape().num_elements()
}

pub(crate) fn random<B: Backend, const D: usize>(seed: u64, shape: [usize; D]) -> FloatTensor<B> {
    primitive(tensor::<B, D>(&uniform(seed, shape.iter().product()), shape))
}

/// A random layer.
pub(crate) fn spec(rng: &mut ChaCha8Rng) -> LayerSpec {
    let activations = [
        Activation::None,
        Activation::Relu,
        Activation::LeakyRelu { negative_slope: 0.1 },
        Activation::Prelu,
    ];
    let dropout: Option<Dropout> = DropoutKey { seed: rng.random(), step: rng.random() }
        .layer(2, [0.0, 0.3, 0.9][rng.random_range(0..3)]);
    LayerSpec {
        batch_norm: rng.random(),
        epsilon: 1e-5,
        activation: activations[rng.random_range(0..4)],
        dropout,
        ..LayerSpec::LINEAR
    }
}
