use super::*;
use crate::schema::{Feature, Side};

fn schema() -> FeatureSchema {
    FeatureSchema::new(vec![
        Feature::sparse("user", Side::User, 5),
        Feature::bag("history", Side::User, 0, Pooling::Mean).sharing("item"),
        Feature::sparse("item", Side::Item, 4),
        Feature::dense("price", Side::Item),
    ])
    .unwrap()
}

fn build(user: &[u32], weights: Option<&[f32]>, price: &[f32]) -> Result<HostBatch, EsmmError> {
    let history = SparseInput::Bag { offsets: &[0, 2, 2], ids: &[3, 1], weights };
    let sparse = [SparseInput::Single(user), history, SparseInput::Single(&[1, 1])];
    BatchBuilder::new(&schema()).build(BatchInput { rows: 2, sparse: &sparse, dense: &[price], groups: None })
}

#[test]
fn rows_are_numbered_once_and_means_divided() {
    let batch = build(&[4, 4], Some(&[1.0, 3.0]), &[0.5, 1.5]).unwrap();
    assert_eq!(*batch.touched.unwrap().values, [4, 8, 6]);
    assert_eq!(*batch.own.entries.values, [0, 1, 2, 2, 0, 2]);
    let (segments, weights) = batch.own.weighted.unwrap();
    assert_eq!(*segments.values, [0, 1, 1, 2, 3, 5]);
    assert_eq!(weights, [1.0, 0.25, 0.75, 1.0, 1.0, 1.0]);
    assert_eq!(batch.own.dense, [0.5, 1.5]);
}

#[test]
fn batches_for_inference_name_their_rows() {
    let sparse = [
        SparseInput::Single(&[4, 4]),
        SparseInput::Bag { offsets: &[0, 2, 2], ids: &[3, 1], weights: None },
        SparseInput::Single(&[1, 1]),
    ];
    let input = BatchInput { rows: 2, sparse: &sparse, dense: &[&[0.5, 1.5]], groups: None };
    let batch = BatchBuilder::new(&schema()).build_for_inference(input).unwrap();
    assert_eq!((batch.num_touched(), batch.own.entries.values.to_vec()), (None, vec![4, 8, 6, 6, 4, 6]));
    assert_eq!(batch.own.weighted.unwrap().1, [1.0, 0.5, 0.5, 1.0, 1.0, 1.0]);
}

#[test]
fn a_builder_forgets_the_batch_before() {
    let schema = FeatureSchema::new(vec![Feature::sparse("user", Side::User, 5)]).unwrap();
    let mut builder = BatchBuilder::new(&schema);
    for user in [3, 4, 3] {
        let sparse = [SparseInput::Single(&[user])];
        let batch = builder.build(BatchInput { rows: 1, sparse: &sparse, dense: &[], groups: None }).unwrap();
        assert_eq!(*batch.touched.unwrap().values, [user]);
        assert_eq!(*batch.own.entries.values, [0]);
    }
}

#[test]
fn bad_input_names_row_and_feature() {
    let message = |result: Result<HostBatch, EsmmError>| result.unwrap_err().to_string();
    assert_eq!(
        message(build(&[0, 5], None, &[0.0, 0.0])),
        "row 1, feature `user`: id 5 is out of range, allowed are 0 to 4"
    );
    assert_eq!(
        message(build(&[0, 0], None, &[0.0, f32::NAN])),
        "row 1, feature `price`: NaN is not a finite number"
    );
    assert!(message(build(&[0, 0], Some(&[1.0, f32::INFINITY]), &[0.0, 0.0])).contains("`history`: inf"));
    assert!(message(build(&[0], None, &[0.0, 0.0])).contains("feature `user`, ids: found 1, expected 2"));
    assert!(message(build(&[0, 0], None, &[0.0])).contains("`price`, values: found 1, expected 2"));
}
