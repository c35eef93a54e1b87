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
use super::layer_shape::{BackwardCuts, LayerShape};
use super::moments::ChunkMoments;
use super::rounding::Rounded;
use super::tensor::{OnCube, Rows};
use super::tensor_cores::tensor_tile;
use super::tensor_tiles::{self, Scaled};
use super::tile::{Cut, Sizes, Tile, fits};
use super::tiles::{self, Task};
use super::weight_grad::{in_pieces, weight_grad};
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
        let left = Factor::left(&Rows::new(lhs));
        let right = Factor::right(&Rows::new(rhs));
        let tensor = tensor_tiles::matmul(left, right, &epilogue, sizes, tile, Scaled::Neither, None);
        return Multiplied { tensor, moments: None, to_do: None };
    }
    match tile(&lhs.client, sizes, precision) {
        Some(tile) => {
            let left = Factor::left(&Rows::new(lhs));
            let right = Factor::right(&Rows::new(rhs));
            let task = Task { left, right, cut: Cut { sizes, tile } };
            let (tensor, moments) = tiles::matmul(task, &epilogue);
            Multiplied { tensor, moments, to_do: None }
        }
        None => {
            let [lhs, rhs] = [lhs, rhs].map(|factor| Rounded::new(factor, precision).tensor);
            Multiplied { tensor: launch(lhs, rhs, precision), moments: None, to_do: Some(epilogue) }
        }
    }
}

/// Gradients of input and weight of a layer's matmul, from that of the matmul: `[K, B, O]`, or where towers share
/// their input `[B, K * O]`. That of the weight is left in pieces, to be joined with others.
pub(super) fn layer_matmul_backward<R: CubeRuntime, B: OnCube<R>>(
    input: CubeTensor<R>,
    weight: CubeTensor<R>,
    grad: CubeTensor<R>,
    precision: Precision,
) -> (CubeTensor<R>, Sum<R>) {
    let shape = weight.meta.shape();
    let [towers, inputs, outputs] = [shape[0], shape[1], shape[2]];
    let shared = grad.meta.num_dims() == 2;
    let rows = input.meta.shape()[1];
    let layer = LayerShape { towers, inputs, outputs, rows, shared };
    if precision == Precision::F32 {
        let client = input.client.clone();
        if let Some(cuts) = layer.backward(|tile| fits(&client, tile)) {
            return both_grads(input, weight, grad, layer, cuts);
        }
    }
    if let Some(grads) = on_tensor_cores::<R, B>(&input, &weight, &grad, layer, precision) {
        return grads;
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
    let [input, weight, grad] = [input, weight, grad].map(Rows::new);
    let turned_weight = Factor::right(&weight).turned();
    let [of_input, of_weight] = if layer.shared {
        let side_by_side = || Factor::side_by_side(&grad, layer.towers);
        [
            (side_by_side().turned().summed(), turned_weight.summed()),
            (Factor::left(&input).turned(), side_by_side()),
        ]
    } else {
        [(Factor::left(&grad), turned_weight), (Factor::left(&input).turned(), Factor::right(&grad))]
    };
    let task = |(left, right), cut| Task { left, right, cut };
    let [pieces, of_input] = tiles::pair([task(of_weight, cuts.weight), task(of_input, cuts.input)]);
    (of_input, in_pieces(pieces, layer, cuts.weight.sizes.pieces))
}

/// Both gradients by the kernel for tensor cores, where there are some for this precision.
fn on_tensor_cores<R: CubeRuntime, B: OnCube<R>>(
    input: &CubeTensor<R>,
    weight: &CubeTensor<R>,
    grad: &CubeTensor<R>,
    layer: LayerShape,
    precision: Precision,
) -> Option<(CubeTensor<R>, Sum<R>)> {
    let of_input = layer.input_grad();
    let input_tile = tensor_tile(&input.client, of_input, precision)?;
    let weight_tile = tensor_tile(&input.client, layer.weight_grad_uncut(), precision)?;
    let of_weight = layer.weight_grad(layer.pieces(weight_tile.rows, weight_tile.columns));
    let largest = (precision == Precision::F16).then(|| B::float_max_abs(grad.clone()));
    let [input, weight, grad] = [input, weight, grad].map(|factor| Rows::new(factor.clone()));
    let turned_weight = Factor::right(&weight).turned();
    let (left, right, grad) = if layer.shared {
        let grad = || Factor::side_by_side(&grad, layer.towers);
        (grad().turned().summed(), turned_weight.summed(), grad())
    } else {
        (Factor::left(&grad), turned_weight, Factor::right(&grad))
    };
    let [scaled_left, scaled_right] = match largest {
        Some(_) => [Scaled::Left, Scaled::Right],
        None => [Scaled::Neither; 2],
    };
    let nothing = Epilogue::nothing();
    let largest = largest.as_ref();
    let input_grad = tensor_tiles::matmul(left, right, &nothing, of_input, input_tile, scaled_left, largest);
    let input = Factor::left(&input).turned();
    let pieces = tensor_tiles::matmul(input, grad, &nothing, of_weight, weight_tile, scaled_right, largest);
    Some((input_grad, in_pieces(pieces, layer, of_weight.pieces)))
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
    Tile::candidates(sizes).into_iter().find(|tile| fits(client, *tile))
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
