//! What a backend says about its device, and how values of a tensor come to the host and back.

use std::sync::Arc;

use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{Int, Shape, Tensor, TensorData, TensorMetadata};

use super::reference::{float, primitive};
use crate::precision::Precision;

/// Facts about the devices of a backend. The defaults are those of a device that computes at once, in f32.
pub trait DeviceFacts: Backend {
    /// Whether work is only queued, so that reading a value waits for all of it: a training then reads seldom.
    const QUEUES_WORK: bool = false;

    /// Whether kernels find the distinct rows of a batch on the device: a batch for training then names the arena row of
    /// each entry, as one for inference does.
    const FINDS_ROWS: bool = false;

    /// Whether kernels read positions among the bins of a dense feature ([`Bags::bins`](super::Bags::bins)). For others a
    /// batch has a column for each bin.
    const READS_POSITIONS: bool = false;

    /// What the factors of a layer's matmuls can be rounded to on this device; f32 is always among it.
    fn precisions(device: &Self::Device) -> Vec<Precision> {
        let _ = device;
        vec![Precision::F32]
    }
}

/// Values that go to a device.
#[derive(Debug, Clone)]
pub enum HostLine {
    /// Row by row, `[len / columns, columns]`.
    Matrix {
        /// The values.
        values: Vec<f32>,
        /// Columns, at least 1.
        columns: usize,
    },
    /// `[len]`.
    Floats(Vec<f32>),
    /// `[len]`, each below 2^31.
    Ints(Arc<Vec<u32>>),
}

/// Values on a device, in the order and with the shapes of the [`HostLine`]s that they were.
#[derive(Debug, Clone)]
pub enum DeviceLine<B: Backend> {
    /// A matrix or a line.
    Floats(FloatTensor<B>),
    /// A line of integers.
    Ints(IntTensor<B>),
}

/// Values of tensors in host memory, on their way to a device and back. The defaults copy.
pub trait HostAccess: Backend {
    /// Uploads all lines: in one piece where the backend can, by default one by one.
    fn upload(lines: Vec<HostLine>, device: &Self::Device) -> Vec<DeviceLine<Self>> {
        lines.into_iter().map(|line| uploaded_line(line, device)).collect()
    }

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

fn uploaded_line<B: Backend>(line: HostLine, device: &B::Device) -> DeviceLine<B> {
    // A matrix as one row: CUDA uploads short rows one by one.
    let floats = |values: Vec<f32>| {
        let len = values.len();
        Tensor::<B, 1>::from_data(TensorData::new(values, [len]), device)
    };
    match line {
        HostLine::Matrix { values, columns } => {
            let rows = values.len() / columns;
            DeviceLine::Floats(primitive(floats(values).reshape([rows, columns])))
        }
        HostLine::Floats(values) => DeviceLine::Floats(primitive(floats(values))),
        HostLine::Ints(values) => DeviceLine::Ints(upload_ints::<B>(&values, device)),
    }
}

/// Row numbers in the backend's type of integers.
pub(super) fn upload_ints<B: Backend>(values: &[u32], device: &B::Device) -> IntTensor<B> {
    let values: Vec<i32> = values.iter().map(|&value| value as i32).collect();
    let len = values.len();
    Tensor::<B, 1, Int>::from_data(TensorData::new(values, [len]), device).into_primitive()
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
