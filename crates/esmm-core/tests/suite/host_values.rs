//! `HostAccess::with_values` and `fill_values`: row by row, in place where the tensor has one owner, and never in a tensor
//! that somebody else holds.

use burn::tensor::{DType, Tensor, TensorPrimitive};
use esmm_core::EsmmBackend;

fn seen<B: EsmmBackend>(tensor: &Tensor<B, 2>) -> (Vec<f32>, usize) {
    let mut found = (Vec::new(), 0);
    B::with_values(tensor.clone().into_primitive().tensor(), &mut |values| {
        found = (values.to_vec(), values.as_ptr() as usize);
    });
    found
}

fn filled<B: EsmmBackend>(tensor: Tensor<B, 2>, with: f32) -> Tensor<B, 2> {
    let filled = B::fill_values(tensor.into_primitive().tensor(), &mut |values| values.fill(with));
    Tensor::from_primitive(TensorPrimitive::Float(filled))
}

fn values_are_shown_and_filled_where_they_lie<B: EsmmBackend>() {
    let device = B::Device::default();
    let tensor = Tensor::<B, 2>::from_floats([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], &device);
    assert_eq!(seen(&tensor.clone().transpose()).0, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);

    let other = tensor.clone();
    let seven = filled(tensor, 7.0);
    assert_eq!((seen(&seven).0, seen(&other).0), (vec![7.0; 6], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    let (_, place) = seen(&seven);
    let eight = filled(seven, 8.0);
    assert_eq!(seen(&eight), (vec![8.0; 6], place), "in the same memory");
}

/// Tensors that are not f32, as any tensor of a backend with the default functions, are copied.
fn other_types_are_copied<B: EsmmBackend>() {
    let device = B::Device::default();
    let tensor = Tensor::<B, 2>::from_floats([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], &device);
    let tensor = tensor.cast(DType::F64).transpose();
    assert_eq!(seen(&tensor).0, [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
    let filled = filled(tensor, 1.5);
    assert_eq!(filled.dims(), [2, 3]);
    assert_eq!(filled.into_data().convert::<f32>().to_vec::<f32>().unwrap(), [1.5; 6]);
}

#[test]
fn ndarray() {
    values_are_shown_and_filled_where_they_lie::<burn_ndarray::NdArray>();
    other_types_are_copied::<burn_ndarray::NdArray>();
}

#[cfg(feature = "flex")]
#[test]
fn flex() {
    values_are_shown_and_filled_where_they_lie::<burn_flex::Flex>();
    other_types_are_copied::<burn_flex::Flex>();
}
