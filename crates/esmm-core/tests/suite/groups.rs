//! Batches whose user features are given once a group, against the same columns written out for every row.

use std::collections::BTreeMap;

use burn::backend::Autodiff;

use crate::common::{assert_near, values};
use crate::kernels::on_all_backends;
use esmm_core::{
    BatchBuilder, BatchInput, DropoutKey, Esmm, EsmmBackend, EsmmConfig, EsmmError, Feature, FeatureBatch,
    FeatureSchema, HostBatch, Pooling, RowGroups, Side, SparseInput,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const ROWS: usize = 300;
const GROUPS: usize = 9;

/// One column, with an entry for each row or group.
#[derive(Clone)]
enum Column {
    Single(Vec<u32>),
    Bag { offsets: Vec<usize>, ids: Vec<u32>, weights: Vec<f32> },
}

impl Column {
    fn random(rng: &mut ChaCha8Rng, entries: usize, rows: u32, is_bag: bool) -> Self {
        if !is_bag {
            return Self::Single((0..entries).map(|_| rng.random_range(0..rows)).collect());
        }
        let mut offsets = vec![0];
        offsets.extend((0..entries).scan(0, |end, _| {
            *end += rng.random_range(0..6);
            Some(*end)
        }));
        let ids = (0..offsets[entries]).map(|_| rng.random_range(0..rows)).collect();
        let weights = (0..offsets[entries]).map(|_| rng.random_range(0.1..2.0)).collect();
        Self::Bag { offsets, ids, weights }
    }

    fn input(&self) -> SparseInput<'_> {
        match self {
            Self::Single(ids) => SparseInput::Single(ids),
            Self::Bag { offsets, ids, weights } => SparseInput::Bag { offsets, ids, weights: Some(weights) },
        }
    }

    /// The entries of the group of each row.
    fn written_out(&self, of_rows: &[u32]) -> Self {
        let groups = of_rows.iter().map(|&group| group as usize);
        match self {
            Self::Single(ids) => Self::Single(groups.map(|group| ids[group]).collect()),
            Self::Bag { offsets, ids, weights } => {
                let mut ends = vec![0];
                let mut all_ids = Vec::new();
                let mut all_weights = Vec::new();
                for group in groups {
                    let range = offsets[group]..offsets[group + 1];
                    all_ids.extend_from_slice(&ids[range.clone()]);
                    all_weights.extend_from_slice(&weights[range]);
                    ends.push(all_ids.len());
                }
                Self::Bag { offsets: ends, ids: all_ids, weights: all_weights }
            }
        }
    }
}

/// The columns of a batch once by group and once written out.
struct Data {
    schema: FeatureSchema,
    of_rows: Vec<u32>,
    grouped: (Vec<Column>, Vec<Vec<f32>>),
    written_out: (Vec<Column>, Vec<Vec<f32>>),
}

impl Data {
    fn new(features: Vec<Feature>) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(31);
        let of_rows: Vec<u32> = (0..ROWS).map(|_| rng.random_range(0..GROUPS as u32)).collect();
        let entries = |side| if side == Side::User { GROUPS } else { ROWS };
        let schema = FeatureSchema::new(features).unwrap();
        let tables = schema.row_ranges();
        let sparse = schema.sparse().zip(tables).map(|(feature, table)| {
            Column::random(&mut rng, entries(feature.side), table.len as u32, feature.bag.is_some())
        });
        let sparse: Vec<Column> = sparse.collect();
        let dense = schema.dense().map(|feature| {
            let range = feature.bins.map_or(-1.0..1.0, |bins| 0.0..bins as f32);
            (0..entries(feature.side)).map(|_| rng.random_range(range.clone())).collect::<Vec<f32>>()
        });
        let dense: Vec<Vec<f32>> = dense.collect();
        let by_row = |column: &Column, side| match side {
            Side::User => column.written_out(&of_rows),
            _ => column.clone(),
        };
        let all_sparse = schema.sparse().zip(&sparse).map(|(feature, column)| by_row(column, feature.side));
        let all_dense = schema.dense().zip(&dense).map(|(feature, values)| match feature.side {
            Side::User => of_rows.iter().map(|&group| values[group as usize]).collect(),
            _ => values.clone(),
        });
        let written_out = (all_sparse.collect(), all_dense.collect());
        Self { schema, of_rows, grouped: (sparse, dense), written_out }
    }

    /// The batch, with or without groups.
    fn host(&self, with_groups: bool, trains: bool) -> Result<HostBatch, EsmmError> {
        let (sparse, dense) = if with_groups { &self.grouped } else { &self.written_out };
        let sparse: Vec<_> = sparse.iter().map(Column::input).collect();
        let dense: Vec<_> = dense.iter().map(Vec::as_slice).collect();
        let groups = with_groups.then_some(RowGroups { count: GROUPS, of_rows: &self.of_rows });
        let input = BatchInput { rows: ROWS, sparse: &sparse, dense: &dense, groups };
        let mut builder = BatchBuilder::new(&self.schema);
        if trains { builder.build(input) } else { builder.build_for_inference(input) }
    }

    fn batch<B: EsmmBackend>(&self, with_groups: bool, trains: bool) -> FeatureBatch<B> {
        self.host(with_groups, trains).unwrap().to_device(&Default::default())
    }

    fn config(&self) -> EsmmConfig {
        let mut config = EsmmConfig::new(self.schema.clone());
        (config.embedding_dim, config.embedding_init_std) = (16, 0.5);
        config.towers.hidden = vec![24, 7];
        config.towers.dropout = vec![0.2, 0.0];
        config.towers.batch_norm = true;
        config
    }
}

/// Bags, a shared table, dense values on both sides, features of users between others.
fn features() -> Vec<Feature> {
    vec![
        Feature::sparse("place", Side::Context, 5),
        Feature::sparse("user", Side::User, 60),
        Feature::dense("age", Side::User),
        Feature::bag("history", Side::User, 0, Pooling::Mean).sharing("item"),
        Feature::dense("price", Side::Item),
        Feature::sparse("item", Side::Item, 90),
        Feature::bag("brands", Side::User, 200, Pooling::Sum),
        Feature::bag("words", Side::Item, 40, Pooling::Sum),
        Feature::piecewise("distance", Side::Item, 12),
        Feature::dense("wealth", Side::User),
        Feature::piecewise("visits", Side::User, 9),
    ]
}

/// Logits, and gradients of their sum of squares: of the towers' first weights, and of every table row.
fn train<B: EsmmBackend>(
    model: &Esmm<Autodiff<B>>,
    batch: &FeatureBatch<Autodiff<B>>,
) -> (Vec<f64>, Vec<f64>, BTreeMap<u32, Vec<f64>>) {
    let forward = model.forward_train(batch, DropoutKey { seed: 4, step: 1 });
    let logits = forward.logits.conditional;
    let mut grads = logits.clone().powi_scalar(2).sum().backward();
    let weight = model.towers.layers[0].linear.weight.val().grad(&grads).unwrap();
    let rows = forward.touched.take_grads(&mut grads).unwrap().into_rows();
    let width = rows.grads.dims()[1];
    let numbers: Vec<u32> = rows.rows.host().to_vec();
    let of_rows = values(rows.grads).chunks_exact(width).map(<[f64]>::to_vec).collect::<Vec<_>>();
    (values(logits), values(weight), numbers.into_iter().zip(of_rows).collect())
}

/// On a GPU exponentials and roots may be off by a few units in the last place.
fn bound<B: EsmmBackend>() -> f64 {
    if B::QUEUES_WORK { 1e-5 } else { 2e-6 }
}

fn assert_same<B: EsmmBackend>(data: &Data, shared_embeddings: bool) {
    let bound = bound::<B>();
    let config = EsmmConfig { shared_embeddings, ..data.config() };
    let model = config.init::<Autodiff<B>>(&Default::default()).unwrap();
    let (logits, weight, rows) = train::<B>(&model, &data.batch(true, true));
    let (all_logits, all_weight, all_rows) = train::<B>(&model, &data.batch(false, true));
    assert_near("logits", &logits, &all_logits, bound, bound);
    let scale = all_weight.iter().fold(0.0_f64, |scale, grad| scale.max(grad.abs()));
    assert_near("weights", &weight, &all_weight, bound * scale, 0.0);
    assert!(rows.keys().eq(all_rows.keys()), "other rows were touched");
    let all_rows: Vec<f64> = all_rows.into_values().flatten().collect();
    let scale = all_rows.iter().fold(0.0_f64, |scale, grad| scale.max(grad.abs()));
    assert_near("rows", &rows.into_values().flatten().collect::<Vec<_>>(), &all_rows, bound * scale, 0.0);
    let model = config.init::<B>(&Default::default()).unwrap();
    for trains in [true, false] {
        let logits = |with_groups| values(model.forward(&data.batch(with_groups, trains)).conditional);
        assert_near("inference", &logits(true), &logits(false), bound, bound);
    }
}

fn groups_are_the_columns_written_out<B: EsmmBackend>() {
    let data = Data::new(features());
    assert_eq!(data.host(true, true).unwrap().num_groups(), Some(GROUPS));
    assert_same::<B>(&data, true);
    assert_same::<B>(&data, false);
}

/// Where users have all features, or none, rows read the columns of their groups.
fn one_sided_schemas_take_groups<B: EsmmBackend>() {
    let users = |features: Vec<Feature>| {
        let data = Data::new(features);
        assert_eq!(data.host(true, true).unwrap().num_groups(), None);
        assert_same::<B>(&data, true);
    };
    users(vec![Feature::sparse("user", Side::User, 50), Feature::dense("price", Side::Item)]);
    users(vec![Feature::sparse("item", Side::Item, 50), Feature::dense("age", Side::User)]);
    users(vec![Feature::bag("history", Side::User, 50, Pooling::Mean), Feature::dense("age", Side::User)]);
    users(vec![Feature::sparse("user", Side::User, 50), Feature::piecewise("age", Side::User, 16)]);
}

on_all_backends!(groups_are_the_columns_written_out, one_sided_schemas_take_groups);

#[test]
fn bad_groups_are_errors() {
    let data = Data::new(features());
    let sparse: Vec<_> = data.grouped.0.iter().map(Column::input).collect();
    let dense: Vec<_> = data.grouped.1.iter().map(Vec::as_slice).collect();
    let message = |groups: Option<RowGroups<'_>>| {
        let input = BatchInput { rows: ROWS, sparse: &sparse, dense: &dense, groups };
        BatchBuilder::new(&data.schema).build(input).unwrap_err().to_string()
    };
    let mut of_rows = data.of_rows.clone();
    assert!(message(None).contains("feature `user`, ids: found 9, expected 300"));
    let few = RowGroups { count: GROUPS, of_rows: &of_rows[1..] };
    assert!(message(Some(few)).contains("groups of rows: found 299, expected 300"));
    let groups = RowGroups { count: GROUPS + 1, of_rows: &of_rows };
    assert!(message(Some(groups)).contains("feature `user`, ids: found 9, expected 10"));
    of_rows[17] = 9;
    let beyond = message(Some(RowGroups { count: GROUPS, of_rows: &of_rows }));
    assert!(beyond.contains("row 17, group: found 9, expected below 9"), "{beyond}");
}
