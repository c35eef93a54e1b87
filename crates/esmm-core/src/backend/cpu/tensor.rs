//! Tensors in host memory as slices.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, TensorMetadata};

use crate::backend::host::{copied_values, uploaded_values};

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

    /// Size of a dimension.
    pub(super) fn dim(&self, index: usize) -> usize {
        self.shape[index]
    }

    pub(super) fn into_tensor(self) -> FloatTensor<B> {
        self.tensor
    }
}

/// [`HostAccess::with_values`](crate::backend::HostAccess::with_values), without a copy where the values are f32.
pub(super) fn with_values<B: HostBackend>(tensor: FloatTensor<B>, look: &mut dyn FnMut(&[f32])) {
    match tensor.dtype() == DType::F32 {
        true => look(Host::<B>::new(tensor).values()),
        false => copied_values::<B>(tensor, look),
    }
}

/// [`HostAccess::fill_values`](crate::backend::HostAccess::fill_values), in place where the values are f32.
pub(super) fn fill_values<B: HostBackend>(
    tensor: FloatTensor<B>,
    fill: &mut dyn FnMut(&mut [f32]),
) -> FloatTensor<B> {
    if tensor.dtype() != DType::F32 {
        return uploaded_values::<B>(tensor, fill);
    }
    let mut host = Host::<B>::new(tensor);
    fill(host.values_mut());
    host.into_tensor()
}
