//! `HostBatch::into_device_with`: the same batch as `into_device`, and for a device that does not read host memory one upload.

use burn::tensor::Tensor;
use esmm_core::{
    BatchBuilder, BatchInput, EsmmBackend, Feature, FeatureBatch, FeatureSchema, HostBatch, Pooling, Side,
    SparseInput,
};

use crate::common::{flat, values};

/// A single feature, one of weighted lists, two dense ones.
fn host_batch(lists: bool) -> HostBatch {
    let mut features = vec![
        Feature::sparse("user", Side::User, 7),
        Feature::dense("price", Side::Item),
        Feature::dense("age", Side::User),
    ];
    if lists {
        features.push(Feature::bag("words", Side::Item, 9, Pooling::Mean));
    }
    let schema = FeatureSchema::new(features).unwrap();
    let offsets = [0, 2, 2, 3];
    let words = SparseInput::Bag { offsets: &offsets, ids: &[8, 0, 8], weights: Some(&[0.5, 1.5, 2.0]) };
    let sparse = [SparseInput::Single(&[6, 0, 6]), words];
    let sparse = if lists { &sparse[..] } else { &sparse[..1] };
    let input = BatchInput { rows: 3, sparse, dense: &[&[0.5, 1.5, 2.5], &[-1.0, 0.0, 4.0]], groups: None };
    BatchBuilder::new(&schema).build(input).unwrap()
}

const CELLS: [f32; 6] = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0];

fn assert_same<B: EsmmBackend>(found: &FeatureBatch<B>, expected: &FeatureBatch<B>) {
    assert_eq!(found.rows, expected.rows);
    let touched = |batch: &FeatureBatch<B>| batch.touched.as_ref().map(|rows| rows.host().to_vec());
    assert_eq!(touched(found), touched(expected));
    let [found, expected] = [&found.bags.own, &expected.bags.own];
    assert_eq!(
        (found.tables, found.rows, found.num_sparse),
        (expected.tables, expected.rows, expected.num_sparse)
    );
    let ints = |indices: &esmm_core::Indices<B>| {
        let tensor: Tensor<B, 1, burn::tensor::Int> = Tensor::from_primitive(indices.tensor());
        (indices.host().to_vec(), tensor.into_data().iter::<i64>().collect::<Vec<_>>())
    };
    assert_eq!(ints(&found.slots), ints(&expected.slots));
    assert_eq!(found.weighted.is_some(), expected.weighted.is_some());
    if let Some((found, expected)) = found.weighted.as_ref().zip(expected.weighted.as_ref()) {
        assert_eq!(ints(&found.0), ints(&expected.0));
        assert_eq!(flat::<B>(&found.1), flat::<B>(&expected.1));
    }
    assert_eq!(found.dense.as_ref().map(flat::<B>), expected.dense.as_ref().map(flat::<B>));
}

fn a_batch_arrives<B: EsmmBackend>() {
    let device = B::Device::default();
    for lists in [false, true] {
        let host = host_batch(lists);
        let (found, cells) = host.clone().into_device_with::<B>(CELLS.to_vec(), 2, &device);
        assert_same::<B>(&found, &host.into_device(&device));
        assert_eq!(cells.dims(), [3, 2]);
        assert_eq!(values(cells), CELLS.map(f64::from));
    }
}

#[test]
fn ndarray() {
    a_batch_arrives::<burn_ndarray::NdArray>();
}

#[cfg(feature = "flex")]
#[test]
fn flex() {
    a_batch_arrives::<burn_flex::Flex>();
}

#[cfg(feature = "wgpu")]
#[test]
fn wgpu() {
    a_batch_arrives::<burn_wgpu::Wgpu>();
}

#[test]
#[should_panic(expected = "cells of 3 rows, 2 each")]
fn cells_of_another_batch() {
    host_batch(false).into_device_with::<burn_ndarray::NdArray>(vec![1.0], 2, &Default::default());
}

/// All that a batch has lies in one buffer, each part at an aligned place of its own.
#[cfg(feature = "wgpu")]
#[test]
fn a_batch_is_one_upload() {
    type B = burn_wgpu::Wgpu;
    let (batch, cells) = host_batch(true).into_device_with::<B>(CELLS.to_vec(), 2, &Default::default());
    let own = batch.bags.own;
    let (segments, weights) = own.weighted.unwrap();
    let all =
        [cells.into_primitive().tensor(), own.slots.tensor(), segments.tensor(), weights, own.dense.unwrap()];
    let buffers: Vec<String> = all.iter().map(|tensor| format!("{:?}", tensor.handle.memory)).collect();
    assert!(buffers.iter().all(|buffer| *buffer == buffers[0]), "{buffers:?}");
    let places: Vec<u64> = all.iter().map(|tensor| tensor.handle.offset_start.unwrap()).collect();
    assert_eq!(places, [0, 256, 512, 768, 1024]);
}

/// The host neither numbers nor sorts the rows of such a batch: it names the arena row of each entry.
#[cfg(feature = "wgpu")]
#[test]
fn the_host_looks_for_no_distinct_rows() {
    let features = vec![Feature::sparse("user", Side::User, 7), Feature::sparse("item", Side::Item, 9)];
    let schema = FeatureSchema::new(features).unwrap();
    let sparse = [SparseInput::Single(&[6, 0, 6]), SparseInput::Single(&[8, 8, 1])];
    let input = BatchInput { rows: 3, sparse: &sparse, dense: &[], groups: None };
    let batch = BatchBuilder::for_backend::<burn_wgpu::Wgpu>(&schema).build(input).unwrap();
    assert_eq!(batch.num_touched(), None);
    let batch = batch.into_device::<burn_wgpu::Wgpu>(&Default::default());
    assert_eq!(batch.bags.own.slots.host(), [6, 15, 0, 15, 6, 8]);
}
