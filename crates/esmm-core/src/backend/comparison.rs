//! Results of a kernel beside those of its definition, and the switch that has them compared.

use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::TensorMetadata;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;

use super::reference::float;
use super::{LayerOutput, LayerSpec, LayerWeights, Pooled, WithMoments};
use crate::precision::Precision;

static IS_ON: AtomicBool = AtomicBool::new(false);

/// Largest norm of a difference, relative to that of the expected values. Rounding stays far below; so do the few
/// elements of a batch for which it decides on which side of an activation's kink they lie.
pub(super) const TOLERANCE: f64 = 5e-3;

/// Switches the comparison on or off for the whole process. It is slow: every operation runs twice, and waits for its
/// device.
///
/// # Examples
/// ```
/// use burn_ndarray::NdArray;
/// use esmm_core::{EsmmConfig, Feature, FeatureSchema, Side, backend};
///
/// # fn main() -> Result<(), esmm_core::EsmmError> {
/// backend::compare_kernels(true);
/// let schema = FeatureSchema::new(vec![Feature::sparse("user", Side::User, 1000)])?;
/// let model = EsmmConfig::new(schema).init::<NdArray>(&Default::default())?;
/// // What this model computes now is checked against the definitions.
/// # let _ = model;
/// backend::compare_kernels(false);
/// # Ok(())
/// # }
/// ```
pub fn compare_kernels(on: bool) {
    IS_ON.store(on, Ordering::Relaxed);
}

/// Whether it is on.
pub(super) fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

fn values<B: Backend>(tensor: &FloatTensor<B>) -> Vec<f64> {
    let len = tensor.shape().num_elements();
    float::<B, 1>(B::float_reshape(tensor.clone(), [len].into())).into_data().iter::<f64>().collect()
}

/// One result.
///
/// # Panics
/// When the values differ by more than rounding explains; the others as well.
pub(super) fn same<B: Backend>(
    operation: &str,
    result: &str,
    tolerance: f64,
    found: &FloatTensor<B>,
    expected: &FloatTensor<B>,
) {
    let shape = found.shape();
    let expected_shape = expected.shape();
    assert_eq!(shape, expected_shape, "{operation}: shapes of {result} from kernel and definition");
    let found = values::<B>(found);
    let expected = values::<B>(expected);
    let mut difference = 0.0;
    let mut size = 0.0;
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        if found.is_finite() && expected.is_finite() {
            difference += (found - expected).powi(2);
            size += expected.powi(2);
        } else {
            let agree = found.is_nan() == expected.is_nan() && (found.is_nan() || found == expected);
            assert!(
                agree,
                "{operation}: {result}[{index}] is {found} by the kernel and {expected} by definition"
            );
        }
    }
    let difference = difference.sqrt();
    let size = size.sqrt();
    assert!(
        difference <= tolerance * size + 1e-12,
        "{operation}: {result} differs by {difference:e} from its definition, whose norm is {size:e}"
    );
}

/// What a layer's matmuls may be off by, in this precision.
pub(super) fn tolerance(spec: LayerSpec) -> f64 {
    match spec.precision {
        Precision::F32 => TOLERANCE,
        Precision::Tf32 | Precision::F16 => 2.0 * TOLERANCE,
        Precision::Bf16 => 10.0 * TOLERANCE,
    }
}

/// What a layer returned.
pub(super) fn same_output<B: Backend>(
    operation: &str,
    spec: LayerSpec,
    found: &LayerOutput<FloatTensor<B>>,
    expected: &LayerOutput<FloatTensor<B>>,
) {
    let tolerance = tolerance(spec);
    same::<B>(operation, "output", tolerance, &found.output, &expected.output);
    same::<B>(operation, "hidden", tolerance, &found.saved.hidden, &expected.saved.hidden);
    match (&found.saved.moments, &expected.saved.moments) {
        (Some(found), Some(expected)) => {
            same::<B>(operation, "mean", tolerance, &found.mean, &expected.mean);
            same::<B>(operation, "variance", tolerance, &found.variance, &expected.variance);
        }
        (None, None) => {}
        (found, expected) => {
            let found = found.is_some();
            let expected = expected.is_some();
            panic!("{operation}: moments by the kernel: {found}, by definition: {expected}");
        }
    }
}

/// The gradients of a layer's weights.
pub(super) fn same_weights<B: Backend>(
    operation: &str,
    spec: LayerSpec,
    found: &LayerWeights<FloatTensor<B>>,
    expected: &LayerWeights<FloatTensor<B>>,
) {
    let tolerance = tolerance(spec);
    same::<B>(operation, "weight", tolerance, &found.weight, &expected.weight);
    match (&found.norm, &expected.norm) {
        // A batch norm takes the bias away again: its gradient is 0, or what rounding left of it.
        (Some(found), Some(expected)) => {
            same::<B>(operation, "gamma", tolerance, &found.gamma, &expected.gamma);
            same::<B>(operation, "beta", tolerance, &found.beta, &expected.beta);
        }
        (found_norm, expected_norm) => {
            assert_eq!(
                found_norm.is_some(),
                expected_norm.is_some(),
                "{operation}: gradients of a batch norm"
            );
            same::<B>(operation, "bias", tolerance, &found.bias, &expected.bias);
        }
    }
    assert_eq!(found.slope.is_some(), expected.slope.is_some(), "{operation}: gradients of a slope");
    if let (Some(found), Some(expected)) = (&found.slope, &expected.slope) {
        same::<B>(operation, "slope", tolerance, found, expected);
    }
}

/// What was pooled.
pub(super) fn same_pooled<B: Backend>(
    operation: &str,
    tolerance: f64,
    found: &Pooled<FloatTensor<B>>,
    expected: &Pooled<FloatTensor<B>>,
) {
    same::<B>(operation, "what rows have", tolerance, &found.own, &expected.own);
    assert_eq!(found.shared.is_some(), expected.shared.is_some(), "{operation}: what groups share");
    if let (Some(found), Some(expected)) = (&found.shared, &expected.shared) {
        same::<B>(operation, "what groups share", tolerance, found, expected);
    }
}

/// What an update changed: a step is small beside what it changes, so the values alone would hide a wrong one.
pub(super) fn same_update<B: Backend>(
    operation: &str,
    before: &WithMoments<FloatTensor<B>>,
    found: &WithMoments<FloatTensor<B>>,
    expected: &WithMoments<FloatTensor<B>>,
) {
    assert_eq!(found.moments.len(), expected.moments.len(), "{operation}: number of moments");
    let of = |all: &WithMoments<FloatTensor<B>>| -> Vec<Vec<f64>> {
        std::iter::once(&all.tensor).chain(&all.moments).map(values::<B>).collect()
    };
    for (index, ((before, found), expected)) in of(before).iter().zip(of(found)).zip(of(expected)).enumerate()
    {
        let mut difference = 0.0;
        let mut step = 0.0;
        let mut size = 0.0;
        for ((before, found), expected) in before.iter().zip(found).zip(expected) {
            if expected.is_nan() {
                assert!(found.is_nan(), "{operation}: {found} by the kernel and NaN by definition");
                continue;
            }
            difference += (found - expected).powi(2);
            step += (expected - before).powi(2);
            size += expected.powi(2);
        }
        let [difference, step, size] = [difference, step, size].map(f64::sqrt);
        assert!(
            difference <= TOLERANCE * step + 1e-6 * size,
            "{operation}: tensor {index} differs by {difference:e} from its definition, after a step of {step:e}"
        );
    }
}

/// All results of an operation that has several.
pub(super) fn same_all<B: Backend>(operation: &str, found: &[FloatTensor<B>], expected: &[FloatTensor<B>]) {
    assert_eq!(found.len(), expected.len(), "{operation}: number of results");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        same::<B>(operation, &format!("result {index}"), TOLERANCE, found, expected);
    }
}
