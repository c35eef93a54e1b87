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
                let view = storage.view();
                let turned = view.to_slice_memory_order();
                let turned = turned.and_then(|values| transposed(values, view.shape(), view.strides()));
                let values = turned.unwrap_or_else(|| view.iter().copied().collect());
                Self::tensor(values, storage.shape())
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

/// The values of a tensor in the order of its dimensions, where it is a transposed matrix; dimensions of 1 do not count.
/// `values` are as they lie in memory.
fn transposed(values: &[f32], shape: &[usize], strides: &[isize]) -> Option<Vec<f32>> {
    let dims: Vec<(usize, isize)> =
        shape.iter().copied().zip(strides.iter().copied()).filter(|(size, _)| *size > 1).collect();
    let [(rows, 1), (columns, stride)] = dims[..] else { return None };
    if stride != rows as isize {
        return None;
    }
    let mut out = Vec::with_capacity(values.len());
    for row in 0..rows {
        out.extend((0..columns).map(|column| values[column * rows + row]));
    }
    Some(out)
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

#[cfg(test)]
mod tests {
    use burn::tensor::Tensor;

    use super::*;

    type Cube = Tensor<NdArray, 3>;

    fn contiguous(tensor: Cube) -> Vec<f32> {
        let tensor = NdArray::contiguous(tensor.into_primitive().tensor());
        NdArray::values(&tensor).to_vec()
    }

    /// Of a transposed matrix, with a dimension of 1 anywhere, of a matrix with gaps, and of dimensions that are turned round.
    #[test]
    fn values_come_in_the_order_of_the_dimensions() {
        let values: Vec<f32> = (0..24).map(|value| value as f32).collect();
        let cube =
            |shape: [usize; 3]| Cube::from_data(TensorData::new(values.clone(), shape), &Default::default());
        let expected: Vec<f32> =
            (0..8).flat_map(|row| [row, row + 8, row + 16]).map(|value| value as f32).collect();
        assert_eq!(contiguous(cube([3, 8, 1]).swap_dims(0, 1)), expected);
        assert_eq!(contiguous(cube([3, 1, 8]).swap_dims(0, 2)), expected);
        assert_eq!(contiguous(cube([1, 3, 8]).swap_dims(1, 2)), expected);
        let expected: Vec<f32> = [1, 9, 17, 2, 10, 18].map(|value| value as f32).to_vec();
        assert_eq!(contiguous(cube([3, 8, 1]).slice([0..3, 1..3]).swap_dims(0, 1)), expected);
        let turned = contiguous(cube([2, 3, 4]).permute([2, 1, 0]));
        let expected: Vec<f32> = (0..4)
            .flat_map(|c| (0..3).flat_map(move |b| (0..2).map(move |a| (a * 12 + b * 4 + c) as f32)))
            .collect();
        assert_eq!(turned, expected);
    }
}
