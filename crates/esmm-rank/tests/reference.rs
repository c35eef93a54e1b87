//! The engine against `Esmm::forward`, over random models, schemas and requests.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use burn_ndarray::NdArray;
use esmm_core::{
    Activation, BatchInput, EsmmConfig, Feature, FeatureBatch, FeatureSchema, Pooling, Side, SparseInput,
    StateDict, TowersConfig,
};
use esmm_rank::{Catalogue, Columns, Part, RankError, Ranker, Request, Scratch, SharePrecision, best};
use esmm_run::correction::{Correction, Platt};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Largest difference of two probabilities: both sides add in other orders.
const TOLERANCE: f32 = 1e-6;

/// A column of one feature, one entry a row.
#[derive(Debug, Clone)]
enum Column {
    Single(Vec<u32>),
    Bag { offsets: Vec<usize>, ids: Vec<u32>, weights: Option<Vec<f32>> },
    Dense(Vec<f32>),
}

impl Column {
    fn random(rng: &mut ChaCha8Rng, feature: &Feature, len: u32, rows: usize) -> Self {
        match feature {
            Feature::Dense(dense) => {
                let range = dense.bins.map_or(-1.0..=1.0, |bins| 0.0..=bins as f32);
                Self::Dense((0..rows).map(|_| rng.random_range(range.clone())).collect())
            }
            Feature::Sparse(sparse) if sparse.bag.is_none() => {
                Self::Single((0..rows).map(|_| rng.random_range(0..len)).collect())
            }
            Feature::Sparse(_) => {
                let mut offsets = vec![0];
                for row in 0..rows {
                    offsets.push(offsets[row] + rng.random_range(0..5));
                }
                let ids = (0..offsets[rows]).map(|_| rng.random_range(0..len)).collect();
                let weighted: bool = rng.random();
                // Some bags weigh nothing.
                let weight = |rng: &mut ChaCha8Rng| [0.0, 0.5, 1.0, 1.7][rng.random_range(0..4)];
                let weights = weighted.then(|| (0..offsets[rows]).map(|_| weight(rng)).collect());
                Self::Bag { offsets, ids, weights }
            }
        }
    }

    /// The entry of the first row for all of `rows` rows.
    fn repeated(&self, rows: usize) -> Self {
        match self {
            Self::Single(ids) => Self::Single(vec![ids[0]; rows]),
            Self::Dense(values) => Self::Dense(vec![values[0]; rows]),
            Self::Bag { ids, weights, .. } => Self::Bag {
                offsets: (0..=rows).map(|row| row * ids.len()).collect(),
                ids: ids.repeat(rows),
                weights: weights.as_ref().map(|weights| weights.repeat(rows)),
            },
        }
    }

    fn sparse(&self) -> Option<SparseInput<'_>> {
        match self {
            Self::Single(ids) => Some(SparseInput::Single(ids)),
            Self::Bag { offsets, ids, weights } => {
                Some(SparseInput::Bag { offsets, ids, weights: weights.as_deref() })
            }
            Self::Dense(_) => None,
        }
    }

    fn dense(&self) -> Option<&[f32]> {
        match self {
            Self::Dense(values) => Some(values),
            Self::Single(_) | Self::Bag { .. } => None,
        }
    }
}

/// The columns of one part, ready to be borrowed.
struct Features<'a> {
    rows: usize,
    sparse: Vec<SparseInput<'a>>,
    dense: Vec<&'a [f32]>,
}

impl<'a> Features<'a> {
    fn new(columns: impl Iterator<Item = &'a Column> + Clone, rows: usize) -> Self {
        let sparse = columns.clone().filter_map(Column::sparse).collect();
        Self { rows, sparse, dense: columns.filter_map(Column::dense).collect() }
    }

    fn columns(&'a self) -> Columns<'a> {
        Columns { rows: self.rows, sparse: &self.sparse, dense: &self.dense }
    }
}

fn random_schema(rng: &mut ChaCha8Rng) -> FeatureSchema {
    let count = rng.random_range(1..8);
    let mut features: Vec<Feature> = Vec::new();
    for place in 0..count {
        let side = [Side::User, Side::Item, Side::Context][rng.random_range(0..3)];
        let (name, rows) = (format!("f{place}"), rng.random_range(1..9));
        let feature = match rng.random_range(0..5) {
            0 => Feature::dense(name, side),
            4 => Feature::piecewise(name, side, rng.random_range(1..20)),
            1 => Feature::sparse(name, side, rows),
            2 => Feature::bag(name, side, rows, Pooling::Sum),
            _ => Feature::bag(name, side, rows, Pooling::Mean),
        };
        let owner = features.iter().find(|other| matches!(other, Feature::Sparse(s) if s.shares.is_none()));
        let shared = owner.map(|owner| feature.clone().sharing(owner.name()));
        features.push(if rng.random_range(0..4) == 0 { shared.unwrap_or(feature) } else { feature });
    }
    FeatureSchema::new(features).unwrap()
}

fn random_config(rng: &mut ChaCha8Rng) -> EsmmConfig {
    let activations = [
        Activation::None,
        Activation::Relu,
        Activation::LeakyRelu { negative_slope: 0.1 },
        Activation::Prelu,
    ];
    let hidden: Vec<usize> = (0..rng.random_range(0..4)).map(|_| rng.random_range(1..40)).collect();
    let mut config = EsmmConfig::new(random_schema(rng));
    config.embedding_dim = rng.random_range(1..20);
    config.embedding_init_std = 0.5;
    config.stages = rng.random_range(2..5);
    config.shared_embeddings = rng.random_range(0..3) > 0;
    config.seed = rng.random();
    config.towers = TowersConfig {
        dropout: vec![0.0; hidden.len()],
        hidden,
        activation: activations[rng.random_range(0..4)],
        batch_norm: rng.random(),
    };
    config
}

/// The initial weights, with statistics, scales and slopes of their own in every batch norm and PReLU.
fn random_weights(rng: &mut ChaCha8Rng, config: &EsmmConfig) -> StateDict {
    let config = EsmmConfig { seed: rng.random(), ..config.clone() };
    let mut dict = config.init::<NdArray>(&Default::default()).unwrap().state_dict();
    for (name, data) in &mut dict.entries {
        if name.contains("batchnorm") && !name.ends_with("tracked") || name.contains("activation") {
            let range = if name.ends_with("bias") || name.ends_with("mean") { -0.5..0.5 } else { 0.3..1.5 };
            let values = (0..data.num_elements()).map(|_| rng.random_range(range.clone())).collect();
            *data = burn::tensor::TensorData::new::<f32, _>(values, data.shape.clone());
        }
    }
    dict
}

/// A model with one query and some candidates.
struct Case {
    config: EsmmConfig,
    /// One a model of the ensemble.
    weights: Vec<StateDict>,
    per_candidate: Vec<String>,
    rows: usize,
    /// One a feature of the schema: one row for the query, `rows` rows otherwise.
    columns: Vec<Column>,
}

impl Case {
    fn random(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let config = random_config(&mut rng);
        let members = [1, 1, 2, 3][rng.random_range(0..4)];
        let weights = (0..members).map(|_| random_weights(&mut rng, &config)).collect();
        let context = config.schema.features().iter().filter(|feature| feature.side() == Side::Context);
        let names: Vec<String> = context.map(|feature| feature.name().to_owned()).collect();
        let per_candidate: Vec<String> = names.into_iter().filter(|_| rng.random()).collect();
        let rows = rng.random_range(1..75);
        let mut case = Self { config, weights, per_candidate, rows, columns: Vec::new() };
        let ranker = case.ranker();
        let mut ranges = case.config.schema.row_ranges().into_iter();
        for feature in case.config.schema.features() {
            let is_sparse = matches!(feature, Feature::Sparse(_));
            let len = if is_sparse { ranges.next().unwrap().len as u32 } else { 0 };
            let rows = if ranker.part_of(feature) == Part::Query { 1 } else { rows };
            case.columns.push(Column::random(&mut rng, feature, len, rows));
        }
        case
    }

    fn ranker(&self) -> Ranker {
        Ranker::ensemble(&self.config, self.weights.clone(), &self.per_candidate).unwrap()
    }

    fn part<'a>(&'a self, ranker: &'a Ranker, part: Part, rows: usize) -> Features<'a> {
        let features = self.config.schema.features().iter().zip(&self.columns);
        let columns = features.filter(move |(feature, _)| ranker.part_of(feature) == part);
        Features::new(columns.map(|(_, column)| column), rows)
    }

    /// What the model itself says: `p(stage)` and `p(stage | stage before)`, `[rows, K]` each.
    fn expected(&self, ranker: &Ranker) -> [Vec<f32>; 2] {
        let device = Default::default();
        let features = self.config.schema.features().iter().zip(&self.columns);
        let written = features.map(|(feature, column)| match ranker.part_of(feature) {
            Part::Query => column.repeated(self.rows),
            Part::Item | Part::Pair => column.clone(),
        });
        let columns: Vec<Column> = written.collect();
        let all = Features::new(columns.iter(), self.rows);
        let input = BatchInput { rows: self.rows, sparse: &all.sparse, dense: &all.dense, groups: None };
        let batch = FeatureBatch::new(&self.config.schema, input, &device).unwrap();
        let stages = self.config.stages;
        let mut reach = vec![0.0_f64; self.rows * stages];
        let mut conditional = Vec::new();
        for weights in &self.weights {
            let model = self.config.init::<NdArray>(&device).unwrap();
            let logits = model.load_state_dict(weights.clone()).unwrap().forward(&batch);
            let probs = logits.reach_probs().into_data();
            let share = 1.0 / self.weights.len() as f64;
            reach.iter_mut().zip(probs.iter::<f64>()).for_each(|(sum, prob)| *sum += share * prob);
            let probs = burn::tensor::activation::sigmoid(logits.conditional);
            conditional = probs.into_data().iter::<f32>().collect();
        }
        if self.weights.len() > 1 {
            let before = |place: usize| if place.is_multiple_of(stages) { 1.0 } else { reach[place - 1] };
            conditional = (0..reach.len()).map(|place| (reach[place] / before(place)) as f32).collect();
        }
        [reach.into_iter().map(|prob| prob as f32).collect(), conditional]
    }
}

#[track_caller]
fn assert_near(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= tolerance, "{what}, {place}: {found} instead of {expected}");
    }
}

/// Candidates with their features, candidates of a catalogue, and both in one request.
#[test]
fn scores_are_those_of_the_model() {
    let mut scratch = Scratch::default();
    for seed in 0..400 {
        let case = Case::random(seed);
        let ranker = case.ranker();
        let [query, items, pairs] = [Part::Query, Part::Item, Part::Pair]
            .map(|part| case.part(&ranker, part, if part == Part::Query { 1 } else { case.rows }));
        let [reach, conditional] = case.expected(&ranker);
        let request =
            Request { query: query.columns(), listed: None, items: items.columns(), pairs: pairs.columns() };
        let scores = ranker.score(&request, &mut scratch).unwrap();
        assert_near(&format!("seed {seed}, reach"), scores.reach, &reach, TOLERANCE);
        assert_near(&format!("seed {seed}, conditional"), scores.conditional, &conditional, TOLERANCE);
        for precision in SharePrecision::ALL {
            let tolerance = match precision {
                SharePrecision::F32 => TOLERANCE,
                SharePrecision::F16 => 5e-3,
            };
            let catalogue = catalogue(&ranker, &items.columns(), precision);
            // Backwards, so that a place is not its number.
            let places: Vec<u32> = (0..case.rows as u32).rev().collect();
            let nothing = Columns::default();
            let reversed = Request { listed: Some((&catalogue, &places)), items: nothing, ..request };
            if pairs.sparse.is_empty() && pairs.dense.is_empty() {
                let scores = ranker.score(&reversed, &mut scratch).unwrap();
                let stages = case.config.stages;
                let expected: Vec<f32> = reach.rchunks(stages).flatten().copied().collect();
                let what = format!("seed {seed}, {precision:?}");
                assert_near(&what, scores.reach, &expected, tolerance);
                let both = Request { listed: Some((&catalogue, &places)), ..request };
                let scores = ranker.score(&both, &mut scratch).unwrap();
                let expected = [expected, reach.clone()].concat();
                assert_near(&format!("{what}, both"), scores.reach, &expected, tolerance);
            }
            // Pairs follow the candidates: the catalogue in its own order.
            let places: Vec<u32> = (0..case.rows as u32).collect();
            let listed = Request { listed: Some((&catalogue, &places)), items: nothing, ..request };
            let scores = ranker.score(&listed, &mut scratch).unwrap();
            assert_near(&format!("seed {seed}, pairs {precision:?}"), scores.reach, &reach, tolerance);
        }
    }
}

fn catalogue(ranker: &Ranker, items: &Columns<'_>, precision: SharePrecision) -> Catalogue {
    let mut catalogue = Catalogue::new(ranker, precision, vec!["price".to_owned()]);
    let ids: Vec<String> = (0..items.rows).map(|row| format!("i{row}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let prices: Vec<f32> = (0..items.rows).map(|row| row as f32).collect();
    catalogue.push(ranker, &ids, items, &[&prices]).unwrap();
    let bytes = Catalogue::bytes_for(ranker, precision, items.rows as u64);
    assert_eq!(catalogue.bytes(), bytes, "the memory that was stated before");
    catalogue
}

/// As the model orders them, wherever it sees a difference at all.
#[test]
fn the_order_is_that_of_the_model() {
    let mut scratch = Scratch::default();
    let mut places = Vec::new();
    for seed in 0..100 {
        let case = Case::random(seed);
        let ranker = case.ranker();
        let [query, items, pairs] = [Part::Query, Part::Item, Part::Pair]
            .map(|part| case.part(&ranker, part, if part == Part::Query { 1 } else { case.rows }));
        let request =
            Request { query: query.columns(), listed: None, items: items.columns(), pairs: pairs.columns() };
        let scores = ranker.score(&request, &mut scratch).unwrap();
        let last = case.config.stages - 1;
        let values: Vec<f32> = (0..scores.len()).map(|item| scores.reach(item)[last]).collect();
        best(&values, case.rows, &mut places);
        let [reach, _] = case.expected(&ranker);
        let expected = |place: u32| reach[place as usize * case.config.stages + last];
        for pair in places.windows(2) {
            let (before, after) = (expected(pair[0]), expected(pair[1]));
            assert!(before >= after - 2.0 * TOLERANCE, "seed {seed}: {before} before {after}");
        }
    }
}

#[test]
fn a_request_that_does_not_fit_is_refused_with_its_feature() {
    let schema = FeatureSchema::new(vec![
        Feature::sparse("user", Side::User, 7),
        Feature::dense("price", Side::Item),
        Feature::bag("tags", Side::Item, 4, Pooling::Mean),
        Feature::dense("position", Side::Context),
    ]);
    let config = EsmmConfig::new(schema.unwrap());
    let mut weights = config.init::<NdArray>(&Default::default()).unwrap().state_dict();
    // Large enough that the largest floats leave their range: infinity minus infinity.
    let first = weights.entries.get_mut("task_1_dnn.ctr_hidden_0.weight").unwrap();
    let values = first.iter::<f32>().map(|weight| weight * 100.0).collect();
    *first = burn::tensor::TensorData::new::<f32, _>(values, first.shape.clone());
    let ranker = Ranker::new(&config, weights.clone(), &["position".to_owned()]).unwrap();
    let score = |user: &[u32], price: f32, tag: u32, positions: &[f32]| {
        let tags = [SparseInput::Bag { offsets: &[0, 1], ids: &[tag], weights: None }];
        let (user, dense, positions) = ([SparseInput::Single(user)], [&[price][..]], [positions]);
        let request = Request {
            query: Columns { rows: 1, sparse: &user, dense: &[] },
            listed: None,
            items: Columns { rows: 1, sparse: &tags, dense: &dense },
            pairs: Columns { rows: positions[0].len(), sparse: &[], dense: &positions },
        };
        let mut scratch = Scratch::default();
        ranker.score(&request, &mut scratch).map(|scores| scores.len()).map_err(|error| error.to_string())
    };
    assert_eq!(score(&[6], 1.0, 3, &[0.0]), Ok(1));
    let refused = |result: Result<usize, String>, words: &[&str]| {
        let error = result.unwrap_err();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    refused(score(&[7], 1.0, 3, &[0.0]), &["`user`", "found 7", "0 to 6"]);
    refused(score(&[1, 2], 1.0, 3, &[0.0]), &["`user`", "found 2"]);
    refused(score(&[0], f32::NAN, 3, &[0.0]), &["`price`", "NaN", "finite"]);
    refused(score(&[0], 1.0, 4, &[0.0]), &["`tags`", "found 4", "0 to 3"]);
    refused(score(&[0], 1.0, 3, &[]), &["rows of pairs", "found 0", "1"]);
    refused(score(&[0], f32::MAX, 3, &[f32::MAX]), &["candidate 0", "32-bit"]);
    let error = Ranker::new(&config, weights, &["user".to_owned()]).unwrap_err();
    assert!(error.to_string().contains("(position)"), "{error}");
}

/// Corrected scores are what Platt's formula makes of the model's, of one model and of several.
#[test]
fn a_correction_is_applied_to_every_candidate() {
    let mut compared = 0;
    for seed in 0..60 {
        let case = Case::random(1000 + seed);
        let stages = case.config.stages;
        let platt =
            |stage: usize| Platt { slope: 0.7 + 0.2 * stage as f64, intercept: 0.4 - 0.3 * stage as f64 };
        let correction = Correction { stages: (0..stages).map(platt).collect() };
        let ranker = case.ranker().corrected(correction.clone()).unwrap();
        let [plain, _] = case.expected(&ranker);
        let [query, items, pairs] = [Part::Query, Part::Item, Part::Pair]
            .map(|part| case.part(&ranker, part, if part == Part::Query { 1 } else { case.rows }));
        let request =
            Request { query: query.columns(), listed: None, items: items.columns(), pairs: pairs.columns() };
        let mut scratch = Scratch::default();
        let scores = ranker.score(&request, &mut scratch).unwrap();
        for (row, plain) in plain.chunks(stages).enumerate() {
            let mut most = 1.0_f64;
            for (stage, plain) in plain.iter().map(|plain| f64::from(*plain)).enumerate() {
                let found = f64::from(scores.reach(row)[stage]);
                let given = f64::from(scores.conditional(row)[stage]);
                assert!(
                    (most * given - found).abs() < 1e-5 && given <= 1.0,
                    "{seed}: {given} x {most} is no {found}"
                );
                if (1e-3..0.999).contains(&plain) {
                    let platt = platt(stage);
                    let logit = platt.slope * (plain / (1.0 - plain)).ln() + platt.intercept;
                    let expected = (1.0 / (1.0 + (-logit).exp())).min(most);
                    assert!(
                        (found - expected).abs() < 5e-4,
                        "{seed}, {row}, {stage}: {found}, not {expected}"
                    );
                    compared += 1;
                }
                most = found;
            }
        }
    }
    assert!(compared > 1000, "{compared}");
    let case = Case::random(1);
    let other = Correction { stages: vec![Platt::default(); case.config.stages + 1] };
    assert!(matches!(case.ranker().corrected(other), Err(RankError::Mismatch(_))));
}

#[test]
fn weights_that_are_no_numbers_are_refused_by_name() {
    let case = Case::random(3);
    let mut weights = case.weights.clone();
    let name = "task_2_dnn.task_last_layer.bias";
    weights[0]
        .entries
        .insert(name.to_owned(), burn::tensor::TensorData::new::<f32, _>(vec![f32::NAN], [1_usize]));
    let error = Ranker::ensemble(&case.config, weights, &[]).unwrap_err().to_string();
    assert!(error.contains(name) && error.contains("NaN"), "{error}");
}

#[test]
fn a_refused_push_leaves_the_catalogue_as_it_was() {
    let schema =
        FeatureSchema::new(vec![Feature::sparse("user", Side::User, 2), Feature::dense("price", Side::Item)]);
    let config = EsmmConfig::new(schema.unwrap());
    let weights = config.init::<NdArray>(&Default::default()).unwrap().state_dict();
    let ranker = Ranker::new(&config, weights, &[]).unwrap();
    let mut catalogue = Catalogue::new(&ranker, SharePrecision::F16, vec![]);
    let mut push = |ids: &[&str], prices: &[f32]| {
        let columns = Columns { rows: ids.len(), sparse: &[], dense: &[prices] };
        let result = catalogue.push(&ranker, ids, &columns, &[]);
        (result.map_err(|error: RankError| error.to_string()), catalogue.len(), catalogue.place("b"))
    };
    assert_eq!(push(&["a"], &[1.0]), (Ok(()), 1, None));
    let (error, len, place) = push(&["b", "a"], &[1.0, 2.0]);
    assert!(error.unwrap_err().contains("`a` is there twice") && len == 1 && place.is_none());
    let (error, len, place) = push(&["b"], &[1e30]);
    assert!(error.unwrap_err().contains("item `b`") && len == 1 && place.is_none());
    let (error, len, _) = push(&["b", ""], &[1.0, 2.0]);
    assert!(error.unwrap_err().contains("no id") && len == 1);
    assert_eq!(push(&["b"], &[2.0]), (Ok(()), 2, Some(1)));
}
