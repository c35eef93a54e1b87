//! A GPU trains as a CPU does: the same run on ndarray and on wgpu (and CUDA) gives the same losses and AUCs, dropout
//! included, whose bits come from a counter and not from the device.
//!
//! Bounds: rounding differs from the first step on and 26 steps of Adam and more carry it along. The loss of each step (near 0.6)
//! may differ by 1e-3, each AUC by 5e-3: 400 rows of a split with 40 conversions have some 14,000 pairs, of which rounding
//! may turn a few. With hidden matmuls of factors in f16 losses within 3.5e-4 and AUCs within 9e-4 were seen, and bounds are
//! five times that, which tf32 gets as well; bf16 keeps three bits less and gets eight times as much.
#![cfg(any(feature = "wgpu", feature = "cuda"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::sync::{Arc, Mutex};

use burn::optim::GradientsAccumulator;
use burn::train::TrainStep;
use esmm_aliccp::{GenerateConfig, PrepareConfig, generate, prepare};
use esmm_core::{
    BatchBuilder, BatchInput, EsmmConfig, Feature, FeatureSchema, Precision, RowGroups, Side, SparseInput,
    TowersConfig, TrainBackend,
};
use esmm_train::checkpoint::Checkpoints;
use esmm_train::config::{RunFile, TrainConfig};
use esmm_train::data::loader::{EsmmBatch, RowLabels};
use esmm_train::data::synthetic::{SyntheticConfig, write_parquet};
use esmm_train::experiment::{Experiment, RunMetrics};
use esmm_train::observe::{Observers, StepRecord, TrainingObserver};
use esmm_train::optimizer::{SharedOptimizer, TableOptimizerConfig, TableRule, TowerOptimizerConfig};
use esmm_train::run_dir::{Existing, RunDir};
use esmm_train::trainer::TrainingControl;
use esmm_train::{DeviceName, EsmmLearner, EsmmLearnerConfig, EsmmLoss, OnDevice, TrainError};

const RUN_FILE: &str = include_str!("../../crates/esmm-train/src/cli/synthetic.toml");

/// The losses of every step.
#[derive(Clone, Default)]
struct Losses(Arc<Mutex<Vec<f64>>>);

impl TrainingObserver for Losses {
    fn on_step(&mut self, record: &StepRecord) {
        self.0.lock().unwrap().push(record.loss);
    }
}

/// Panics at a step, as Burn and CubeCL do where a driver is lost.
struct DriverLoss(Option<u64>);

impl TrainingObserver for DriverLoss {
    fn on_step(&mut self, record: &StepRecord) {
        assert!(self.0 != Some(record.step), "the driver is gone");
    }
}

/// What is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    /// The built-in funnel: 2 epochs of 13 steps, 3200 rows in batches of 256, the last of 128.
    Funnel,
    /// Impressions like those of Ali-CCP, users' features and their weighted lists given once a group: 2 epochs of whole
    /// groups in batches of about 128 rows.
    Groups,
}

impl Task {
    /// Writes the data; a run file.
    fn run_file(self, folder: &Path) -> String {
        match self {
            Self::Funnel => {
                let data = folder.join("data.parquet");
                write_parquet(SyntheticConfig { rows: 4000, ..SyntheticConfig::default() }, &data).unwrap();
                RUN_FILE.replace("data.parquet", &data.display().to_string())
            }
            Self::Groups => {
                let [raw, out] = ["raw", "out"].map(|name| folder.join(name));
                let rates = GenerateConfig::new(&raw, 2600, 7);
                generate(&GenerateConfig { click_rate: 0.3, conversion_rate: 0.1, ..rates }).unwrap();
                prepare(&PrepareConfig::new(raw, &out), &mut |_| ()).unwrap();
                std::fs::read_to_string(out.join("run.toml")).unwrap()
            }
        }
    }

    fn settings(self) -> &'static [&'static str] {
        match self {
            Self::Funnel => {
                &["train.batch_size=256", "train.schedule.decay='linear'", "model.batch_norm=true"]
            }
            // Without a batch norm: of what all groups of a batch have in common it leaves a gradient of rounding, which Adam
            // makes as large as any other.
            Self::Groups => &["train.batch_size=128", "model.hidden=[16, 8]", "model.embedding_dim=4"],
        }
    }
}

/// A training of 2 epochs.
struct Training<'a> {
    task: Task,
    /// Its run file.
    text: &'a str,
    run: &'a Path,
    precision: Precision,
    losses: Losses,
    existing: Existing,
    fails_at: Option<u64>,
}

impl<'a> Training<'a> {
    fn new(task: Task, text: &'a str, run: &'a Path) -> Self {
        let precision = Precision::F32;
        let existing = Existing::Refuse;
        Self { task, text, run, precision, losses: Losses::default(), existing, fails_at: None }
    }

    /// Losses and metrics.
    fn on(self, device: DeviceName) -> Result<(Vec<f64>, RunMetrics), TrainError> {
        let losses = self.losses.clone();
        let precision = format!("train.precision={}", self.precision);
        let set = [
            "train.epochs=2",
            "train.log_every=1",
            "train.checkpoint_every=5",
            "model.dropout=0.2",
            // The bounds are those of this rate.
            "train.towers.learning_rate=1e-3",
            &precision,
        ];
        let set: Vec<String> = set.iter().chain(self.task.settings()).map(|set| (*set).to_owned()).collect();
        let config = TrainConfig::resolve(&RunFile::parse(self.text, "run.toml", &set)?)?;
        let experiment = Experiment::load(config)?;
        let resume = matches!(self.existing, Existing::Resume);
        let run = RunDir::create(self.run, self.existing)?;
        let observers = Observers::new(vec![Box::new(self.losses), Box::new(DriverLoss(self.fails_at))]);
        let control = TrainingControl { observers, resume, ..TrainingControl::default() };
        let trained = experiment.run(&run, &device.open()?, &control)?;
        let losses = losses.0.lock().unwrap().clone();
        Ok((losses, trained.metrics.unwrap()))
    }
}

/// A driver is lost at step 12: the error says so, the checkpoint of step 10 is whole, and a training that goes on from it
/// ends as one that was never disturbed, bit for bit.
fn survives_its_driver(task: Task, device: DeviceName) {
    let folder = tempfile::tempdir().unwrap();
    let text = task.run_file(folder.path());
    let [whole, broken] = ["whole", "broken"].map(|name| folder.path().join(name));
    let (losses, metrics) = Training::new(task, &text, &whole).on(device).unwrap();
    let error =
        Training { fails_at: Some(12), ..Training::new(task, &text, &broken) }.on(device).unwrap_err();
    assert_eq!(error.to_string(), format!("device `{device}` failed: the driver is gone"));
    let run = RunDir::open(&broken).unwrap();
    assert_eq!(Checkpoints::new(run.checkpoint()).newest().unwrap().step, 10);
    let again = Training { existing: Existing::Resume, ..Training::new(task, &text, &broken) };
    let (later_losses, later_metrics) = again.on(device).unwrap();
    assert_eq!(later_losses, losses[10..]);
    assert_eq!(later_metrics, metrics);
}

/// How far a loss and an AUC may be from those on ndarray.
#[derive(Clone, Copy)]
struct Bounds {
    loss: f64,
    auc: f64,
}

/// Trains on ndarray and on the device, there in each of these precisions that it has.
fn agrees_with_ndarray(task: Task, device: DeviceName, precisions: &[(Precision, Bounds)]) {
    let folder = tempfile::tempdir().unwrap();
    let text = task.run_file(folder.path());
    let train = |device: DeviceName, precision: Precision| {
        let run = folder.path().join(format!("{device}-{precision}").replace(':', "-"));
        Training { precision, ..Training::new(task, &text, &run) }.on(device).unwrap()
    };
    let expected = train(DeviceName::NdArray, Precision::F32);
    for (precision, bounds) in precisions {
        if device.check().unwrap().precisions.contains(precision) {
            compare(&format!("{device} in {precision}"), &train(device, *precision), &expected, bounds);
        } else {
            eprintln!("{device} has no {precision}: not run");
        }
    }
}

fn compare(
    what: &str,
    (losses, metrics): &(Vec<f64>, RunMetrics),
    (expected_losses, expected_metrics): &(Vec<f64>, RunMetrics),
    bounds: &Bounds,
) {
    assert_eq!(losses.len(), expected_losses.len());
    assert!(losses.len() >= 26, "{} steps", losses.len());
    let mut largest = Bounds { loss: 0.0, auc: 0.0 };
    for (step, (found, expected)) in losses.iter().zip(expected_losses).enumerate() {
        let difference = (found - expected).abs();
        largest.loss = largest.loss.max(difference);
        assert!(difference < bounds.loss, "step {step}: loss {found} on {what}, {expected} on ndarray");
    }
    assert_eq!(metrics.valid.is_some(), expected_metrics.valid.is_some());
    let valid = metrics.valid.as_ref().zip(expected_metrics.valid.as_ref());
    let splits = [
        Some(("train", &metrics.train, &expected_metrics.train)),
        valid.map(|(found, expected)| ("valid", found, expected)),
        Some(("test", metrics.test.as_ref().unwrap(), expected_metrics.test.as_ref().unwrap())),
    ];
    for (split, found, expected) in splits.into_iter().flatten() {
        for task in ["ctr", "cvr", "ctcvr"] {
            let [found, expected] = [found, expected].map(|split| split.task(task).unwrap().auc.unwrap());
            let difference = (found - expected).abs();
            largest.auc = largest.auc.max(difference);
            assert!(difference < bounds.auc, "{split}, {task}: AUC {found} on {what}, on ndarray {expected}");
        }
    }
    eprintln!("{what}: losses within {:.1e}, AUCs within {:.1e} of ndarray's", largest.loss, largest.auc);
}

const F32: (Precision, Bounds) = (Precision::F32, Bounds { loss: 1e-3, auc: 5e-3 });
const ELEVEN_BITS: Bounds = Bounds { loss: 2e-3, auc: 5e-3 };

#[cfg(feature = "wgpu")]
#[test]
fn wgpu_agrees_with_ndarray() {
    agrees_with_ndarray(Task::Funnel, DeviceName::Wgpu(None), &[F32, (Precision::F16, ELEVEN_BITS)]);
}

#[cfg(feature = "wgpu")]
#[test]
fn wgpu_agrees_with_ndarray_on_groups() {
    agrees_with_ndarray(Task::Groups, DeviceName::Wgpu(None), &[F32]);
}

#[cfg(feature = "wgpu")]
#[test]
fn wgpu_goes_on_with_groups() {
    survives_its_driver(Task::Groups, DeviceName::Wgpu(None));
}

#[cfg(feature = "wgpu")]
#[test]
fn wgpu_survives_its_driver() {
    survives_its_driver(Task::Funnel, DeviceName::Wgpu(None));
}

#[cfg(feature = "cuda")]
#[test]
fn cuda_survives_its_driver() {
    survives_its_driver(Task::Funnel, DeviceName::Cuda(0));
}

#[cfg(feature = "cuda")]
#[test]
fn cuda_agrees_with_ndarray() {
    let rounded = [
        (Precision::Tf32, ELEVEN_BITS),
        (Precision::Bf16, Bounds { loss: 1.6e-2, auc: 4e-2 }),
        (Precision::F16, ELEVEN_BITS),
    ];
    let precisions = [&[F32][..], &rounded].concat();
    for task in [Task::Funnel, Task::Groups] {
        agrees_with_ndarray(task, DeviceName::Cuda(0), &precisions);
    }
}

/// What `copies.rs` shows on ndarray, where the device finds the distinct rows: gradients of several steps are added up,
/// and a learner whose clones trained is as it was. The batches share some rows and not others.
struct SeveralSteps {
    /// Whether two rows each share their user.
    with_groups: bool,
}

impl OnDevice for SeveralSteps {
    type Output = ();

    fn run<B>(self, device: B::Device) -> Result<(), TrainError>
    where
        B: TrainBackend,
    {
        const RATE: f64 = 0.1;
        let features = vec![Feature::sparse("user", Side::User, 50), Feature::sparse("item", Side::Item, 30)];
        let schema = FeatureSchema::new(features).unwrap();
        let towers = TowersConfig {
            hidden: vec![6],
            dropout: vec![0.0],
            batch_norm: true,
            ..EsmmConfig::new(schema.clone()).towers
        };
        let config = EsmmConfig { embedding_dim: 4, towers, ..EsmmConfig::new(schema.clone()) };
        let tables = TableOptimizerConfig { rule: TableRule::Sgd, learning_rate_ratio: 1.0, l2: 0.0 };
        let learner = EsmmLearnerConfig { loss: EsmmLoss::new(2), tables, clip_norm: None, seed: 1 };
        let start: EsmmLearner<B> = learner.init(config.init(&device).unwrap());
        let optimizer =
            || SharedOptimizer::new(&TowerOptimizerConfig::Sgd { momentum: 0.9, weight_decay: 0.0 });
        let mut builder = BatchBuilder::for_backend::<B>(&schema);
        let mut batch = |number: u32| {
            let num_users = if self.with_groups { 4 } else { 8 };
            let users: Vec<u32> = (0..num_users).map(|row| (row * 7 + number * 3) % 50).collect();
            let items: Vec<u32> = (0..8).map(|row| (row * row + number) % 30).collect();
            let sparse = [SparseInput::Single(&users), SparseInput::Single(&items)];
            let of_rows = [0, 1, 2, 3, 3, 2, 1, 0];
            let groups = self.with_groups.then_some(RowGroups { count: 4, of_rows: &of_rows });
            let input = BatchInput { rows: 8, sparse: &sparse, dense: &[], groups };
            let labels = RowLabels { depth: vec![0, 1, 2, 0, 1, 0, 2, 0], ..RowLabels::default() };
            let features = builder.build(input).unwrap().into_device::<B>(&device);
            assert!(features.touched.is_none(), "the host has found the distinct rows");
            assert_eq!(features.bags.groups.is_some(), self.with_groups);
            EsmmBatch { features, reached: labels.reached(2, &device), labels: Arc::new(labels) }
        };
        let table = |learner: &EsmmLearner<B>| -> Vec<f32> {
            learner.model.embeddings.table.value().into_data().iter().collect()
        };
        let before = table(&start);
        let mut alone = Vec::new();
        for number in [0, 1] {
            let clone = start.clone();
            let grads = TrainStep::step(&clone, batch(number)).grads;
            alone.push(table(&clone.optimize::<B, _>(&mut optimizer(), RATE, grads)));
        }
        assert_eq!(table(&start), before, "a clone's training has reached into the learner");
        let best = start.clone();
        let mut accumulator = GradientsAccumulator::new();
        for number in [0, 1] {
            accumulator.accumulate(&start, TrainStep::step(&start, batch(number)).grads);
        }
        let both = table(&start.optimize::<B, _>(&mut optimizer(), RATE, accumulator.grads()));
        assert_eq!(table(&best), before, "the clone has changed");
        let mut changed = 0;
        for (place, both) in both.iter().enumerate() {
            let expected = alone[0][place] + alone[1][place] - before[place];
            assert!((both - expected).abs() < 1e-6, "place {place}: {both}, expected {expected}");
            changed += usize::from((both - before[place]).abs() > 1e-7);
        }
        assert!(changed > 30, "only {changed} values have changed");
        Ok(())
    }
}

#[cfg(feature = "wgpu")]
#[test]
fn wgpu_adds_up_several_steps() {
    for with_groups in [false, true] {
        DeviceName::Wgpu(None).run(SeveralSteps { with_groups }).unwrap();
    }
}

#[cfg(feature = "cuda")]
#[test]
fn cuda_adds_up_several_steps() {
    for with_groups in [false, true] {
        DeviceName::Cuda(0).run(SeveralSteps { with_groups }).unwrap();
    }
}
