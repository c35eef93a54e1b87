//! Copies of a learner are copies, and cost nothing while nobody needs them; every way to train trains the tables.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;

use burn::backend::Autodiff;
use burn::module::AutodiffModule;
use burn::optim::{GradientsAccumulator, GradientsParams, Optimizer};
use burn::tensor::TensorPrimitive;
use burn::train::{Learner, LearningComponentsMarker, TrainStep};
use burn_ndarray::NdArray;
use esmm_core::backend::HostAccess;
use esmm_core::{
    BatchInput, EsmmConfig, Feature, FeatureBatch, FeatureSchema, Side, SparseInput, StateDict, TowersConfig,
};
use esmm_train::config::Decay;
use esmm_train::data::loader::{EsmmBatch, RowLabels};
use esmm_train::optimizer::{
    Schedule, SharedOptimizer, TableOptimizerConfig, TableRule, TowerOptimizerConfig,
};
use esmm_train::{EsmmLearner, EsmmLearnerConfig, EsmmLoss};

type Inner = NdArray;
type B = Autodiff<Inner>;
type Towers = SharedOptimizer<EsmmLearner<B>, B>;

const RATE: f64 = 0.1;
const LAZY_ADAM: TableRule = TableRule::LazyAdam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8 };

fn schema() -> FeatureSchema {
    FeatureSchema::new(vec![Feature::sparse("user", Side::User, 50), Feature::sparse("item", Side::Item, 30)])
        .unwrap()
}

fn learner(rule: TableRule) -> EsmmLearner<B> {
    let towers = TowersConfig { hidden: vec![6], batch_norm: true, ..EsmmConfig::new(schema()).towers };
    let towers = TowersConfig { dropout: vec![0.0], ..towers };
    let config = EsmmConfig { embedding_dim: 4, towers, ..EsmmConfig::new(schema()) };
    let tables = TableOptimizerConfig { rule, learning_rate_ratio: 1.0, l2: 0.0 };
    let learner = EsmmLearnerConfig { loss: EsmmLoss::new(2), tables, clip_norm: None, seed: 1 };
    learner.init(config.init(&Default::default()).unwrap())
}

fn towers() -> Towers {
    SharedOptimizer::new(&TowerOptimizerConfig::Sgd { momentum: 0.9, weight_decay: 0.0 })
}

/// Eight rows, others for every number.
fn batch(number: u32) -> EsmmBatch<B> {
    let users: Vec<u32> = (0..8).map(|row| (row * 7 + number * 3) % 50).collect();
    let items: Vec<u32> = (0..8).map(|row| (row * row + number) % 30).collect();
    let sparse = [SparseInput::Single(&users), SparseInput::Single(&items)];
    let input = BatchInput { rows: 8, sparse: &sparse, dense: &[], groups: None };
    let labels = RowLabels { depth: vec![0, 1, 2, 0, 1, 0, 2, 0], ..RowLabels::default() };
    EsmmBatch {
        features: FeatureBatch::new(&schema(), input, &Default::default()).unwrap(),
        reached: labels.reached(2, &Default::default()),
        labels: Arc::new(labels),
    }
}

/// A step in a loop of one's own.
fn step(learner: EsmmLearner<B>, towers: &mut Towers, number: u32) -> EsmmLearner<B> {
    let step = TrainStep::step(&learner, batch(number));
    learner.optimize::<B, _>(towers, RATE, step.grads)
}

fn trained(steps: u32) -> StateDict {
    let mut towers = towers();
    (0..steps)
        .fold(learner(LAZY_ADAM), |learner, number| step(learner, &mut towers, number))
        .model
        .state_dict()
}

/// Where the values of the tables lie in memory.
fn address(learner: &EsmmLearner<B>) -> usize {
    let table = learner.model.embeddings.table.value().inner();
    let TensorPrimitive::Float(table) = table.into_primitive() else { panic!("a quantized table") };
    let mut address = 0;
    Inner::with_values(table, &mut |values| address = values.as_ptr() as usize);
    address
}

fn same(left: &StateDict, right: &StateDict) -> bool {
    left.entries.iter().all(|(name, values)| values == &right.entries[name])
}

#[test]
fn a_clone_keeps_its_weights_while_training_goes_on() {
    let mut towers = towers();
    let mut learner = (0..3).fold(learner(LAZY_ADAM), |learner, number| step(learner, &mut towers, number));
    let at_3 = learner.model.state_dict();
    let best = learner.clone();
    let valid = learner.valid();
    for number in 3..23 {
        learner = step(learner, &mut towers, number);
    }
    assert!(same(&best.model.state_dict(), &at_3), "the clone has changed");
    assert!(same(&valid.model.state_dict(), &at_3), "the copy for validation has changed");
    assert_eq!((best.steps().get(), learner.steps().get()), (3, 23));
    let now = learner.model.state_dict();
    for (name, values) in &at_3.entries {
        // Nothing counts batches, and a bias before a batch norm has no gradient.
        let is_still = name.ends_with("num_batches_tracked") || name.ends_with("ctr_hidden_0.bias");
        assert!(is_still || values != &now.entries[name], "{name} was not trained");
    }
    // And keeping it has changed nothing.
    assert!(same(&now, &trained(23)), "another training");
}

#[test]
fn a_clone_trains_on_from_where_it_was_made() {
    let mut own = towers();
    let start = (0..3).fold(learner(LAZY_ADAM), |learner, number| step(learner, &mut own, number));
    let mut copy = start.clone();
    // A clone of the optimizer would be another handle to the same one.
    let mut others = towers().load_record(Optimizer::<EsmmLearner<B>, B>::to_record(&own));
    let mut learner = start;
    for number in 3..6 {
        learner = step(learner, &mut own, number + 100);
    }
    for number in 3..6 {
        copy = step(copy, &mut others, number);
    }
    for name in ["user.weight", "item.weight"] {
        assert_ne!(copy.model.state_dict().entries[name], learner.model.state_dict().entries[name]);
    }
    assert_eq!(copy.steps().get(), 6);
    assert!(same(&copy.model.state_dict(), &trained(6)), "the other training has reached into the clone's");
}

/// Burn's Learner updates a clone of the learner that made the step: the tables must not be copied for that.
#[test]
fn burns_learner_trains_the_tables_in_place() {
    let schedule = Schedule {
        base: RATE,
        warmup_steps: 0,
        decay: Decay::Constant,
        final_factor: 1.0,
        total_steps: 9,
        step: 0,
    };
    let mut learner: Learner<LearningComponentsMarker<B, Schedule, EsmmLearner<B>, Towers>> =
        Learner::new(learner(LAZY_ADAM), towers(), schedule);
    let first = address(&learner.model());
    for number in 0..6 {
        // A validation between two steps reads the tables where they are.
        assert_eq!(address(&learner.model()), first, "before step {number}");
        drop(learner.model().valid());
        learner.lr_step();
        let step = learner.train_step(batch(number));
        learner.optimizer_step(step.grads);
    }
    assert_eq!(address(&learner.model()), first);
    assert!(same(&learner.model().model.state_dict(), &trained(6)), "another training");
    let best = learner.model();
    let step = learner.train_step(batch(6));
    learner.optimizer_step(step.grads);
    assert_eq!(address(&best), first, "the clone keeps the memory, the training copies once");
    assert_ne!(address(&learner.model()), first);
    assert!(
        same(&best.model.state_dict(), &trained(6)) && same(&learner.model().model.state_dict(), &trained(7))
    );
}

#[test]
fn gradients_of_several_steps_are_added_up() {
    let table = |learner: &EsmmLearner<B>| -> Vec<f32> {
        learner.model.embeddings.table.value().into_data().iter().collect()
    };
    // The batches share some rows and not others.
    let start = learner(TableRule::Sgd);
    let before = table(&start);
    let alone: Vec<Vec<f32>> = [0, 1].map(|number| table(&step(start.clone(), &mut towers(), number))).into();
    let mut accumulator = GradientsAccumulator::new();
    for number in [0, 1] {
        accumulator.accumulate(&start, TrainStep::step(&start, batch(number)).grads);
    }
    let both = table(&start.optimize::<B, _>(&mut towers(), RATE, accumulator.grads()));
    let mut changed = 0;
    for (place, both) in both.iter().enumerate() {
        let expected = alone[0][place] + alone[1][place] - before[place];
        assert!((both - expected).abs() < 1e-7, "place {place}: {both}, expected {expected}");
        changed += usize::from((both - before[place]).abs() > 1e-7);
    }
    assert!(changed > 40, "only {changed} values have changed");
}

#[test]
#[should_panic(expected = "an optimizer of Burn's trains the towers alone")]
fn an_optimizer_alone_is_refused() {
    let learner = learner(LAZY_ADAM);
    let grads: GradientsParams = TrainStep::step(&learner, batch(0)).grads;
    let _ = towers().step(RATE, learner, grads);
}

#[test]
#[should_panic(expected = "the tables of this learner went on with the clone that was optimized")]
fn a_learner_whose_clone_took_its_step_is_refused() {
    let learner = learner(LAZY_ADAM);
    let grads = TrainStep::step(&learner, batch(0)).grads;
    let _clone = learner.clone().optimize::<B, _>(&mut towers(), RATE, grads);
    let _ = learner.model.state_dict();
}
