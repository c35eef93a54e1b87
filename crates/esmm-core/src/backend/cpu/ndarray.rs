//! Slices of burn-ndarray's tensors.

use burn::tensor::ops::FloatTensor;
use burn::tensor::{TensorData, TensorMetadata};
use burn_ndarray::{NdArray, NdArrayTensor};

use super::Cpu;
use super::tensor::HostBackend;
use crate::backend::{DeviceFacts, Dispatched, EsmmBackend, HostAccess};

#[allow(clippy::wildcard_enum_match_arm, reason = "types of elements are Burn's")]
impl HostBackend for NdArray {
    fn contiguous(tensor: NdArrayTensor) -> NdArrayTensor {
        match tensor {
            NdArrayTensor::F32(storage) if !storage.view().is_standard_layout() => {
                Self::tensor(storage.view().iter().copied().collect(), storage.shape())
            }
            tensor => tensor,
        }
    }

    fn values(tensor: &NdArrayTensor) -> &[f32] {
        let slice = match tensor {
            NdArrayTensor::F32(storage) => storage.view().to_slice(),
            _ => None,
        };
        slice.unwrap_or_else(|| panic!("a {:?} tensor is not contiguous f32", tensor.dtype()))
    }

    fn values_mut(tensor: &mut NdArrayTensor) -> &mut [f32] {
        let dtype = tensor.dtype();
        let slice = match tensor {
            NdArrayTensor::F32(storage) => storage.ensure_owned().as_slice_mut(),
            _ => None,
        };
        slice.unwrap_or_else(|| panic!("a {dtype:?} tensor is not contiguous f32"))
    }

    fn tensor(values: Vec<f32>, shape: &[usize]) -> NdArrayTensor {
        NdArrayTensor::from_data(TensorData::new(values, shape.to_vec()))
    }
}

impl DeviceFacts for NdArray {
    const READS_POSITIONS: bool = true;
}

impl HostAccess for NdArray {
    fn with_values(tensor: FloatTensor<Self>, look: &mut dyn FnMut(&[f32])) {
        super::tensor::with_values::<Self>(tensor, look);
    }

    fn fill_values(tensor: FloatTensor<Self>, fill: &mut dyn FnMut(&mut [f32])) -> FloatTensor<Self> {
        super::tensor::fill_values::<Self>(tensor, fill)
    }
}

impl EsmmBackend for NdArray {
    type Kernels = Dispatched<Cpu>;
}
