//! Factors of matmuls, rounded to fewer bits: how, and copies of them for the matmuls of CubeK.

use burn::tensor::{DType, Shape, bf16, f16};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*, std::FastDivmod};
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;

use super::largest::{Gradient, join_largest};
use super::tensor::{OnCube, Rows, address, array, grid_of, vector_size};
use crate::precision::Precision;

/// Largest f16.
const LARGEST: f32 = 65504.0;
/// The largest gradient of a layer comes to lie between two to this power and twice that.
const HEADROOM: u32 = 14;
/// Exponent of 1 in the bits of an f32.
const BIAS: u32 = 127;
/// Units of a cube.
const CUBE: usize = 256;

/// A factor as a matmul reads it.
pub(super) struct Rounded<R: CubeRuntime> {
    /// The values, in the dtype of the precision.
    pub(super) tensor: CubeTensor<R>,
    /// Largest magnitudes of what was rounded, where they decide by which power of two the values are scaled.
    largest: Option<CubeTensor<R>>,
}

impl<R: CubeRuntime> Rounded<R> {
    /// An input or a weight. Values that f16 cannot hold become the largest that it can.
    pub(super) fn new(tensor: CubeTensor<R>, precision: Precision) -> Self {
        let tensor = match precision {
            Precision::F32 | Precision::Tf32 => tensor,
            Precision::Bf16 => rounded::<R, bf16>(tensor, DType::BF16, None),
            Precision::F16 => rounded::<R, f16>(tensor, DType::F16, None),
        };
        Self { tensor, largest: None }
    }

    /// A gradient: in f16 times a power of two.
    pub(super) fn gradient<B: OnCube<R>>(gradient: Gradient<R>, precision: Precision) -> Self {
        if precision != Precision::F16 {
            return Self::new(gradient.tensor, precision);
        }
        let largest = gradient.largest::<B>();
        let tensor = rounded::<R, f16>(gradient.tensor, DType::F16, Some(&largest));
        Self { tensor, largest: Some(largest) }
    }

    /// Whether the values are scaled by a power of two.
    pub(super) fn is_scaled(&self) -> bool {
        self.largest.is_some()
    }

    /// Divides the power of two out of a matmul with this factor.
    pub(super) fn restore(&self, matmul: CubeTensor<R>) -> CubeTensor<R> {
        let Some(largest) = &self.largest else { return matmul };
        let matmul = Rows::new(matmul);
        let vector = matmul.vector();
        let units = matmul.tensor.meta.num_elements() / vector;
        let (cubes, dim) = cubes_of(units);
        // SAFETY: one unit for each vector of the matmul.
        unsafe {
            restore_kernel::launch_unchecked(
                &matmul.tensor.client,
                cubes,
                dim,
                address(&[&matmul.tensor]),
                vector,
                matmul.array(),
                array(largest),
                largest.meta.num_elements(),
                matmul.width / vector,
                matmul.stride / vector,
                units,
            );
        }
        matmul.tensor
    }
}

/// A grid with one unit for each of `units`, in cubes that are large enough to join the largest magnitudes.
fn cubes_of(units: usize) -> (CubeCount, CubeDim) {
    (grid_of(units.div_ceil(CUBE)), CubeDim::new_1d(CUBE as u32))
}

fn rounded<R: CubeRuntime, E: Float>(
    tensor: CubeTensor<R>,
    dtype: DType,
    largest: Option<&CubeTensor<R>>,
) -> CubeTensor<R> {
    let values = Rows::new(tensor);
    let shape = Shape::from(values.tensor.meta.shape().to_vec());
    let client = values.tensor.client.clone();
    let device = values.tensor.device.clone();
    let out = Rows::new(empty_device_dtype(client.clone(), device, shape, dtype));
    let vector = vector_size(&[values.width, values.stride, out.stride]);
    let units = values.tensor.meta.num_elements() / vector;
    let (cubes, dim) = cubes_of(units);
    // SAFETY: one unit for each vector of the values.
    unsafe {
        round_kernel::launch_unchecked::<E, R>(
            &client,
            cubes,
            dim,
            address(&[&values.tensor, &out.tensor]),
            vector,
            values.array(),
            array(largest.unwrap_or(&values.tensor)),
            out.array(),
            largest.map_or(0, |largest| largest.meta.num_elements()),
            values.width / vector,
            values.stride / vector,
            out.stride / vector,
            units,
            largest.is_some(),
            dtype == DType::F16,
        );
    }
    out.tensor
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn round_kernel<E: Float, N: Size>(
    values: &Array<Vector<f32, N>>,
    largest: &Array<f32>,
    out: &mut Array<Vector<E, N>>,
    parts: usize,
    width: FastDivmod<usize>,
    stride: usize,
    out_stride: usize,
    units: usize,
    #[comptime] scaled: bool,
    #[comptime] limited: bool,
) {
    let mut factor = 1.0f32;
    if comptime!(scaled) {
        factor = power_of_two(exponent(join_largest(largest, parts)));
    }
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let (row, column) = width.div_mod(ABSOLUTE_POS);
    let mut value = values[row * stride + column];
    if comptime!(scaled) {
        value *= Vector::new(factor);
    }
    if comptime!(limited) {
        value = bounded::<N>(value);
    }
    out[row * out_stride + column] = Vector::cast_from(value);
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn restore_kernel<N: Size>(
    matmul: &mut Array<Vector<f32, N>>,
    largest: &Array<f32>,
    parts: usize,
    width: FastDivmod<usize>,
    stride: usize,
    units: usize,
) {
    let inverse = inverse_exponent(exponent(join_largest(largest, parts)));
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let (row, column) = width.div_mod(ABSOLUTE_POS);
    matmul[row * stride + column] *= Vector::new(power_of_two(inverse));
}

/// The largest that f16 holds for what is beyond it. By comparisons, so that NaN stays NaN.
#[cube]
pub(super) fn bounded<N: Size>(value: Vector<f32, N>) -> Vector<f32, N> {
    let most = Vector::<f32, N>::new(LARGEST);
    let least = Vector::<f32, N>::new(-LARGEST);
    let value = select_many(value.greater_than(most), most, value);
    select_many(value.less_than(least), least, value)
}

/// Exponent, as the bits of an f32 hold it, of the power of two for a tensor with this largest magnitude. Its inverse is
/// an f32 as well.
#[cube]
pub(super) fn exponent(largest: f32) -> u32 {
    let of_largest = u32::reinterpret(largest) >> 23;
    let wanted = comptime!(2 * BIAS + HEADROOM) - of_largest;
    min(wanted, comptime!(2 * BIAS - 1))
}

/// Exponent of the inverse of a power of two, both as the bits of an f32 hold them.
#[cube]
pub(super) fn inverse_exponent(exponent: u32) -> u32 {
    comptime!(2 * BIAS) - exponent
}

#[cube]
pub(super) fn power_of_two(exponent: u32) -> f32 {
    f32::reinterpret(exponent << 23)
}
