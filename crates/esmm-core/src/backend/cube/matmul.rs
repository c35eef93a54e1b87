//! Matmuls of all towers: who computes them, and in which precision.
//!
//! CubeCL's own choice takes f32 factors to the tensor cores wherever there are some, and those keep 11 bits of them. So
//! the kernel is named here: units that compute in f32, unless a layer asks for another precision.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::features::TypeUsage;
use burn_cubecl::cubecl::ir::{ElemType, FloatKind, StorageType};
use burn_cubecl::cubecl::prelude::ComputeClient;
use burn_cubecl::kernel::matmul::init_matmul_output;
use burn_cubecl::tensor::CubeTensor;
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems};
use cubek::matmul::launch::{Strategy, launch_ref};
use cubek::std::InputBinding;

use super::epilogue::Epilogue;
use super::factor::Factor;
use super::join::{Sum, join_one};
use super::largest::Gradient;
use super::layer_shape::{BackwardCuts, LayerShape};
use super::moments::ChunkMoments;
use super::rounding::Rounded;
use super::task::Task;
use super::tensor::{OnCube, Rows};
use super::tensor_cores::{TensorTile, tensor_tile, tensor_tiles_of_pair};
use super::tensor_cube::Scaled;
use super::tile::{Cut, Needs, Sizes, Tile, fits};
use super::weight_grad::{in_pieces, weight_grad};
use super::{tensor_pair, tensor_tiles, tile_pair, tiles};
use crate::precision::Precision;

/// See [`DeviceFacts::precisions`](crate::backend::DeviceFacts::precisions).
pub(super) fn precisions<R: CubeRuntime>(client: &ComputeClient<R>) -> Vec<Precision> {
    let features = &client.properties().features;
    let storage = |kind| StorageType::from(ElemType::Float(kind));
    let tensor_cores = |kind| {
        let fits = |unit: &burn_cubecl::cubecl::features::MmaConfig| {
            unit.a_type == storage(kind) && unit.cd_type == storage(FloatKind::F32)
        };
        features.matmul.cmma.iter().any(fits)
    };
    let usable =
        |kind| features.type_usage(storage(kind)).is_superset(TypeUsage::Buffer | TypeUsage::Conversion);
    let has = |precision: &Precision| match precision {
        Precision::F32 => true,
        Precision::Tf32 => tensor_cores(FloatKind::TF32),
        Precision::Bf16 => usable(FloatKind::BF16) && tensor_cores(FloatKind::BF16),
        // Worth it without tensor cores too: half the memory traffic.
        Precision::F16 => usable(FloatKind::F16),
    };
    Precision::ALL.into_iter().filter(has).collect()
}

/// A matmul of all towers, `[K, B, O]`.
pub(super) struct Matmul<R: CubeRuntime> {
    pub(super) tensor: CubeTensor<R>,
    /// Whether the bias has been added.
    pub(super) biased: bool,
    /// Moments of the rows of each tile, where the kernel took them.
    pub(super) moments: Option<ChunkMoments<R>>,
}

/// What a kernel computed.
struct Multiplied<R: CubeRuntime> {
    tensor: CubeTensor<R>,
    moments: Option<ChunkMoments<R>>,
    /// What of the epilogue is still to be done.
    to_do: Option<Epilogue<R>>,
}

/// `lhs [1 or K, M, C] x rhs [K, C, N]`, f32 all the way; with the epilogue, where that is still to be done.
pub(super) fn matmul<R: CubeRuntime>(
    lhs: CubeTensor<R>,
    rhs: CubeTensor<R>,
    epilogue: Epilogue<R>,
) -> (CubeTensor<R>, Option<Epilogue<R>>) {
    let Multiplied { tensor, to_do, .. } = multiply(lhs, rhs, epilogue, Precision::F32);
    (tensor, to_do)
}

/// A layer's matmul `input [1 or K, B, I] x weight [K, I, O]`, with the bias `[K, O]` where the kernel adds it, and if they
/// are wanted the moments of the columns where the kernel takes them.
pub(super) fn layer_matmul<R: CubeRuntime>(
    input: CubeTensor<R>,
    weight: CubeTensor<R>,
    bias: Option<&CubeTensor<R>>,
    precision: Precision,
    with_moments: bool,
) -> Matmul<R> {
    let bias_only = bias.map_or_else(Epilogue::nothing, |bias| Epilogue::bias(bias.clone()));
    let epilogue = Epilogue { with_moments, ..bias_only };
    let Multiplied { tensor, moments, to_do } = multiply(input, weight, epilogue, precision);
    Matmul { tensor, biased: bias.is_some() && to_do.is_none(), moments }
}

fn multiply<R: CubeRuntime>(
    lhs: CubeTensor<R>,
    rhs: CubeTensor<R>,
    epilogue: Epilogue<R>,
    precision: Precision,
) -> Multiplied<R> {
    let left = lhs.meta.shape();
    let right = rhs.meta.shape();
    let sizes =
        Sizes { batches: right[0], sums: 1, rows: left[1], columns: right[2], terms: left[2], pieces: 1 };
    if let Some(tile) = tensor_tile(&lhs.client, sizes, precision) {
        let task = task_of(lhs, rhs, Cut { sizes, tile });
        let (tensor, moments) = tensor_tiles::matmul(task, &epilogue);
        return Multiplied { tensor, moments, to_do: None };
    }
    match tile(&lhs.client, sizes, precision) {
        Some(tile) => {
            let task = task_of(lhs, rhs, Cut { sizes, tile });
            let (tensor, moments) = tiles::matmul(task, &epilogue);
            Multiplied { tensor, moments, to_do: None }
        }
        None => {
            let [lhs, rhs] = [lhs, rhs].map(|factor| Rounded::new(factor, precision).tensor);
            Multiplied { tensor: launch(lhs, rhs, precision), moments: None, to_do: Some(epilogue) }
        }
    }
}

fn task_of<R: CubeRuntime, T>(lhs: CubeTensor<R>, rhs: CubeTensor<R>, cut: Cut<T>) -> Task<R, T> {
    Task { left: Factor::left(&Rows::new(lhs)), right: Factor::right(&Rows::new(rhs)), cut }
}

/// Gradients of input and weight of a layer's matmul, from that of the matmul: `[K, B, O]`, or where towers share
/// their input `[B, K * O]`. That of the weight is left in pieces, to be joined with others.
pub(super) fn layer_matmul_backward<R: CubeRuntime, B: OnCube<R>>(
    input: CubeTensor<R>,
    weight: CubeTensor<R>,
    grad: impl Into<Gradient<R>>,
    precision: Precision,
) -> (CubeTensor<R>, Sum<R>) {
    let grad = grad.into();
    let shape = weight.meta.shape();
    let [towers, inputs, outputs] = [shape[0], shape[1], shape[2]];
    let shared = grad.tensor.meta.num_dims() == 2;
    let rows = input.meta.shape()[1];
    let layer = LayerShape { towers, inputs, outputs, rows, shared };
    if precision == Precision::F32 {
        let client = input.client.clone();
        if let Some(cuts) = layer.backward(|needs| fits(&client, needs)) {
            return both_grads(input, weight, grad.tensor, layer, cuts);
        }
    }
    let sizes = [layer.weight_grad_uncut(), layer.input_grad()];
    if let Some(tiles) = tensor_tiles_of_pair(&input.client, sizes, precision) {
        let largest = (precision == Precision::F16).then(|| grad.largest::<B>());
        return both_grads_rounded(input, weight, grad.tensor, layer, tiles, largest);
    }
    let [input, weight] = [input, weight].map(|factor| Rounded::new(factor, precision).tensor);
    let grad = Rounded::gradient::<B>(grad, precision);
    let of_input = input_grad::<R, B>(weight, grad.tensor.clone(), layer, precision);
    let of_weight = weight_grad::<R, B>(input, grad.tensor.clone(), layer, precision);
    let of_input = grad.restore(of_input);
    let of_weight = if grad.is_scaled() { Sum::Whole(grad.restore(join_one(of_weight))) } else { of_weight };
    (of_input, of_weight)
}

/// Both gradients in one launch: neither waits for the other, and each fills the multiprocessors that the other leaves idle
/// at its end. Cubes of the weight's go first, for they sum more terms.
fn both_grads<R: CubeRuntime>(
    input: CubeTensor<R>,
    weight: CubeTensor<R>,
    grad: CubeTensor<R>,
    layer: LayerShape,
    cuts: BackwardCuts,
) -> (CubeTensor<R>, Sum<R>) {
    let [of_weight, of_input] = backward_factors(input, weight, grad, layer);
    let task = |[left, right]: [Factor<R>; 2], cut| Task { left, right, cut };
    let [pieces, of_input] = tile_pair::pair([task(of_weight, cuts.weight), task(of_input, cuts.input)]);
    (of_input, in_pieces(pieces, layer, cuts.weight.sizes.pieces))
}

/// The same on tensor cores. `largest` are the largest magnitudes of the gradient, where it is scaled for its dtype.
fn both_grads_rounded<R: CubeRuntime>(
    input: CubeTensor<R>,
    weight: CubeTensor<R>,
    grad: CubeTensor<R>,
    layer: LayerShape,
    [weight_tile, input_tile]: [TensorTile; 2],
    largest: Option<CubeTensor<R>>,
) -> (CubeTensor<R>, Sum<R>) {
    let [of_weight, of_input] = backward_factors(input, weight, grad, layer);
    let task = |[left, right]: [Factor<R>; 2], sizes, tile| Task { left, right, cut: Cut { sizes, tile } };
    let sizes = layer.weight_grad(layer.pieces(weight_tile.rows, weight_tile.columns));
    let tasks = [task(of_weight, sizes, weight_tile), task(of_input, layer.input_grad(), input_tile)];
    let scaled = if largest.is_some() { [Scaled::Right, Scaled::Left] } else { [Scaled::Neither; 2] };
    let [pieces, of_input] = tensor_pair::pair(tasks, scaled, largest.as_ref());
    (of_input, in_pieces(pieces, layer, sizes.pieces))
}

/// Left and right factors of the gradient of the weight, `input^T x grad`, and of that of the input, `grad x weight^T`.
fn backward_factors<R: CubeRuntime>(
    input: CubeTensor<R>,
    weight: CubeTensor<R>,
    grad: CubeTensor<R>,
    layer: LayerShape,
) -> [[Factor<R>; 2]; 2] {
    let [input, weight, grad] = [input, weight, grad].map(Rows::new);
    let turned_input = Factor::left(&input).turned();
    let turned_weight = Factor::right(&weight).turned();
    if layer.shared {
        let side_by_side = || Factor::side_by_side(&grad, layer.towers);
        let summed = [side_by_side().turned().summed(), turned_weight.summed()];
        [[turned_input, side_by_side()], summed]
    } else {
        [[turned_input, Factor::right(&grad)], [Factor::left(&grad), turned_weight]]
    }
}

/// `grad [K, B, O] x weight^T`, or where towers share their input the sum of that over them, from `[B, K * O]`: by the
/// matmuls of CubeK.
fn input_grad<R: CubeRuntime, B: OnCube<R>>(
    weight: CubeTensor<R>,
    grad: CubeTensor<R>,
    layer: LayerShape,
    precision: Precision,
) -> CubeTensor<R> {
    let LayerShape { towers, outputs, rows, shared, .. } = layer;
    if shared {
        let side_by_side = B::float_reshape(grad, [1, rows, towers * outputs].into());
        launch(side_by_side, stacked::<R, B>(weight), precision)
    } else {
        launch(grad, B::float_swap_dims(weight, 1, 2), precision)
    }
}

/// The tile of a matmul, where our kernel computes it: in f32 on devices that have room for it.
fn tile<R: CubeRuntime>(client: &ComputeClient<R>, sizes: Sizes, precision: Precision) -> Option<Tile> {
    if precision != Precision::F32 {
        return None;
    }
    Tile::candidates(sizes).into_iter().find(|tile| fits(client, Needs::of(&[*tile])))
}

/// The weights of all towers for one gradient of their shared input: `[K, I, O]` to `[1, K * O, I]`.
fn stacked<R: CubeRuntime, B: OnCube<R>>(weight: CubeTensor<R>) -> CubeTensor<R> {
    let shape = weight.meta.shape();
    let [towers, inputs, outputs] = [shape[0], shape[1], shape[2]];
    B::float_reshape(B::float_swap_dims(weight, 1, 2), [1, towers * outputs, inputs].into())
}

/// # Panics
/// Where the device refuses the kernel, with its reason.
pub(super) fn launch<R: CubeRuntime>(
    lhs: CubeTensor<R>,
    rhs: CubeTensor<R>,
    precision: Precision,
) -> CubeTensor<R> {
    let strategy = match precision {
        Precision::F32 => Strategy::SimpleUnit(Default::default()),
        Precision::Tf32 | Precision::Bf16 | Precision::F16 => Strategy::Auto,
    };
    let out = init_matmul_output(&lhs, &rhs, DType::F32);
    let client = out.client.clone();
    let dtype = lhs.dtype;
    let globals = MatmulGlobalElems { lhs: dtype.into(), rhs: dtype.into(), out: DType::F32.into() };
    let mut elements = MatmulElems::from_globals(&globals);
    let [lhs, rhs] = [lhs, rhs].map(|factor| InputBinding::new(factor.binding(), dtype.into()));
    let launched = launch_ref(&strategy, &client, lhs, rhs, out.clone().binding(), &mut elements);
    if let Err(reason) = launched {
        panic!("a matmul of {precision} factors cannot be computed here: {reason:?}");
    }
    out
}
