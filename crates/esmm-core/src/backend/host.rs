//! What a backend says about its device, and how values of a tensor come to the host and back.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Shape, Tensor, TensorData, TensorMetadata};

use super::reference::{float, primitive};
use crate::precision::Precision;

/// Facts about the devices of a backend. The defaults are those of a device that computes at once, in f32.
pub trait DeviceFacts: Backend {
    /// Whether work is only queued, so that reading a value waits for all of it: a training then reads seldom.
    const QUEUES_WORK: bool = false;

    /// Whether kernels sum gradients in a [`SlotOrder`](crate::SlotOrder), so that a batch should bring it.
    const READS_SLOT_ORDER: bool = false;

    /// What the factors of a layer's matmuls can be rounded to on this device; f32 is always among it.
    fn precisions(device: &Self::Device) -> Vec<Precision> {
        let _ = device;
        vec![Precision::F32]
    }
}

/// Values of tensors in host memory, for files. The defaults copy.
pub trait HostAccess: Backend {
    /// Shows the values of a tensor, row by row: where they lie, if that is host memory, or else a copy of them.
    fn with_values(tensor: FloatTensor<Self>, look: &mut dyn FnMut(&[f32])) {
        copied_values::<Self>(tensor, look);
    }

    /// Replaces the values of a tensor, row by row: where they lie, if that is host memory and has no other owner.
    /// `fill` must write all of them; what it finds there is not defined.
    fn fill_values(tensor: FloatTensor<Self>, fill: &mut dyn FnMut(&mut [f32])) -> FloatTensor<Self> {
        uploaded_values::<Self>(tensor, fill)
    }
}

/// [`HostAccess::with_values`] on any backend: copies the tensor once.
pub(super) fn copied_values<B: Backend>(tensor: FloatTensor<B>, look: &mut dyn FnMut(&[f32])) {
    let len = tensor.shape().num_elements();
    let flat = float::<B, 1>(B::float_reshape(tensor, Shape::from([len])));
    let data = flat.into_data().convert::<f32>();
    match data.as_slice::<f32>() {
        Ok(values) => look(values),
        Err(error) => panic!("{len} values are no slice of f32: {error:?}"),
    }
}

/// [`HostAccess::fill_values`] on any backend: uploads the values once.
pub(super) fn uploaded_values<B: Backend>(
    tensor: FloatTensor<B>,
    fill: &mut dyn FnMut(&mut [f32]),
) -> FloatTensor<B> {
    let shape = tensor.shape();
    let device = B::float_device(&tensor);
    drop(tensor);
    let mut values = vec![0.0; shape.num_elements()];
    fill(&mut values);
    let flat = TensorData::new(values, [shape.num_elements()]);
    B::float_reshape(primitive(Tensor::<B, 1>::from_data(flat, &device)), shape)
}
