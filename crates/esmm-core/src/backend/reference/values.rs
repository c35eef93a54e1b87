//! The values of a tensor in host memory, for files.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Shape, Tensor, TensorData, TensorMetadata};

use super::{float, primitive};

/// See [`EsmmBackend::with_values`](crate::EsmmBackend::with_values). Copies the tensor once.
pub fn with_values<B: Backend>(tensor: FloatTensor<B>, look: &mut dyn FnMut(&[f32])) {
    let len = tensor.shape().num_elements();
    let flat = float::<B, 1>(B::float_reshape(tensor, Shape::from([len])));
    let data = flat.into_data().convert::<f32>();
    match data.as_slice::<f32>() {
        Ok(values) => look(values),
        Err(error) => panic!("{len} values are no slice of f32: {error:?}"),
    }
}

/// See [`EsmmBackend::fill_values`](crate::EsmmBackend::fill_values). Uploads the values once.
pub fn fill_values<B: Backend>(tensor: FloatTensor<B>, fill: &mut dyn FnMut(&mut [f32])) -> FloatTensor<B> {
    let (shape, device) = (tensor.shape(), B::float_device(&tensor));
    drop(tensor);
    let mut values = vec![0.0; shape.num_elements()];
    fill(&mut values);
    let flat = TensorData::new(values, [shape.num_elements()]);
    B::float_reshape(primitive(Tensor::<B, 1>::from_data(flat, &device)), shape)
}
