//! Fuzzing: every kind of file that is read is damaged at random, and must be taken or refused in one line, without a panic.
//!
//! `ESMM_FUZZ_SECONDS` is the time for each kind (1 unless said), `ESMM_FUZZ_SEED` where the random damage begins.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fmt::Display;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use burn::backend::Autodiff;
use burn_ndarray::NdArray;
use esmm_train::EsmmLearner;
use esmm_train::checkpoint::Checkpoints;
use esmm_train::config::{RunFile, TrainConfig};
use esmm_train::data::SourceSpec;
use esmm_train::experiment::Experiment;
use esmm_train::history::History;
use esmm_train::manifest::Trust;
use esmm_train::observe::TrainingObserver;
use esmm_train::optimizer::SharedOptimizer;
use esmm_train::run_dir::RunDir;
use esmm_train::scorer::Scorer;
use esmm_train::tensorboard::TensorBoardConfig;
use esmm_train::trainer::TrainerConfig;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::common::{RUN_FILE, Workspace};

type Inner = NdArray;
type Outer = Autodiff<NdArray>;

/// What is damaged, each with the files that are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    RunFile,
    Csv,
    Parquet,
    StateDict,
    RunDirectory,
    Checkpoint,
    EventFile,
}

impl Target {
    const ALL: [Self; 7] = [
        Self::RunFile,
        Self::Csv,
        Self::Parquet,
        Self::StateDict,
        Self::RunDirectory,
        Self::Checkpoint,
        Self::EventFile,
    ];

    /// The files, by their paths in a workspace with a trained model.
    fn files(self, workspace: &Workspace) -> Vec<String> {
        let below = |folder: &str, part: &str| {
            let names = crate::common::files(&workspace.path(folder));
            names
                .into_iter()
                .filter(|name| name.contains(part))
                .map(|name| format!("{folder}/{name}"))
                .collect()
        };
        match self {
            Self::RunFile => vec!["run.toml".to_owned()],
            Self::Csv => vec!["data.csv".to_owned()],
            Self::Parquet => vec!["data.parquet".to_owned()],
            Self::StateDict => vec!["run/model.safetensors".to_owned()],
            Self::RunDirectory => {
                let mut files: Vec<String> =
                    ["config", "schema", "metrics", "analysis", "encoders/features", "manifest"]
                        .map(|name| format!("run/{name}.json"))
                        .to_vec();
                files.extend(["run/history.jsonl", "run/encoders/vocabularies.parquet"].map(str::to_owned));
                files
            }
            Self::Checkpoint => {
                let newest = crate::common::files(&workspace.path("run/checkpoint")).pop().unwrap();
                below(&format!("run/checkpoint/{newest}"), ".")
            }
            Self::EventFile => below("run/tensorboard/train", "tfevents"),
        }
    }

    /// Reads what is damaged: `Err` with what is said.
    fn read(self, folder: &Path) -> Result<(), String> {
        let run = RunDir::open(&folder.join("run")).map_err(said)?;
        let device = Default::default();
        match self {
            Self::RunFile => {
                let text = fs::read(folder.join("run.toml")).unwrap();
                let file = RunFile::parse(&String::from_utf8_lossy(&text), "run.toml", &[]).map_err(said)?;
                TrainConfig::resolve(&file).map(drop).map_err(said)
            }
            Self::Csv => load(folder, "data.csv"),
            Self::Parquet => load(folder, "data.parquet"),
            Self::StateDict => {
                Scorer::<Inner>::open_trusting(&run, &device, Trust::Weights).map(drop).map_err(said)
            }
            Self::RunDirectory => {
                let _ = esmm_report::RunReport::read(run.path()).map(|run| esmm_report::page(&[run]));
                let _ = History::read(&run.history());
                fs::remove_file(run.manifest()).unwrap();
                Scorer::<Inner>::open(&run, &device).map(drop).map_err(said)
            }
            Self::Checkpoint => {
                let (config, model) = (run.read_config().map_err(said)?, run.read_model().map_err(said)?);
                let trainer = TrainerConfig::of(&config, &model);
                let learner: EsmmLearner<Outer> =
                    trainer.learner.clone().init(model.init(&device).map_err(said)?);
                let optimizer = SharedOptimizer::new(&trainer.towers);
                let checkpoints = Checkpoints::new(run.checkpoint());
                checkpoints.load(learner, &optimizer, &device).map(drop).map_err(said)
            }
            Self::EventFile => {
                let config = TensorBoardConfig {
                    folder: run.tensorboard(),
                    config: run.read_config().map_err(said)?,
                    model: run.read_model().map_err(said)?,
                    run_file: None,
                    splits: vec!["train"],
                };
                TrainingObserver::on_start(&mut config.init(), 7);
                Ok(())
            }
        }
    }
}

fn said(error: impl Display) -> String {
    error.to_string()
}

fn load(folder: &Path, name: &str) -> Result<(), String> {
    let path = folder.join(name).display().to_string();
    let file = RunFile::parse(&RUN_FILE.replace("data.csv", &path), "run.toml", &[]).map_err(said)?;
    for chunk in SourceSpec::new([path]).open(&["user".to_owned()]).map_err(said)? {
        chunk.map_err(said)?;
    }
    Experiment::load(TrainConfig::resolve(&file).map_err(said)?).map(drop).map_err(said)
}

/// Some bytes changed, cut out, doubled, put in.
fn damage(bytes: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.random_range(1..5) {
        let place = rng.random_range(0..bytes.len().max(1));
        let end = (place + rng.random_range(1..40)).min(bytes.len());
        match rng.random_range(0..6) {
            0 if place < bytes.len() => bytes[place] ^= 1 << rng.random_range(0..8),
            1 if place < bytes.len() => bytes[place] = rng.random_range(0..=255),
            2 => drop(bytes.drain(place.min(end)..end)),
            3 => {
                let copy = bytes[place.min(end)..end].to_vec();
                bytes.splice(end..end, copy);
            }
            4 => bytes.truncate(place),
            _ => {
                let odd: &[&[u8]] = &[b"\0", b"\xff\xfe", b"-1", b"1e999", b"\"", b"{", b"NaN", b"\n", b","];
                bytes.splice(end..end, odd[rng.random_range(0..odd.len())].iter().copied());
            }
        }
    }
    bytes
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
#[ignore = "takes as long as it is given: cargo test --test cli fuzz -- --ignored"]
fn damaged_files_are_taken_or_refused_in_one_line() {
    let workspace = Workspace::new();
    let said = workspace.esmm(&[
        "train",
        "run.toml",
        "--run-dir",
        "run",
        "--tensorboard",
        "--set",
        "train.epochs=1",
    ]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let keep = ["--keep", "user,tags,price,click,conversion"];
    let predict = [&["predict", "run", "data.csv", "-o", "data.parquet"][..], &keep].concat();
    assert_eq!(workspace.esmm(&predict).code, 0);
    let (seconds, seed) = (setting("ESMM_FUZZ_SECONDS", 1), setting("ESMM_FUZZ_SEED", 1));
    for target in Target::ALL {
        let files = target.files(&workspace);
        assert!(!files.is_empty(), "{target:?}");
        let whole: Vec<Vec<u8>> = files.iter().map(|file| fs::read(workspace.path(file)).unwrap()).collect();
        let manifest = fs::read(workspace.path("run/manifest.json")).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (end, mut cases) = (Instant::now() + Duration::from_secs(seconds), 0);
        while Instant::now() < end {
            let place = rng.random_range(0..files.len());
            let damaged = damage(&whole[place], &mut rng);
            fs::write(workspace.path(&files[place]), &damaged).unwrap();
            let read = catch_unwind(AssertUnwindSafe(|| target.read(&workspace.path(""))));
            cases += 1;
            let kept = || {
                let path = std::env::temp_dir().join(format!("esmm-fuzz-{target:?}"));
                fs::write(&path, &damaged).unwrap();
                format!("{target:?}, {}, case {cases}: kept as {}", files[place], path.display())
            };
            match read {
                Err(_) => panic!("a panic: {}", kept()),
                Ok(Err(said)) => assert!(!said.is_empty() && !said.contains('\n'), "{said:?}: {}", kept()),
                Ok(Ok(())) => {}
            }
            for (file, bytes) in files.iter().zip(&whole) {
                fs::write(workspace.path(file), bytes).unwrap();
            }
            fs::write(workspace.path("run/manifest.json"), &manifest).unwrap();
        }
        println!("{target:?}: {cases} cases in {seconds} s");
    }
}
