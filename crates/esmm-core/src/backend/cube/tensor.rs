//! From tensors to what a kernel is launched with.

use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::backend::Backend;
use burn::tensor::{DType, IntDType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::prelude::{AddressType, ArrayArg, ComputeClient, CubeCount, CubeDim};
use burn_cubecl::cubecl::zspace::{Strides, metadata::Metadata};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;

use crate::backend::Indices;

/// A backend whose tensors are those of a CubeCL runtime.
pub(super) trait OnCube<R: CubeRuntime>:
    Backend<FloatTensorPrimitive = CubeTensor<R>, IntTensorPrimitive = CubeTensor<R>, Device = R::CubeDevice>
{
}

impl<R: CubeRuntime, B> OnCube<R> for B where
    B: Backend<
            FloatTensorPrimitive = CubeTensor<R>,
            IntTensorPrimitive = CubeTensor<R>,
            Device = R::CubeDevice,
        >
{
}

/// Widest vector that all devices load at once.
const WIDEST: usize = 4;

static PADS: AtomicBool = AtomicBool::new(false);

/// Lays the rows of new tensors apart on every device, as CUDA's allocator does: for tests of strides, and of what is
/// launched for their sake, on devices that do not pad. For the whole process.
#[doc(hidden)]
pub fn pad_rows(on: bool) {
    PADS.store(on, Ordering::Relaxed);
}

/// A tensor as rows of its last dimension that begin at equal distances. CUDA's allocator pads rows; slices and
/// transposed tensors have other distances yet.
pub(super) struct Rows<R: CubeRuntime> {
    /// The tensor.
    pub(super) tensor: CubeTensor<R>,
    /// Elements of a row.
    pub(super) width: usize,
    /// Elements from one row to the next.
    pub(super) stride: usize,
}

impl<R: CubeRuntime> Rows<R> {
    /// Copies the tensor where its rows do not lie at equal distances.
    pub(super) fn new(tensor: CubeTensor<R>) -> Self {
        match row_stride(tensor.meta.shape(), tensor.meta.strides()) {
            Some(stride) => Self { width: last(&tensor), stride, tensor },
            None => Self::new(into_contiguous(tensor)),
        }
    }

    /// A new tensor, not cleared.
    pub(super) fn empty<const D: usize>(like: &CubeTensor<R>, shape: [usize; D]) -> Self {
        if PADS.load(Ordering::Relaxed) {
            return Self::padded(like, shape);
        }
        let client = like.client.clone();
        let device = like.device.clone();
        Self::new(empty_device_dtype(client, device, Shape::from(shape), DType::F32))
    }

    fn padded<const D: usize>(like: &CubeTensor<R>, shape: [usize; D]) -> Self {
        let mut strides = [1; D];
        for dim in (0..D - 1).rev() {
            let inner = strides[dim + 1] * shape[dim + 1];
            strides[dim] = if dim == D - 2 { padded(inner) } else { inner };
        }
        let room = strides[0] * shape[0];
        Self::new(view(&empty_plain(like, [room]), shape, strides))
    }

    /// Largest vector in which rows can be read.
    pub(super) fn vector(&self) -> usize {
        vector_size(&[self.width, self.stride])
    }

    /// The argument of a kernel.
    pub(super) fn array(&self) -> ArrayArg<R> {
        array(&self.tensor)
    }
}

/// Values of f32 from one row of `width` to the next in memory of CubeCL 0.10's allocator for CUDA: whole powers of two.
fn padded(width: usize) -> usize {
    if width == 1 { 1 } else { width.next_multiple_of(width.next_power_of_two().clamp(4, 128)) }
}

/// A tensor that no one else holds, to be changed in place: the tensor itself, or else a copy.
pub(super) fn owned<R: CubeRuntime>(tensor: CubeTensor<R>) -> Rows<R> {
    let tensor = if tensor.can_mut() && tensor.is_nonoverlapping() { tensor } else { tensor.copy() };
    Rows::new(tensor)
}

/// The argument of a kernel that reads or writes a tensor as it lies in memory.
pub(super) fn array<R: CubeRuntime>(tensor: &CubeTensor<R>) -> ArrayArg<R> {
    tensor.clone().into_array_arg()
}

/// A tensor whose elements lie one after the other.
pub(super) fn plain<R: CubeRuntime>(tensor: CubeTensor<R>) -> CubeTensor<R> {
    into_contiguous(tensor)
}

/// The same memory as a tensor of another shape at other distances.
pub(super) fn view<R: CubeRuntime, const D: usize>(
    tensor: &CubeTensor<R>,
    shape: [usize; D],
    strides: [usize; D],
) -> CubeTensor<R> {
    let mut view = tensor.clone();
    *view.meta = Metadata::new(Shape::from(shape), Strides::new(&strides));
    view
}

/// A new tensor of this kind, not cleared.
pub(super) fn empty_plain<R: CubeRuntime, const D: usize>(
    like: &CubeTensor<R>,
    shape: [usize; D],
) -> CubeTensor<R> {
    let client = like.client.clone();
    let device = like.device.clone();
    let handle = client.empty(shape.iter().product::<usize>() * size_of::<f32>());
    CubeTensor::new_contiguous(client, device, Shape::from(shape), handle, DType::F32)
}

/// A new tensor of the same shape, not cleared, its elements one after the other.
pub(super) fn empty_like<R: CubeRuntime>(like: &CubeTensor<R>) -> CubeTensor<R> {
    let client = like.client.clone();
    let device = like.device.clone();
    let handle = client.empty(like.meta.num_elements() * size_of::<f32>());
    CubeTensor::new_contiguous(client, device, like.meta.shape().clone(), handle, DType::F32)
}

/// Largest vector that divides all of these.
pub(super) fn vector_size(numbers: &[usize]) -> usize {
    let divides = |size: &usize| numbers.iter().all(|number| number % size == 0);
    [WIDEST, 2].into_iter().find(divides).unwrap_or(1)
}

/// A grid with one unit for each of `units`; kernels check that theirs exists.
pub(super) fn grid<R: CubeRuntime>(client: &ComputeClient<R>, units: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new(client, units);
    (calculate_cube_count_elemwise(client, units, dim), dim)
}

/// A grid of so many cubes at least, numbered by `CUBE_POS`: in two dimensions, for devices take 65535 in each.
pub(super) fn grid_of(cubes: usize) -> CubeCount {
    let wide = cubes.clamp(1, 32768);
    CubeCount::Static(wide as u32, cubes.div_ceil(wide) as u32, 1)
}

/// The integer that can number all elements of these tensors.
pub(super) fn address<R: CubeRuntime>(tensors: &[&CubeTensor<R>]) -> AddressType {
    let types = tensors.iter().map(|tensor| tensor.required_address_type());
    types.max().unwrap_or_default()
}

/// Row numbers on the device; kernels read i32.
pub(super) fn ints<R: CubeRuntime, B: OnCube<R>>(indices: &Indices<B>) -> CubeTensor<R> {
    let tensor = indices.tensor();
    if tensor.dtype == DType::I32 { tensor } else { B::int_cast(tensor, IntDType::I32) }
}

fn last<R: CubeRuntime>(tensor: &CubeTensor<R>) -> usize {
    tensor.meta.shape().last().copied().unwrap_or(1)
}

/// Distance of the rows of a tensor, if it is the same for all and their elements lie one after the other.
fn row_stride(shape: &[usize], strides: &[usize]) -> Option<usize> {
    let (&width, leading) = shape.split_last()?;
    let (&step, distances) = strides.split_last()?;
    if step != 1 && width != 1 {
        return None;
    }
    let mut dims = leading.iter().zip(distances).rev().filter(|(size, _)| **size != 1);
    let Some((&rows, &stride)) = dims.next() else { return Some(width) };
    let mut expected = stride * rows;
    for (&size, &distance) in dims {
        if distance != expected {
            return None;
        }
        expected *= size;
    }
    (stride >= width).then_some(stride)
}

#[cfg(test)]
mod tests {
    use super::{padded, row_stride, vector_size};

    #[test]
    fn rows_at_equal_distances_are_found() {
        assert_eq!(row_stride(&[5, 3], &[3, 1]), Some(3));
        assert_eq!(row_stride(&[5, 3], &[4, 1]), Some(4));
        assert_eq!(row_stride(&[2, 5, 3], &[20, 4, 1]), Some(4));
        assert_eq!(row_stride(&[1, 5, 3], &[99, 3, 1]), Some(3));
        assert_eq!(row_stride(&[3], &[1]), Some(3));
        assert_eq!(row_stride(&[2, 5, 1], &[5, 1, 7]), Some(1));
        assert_eq!(row_stride(&[2, 5, 3], &[3, 6, 1]), None);
        assert_eq!(row_stride(&[5, 3], &[1, 5]), None);
        assert_eq!(row_stride(&[5, 3], &[0, 1]), None);
    }

    #[test]
    fn rows_are_padded_as_cuda_pads_them() {
        let strides = [1, 2, 3, 16, 18, 20, 40, 80, 200, 360, 414].map(padded);
        assert_eq!(strides, [1, 4, 4, 16, 32, 32, 64, 128, 256, 384, 512]);
    }

    #[test]
    fn vectors_divide_every_number() {
        assert_eq!(vector_size(&[128, 0]), 4);
        assert_eq!(vector_size(&[18, 36]), 2);
        assert_eq!(vector_size(&[16, 2, 3]), 1);
    }
}
