//! A known truth is found again: on the synthetic funnel each AUC comes within 0.02 of the best that the truth allows.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use esmm_train::DeviceName;
use esmm_train::config::{RunFile, TrainConfig};
use esmm_train::data::synthetic::{SyntheticConfig, write_parquet};
use esmm_train::experiment::{Experiment, RunMetrics};
use esmm_train::run_dir::{Existing, RunDir};
use esmm_train::trainer::TrainingControl;

/// The run file of `esmm train` without one.
const RUN_FILE: &str = include_str!("../../crates/esmm-train/src/cli/synthetic.toml");

fn train(folder: &Path) -> RunMetrics {
    let data = folder.join("data.parquet");
    write_parquet(SyntheticConfig::default(), &data).unwrap();
    let text = RUN_FILE.replace("data.parquet", &data.display().to_string());
    let config = TrainConfig::resolve(&RunFile::parse(&text, "run.toml", &[]).unwrap()).unwrap();
    let experiment = Experiment::load(config).unwrap();
    assert!(experiment.warnings().is_empty(), "{:?}", experiment.warnings());
    let run = RunDir::create(&folder.join("run"), Existing::Refuse).unwrap();
    experiment
        .run(&run, &DeviceName::NdArray.open().unwrap(), &TrainingControl::default())
        .unwrap()
        .metrics
        .unwrap()
}

#[test]
fn the_truth_is_recovered() {
    let folder = tempfile::tempdir().unwrap();
    let test = train(folder.path()).test.unwrap();
    let space = test.entire_space.as_ref().unwrap();
    let best = space.best.as_ref().unwrap();
    for (task, best) in [("ctr", best.ctr_auc), ("cvr", best.cvr_auc), ("ctcvr", best.ctcvr_auc)] {
        let (auc, best) = (test.task(task).unwrap().auc.unwrap(), best.unwrap());
        assert!(best > 0.65, "{task}: the truth itself has an AUC of {best}");
        assert!(auc > best - 0.02, "{task}: AUC {auc}, best possible {best}");
    }
    let calibration = test.task("ctcvr").unwrap().calibration.unwrap();
    assert!((0.9..=1.1).contains(&calibration), "CTCVR calibration {calibration}");
    let (auc, best) = (space.cvr_auc.unwrap(), best.entire_space_cvr_auc.unwrap());
    assert!(auc > best - 0.02, "CVR over all impressions: AUC {auc}, best possible {best}");
}
