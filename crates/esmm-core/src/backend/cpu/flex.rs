//! Slices of burn-flex's tensors.

use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{DType, TensorData};
use burn_flex::{Flex, FlexTensor};

use super::tensor::{HostBackend, index};
use super::{ops, ops_pooled};
use crate::backend::{
    BagPlan, InferenceLayer, InputPlan, LayerGrads, LayerInput, LayerOutput, LayerSaved, LayerSpec,
    NormInput, PooledGrads, PooledInput, PooledOutput, PooledSaved, RowState, RowUpdate, WeightState,
    WeightUpdate,
};

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

    fn indices(tensor: FlexTensor) -> Vec<u32> {
        let tensor = tensor.to_contiguous();
        match tensor.dtype() {
            DType::I32 => tensor.storage::<i32>().iter().copied().map(index).collect(),
            DType::I64 => tensor.storage::<i64>().iter().copied().map(index).collect(),
            DType::U32 => tensor.storage::<u32>().to_vec(),
            other => panic!("row numbers cannot be {other:?}"),
        }
    }
}

run_on_cpu_kernels!(Flex);
