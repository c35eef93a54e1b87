//! A GPU trains as a CPU does: the same run on ndarray and on wgpu (and CUDA) gives the same losses and AUCs, dropout
//! included, whose bits come from a counter and not from the device.
//!
//! Bounds: rounding differs from the first step on and 26 steps of Adam carry it along. The loss of each step (near 0.6)
//! may differ by 1e-3, each AUC by 5e-3: 400 rows of a split with 40 conversions have some 14,000 pairs, of which rounding
//! may turn a few.
#![cfg(any(feature = "wgpu", feature = "cuda"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::sync::{Arc, Mutex};

use burn::tensor::backend::AutodiffBackend;
use esmm_core::EsmmBackend;
use esmm_train::config::{RunFile, TrainConfig};
use esmm_train::data::synthetic::{SyntheticConfig, write_parquet};
use esmm_train::experiment::{Experiment, RunMetrics};
use esmm_train::observe::{EvaluationRecord, Observers, StepRecord, TrainingObserver};
use esmm_train::run_dir::{Existing, RunDir};
use esmm_train::trainer::{TrainingControl, TrainingEnd};
use esmm_train::{DeviceName, OnDevice, TrainError};

const RUN_FILE: &str = include_str!("../crates/esmm-train/src/cli/synthetic.toml");

/// The losses of every step.
#[derive(Clone, Default)]
struct Losses(Arc<Mutex<Vec<f64>>>);

impl TrainingObserver for Losses {
    fn on_step(&mut self, record: &StepRecord) {
        self.0.lock().unwrap().push(record.loss);
    }

    fn on_evaluation(&mut self, _: &EvaluationRecord<'_>) {}
}

/// A training of 2 epochs, 13 steps each: 3200 rows in batches of 256, the last of 128.
struct Training<'a> {
    data: &'a Path,
    run: &'a Path,
    losses: Losses,
}

impl OnDevice for Training<'_> {
    type Output = RunMetrics;

    fn run<B>(self, device: B::Device) -> Result<RunMetrics, TrainError>
    where
        B: AutodiffBackend + EsmmBackend,
        B::InnerBackend: EsmmBackend,
    {
        let text = RUN_FILE.replace("data.parquet", &self.data.display().to_string());
        let set = [
            "train.epochs=2",
            "train.batch_size=256",
            "train.log_every=1",
            "model.dropout=0.2",
            "model.batch_norm=true",
        ];
        let config = TrainConfig::resolve(&RunFile::parse(&text, "run.toml", &set.map(str::to_owned))?)?;
        let experiment = Experiment::load(config)?;
        let run = RunDir::create(self.run, Existing::Refuse)?;
        let observers = Observers::new(vec![Box::new(self.losses)]);
        let control = TrainingControl { observers, ..TrainingControl::default() };
        experiment.save(&run)?;
        let end = experiment.train::<B>(&run, &device, &control)?;
        let TrainingEnd::Finished { best, .. } = end else { panic!("{end:?}") };
        experiment.evaluate::<B::InnerBackend>(&run, &device, best, &control.observers)
    }
}

fn agrees_with_ndarray(device: DeviceName) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data.parquet");
    write_parquet(SyntheticConfig { rows: 4000, ..SyntheticConfig::default() }, &data).unwrap();
    let train = |device: DeviceName| {
        let losses = Losses::default();
        let run = folder.path().join(device.to_string().replace(':', "-"));
        let metrics = device.run(Training { data: &data, run: &run, losses: losses.clone() }).unwrap();
        let losses = losses.0.lock().unwrap().clone();
        (losses, metrics)
    };
    let (expected, on_cpu) = train(DeviceName::NdArray);
    let (found, on_gpu) = train(device);
    assert_eq!((found.len(), expected.len()), (26, 26));
    for (step, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert!(
            (found - expected).abs() < 1e-3,
            "step {step}: loss {found} on {device}, {expected} on ndarray"
        );
    }
    for (split, found, expected) in [
        ("train", &on_gpu.train, &on_cpu.train),
        ("valid", on_gpu.valid.as_ref().unwrap(), on_cpu.valid.as_ref().unwrap()),
        ("test", on_gpu.test.as_ref().unwrap(), on_cpu.test.as_ref().unwrap()),
    ] {
        for task in ["ctr", "cvr", "ctcvr"] {
            let [found, expected] = [found, expected].map(|split| split.task(task).unwrap().auc.unwrap());
            assert!((found - expected).abs() < 5e-3, "{split}, {task}: AUC {found}, on ndarray {expected}");
        }
    }
}

#[cfg(feature = "wgpu")]
#[test]
fn wgpu_agrees_with_ndarray() {
    agrees_with_ndarray(DeviceName::Wgpu(None));
}

#[cfg(feature = "cuda")]
#[test]
fn cuda_agrees_with_ndarray() {
    agrees_with_ndarray(DeviceName::Cuda(0));
}
