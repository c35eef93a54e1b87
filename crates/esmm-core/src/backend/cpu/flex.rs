//! Slices of burn-flex's tensors.

use burn::tensor::TensorData;
use burn::tensor::ops::FloatTensor;
use burn_flex::{Flex, FlexTensor};

use super::Cpu;
use super::tensor::HostBackend;
use crate::backend::{DeviceFacts, Dispatched, EsmmBackend, HostAccess};

impl HostBackend for Flex {
    fn contiguous(tensor: FlexTensor) -> FlexTensor {
        tensor.to_contiguous()
    }

    fn values(tensor: &FlexTensor) -> &[f32] {
        tensor.storage()
    }

    fn values_mut(tensor: &mut FlexTensor) -> &mut [f32] {
        tensor.storage_mut()
    }

    fn tensor(values: Vec<f32>, shape: &[usize]) -> FlexTensor {
        FlexTensor::from_data(TensorData::new(values, shape.to_vec()))
    }
}

impl DeviceFacts for Flex {
    const READS_POSITIONS: bool = true;
}

impl HostAccess for Flex {
    fn with_values(tensor: FloatTensor<Self>, look: &mut dyn FnMut(&[f32])) {
        super::tensor::with_values::<Self>(tensor, look);
    }

    fn fill_values(tensor: FloatTensor<Self>, fill: &mut dyn FnMut(&mut [f32])) -> FloatTensor<Self> {
        super::tensor::fill_values::<Self>(tensor, fill)
    }
}

impl EsmmBackend for Flex {
    type Kernels = Dispatched<Cpu>;
}
