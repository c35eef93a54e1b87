//! Ten training steps against PyTorch: same first weights, same batches, same optimizers (`tests/golden`).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::backend::Backend;
use burn::train::TrainStep;
use esmm_core::{Activation, EsmmBackend, Indices, NotebookConfig, NotebookFeature, StateDict, TrainBackend};
use esmm_train::data::loader::{EsmmBatch, RowLabels};
use esmm_train::optimizer::{
    GradientNorms, SharedOptimizer, TableOptimizerConfig, TableRule, TowerOptimizerConfig,
};
use esmm_train::{DeviceName, EsmmLearner, EsmmLearnerConfig, EsmmLoss, OnDevice, TrainError};
use serde_json::Value;

/// Runs a test on ndarray and on every GPU backend that is compiled in.
macro_rules! on_devices {
    ($($name:ident),*) => {
        mod ndarray { $(#[test] fn $name() { super::$name(super::DeviceName::NdArray); })* }
        #[cfg(feature = "wgpu")]
        mod wgpu { $(#[test] fn $name() { super::$name(super::DeviceName::Wgpu(None)); })* }
        #[cfg(feature = "cuda")]
        mod cuda { $(#[test] fn $name() { super::$name(super::DeviceName::Cuda(0)); })* }
    };
}

on_devices!(
    sgd_agrees_with_the_dense_optimizer,
    adam_with_sparse_adam_agrees,
    adam_with_rowwise_adagrad_agrees,
    adam_agrees_with_the_dense_optimizer
);

const ADAM: TowerOptimizerConfig =
    TowerOptimizerConfig::Adam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 0.0 };

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn training() -> Value {
    serde_json::from_str(&std::fs::read_to_string(golden("training.json")).unwrap()).unwrap()
}

fn features(value: &Value) -> Vec<NotebookFeature> {
    let feature = |entry: &Value| {
        let number = |index: usize| entry[index].as_u64().unwrap() as usize;
        NotebookFeature::new(entry[0].as_str().unwrap(), number(1), number(2))
    };
    value.as_array().unwrap().iter().map(feature).collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn notebook(config: &Value) -> NotebookConfig {
    let mut notebook =
        NotebookConfig::new(features(&config["user_features"]), features(&config["item_features"]));
    notebook.emb_dim = config["emb_dim"].as_u64().unwrap() as usize;
    notebook.hidden_dim = numbers(&config["hidden_dim"]).into_iter().map(|width| width as usize).collect();
    notebook.dropouts = numbers(&config["dropouts"]);
    notebook
}

fn batches<B: EsmmBackend>(
    golden: &Value,
    notebook: &NotebookConfig,
    device: &B::Device,
) -> Vec<EsmmBatch<B>> {
    let batch = |batch: &Value| {
        let rows = batch["rows"].as_array().unwrap();
        let matrix: Vec<f32> = rows.iter().flat_map(numbers).map(|cell| cell as f32).collect();
        let host = notebook.batch(&matrix, matrix.len() / rows.len()).unwrap();
        let reached = batch["reached"].as_array().unwrap();
        let depth = reached.iter().map(|row| numbers(row).iter().sum::<f64>() as u8).collect();
        let labels = RowLabels { depth, ..RowLabels::default() };
        EsmmBatch {
            features: host.to_device(device),
            reached: labels.reached(2, device),
            labels: Arc::new(labels),
        }
    };
    golden["batches"].as_array().unwrap().iter().map(batch).collect()
}

/// The same batch with every row of the arena among its leaves, as a dense embedding has them: rows that no id names
/// get a gradient of zero, and lazy Adam does to all of them what dense Adam does.
fn touching_every_row<B: Backend>(mut batch: EsmmBatch<B>, rows: usize) -> EsmmBatch<B> {
    let features = &mut batch.features;
    let device = features.bags.own.slots.device().clone();
    // Without a list of touched rows the slots are rows of the arena already.
    if let Some(touched) = &features.touched {
        let slots = features.bags.own.slots.host().iter().map(|&slot| touched.host()[slot as usize]);
        features.bags.own.slots = Indices::new(slots.collect(), &device);
    }
    features.touched = Some(Indices::new((0..rows as u32).collect(), &device));
    batch
}

struct Case {
    name: &'static str,
    every_row: bool,
    towers: TowerOptimizerConfig,
    rate: f64,
    tables: TableRule,
    table_rate: f64,
}

/// Losses and final weights of ten steps.
impl OnDevice for &Case {
    type Output = (Vec<f64>, StateDict);

    fn run<B>(self, device: B::Device) -> Result<Self::Output, TrainError>
    where
        B: TrainBackend,
    {
        let case = self;
        let golden_values = training();
        let notebook = notebook(&golden_values["config"]);
        let config = notebook.model().unwrap();
        assert_eq!(config.towers.activation, Activation::None);
        let model = config.load::<B>(&golden("training_init.safetensors"), &device).unwrap();
        let tables = TableOptimizerConfig {
            rule: case.tables,
            learning_rate_ratio: case.table_rate / case.rate,
            l2: 0.0,
        };
        let learner = EsmmLearnerConfig { loss: EsmmLoss::new(2), tables, clip_norm: None, seed: 0 };
        let mut learner: EsmmLearner<B> = learner.init(model);
        let mut optimizer = SharedOptimizer::new(&case.towers);
        let mut losses = Vec::new();
        for batch in batches::<B>(&golden_values, &notebook, &device) {
            let batch = match case.every_row {
                true => touching_every_row(batch, config.schema.num_rows()),
                false => batch,
            };
            let step = TrainStep::step(&learner, batch);
            losses.push(step.item.weighted.into_data().iter::<f64>().sum());
            learner = learner.optimize::<B, _>(&mut optimizer, case.rate, step.grads);
        }
        assert_eq!(learner.steps().get(), 10);
        Ok((losses, learner.model.state_dict()))
    }
}

fn check(device: DeviceName, case: Case) {
    let (losses, ours) = device.run(&case).unwrap();
    let golden_values = training()["optimizers"][case.name].clone();
    for (step, (ours, theirs)) in losses.iter().zip(numbers(&golden_values["losses"])).enumerate() {
        assert!((ours - theirs).abs() < 1e-4, "{}: loss of step {step}: {ours}, PyTorch {theirs}", case.name);
    }
    let theirs = StateDict::read(&golden(&format!("training_after_{}.safetensors", case.name))).unwrap();
    // Batch norm removes these shifts, so that their true gradient is 0: Adam divides rounding by rounding there, and
    // PyTorch's own f32 and f64 runs differ by more than 1e-4 (tests/golden/README.md).
    let undetermined: Vec<&str> =
        golden_values["undetermined"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let mut compared = 0;
    for (name, theirs) in &theirs.entries {
        if undetermined.contains(&name.as_str()) || name.ends_with("num_batches_tracked") {
            continue;
        }
        for (ours, theirs) in ours.entries[name].iter::<f32>().zip(theirs.iter::<f32>()) {
            assert!((ours - theirs).abs() < 1e-4, "{}: {name}: {ours}, PyTorch {theirs}", case.name);
        }
        compared += 1;
    }
    assert!(compared >= 18, "only {compared} entries compared");
}

fn sgd_agrees_with_the_dense_optimizer(device: DeviceName) {
    let towers = TowerOptimizerConfig::Sgd { momentum: 0.0, weight_decay: 0.0 };
    check(
        device,
        Case { name: "sgd", every_row: false, towers, rate: 0.05, tables: TableRule::Sgd, table_rate: 0.05 },
    );
}

fn adam_with_sparse_adam_agrees(device: DeviceName) {
    let tables = TableRule::LazyAdam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8 };
    check(
        device,
        Case { name: "sparse_adam", every_row: false, towers: ADAM, rate: 1e-3, tables, table_rate: 1e-3 },
    );
}

fn adam_with_rowwise_adagrad_agrees(device: DeviceName) {
    let tables = TableRule::Adagrad { epsilon: 1e-8 };
    check(
        device,
        Case {
            name: "rowwise_adagrad",
            every_row: false,
            towers: ADAM,
            rate: 1e-3,
            tables,
            table_rate: 0.05,
        },
    );
}

/// Distinct ids of the sparse features (those with more than one value) in a batch.
fn distinct_ids(batch: &Value, notebook: &NotebookConfig) -> usize {
    let features = notebook.user_features.iter().chain(&notebook.item_features);
    let columns: Vec<usize> =
        features.filter(|feature| feature.number > 1).map(|feature| feature.column).collect();
    let rows = batch["rows"].as_array().unwrap();
    let cells = rows
        .iter()
        .map(numbers)
        .flat_map(|row| columns.iter().map(move |&column| (column, row[column] as u64)).collect::<Vec<_>>());
    cells.collect::<HashSet<_>>().len()
}

/// The norms that a recorded step reports are those of PyTorch's gradients, tables and towers apart, and clipping by them
/// leaves the norm that was asked for.
#[test]
fn gradient_norms_agree() {
    type B = burn::backend::Autodiff<burn_ndarray::NdArray>;
    let golden_values = training();
    let notebook = notebook(&golden_values["config"]);
    let config = notebook.model().unwrap();
    let theirs = StateDict::read(&golden("training_grads.safetensors")).unwrap();
    let mut expected = [0.0, 0.0];
    for (name, grads) in &theirs.entries {
        let squares: f64 = grads.iter::<f64>().map(|grad| grad * grad).sum();
        expected[usize::from(!name.starts_with("task_"))] += squares;
    }
    let expected = expected.map(f64::sqrt);
    let step = |clip_norm: Option<f64>, measured: bool| {
        let model = config.load::<B>(&golden("training_init.safetensors"), &Default::default()).unwrap();
        let tables = TableOptimizerConfig { rule: TableRule::Sgd, learning_rate_ratio: 1.0, l2: 0.0 };
        let learner = EsmmLearnerConfig { loss: EsmmLoss::new(2), tables, clip_norm, seed: 0 }.init(model);
        learner.measured().set(measured);
        let batch = batches::<B>(&golden_values, &notebook, &Default::default()).swap_remove(0);
        let step = TrainStep::step(&learner, batch);
        assert_eq!(step.item.touched.count(), distinct_ids(&golden_values["batches"][0], &notebook));
        let left = GradientNorms::of::<B, _>(&learner, &step.grads, None).read();
        (step.item.norms.map(|norms| norms.read()), left)
    };
    let (norms, left) = step(None, true);
    for (ours, theirs) in norms.unwrap().into_iter().zip(expected) {
        assert!((ours / theirs - 1.0).abs() < 1e-5, "{norms:?}, PyTorch {expected:?}");
    }
    assert_eq!(left[0], norms.unwrap()[0]);
    assert!(step(None, false).0.is_none(), "measured though nobody asked");
    let whole = (expected[0].powi(2) + expected[1].powi(2)).sqrt();
    let (clipped, left) = step(Some(whole / 2.0), false);
    assert_eq!(clipped, norms, "norms are those before clipping");
    assert!((left[0] / expected[0] - 0.5).abs() < 1e-4, "{left:?}");
}

/// `torch.optim.Adam` adds its epsilon of 1e-8 after the bias correction, `SparseAdam` and lazy Adam before it,
/// where it weighs up to 32 times as much: the smallest gradient of a table here is 7e-7. With 1e-10 both are near 0.
fn adam_agrees_with_the_dense_optimizer(device: DeviceName) {
    let tables = TableRule::LazyAdam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-10 };
    check(device, Case { name: "adam", every_row: true, towers: ADAM, rate: 1e-3, tables, table_rate: 1e-3 });
}

/// Without the rows that a batch does not touch, lazy Adam is another optimizer: the comparison above means something.
#[test]
#[should_panic(expected = "PyTorch")]
fn lazy_adam_is_not_dense_adam() {
    let tables = TableRule::LazyAdam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8 };
    check(
        DeviceName::NdArray,
        Case { name: "adam", every_row: false, towers: ADAM, rate: 1e-3, tables, table_rate: 1e-3 },
    );
}
