//! An observer of a training sees every recorded step and every measured split, and changes nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::sync::{Arc, Mutex};

use esmm_train::DeviceName;
use esmm_train::config::{RunFile, TrainConfig};
use esmm_train::data::synthetic::{SyntheticConfig, write_parquet};
use esmm_train::experiment::{Experiment, RunMetrics};
use esmm_train::observe::{EvaluationRecord, Moment, Observers, StepRecord, TrainingObserver};
use esmm_train::run_dir::{Existing, RunDir};
use esmm_train::trainer::TrainingControl;

const RUN_FILE: &str = include_str!("../../crates/esmm-train/src/cli/synthetic.toml");

#[derive(Default)]
struct Seen {
    started: Vec<u64>,
    steps: Vec<StepRecord>,
    evaluations: Vec<(String, Moment, u64, u64, Option<f64>)>,
}

struct Onlooker(Arc<Mutex<Seen>>);

impl TrainingObserver for Onlooker {
    fn on_start(&mut self, step: u64) {
        self.0.lock().unwrap().started.push(step);
    }

    fn on_step(&mut self, record: &StepRecord) {
        self.0.lock().unwrap().steps.push(record.clone());
    }

    fn on_evaluation(&mut self, record: &EvaluationRecord<'_>) {
        assert_eq!(&record.scores.metrics(), record.metrics);
        let auc = record.metrics.task("ctcvr").unwrap().auc;
        let seen = (record.split.to_owned(), record.moment, record.step, record.epoch, auc);
        self.0.lock().unwrap().evaluations.push(seen);
    }
}

/// 4000 rows, 3200 of them for training: 13 steps of 256 rows an epoch, the last of 128.
fn train(folder: &Path, observers: Observers) -> (RunMetrics, Vec<u8>) {
    let data = folder.join("data.parquet");
    write_parquet(SyntheticConfig { rows: 4000, ..SyntheticConfig::default() }, &data).unwrap();
    let text = RUN_FILE.replace("data.parquet", &data.display().to_string());
    let set = [
        "train.epochs=2",
        "train.batch_size=256",
        "train.log_every=5",
        "train.towers.learning_rate=1e-3",
        "train.schedule.decay='linear'",
    ];
    let set = set.map(str::to_owned);
    let config = TrainConfig::resolve(&RunFile::parse(&text, "run.toml", &set).unwrap()).unwrap();
    let experiment = Experiment::load(config).unwrap();
    let run = RunDir::create(&folder.join("run"), Existing::Refuse).unwrap();
    let control = TrainingControl { observers, ..TrainingControl::default() };
    let trained = experiment.run(&run, &DeviceName::NdArray.open().unwrap(), &control).unwrap();
    (trained.metrics.unwrap(), std::fs::read(run.weights()).unwrap())
}

#[test]
fn an_observer_sees_all_and_changes_nothing() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let seen = Arc::new(Mutex::new(Seen::default()));
    let (metrics, weights) = train(folder.path(), Observers::new(vec![Box::new(Onlooker(seen.clone()))]));
    let seen = seen.lock().unwrap();

    assert_eq!(seen.started, [0]);
    assert_eq!(seen.steps.iter().map(|record| record.step).collect::<Vec<_>>(), [5, 10, 15, 20, 25]);
    assert_eq!(seen.steps.iter().map(|record| record.epoch).collect::<Vec<_>>(), [1, 1, 2, 2, 2]);
    for record in &seen.steps {
        assert_eq!((record.rows, record.task_losses.len()), (256, 2));
        // Task weights are 1, so the total is the sum.
        assert!((record.loss - record.task_losses.iter().sum::<f64>()).abs() < 1e-6, "{record:?}");
        assert!(record.tower_gradient_norm > 0.0 && record.table_gradient_norm > 0.0, "{record:?}");
        assert!(record.touched_rows > 0, "{record:?}");
        assert!(record.rows_per_second > 0.0 && (0.0..=1.0).contains(&record.waiting), "{record:?}");
    }
    // Linear decay from 1e-3 over 26 steps to a hundredth of it.
    let rate = seen.steps[4].tower_learning_rate;
    assert!((rate - 1e-3 * (1.0 - 0.99 * 25.0 / 26.0)).abs() < 1e-9, "{rate}");

    let auc = |split: &Option<esmm_train::metric::SplitMetrics>| split.as_ref()?.task("ctcvr")?.auc;
    let places: Vec<_> =
        seen.evaluations.iter().map(|(split, moment, ..)| (split.as_str(), *moment)).collect();
    let (during, end) = (Moment::Validation, Moment::End);
    assert_eq!(places, [("valid", during), ("valid", during), ("train", end), ("valid", end), ("test", end)]);
    assert_eq!(seen.evaluations[3].4, auc(&metrics.valid));
    assert_eq!(seen.evaluations[4].4, auc(&metrics.test));
    let best = seen.evaluations[..2].iter().find(|evaluation| evaluation.4 == auc(&metrics.valid)).unwrap();
    assert_eq!(seen.evaluations[4].2, best.2);

    let (unseen, bytes) = train(other.path(), Observers::default());
    assert_eq!(unseen, metrics);
    assert!(bytes == weights, "the weights differ");
}
