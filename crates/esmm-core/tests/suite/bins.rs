//! Dense features with bins, against the same features with a column for each bin, on every backend.

use burn::backend::Autodiff;
use burn::tensor::Tensor;
use esmm_core::{
    BatchBuilder, BatchInput, DenseFeature, DropoutKey, EsmmBackend, EsmmConfig, Feature, FeatureBatch,
    FeatureSchema, RowGroups, Side, SparseInput,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::common::{assert_near, values};

const ROWS: usize = 300;
const GROUPS: usize = 40;

/// Bins that kernels treat apart and others, a single one, and plain numbers between them.
fn dense() -> Vec<Feature> {
    vec![
        Feature::piecewise("price", Side::Item, 16),
        Feature::dense("age", Side::User),
        Feature::piecewise("weight", Side::Item, 3),
        Feature::piecewise("visits", Side::User, 12),
        Feature::piecewise("one", Side::Item, 1),
        Feature::piecewise("distance", Side::Item, 20),
    ]
}

fn sparse() -> Vec<Feature> {
    vec![Feature::sparse("user", Side::User, 50), Feature::sparse("item", Side::Item, 90)]
}

/// The schema in which each bin is a dense feature.
fn with_columns(schema: &FeatureSchema) -> FeatureSchema {
    let columns = schema.features().iter().flat_map(|feature| match feature {
        Feature::Sparse(_) => vec![feature.clone()],
        Feature::Dense(dense) => {
            dense.columns().into_iter().map(|name| Feature::dense(name, dense.side)).collect()
        }
    });
    FeatureSchema::new(columns.collect()).unwrap()
}

/// Numbers of a feature; both ends of its bins are among the positions.
fn numbers(feature: &DenseFeature, entries: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let Some(bins) = feature.bins else {
        return (0..entries).map(|_| rng.random_range(-1.0..1.0)).collect();
    };
    let number = |entry: usize| match entry {
        0 => 0.0,
        1 => bins as f32,
        _ => rng.random_range(0.0..bins as f32),
    };
    (0..entries).map(number).collect()
}

fn columns(schema: &FeatureSchema, numbers: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let features = schema.dense().zip(numbers);
    let of_feature = |(feature, numbers): (&DenseFeature, &Vec<f32>)| {
        let column =
            |column: usize| numbers.iter().map(|x| feature.values(*x).nth(column).unwrap()).collect();
        (0..feature.width()).map(column).collect::<Vec<Vec<f32>>>()
    };
    features.flat_map(of_feature).collect()
}

/// Logits, and where it is a batch for training the gradients of the first weights and of the tables.
fn outcome<B: EsmmBackend>(config: &EsmmConfig, input: BatchInput<'_>) -> Vec<Vec<f64>> {
    let device = B::Device::default();
    let batch = BatchBuilder::for_backend::<B>(&config.schema).build_for_inference(input).unwrap();
    let (batch, _) = batch.into_device_with::<B>(vec![0.0; ROWS], 1, &device);
    let mut found = vec![values(config.init::<B>(&device).unwrap().forward(&batch).conditional)];
    let model = config.init::<Autodiff<B>>(&device).unwrap();
    let built = BatchBuilder::for_backend::<B>(&config.schema).build(input).unwrap();
    let short = FeatureBatch::<Autodiff<B>>::new(&config.schema, input, &device).unwrap();
    for batch in [built.into_device_with::<Autodiff<B>>(vec![0.0; ROWS], 1, &device).0, short] {
        let forward = model.forward_train(&batch, DropoutKey { seed: 4, step: 1 });
        let logits = forward.logits.conditional.clone();
        let loss: Tensor<Autodiff<B>, 1> = logits.clone().powi_scalar(2).sum();
        let mut grads = loss.backward();
        found.push(values(logits));
        found.push(values(model.towers.layers[0].linear.weight.val().grad(&grads).unwrap()));
        if let Some(tables) = forward.touched.take_grads(&mut grads) {
            found.push(values(tables.into_rows().grads));
        }
    }
    found
}

fn bins_are_columns<B: EsmmBackend>() {
    for (features, with_groups) in
        [([sparse(), dense()].concat(), false), ([sparse(), dense()].concat(), true), (dense(), false)]
    {
        let schema = FeatureSchema::new(features).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let entries = |side| if with_groups && side == Side::User { GROUPS } else { ROWS };
        let of_rows: Vec<u32> = (0..ROWS as u32).map(|row| row % GROUPS as u32).collect();
        let groups = with_groups.then_some(RowGroups { count: GROUPS, of_rows: &of_rows });
        let ids = schema.sparse().map(|feature| {
            let id = |_| rng.random_range(0..feature.num_embeddings as u32);
            (0..entries(feature.side)).map(id).collect::<Vec<u32>>()
        });
        let ids: Vec<_> = ids.collect();
        let sparse: Vec<_> = ids.iter().map(|ids| SparseInput::Single(ids)).collect();
        let dense = schema.dense().map(|feature| numbers(feature, entries(feature.side), &mut rng));
        let dense: Vec<Vec<f32>> = dense.collect();
        let written_out = columns(&schema, &dense);
        let mut config = EsmmConfig::new(schema);
        config.embedding_dim = 8;
        config.towers.hidden = vec![24, 7];
        config.towers.dropout = vec![0.2, 0.0];
        config.towers.batch_norm = true;
        let other = EsmmConfig { schema: with_columns(&config.schema), ..config.clone() };
        let run = |config: &EsmmConfig, columns: &[Vec<f32>]| {
            let dense: Vec<&[f32]> = columns.iter().map(Vec::as_slice).collect();
            outcome::<B>(config, BatchInput { rows: ROWS, sparse: &sparse, dense: &dense, groups })
        };
        let found = run(&config, &dense);
        let expected = run(&other, &written_out);
        assert_eq!(found.len(), expected.len());
        for (place, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let scale = expected.iter().fold(0.0_f64, |scale, value| scale.max(value.abs()));
            assert!(scale > 0.0, "{place}: nothing but zeros");
            assert_near(&format!("part {place}, groups {with_groups}"), found, expected, 1e-5 * scale, 1e-5);
        }
    }
}

#[test]
fn ndarray() {
    bins_are_columns::<burn_ndarray::NdArray>();
}

#[cfg(feature = "flex")]
#[test]
fn flex() {
    bins_are_columns::<burn_flex::Flex>();
}

#[cfg(feature = "wgpu")]
#[test]
fn wgpu() {
    bins_are_columns::<burn_wgpu::Wgpu>();
}

#[test]
fn positions_beyond_the_bins_are_refused() {
    let schema = FeatureSchema::new(vec![Feature::piecewise("price", Side::Item, 4)]).unwrap();
    let message = |position: f32| {
        let input = BatchInput { rows: 2, sparse: &[], dense: &[&[4.0, position]], groups: None };
        BatchBuilder::new(&schema).build(input).unwrap_err().to_string()
    };
    let told = "is no position among its bins, allowed are 0 to 4";
    assert_eq!(message(4.5), format!("row 1, feature `price`: 4.5 {told}"));
    assert_eq!(message(-0.25), format!("row 1, feature `price`: -0.25 {told}"));
    assert_eq!(message(f32::NAN), "row 1, feature `price`: NaN is not a finite number");
}
