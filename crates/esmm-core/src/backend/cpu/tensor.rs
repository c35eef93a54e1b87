//! Tensors in host memory as slices.

use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{DType, TensorMetadata};

/// A backend whose tensors are slices in host memory.
pub(super) trait HostBackend: Backend {
    /// The tensor with its values in row-major order, without gaps.
    fn contiguous(tensor: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The values of a [contiguous](Self::contiguous) tensor of f32.
    fn values(tensor: &FloatTensor<Self>) -> &[f32];

    /// The same, to change them in place. Copies when the tensor has other owners.
    fn values_mut(tensor: &mut FloatTensor<Self>) -> &mut [f32];

    /// A tensor that owns these values.
    fn tensor(values: Vec<f32>, shape: &[usize]) -> FloatTensor<Self>;

    /// The numbers of a tensor of indices.
    ///
    /// # Panics
    /// When one is negative.
    fn indices(tensor: IntTensor<Self>) -> Vec<u32>;
}

/// A contiguous f32 tensor: its values and its shape.
pub(super) struct Host<B: HostBackend> {
    tensor: FloatTensor<B>,
    /// Sizes of the dimensions.
    pub(super) shape: Vec<usize>,
}

impl<B: HostBackend> Host<B> {
    pub(super) fn new(tensor: FloatTensor<B>) -> Self {
        let shape = tensor.shape().to_vec();
        Self { tensor: B::contiguous(tensor), shape }
    }

    pub(super) fn values(&self) -> &[f32] {
        B::values(&self.tensor)
    }

    pub(super) fn values_mut(&mut self) -> &mut [f32] {
        B::values_mut(&mut self.tensor)
    }

    pub(super) fn into_tensor(self) -> FloatTensor<B> {
        self.tensor
    }
}

/// Whether the kernels take these tensors.
pub(super) fn all_f32<B: Backend>(tensors: &[&FloatTensor<B>]) -> bool {
    tensors.iter().all(|tensor| tensor.dtype() == DType::F32)
}

/// A row number out of an integer of any width.
pub(super) fn index<I>(number: I) -> u32
where
    I: TryInto<u32> + Copy + std::fmt::Debug,
{
    number.try_into().unwrap_or_else(|_| panic!("{number:?} is no row number"))
}
