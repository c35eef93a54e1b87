//! Products of all towers: who computes them, and in which numbers.
//!
//! CubeCL's own choice takes f32 factors to the tensor cores wherever there are some, and those keep 11 bits of them. So
//! the kernel is named here: units that compute in f32, unless a layer asks for other numbers.

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

use super::rounding::Rounded;
use super::tensor::OnCube;
use crate::precision::Precision;

/// See [`EsmmBackend::precisions`](crate::EsmmBackend::precisions).
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

/// `lhs [1 or K, M, C] x rhs [1 or K, C, N]`, f32 all the way.
pub(super) fn product<R: CubeRuntime>(lhs: CubeTensor<R>, rhs: CubeTensor<R>) -> CubeTensor<R> {
    launch(lhs, rhs, Precision::F32)
}

/// A layer's product `input [1 or K, B, I] x weight [K, I, O]`, `[K, B, O]`.
pub(super) fn layer_product<R: CubeRuntime>(
    input: CubeTensor<R>,
    weight: CubeTensor<R>,
    precision: Precision,
) -> CubeTensor<R> {
    let [input, weight] = [input, weight].map(|factor| Rounded::new(factor, precision).tensor);
    launch(input, weight, precision)
}

/// Gradients of input and weight of a layer's product, from that of the product: `[K, B, O]`, or where towers share
/// their input `[B, K * O]`.
pub(super) fn layer_product_backward<R: CubeRuntime, B: OnCube<R>>(
    input: CubeTensor<R>,
    weight: CubeTensor<R>,
    grad: CubeTensor<R>,
    precision: Precision,
) -> [CubeTensor<R>; 2] {
    let [input, weight] = [input, weight].map(|factor| Rounded::new(factor, precision).tensor);
    let grad = Rounded::gradient::<B>(grad, precision);
    let [input_factors, weight_factors] = if grad.tensor.meta.num_dims() == 2 {
        shared_factors::<R, B>(input, weight, grad.tensor.clone())
    } else {
        let [input_turned, weight_turned] = [input, weight].map(|factor| B::float_swap_dims(factor, 1, 2));
        [(grad.tensor.clone(), weight_turned), (input_turned, grad.tensor.clone())]
    };
    [input_factors, weight_factors].map(|(lhs, rhs)| grad.restore(launch(lhs, rhs, precision)))
}

/// The factors of both gradients, for one input `[1, B, I]` of all towers: their products are `[1, B, I]`, summed over
/// the towers, and `[K, I, O]`.
fn shared_factors<R: CubeRuntime, B: OnCube<R>>(
    input: CubeTensor<R>,
    weight: CubeTensor<R>,
    grad: CubeTensor<R>,
) -> [(CubeTensor<R>, CubeTensor<R>); 2] {
    let shape = weight.meta.shape();
    let [towers, inputs, outputs] = [shape[0], shape[1], shape[2]];
    let rows = grad.meta.shape()[0];
    let stacked = B::float_reshape(B::float_swap_dims(weight, 1, 2), [1, towers * outputs, inputs].into());
    let side_by_side = B::float_reshape(grad.clone(), [1, rows, towers * outputs].into());
    let by_tower = B::float_permute(B::float_reshape(grad, [rows, towers, outputs].into()), &[1, 0, 2]);
    [(side_by_side, stacked), (B::float_swap_dims(input, 1, 2), by_tower)]
}

/// # Panics
/// Where the device refuses the kernel, with its reason.
fn launch<R: CubeRuntime>(lhs: CubeTensor<R>, rhs: CubeTensor<R>, precision: Precision) -> CubeTensor<R> {
    let strategy = match precision {
        Precision::F32 => Strategy::SimpleUnit(Default::default()),
        Precision::Tf32 | Precision::Bf16 | Precision::F16 => Strategy::Auto,
    };
    let out = init_matmul_output(&lhs, &rhs, DType::F32);
    let (client, dtype) = (out.client.clone(), lhs.dtype);
    let globals = MatmulGlobalElems { lhs: dtype.into(), rhs: dtype.into(), out: DType::F32.into() };
    let mut elements = MatmulElems::from_globals(&globals);
    let [lhs, rhs] = [lhs, rhs].map(|factor| InputBinding::new(factor.binding(), dtype.into()));
    let launched = launch_ref(&strategy, &client, lhs, rhs, out.clone().binding(), &mut elements);
    if let Err(reason) = launched {
        panic!("a product of {precision} factors cannot be computed here: {reason:?}");
    }
    out
}
