//! From the first matmul to the logits, for inference.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*, std::FastDivmod};
use burn_cubecl::tensor::CubeTensor;

use super::block::{Curve, activate, leak, slope_of};
use super::epilogue::Epilogue;
use super::matmul::matmul;
use super::tensor::{OnCube, Rows, address, array, grid, plain};
use crate::backend::InferenceLayer;

/// All layers on what the first one reads, to `[B, K]`; `first_layer` takes that and the layer to `[K, B, O]`.
///
/// # Panics
/// Without a layer.
pub(super) fn apply_layers<R: CubeRuntime, B: OnCube<R>, I>(
    input: I,
    layers: Vec<InferenceLayer<CubeTensor<R>>>,
    first_layer: impl FnOnce(I, InferenceLayer<CubeTensor<R>>) -> CubeTensor<R>,
) -> CubeTensor<R> {
    let mut layers = layers.into_iter();
    let Some(first) = layers.next() else { panic!("towers without a layer") };
    let hidden = first_layer(input, first);
    let logits = layers.fold(hidden, whole_layer);
    let shape = logits.meta.shape();
    let [towers, rows] = [shape[0], shape[1]];
    B::float_swap_dims(B::float_reshape(logits, [towers, rows].into()), 0, 1)
}

/// A layer on its input, `[1 or K, B, I]` to `[K, B, O]`: in one kernel where the tiles compute it.
pub(super) fn whole_layer<R: CubeRuntime>(
    input: CubeTensor<R>,
    layer: InferenceLayer<CubeTensor<R>>,
) -> CubeTensor<R> {
    match matmul(input, layer.weight.clone(), rest_of(layer)) {
        (done, None) => done,
        (matmul, Some(epilogue)) => apply(matmul, epilogue),
    }
}

/// What a layer does after its matmul.
pub(super) fn rest_of<R: CubeRuntime>(layer: InferenceLayer<CubeTensor<R>>) -> Epilogue<R> {
    let InferenceLayer { scale, shift, activation, slope, .. } = layer;
    Epilogue {
        scale: scale.map(plain),
        shift: Some(plain(shift)),
        activation,
        slope: slope.map(plain),
        with_moments: false,
    }
}

/// What comes after a matmul `[K, B, O]`, in place.
///
/// # Panics
/// Without a shift: every layer has one.
pub(super) fn apply<R: CubeRuntime>(matmul: CubeTensor<R>, epilogue: Epilogue<R>) -> CubeTensor<R> {
    let matmul = Rows::new(matmul);
    let Epilogue { scale, shift, activation, slope, .. } = epilogue;
    let Some(shift) = shift else { panic!("an inference layer without a shift") };
    let vector = matmul.vector();
    let units = matmul.tensor.meta.num_elements() / vector;
    let (cubes, dim) = grid(&matmul.tensor.client, units);
    // SAFETY: one unit for each vector of the matmul; factors and shifts are `[K, O]`, the slope is `[K]`.
    unsafe {
        apply_kernel::launch_unchecked(
            &matmul.tensor.client,
            cubes,
            dim,
            address(&[&matmul.tensor]),
            vector,
            matmul.array(),
            array(scale.as_ref().unwrap_or(&shift)),
            array(&shift),
            array(slope.as_ref().unwrap_or(&shift)),
            matmul.width / vector,
            matmul.tensor.meta.shape()[1],
            matmul.width / vector,
            matmul.stride / vector,
            leak(activation),
            units,
            scale.is_some(),
            Curve::new(activation),
        );
    }
    matmul.tensor
}

/// `activation(matmul * scale + shift)`, in place.
#[cube(launch_unchecked, address_type = "dynamic")]
fn apply_kernel<N: Size>(
    matmul: &mut Array<Vector<f32, N>>,
    scales: &Array<Vector<f32, N>>,
    shifts: &Array<Vector<f32, N>>,
    slopes: &Array<f32>,
    width: FastDivmod<usize>,
    rows: FastDivmod<usize>,
    columns: usize,
    stride: usize,
    leak: f32,
    units: usize,
    #[comptime] scaled: bool,
    #[comptime] curve: Curve,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let (row, column) = width.div_mod(ABSOLUTE_POS);
    let tower = rows.div(row);
    let tower_column = tower * columns + column;
    let mut value = matmul[row * stride + column];
    if comptime!(scaled) {
        value *= scales[tower_column];
    }
    value += shifts[tower_column];
    let slope = slope_of(slopes, tower, leak, curve);
    matmul[row * stride + column] = activate::<N>(value, slope, curve);
}
