//! A layer of all towers, backward: sums over the rows, the gradient of the matmul, two matmuls; then the pieces of all
//! layers' weight gradients are joined.

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;

use super::from_above::FromAbove;
use super::grouped_layer::Split;
use super::hidden_grad::hidden_grad;
use super::join::{Sum, join};
use super::joined_sums;
use super::largest::Gradient;
use super::layer::Columns;
use super::logits::{LogitsShape, LogitsSums, is_logits, logits_backward};
use super::matmul::layer_matmul_backward;
use super::saved::Saved;
use super::sums::{chunk_sums, slope_grad};
use super::tensor::OnCube;
use crate::backend::{Layer, LayerSaved, LayerSpec, LayerWeights};

/// Gradients of the weights of a layer, those of the matmul still in pieces.
#[expect(clippy::large_enum_variant, reason = "there are as many as layers, and none is kept")]
pub(super) enum WeightSums<R: CubeRuntime> {
    Hidden(Sum<R>, Columns<R>),
    /// Of what rows have of their own, and of what groups share.
    Grouped {
        own: Sum<R>,
        shared: Sum<R>,
        split: Split,
        columns: Columns<R>,
    },
    Logits(LogitsSums<R>),
}

/// The gradients of some layers, their pieces joined in one launch.
pub(super) fn join_weights<R: CubeRuntime>(layers: Vec<WeightSums<R>>) -> Vec<LayerWeights<CubeTensor<R>>> {
    /// What is put around the joined sums.
    enum Rest<R: CubeRuntime> {
        Columns(Columns<R>),
        Grouped(Split, Columns<R>),
        Logits(LogitsShape),
    }
    let mut sums = Vec::new();
    let mut rests = Vec::new();
    for layer in layers {
        match layer {
            WeightSums::Hidden(sum, columns) => {
                sums.push(sum);
                rests.push(Rest::Columns(columns));
            }
            WeightSums::Grouped { own, shared, split, columns } => {
                sums.extend([own, shared]);
                rests.push(Rest::Grouped(split, columns));
            }
            WeightSums::Logits(LogitsSums { sum, shape }) => {
                sums.push(sum);
                rests.push(Rest::Logits(shape));
            }
        }
    }
    let mut whole = join(sums).into_iter();
    let mut next = || match whole.next() {
        Some(sum) => sum,
        None => panic!("a sum got lost"),
    };
    let weights = rests.into_iter().map(|rest| match rest {
        Rest::Columns(columns) => columns.with_weight(next()),
        Rest::Grouped(split, columns) => {
            let own = next();
            columns.with_weight(split.join(own, next()))
        }
        Rest::Logits(shape) => shape.split(&next()),
    });
    weights.collect()
}

/// See [`Kernels::layer_backward`](crate::backend::Kernels::layer_backward).
pub(super) fn layer_backward<R: CubeRuntime, B: OnCube<R>>(
    layer: Layer<CubeTensor<R>>,
    saved: LayerSaved<CubeTensor<R>>,
    grad: FromAbove<R>,
    spec: LayerSpec,
) -> (FromAbove<R>, WeightSums<R>) {
    if is_logits(&layer, &spec) {
        let (input, sums) = logits_backward(layer, grad.into());
        return (FromAbove::Logits(input), WeightSums::Logits(sums));
    }
    let is_linear = spec.is_linear(&layer.weights);
    let (weight, columns) = Columns::split(layer.weights);
    let shared = layer.input.meta.shape()[0] != weight.meta.shape()[0];
    let (hidden, columns) = after_matmul_backward::<R, B>(columns, saved, grad, spec, is_linear, shared);
    let (input, weight) = layer_matmul_backward::<R, B>(layer.input, weight, hidden, spec.precision);
    (input.into(), WeightSums::Hidden(weight, columns))
}

/// Gradients of the matmul and of what belongs to its columns. The first is `[K, B, O]`, or with the towers side by side
/// `[B, K * O]`; its largest magnitudes are found where the matmuls of the layer ask for them.
pub(super) fn after_matmul_backward<R: CubeRuntime, B: OnCube<R>>(
    columns: Columns<R>,
    saved: LayerSaved<CubeTensor<R>>,
    grad: FromAbove<R>,
    spec: LayerSpec,
    is_linear: bool,
    side_by_side: bool,
) -> (Gradient<R>, Columns<R>) {
    let saved = Saved::new(grad, saved, columns, spec);
    let partial = chunk_sums(&saved);
    let slope = slope_grad::<R, B>(&saved, &partial);
    if is_linear
        && !side_by_side
        && let FromAbove::Whole(grad) = &saved.above
    {
        let [towers, _, outputs] = saved.dims();
        let [bias, _] = joined_sums::join(&partial, [towers, outputs], false);
        return (grad.clone().into(), Columns { bias, norm: None, slope });
    }
    let (hidden, Columns { bias, norm, .. }) = hidden_grad(&saved, &partial, side_by_side);
    (hidden, Columns { bias, norm, slope })
}
