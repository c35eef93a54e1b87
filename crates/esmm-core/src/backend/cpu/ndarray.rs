//! Slices of burn-ndarray's tensors.

use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{TensorData, TensorMetadata};
use burn_ndarray::{NdArray, NdArrayTensor};

use super::tensor::{HostBackend, index};
use super::{ops, ops_pooled};
use crate::backend::{
    BagPlan, InferenceLayer, InputPlan, LayerGrads, LayerInput, LayerOutput, LayerSaved, LayerSpec,
    NormInput, PooledGrads, PooledInput, PooledOutput, PooledSaved, RowState, RowUpdate, WeightState,
    WeightUpdate,
};

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

    fn indices(tensor: NdArrayTensor) -> Vec<u32> {
        match tensor {
            NdArrayTensor::I64(storage) => match storage.view().to_slice() {
                Some(numbers) => numbers.iter().copied().map(index).collect(),
                None => storage.view().iter().copied().map(index).collect(),
            },
            NdArrayTensor::I32(storage) => storage.view().iter().copied().map(index).collect(),
            NdArrayTensor::U32(storage) => storage.view().iter().copied().collect(),
            other => panic!("row numbers cannot be {:?}", other.dtype()),
        }
    }
}

run_on_cpu_kernels!(NdArray);
