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
use super::rounding::Rounded;
use super::tensor::{OnCube, Rows};
use super::tile::{Sizes, Tile, fits};
use super::tiles;
use super::weight_grad::weight_grad;
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
}

/// `lhs [1 or K, M, C] x rhs [K, C, N]`, f32 all the way; with the epilogue, where that is still to be done.
pub(super) fn matmul<R: CubeRuntime>(
    lhs: CubeTensor<R>,
    rhs: CubeTensor<R>,
    epilogue: Epilogue<R>,
) -> (CubeTensor<R>, Option<Epilogue<R>>) {
    multiply(lhs, rhs, epilogue, Precision::F32)
}

/// A layer's matmul `input [1 or K, B, I] x weight [K, I, O]`, with the bias `[K, O]` where the kernel adds it.
pub(super) fn layer_matmul<R: CubeRuntime>(
    input: CubeTensor<R>,
    weight: CubeTensor<R>,
    bias: Option<&CubeTensor<R>>,
    precision: Precision,
) -> Matmul<R> {
    let [input, weight] = [input, weight].map(|factor| Rounded::new(factor, precision).tensor);
    let epilogue = bias.map_or_else(Epilogue::nothing, |bias| Epilogue::bias(bias.clone()));
    let (tensor, to_do) = multiply(input, weight, epilogue, precision);
    Matmul { tensor, biased: bias.is_some() && to_do.is_none() }
}

fn multiply<R: CubeRuntime>(
    lhs: CubeTensor<R>,
    rhs: CubeTensor<R>,
    epilogue: Epilogue<R>,
    precision: Precision,
) -> (CubeTensor<R>, Option<Epilogue<R>>) {
    let left = lhs.meta.shape();
    let right = rhs.meta.shape();
    let sizes =
        Sizes { batches: right[0], sums: 1, rows: left[1], columns: right[2], terms: left[2], pieces: 1 };
    match tile(&lhs.client, sizes, precision) {
        Some(tile) => {
            let left = Factor::left(&Rows::new(lhs));
            let right = Factor::right(&Rows::new(rhs));
            (tiles::matmul(left, right, &epilogue, sizes, tile), None)
        }
        None => (launch(lhs, rhs, precision), Some(epilogue)),
    }
}

/// Gradients of input and weight of a layer's matmul, from that of the matmul: `[K, B, O]`, or where towers share
/// their input `[B, K * O]`.
pub(super) fn layer_matmul_backward<R: CubeRuntime, B: OnCube<R>>(
    input: CubeTensor<R>,
    weight: CubeTensor<R>,
    grad: CubeTensor<R>,
    precision: Precision,
) -> [CubeTensor<R>; 2] {
    let [input, weight] = [input, weight].map(|factor| Rounded::new(factor, precision).tensor);
    let grad = Rounded::gradient::<B>(grad, precision);
    let towers = weight.meta.shape()[0];
    let of_input = input_grad::<R, B>(weight, grad.tensor.clone(), precision);
    let of_weight = weight_grad::<R, B>(input, grad.tensor.clone(), towers, precision);
    [of_input, of_weight].map(|matmul| grad.restore(matmul))
}

/// `grad [K, B, O] x weight^T`, or where towers share their input the sum of that over them, from `[B, K * O]`.
fn input_grad<R: CubeRuntime, B: OnCube<R>>(
    weight: CubeTensor<R>,
    grad: CubeTensor<R>,
    precision: Precision,
) -> CubeTensor<R> {
    let shape = weight.meta.shape();
    let [towers, inputs, outputs] = [shape[0], shape[1], shape[2]];
    let shared = grad.meta.num_dims() == 2;
    let rows = grad.meta.shape()[grad.meta.num_dims() - 2];
    let (batches, sums) = if shared { (1, towers) } else { (towers, 1) };
    let sizes = Sizes { batches, sums, rows, columns: inputs, terms: outputs, pieces: 1 };
    if let Some(tile) = tile(&grad.client, sizes, precision) {
        let grad = Rows::new(grad);
        let weight = Factor::right(&Rows::new(weight)).turned();
        return if shared {
            let grad = Factor::side_by_side(&grad, towers).turned();
            tiles::matmul(grad.summed(), weight.summed(), &Epilogue::nothing(), sizes, tile)
        } else {
            tiles::matmul(Factor::left(&grad), weight, &Epilogue::nothing(), sizes, tile)
        };
    }
    if shared {
        let side_by_side = B::float_reshape(grad, [1, rows, towers * outputs].into());
        launch(side_by_side, stacked::<R, B>(weight), precision)
    } else {
        launch(grad, B::float_swap_dims(weight, 1, 2), precision)
    }
}

/// The tile of a matmul, where our kernel computes it: in f32 on devices that have room for it.
pub(super) fn tile<R: CubeRuntime>(
    client: &ComputeClient<R>,
    sizes: Sizes,
    precision: Precision,
) -> Option<Tile> {
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
