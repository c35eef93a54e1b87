//! `HostBatch::into_device_with`: the same batch as `into_device`, and for a device that does not read host memory one upload.

use burn::tensor::Tensor;
use burn::tensor::ops::FloatTensor;
use esmm_core::backend::Bags;
use esmm_core::{
    BatchBuilder, BatchInput, EsmmBackend, Feature, FeatureBatch, FeatureSchema, HostBatch, Indices, Pooling,
    RowGroups, Side, SparseInput,
};

use crate::common::{flat, values};

/// What a batch has.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// A single feature, two dense ones.
    Singles,
    /// A feature of weighted lists as well.
    Lists,
    /// The same, that of users and a dense one given once a group, and lists of users.
    Groups,
}

const KINDS: [Kind; 3] = [Kind::Singles, Kind::Lists, Kind::Groups];

fn host_batch(kind: Kind) -> HostBatch {
    host_batch_by(kind, BatchBuilder::new)
}

fn host_batch_by(kind: Kind, builder: impl FnOnce(&FeatureSchema) -> BatchBuilder) -> HostBatch {
    let mut features = vec![
        Feature::sparse("user", Side::User, 7),
        Feature::dense("price", Side::Item),
        Feature::dense("age", Side::User),
    ];
    let words = Feature::bag("words", Side::Item, 9, Pooling::Mean);
    let history = Feature::bag("history", Side::User, 5, Pooling::Sum);
    match kind {
        Kind::Singles => {}
        Kind::Lists => features.push(words),
        Kind::Groups => features.extend([words, history]),
    }
    let schema = FeatureSchema::new(features).unwrap();
    let words = SparseInput::Bag { offsets: &[0, 2, 2, 3], ids: &[8, 0, 8], weights: Some(&[0.5, 1.5, 2.0]) };
    let history = SparseInput::Bag { offsets: &[0, 0, 2], ids: &[4, 4], weights: None };
    let singles = SparseInput::Single(&[6, 0, 6]);
    let of_groups = SparseInput::Single(&[0, 6]);
    let price: &[f32] = &[0.5, 1.5, 2.5];
    let ages: &[f32] = &[-1.0, 0.0, 4.0];
    let (sparse, dense, groups) = match kind {
        Kind::Singles => (vec![singles], [price, ages], None),
        Kind::Lists => (vec![singles, words], [price, ages], None),
        Kind::Groups => {
            let groups = RowGroups { count: 2, of_rows: &[1, 0, 1] };
            (vec![of_groups, words, history], [price, &ages[..2]], Some(groups))
        }
    };
    let input = BatchInput { rows: 3, sparse: &sparse, dense: &dense, groups };
    builder(&schema).build(input).unwrap()
}

const CELLS: [f32; 6] = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0];

fn assert_same<B: EsmmBackend>(found: &FeatureBatch<B>, expected: &FeatureBatch<B>) {
    assert_eq!(found.rows, expected.rows);
    let touched = |batch: &FeatureBatch<B>| batch.touched.as_ref().map(|rows| rows.host().to_vec());
    assert_eq!(touched(found), touched(expected));
    assert_eq!(found.bags.parts().count(), expected.bags.parts().count());
    for (found, expected) in found.bags.parts().zip(expected.bags.parts()) {
        assert_same_bags::<B>(found, expected);
    }
    let of_rows = |batch: &FeatureBatch<B>| {
        let groups = batch.bags.groups.as_ref();
        groups.map(|groups| (ints::<B>(&groups.of_rows), groups.features.clone()))
    };
    assert_eq!(of_rows(found), of_rows(expected));
}

/// Row numbers in host memory and on the device.
fn ints<B: EsmmBackend>(indices: &Indices<B>) -> (Vec<u32>, Vec<i64>) {
    let tensor: Tensor<B, 1, burn::tensor::Int> = Tensor::from_primitive(indices.tensor());
    (indices.host().to_vec(), tensor.into_data().iter::<i64>().collect())
}

type DeviceBags<B> = Bags<FloatTensor<B>, Indices<B>>;

fn assert_same_bags<B: EsmmBackend>(found: &DeviceBags<B>, expected: &DeviceBags<B>) {
    assert_eq!(
        (found.tables, found.rows, found.num_sparse),
        (expected.tables, expected.rows, expected.num_sparse)
    );
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
    for kind in KINDS {
        let host = host_batch(kind);
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
    host_batch(Kind::Singles).into_device_with::<burn_ndarray::NdArray>(vec![1.0], 2, &Default::default());
}

/// All that a batch has lies in one buffer, each part at an aligned place of its own: for training, and for scoring alone.
#[cfg(feature = "wgpu")]
#[test]
fn a_batch_is_one_upload() {
    type B = burn_wgpu::Wgpu;
    let device = Default::default();
    for (kind, parts) in [(Kind::Singles, 2), (Kind::Lists, 4), (Kind::Groups, 9)] {
        for scored in [false, true] {
            let host = host_batch(kind);
            let mut all = Vec::new();
            let batch = if scored {
                host.into_device::<B>(&device)
            } else {
                let (batch, cells) = host.into_device_with::<B>(CELLS.to_vec(), 2, &device);
                all.push(cells.into_primitive().tensor());
                batch
            };
            for bags in batch.bags.parts() {
                all.push(bags.slots.tensor());
                if let Some((segments, weights)) = &bags.weighted {
                    all.extend([segments.tensor(), weights.clone()]);
                }
                all.extend(bags.dense.clone());
            }
            all.extend(batch.bags.groups.map(|groups| groups.of_rows.tensor()));
            assert_eq!(all.len(), parts + usize::from(!scored), "{kind:?}");
            let buffers: Vec<String> = all.iter().map(|tensor| buffer_of(&tensor.handle.memory)).collect();
            assert!(buffers.iter().all(|buffer| *buffer == buffers[0]), "{kind:?}: {buffers:?}");
            let places: Vec<u64> = all.iter().map(|tensor| tensor.handle.offset_start.unwrap()).collect();
            let expected: Vec<u64> = (0..all.len() as u64).map(|place| 256 * place).collect();
            assert_eq!(places, expected, "{kind:?}");
        }
    }
}

/// What tells a buffer from others: its number alone, as where it lies is known only once the device's thread has seen the
/// upload.
#[cfg(feature = "wgpu")]
fn buffer_of(memory: &impl std::fmt::Debug) -> String {
    let text = format!("{memory:?}");
    let (number, _) = text.split_once(", location").unwrap();
    number.to_owned()
}

/// The host does not number the rows of such a batch: it names the arena row of each entry, whatever the batch was built
/// for.
#[cfg(feature = "wgpu")]
#[test]
fn the_host_looks_for_no_distinct_rows() {
    type B = burn_wgpu::Wgpu;
    let batch = host_batch_by(Kind::Groups, BatchBuilder::for_backend::<B>);
    assert_eq!(batch.num_touched(), None);
    for batch in [batch, host_batch(Kind::Groups)] {
        let batch = batch.into_device::<B>(&Default::default());
        assert!(batch.touched.is_none());
        let slots: Vec<Vec<u32>> = batch.bags.parts().map(|part| part.slots.host().to_vec()).collect();
        // `user` has rows 0 to 6, `words` 7 to 15, `history` 16 to 20.
        assert_eq!(slots, [vec![15, 7, 15], vec![0, 6, 20, 20]]);
    }
}
