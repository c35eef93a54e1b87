//! Kernels and their definitions side by side, in whatever runs on them: a test, or a whole training.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::TensorMetadata;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;

use super::reference::float;
use super::{
    Bags, Blend, FirstLayer, FirstLayerGrads, Indices, InferenceLayer, InputBags, Kernels, Layer,
    LayerOutput, LayerSaved, LayerSpec, LayerWeights, Moments, Norm, Reference, RowUpdate, WeightUpdate,
    WithGrad, WithMoments,
};
use crate::precision::Precision;

/// The kernels K, and while [`compare_kernels`] is on the [`Reference`] beside each of them on the same operands.
///
/// # Panics
/// While it is on, where the results differ: the message names the operation and the result.
#[derive(Debug)]
pub struct Compared<K>(PhantomData<K>);

static IS_ON: AtomicBool = AtomicBool::new(false);

/// Largest norm of a difference, relative to that of the expected values. Rounding stays far below; so do the few
/// elements of a batch for which it decides on which side of an activation's kink they lie.
const TOLERANCE: f64 = 5e-3;

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

fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

fn values<B: Backend>(tensor: &FloatTensor<B>) -> Vec<f64> {
    let len = tensor.shape().num_elements();
    float::<B, 1>(B::float_reshape(tensor.clone(), [len].into())).into_data().iter::<f64>().collect()
}

/// # Panics
/// When the values differ by more than rounding explains.
fn same<B: Backend>(
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
fn tolerance(spec: LayerSpec) -> f64 {
    match spec.precision {
        Precision::F32 => TOLERANCE,
        Precision::Tf32 | Precision::F16 => 2.0 * TOLERANCE,
        Precision::Bf16 => 10.0 * TOLERANCE,
    }
}

fn same_output<B: Backend>(
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

fn same_weights<B: Backend>(
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

/// What an update changed: a step is small beside what it changes, so the values alone would hide a wrong one.
fn same_update<B: Backend>(
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

fn same_all<B: Backend, const N: usize>(
    operation: &str,
    found: &[FloatTensor<B>; N],
    expected: &[FloatTensor<B>; N],
) {
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        same::<B>(operation, &format!("result {index}"), TOLERANCE, found, expected);
    }
}

impl<B: Backend, K: Kernels<B>> Kernels<B> for Compared<K> {
    type Saved = K::Saved;

    fn gather_rows(table: FloatTensor<B>, rows: Indices<B>) -> FloatTensor<B> {
        if !is_on() {
            return K::gather_rows(table, rows);
        }
        let expected = <Reference as Kernels<B>>::gather_rows(table.clone(), rows.clone());
        let found = K::gather_rows(table, rows);
        same::<B>("gather_rows", "rows", TOLERANCE, &found, &expected);
        found
    }

    fn first_layer(
        layer: FirstLayer<FloatTensor<B>, Indices<B>>,
        spec: LayerSpec,
    ) -> (LayerOutput<FloatTensor<B>>, Self::Saved) {
        if !is_on() {
            return K::first_layer(layer, spec);
        }
        let (expected, _) = <Reference as Kernels<B>>::first_layer(layer.clone(), spec);
        let (found, own) = K::first_layer(layer, spec);
        same_output::<B>("first_layer", spec, &found, &expected);
        (found, own)
    }

    /// The definition starts from what the kernel saved: near the kink of an activation rounding decides the slope.
    fn first_layer_backward(
        layer: FirstLayer<FloatTensor<B>, Indices<B>>,
        saved: LayerSaved<FloatTensor<B>>,
        own: Self::Saved,
        grad: FloatTensor<B>,
        spec: LayerSpec,
    ) -> FirstLayerGrads<FloatTensor<B>> {
        if !is_on() {
            return K::first_layer_backward(layer, saved, own, grad, spec);
        }
        let (_, reference_own) = <Reference as Kernels<B>>::first_layer(layer.clone(), spec);
        let expected = <Reference as Kernels<B>>::first_layer_backward(
            layer.clone(),
            saved.clone(),
            reference_own,
            grad.clone(),
            spec,
        );
        let found = K::first_layer_backward(layer, saved, own, grad, spec);
        let operation = "first_layer_backward";
        same::<B>(operation, "table", tolerance(spec), &found.table, &expected.table);
        same_weights::<B>(operation, spec, &found.weights, &expected.weights);
        found
    }

    fn layer(layer: Layer<FloatTensor<B>>, spec: LayerSpec) -> LayerOutput<FloatTensor<B>> {
        if !is_on() {
            return K::layer(layer, spec);
        }
        let expected = <Reference as Kernels<B>>::layer(layer.clone(), spec);
        let found = K::layer(layer, spec);
        same_output::<B>("layer", spec, &found, &expected);
        found
    }

    fn layer_backward(
        layer: Layer<FloatTensor<B>>,
        saved: LayerSaved<FloatTensor<B>>,
        grad: FloatTensor<B>,
        spec: LayerSpec,
    ) -> Layer<FloatTensor<B>> {
        if !is_on() {
            return K::layer_backward(layer, saved, grad, spec);
        }
        let expected =
            <Reference as Kernels<B>>::layer_backward(layer.clone(), saved.clone(), grad.clone(), spec);
        let found = K::layer_backward(layer, saved, grad, spec);
        same::<B>("layer_backward", "input", tolerance(spec), &found.input, &expected.input);
        same_weights::<B>("layer_backward", spec, &found.weights, &expected.weights);
        found
    }

    fn blend(blends: Vec<Blend<FloatTensor<B>>>) -> Vec<FloatTensor<B>> {
        if !is_on() {
            return K::blend(blends);
        }
        let expected = <Reference as Kernels<B>>::blend(blends.clone());
        let found = K::blend(blends);
        assert_eq!(found.len(), expected.len(), "blend: number of statistics");
        for (found, expected) in found.iter().zip(&expected) {
            same::<B>("blend", "statistics", TOLERANCE, found, expected);
        }
        found
    }

    fn fold_norm(
        bias: FloatTensor<B>,
        norm: Norm<FloatTensor<B>>,
        running: Moments<FloatTensor<B>>,
        epsilon: f64,
    ) -> [FloatTensor<B>; 2] {
        if !is_on() {
            return K::fold_norm(bias, norm, running, epsilon);
        }
        let expected =
            <Reference as Kernels<B>>::fold_norm(bias.clone(), norm.clone(), running.clone(), epsilon);
        let found = K::fold_norm(bias, norm, running, epsilon);
        same_all::<B, 2>("fold_norm", &found, &expected);
        found
    }

    fn infer(
        table: FloatTensor<B>,
        bags: InputBags<FloatTensor<B>, Indices<B>>,
        layers: Vec<InferenceLayer<FloatTensor<B>>>,
    ) -> FloatTensor<B> {
        if !is_on() {
            return K::infer(table, bags, layers);
        }
        let expected = <Reference as Kernels<B>>::infer(table.clone(), bags.clone(), layers.clone());
        let found = K::infer(table, bags, layers);
        same::<B>("infer", "logits", TOLERANCE, &found, &expected);
        found
    }

    fn funnel_logs(logits: FloatTensor<B>) -> [FloatTensor<B>; 2] {
        if !is_on() {
            return K::funnel_logs(logits);
        }
        let expected = <Reference as Kernels<B>>::funnel_logs(logits.clone());
        let found = K::funnel_logs(logits);
        same_all::<B, 2>("funnel_logs", &found, &expected);
        found
    }

    fn funnel_probs(logits: FloatTensor<B>) -> [FloatTensor<B>; 3] {
        if !is_on() {
            return K::funnel_probs(logits);
        }
        let expected = <Reference as Kernels<B>>::funnel_probs(logits.clone());
        let found = K::funnel_probs(logits);
        same_all::<B, 3>("funnel_probs", &found, &expected);
        found
    }

    fn funnel_loss(logits: FloatTensor<B>, reached: FloatTensor<B>) -> FloatTensor<B> {
        if !is_on() {
            return K::funnel_loss(logits, reached);
        }
        let expected = <Reference as Kernels<B>>::funnel_loss(logits.clone(), reached.clone());
        let found = K::funnel_loss(logits, reached);
        same::<B>("funnel_loss", "losses", TOLERANCE, &found, &expected);
        found
    }

    fn funnel_loss_backward(
        logits: FloatTensor<B>,
        reached: FloatTensor<B>,
        grad: FloatTensor<B>,
    ) -> FloatTensor<B> {
        if !is_on() {
            return K::funnel_loss_backward(logits, reached, grad);
        }
        let expected =
            <Reference as Kernels<B>>::funnel_loss_backward(logits.clone(), reached.clone(), grad.clone());
        let found = K::funnel_loss_backward(logits, reached, grad);
        same::<B>("funnel_loss_backward", "logits", TOLERANCE, &found, &expected);
        found
    }

    fn update_rows(
        table: WithMoments<FloatTensor<B>>,
        rows: Indices<B>,
        grads: FloatTensor<B>,
        update: RowUpdate,
    ) -> WithMoments<FloatTensor<B>> {
        if !is_on() {
            return K::update_rows(table, rows, grads, update);
        }
        let before = table.clone();
        let expected =
            <Reference as Kernels<B>>::update_rows(table.clone(), rows.clone(), grads.clone(), update);
        let found = K::update_rows(table, rows, grads, update);
        same_update::<B>("update_rows", &before, &found, &expected);
        found
    }

    fn pool(table: FloatTensor<B>, bags: Bags<FloatTensor<B>, Indices<B>>) -> FloatTensor<B> {
        if !is_on() {
            return K::pool(table, bags);
        }
        let expected = <Reference as Kernels<B>>::pool(table.clone(), bags.clone());
        let found = K::pool(table, bags);
        same::<B>("pool", "output", TOLERANCE, &found, &expected);
        found
    }

    fn row_grads(
        bags: Bags<FloatTensor<B>, Indices<B>>,
        grad: FloatTensor<B>,
        num_rows: usize,
    ) -> FloatTensor<B> {
        if !is_on() {
            return K::row_grads(bags, grad, num_rows);
        }
        let expected = <Reference as Kernels<B>>::row_grads(bags.clone(), grad.clone(), num_rows);
        let found = K::row_grads(bags, grad, num_rows);
        same::<B>("row_grads", "rows", TOLERANCE, &found, &expected);
        found
    }

    fn update_pooled(
        table: WithMoments<FloatTensor<B>>,
        bags: Bags<FloatTensor<B>, Indices<B>>,
        grad: FloatTensor<B>,
        update: RowUpdate,
    ) -> WithMoments<FloatTensor<B>> {
        if !is_on() {
            return K::update_pooled(table, bags, grad, update);
        }
        let before = table.clone();
        let expected =
            <Reference as Kernels<B>>::update_pooled(table.clone(), bags.clone(), grad.clone(), update);
        let found = K::update_pooled(table, bags, grad, update);
        same_update::<B>("update_pooled", &before, &found, &expected);
        found
    }

    fn update_weights(
        weights: Vec<WithGrad<FloatTensor<B>>>,
        update: WeightUpdate,
    ) -> Vec<WithMoments<FloatTensor<B>>> {
        if !is_on() {
            return K::update_weights(weights, update);
        }
        let before = weights.clone();
        let expected = <Reference as Kernels<B>>::update_weights(weights.clone(), update);
        let found = K::update_weights(weights, update);
        assert_eq!(found.len(), expected.len(), "update_weights: number of weights");
        for ((before, found), expected) in before.iter().zip(&found).zip(&expected) {
            same_update::<B>("update_weights", &before.weight, found, expected);
        }
        found
    }
}
