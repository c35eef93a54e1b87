//! Fuzzing: every kind of file that is read is damaged at random, and must be taken or refused in one line, without a panic.
//!
//! `ESMM_FUZZ_SECONDS` is the time for each kind (1 unless said), `ESMM_FUZZ_SEED` where the random damage begins. The damage
//! starts from the files of a small training and from those in `corpus`, a folder a kind. What is found bad goes there too,
//! once it is mended.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fmt::Display;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use burn::backend::Autodiff;
use burn_ndarray::NdArray;
use esmm_core::StateDict;
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

/// The longest that one file may take. None takes a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is damaged; for each a test that fuzzes it.
macro_rules! targets {
    ($($test:ident => $target:ident),+ $(,)?) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Target {
            $($target),+
        }

        impl Target {
            const ALL: &[Self] = &[$(Self::$target),+];
        }

        $(
            #[test]
            #[ignore = "takes as long as it is given: cargo test --test cli fuzz -- --ignored"]
            fn $test() {
                fuzz(Target::$target);
            }
        )+
    };
}

targets! {
    damaged_run_files => RunFile,
    damaged_csv_files => Csv,
    damaged_parquet_files => Parquet,
    damaged_state_dicts => StateDict,
    damaged_run_directories => RunDirectory,
    damaged_checkpoints => Checkpoint,
    damaged_event_files => EventFile,
}

/// A whole file, and where it is read from.
struct Seed {
    place: String,
    name: String,
    bytes: Vec<u8>,
}

impl Target {
    /// Its folder of `corpus`.
    fn folder(self) -> PathBuf {
        let name = match self {
            Self::RunFile => "run-file",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
            Self::StateDict => "state-dict",
            Self::RunDirectory => "run-directory",
            Self::Checkpoint => "checkpoint",
            Self::EventFile => "event-file",
        };
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/corpus").join(name)
    }

    /// Where a file of the corpus is read from: `history.jsonl--cut` in the place of the run directory's `history.jsonl`;
    /// where a target has one place, in that.
    fn place(self, name: &str, workspace: &Workspace) -> String {
        let file = name.split_once("--").map_or(name, |(file, _)| file);
        let own = || self.files(workspace).swap_remove(0);
        match self {
            Self::RunFile | Self::Csv | Self::Parquet | Self::EventFile => own(),
            Self::StateDict if name.ends_with(".pt") => WEIGHTS_PT.to_owned(),
            Self::StateDict => own(),
            Self::RunDirectory | Self::Checkpoint => {
                let places = self.files(workspace).into_iter();
                let mut places = places.filter(|place| place.ends_with(&format!("/{file}")));
                places.next().unwrap_or_else(|| panic!("{self:?}: {name} has no place"))
            }
        }
    }

    /// The files of the trained model, and those of the corpus.
    fn seeds(self, workspace: &Workspace) -> Vec<Seed> {
        let own = self.files(workspace).into_iter().map(|place| Seed {
            bytes: fs::read(workspace.path(&place)).unwrap(),
            name: place.clone(),
            place,
        });
        own.chain(self.corpus(workspace)).collect()
    }

    /// The files of the corpus.
    fn corpus(self, workspace: &Workspace) -> Vec<Seed> {
        let names = crate::common::files(&self.folder()).into_iter();
        let seed = |name: String| Seed {
            place: self.place(&name, workspace),
            bytes: fs::read(self.folder().join(&name)).unwrap(),
            name,
        };
        names.map(seed).collect()
    }

    /// What this kind of file is made of.
    fn words(self) -> &'static [&'static [u8]] {
        match self {
            Self::RunFile => &[
                b"[",
                b"]",
                b"{",
                b"}",
                b"=",
                b"\"",
                b"inf",
                b"nan",
                b"-9223372036854775808",
                b"1e400",
                b"[[x]]\n",
                b"\"\"\"",
            ],
            Self::Csv => &[
                b",",
                b"\"",
                b"\r",
                b"\r\n",
                b";",
                b"|",
                b":",
                b"\xef\xbb\xbf",
                b"inf",
                b"1e400",
                b",,,,,,\n",
            ],
            Self::RunDirectory | Self::Checkpoint => {
                &[b"null", b"-1", b"1e999", b"18446744073709551616", b"[]", b"{}", b"\"\"", b"\n"]
            }
            Self::Parquet | Self::StateDict | Self::EventFile => &[
                b"\0\0\0\0",
                b"\xff\xff\xff\xff",
                b"\xff\xff\xff\x7f",
                b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
                b"PAR1",
                b"18446744073709551615",
            ],
        }
    }

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
                let pickled = folder.join(WEIGHTS_PT);
                if pickled.exists() {
                    return StateDict::read(&pickled).map(drop).map_err(said);
                }
                Scorer::<Inner>::open_trusting(&run, &device, Trust::Weights).map(drop).map_err(said)
            }
            Self::RunDirectory => {
                let _ = esmm_report::RunReport::read(run.path()).map(|run| esmm_report::page(&[run]));
                let _ = History::read(&run.history());
                // With its manifest, which refuses most, and without.
                let listed = Scorer::<Inner>::open(&run, &device).map(drop).map_err(said);
                if listed.as_ref().is_err_and(|said| said.is_empty() || said.contains('\n')) {
                    return listed;
                }
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

/// A pickled state dict, which is read where there is one.
const WEIGHTS_PT: &str = "weights.pt";

/// Some bytes changed, cut out, doubled, put in, or taken from another file.
fn damage(bytes: &[u8], other: &[u8], words: &[&[u8]], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.random_range(1..5) {
        let place = rng.random_range(0..bytes.len().max(1));
        let end = (place + rng.random_range(1..40)).min(bytes.len());
        match rng.random_range(0..8) {
            0 if place < bytes.len() => bytes[place] ^= 1 << rng.random_range(0..8),
            1 if place < bytes.len() => bytes[place] = rng.random_range(0..=255),
            2 => drop(bytes.drain(place.min(end)..end)),
            3 => {
                let copy = bytes[place.min(end)..end].to_vec();
                bytes.splice(end..end, copy);
            }
            4 => bytes.truncate(place),
            5 if !other.is_empty() => {
                let from = rng.random_range(0..other.len());
                let to = (from + rng.random_range(1..200)).min(other.len());
                bytes.splice(place.min(end)..end, other[from..to].iter().copied());
            }
            6 => {
                let odd: &[&[u8]] = &[b"\0", b"\xff\xfe", b"-1", b"1e999", b"\"", b"{", b"NaN", b"\n", b","];
                bytes.splice(end..end, odd[rng.random_range(0..odd.len())].iter().copied());
            }
            _ => {
                let word = words[rng.random_range(0..words.len())];
                let until = (place + word.len()).min(bytes.len());
                // In the place of what was there, or between it.
                let range = if rng.random_range(0..2) == 0 { place.min(until)..until } else { end..end };
                bytes.splice(range, word.iter().copied());
            }
        }
    }
    bytes
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A trained model with everything that the targets damage.
fn trained() -> Workspace {
    let workspace = Workspace::new();
    let train = ["train", "run.toml", "--run-dir", "run", "--tensorboard", "--set", "train.epochs=1"];
    let said = workspace.esmm(&train);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let keep = ["--keep", "user,tags,price,click,conversion"];
    let predict = [&["predict", "run", "data.csv", "-o", "data.parquet"][..], &keep].concat();
    assert_eq!(workspace.esmm(&predict).code, 0);
    workspace
}

/// Reads a file in its place; a panic, or an error of no or several lines, is told with `kept`, which keeps the file.
fn try_file(target: Target, workspace: &Workspace, place: &str, bytes: &[u8], kept: impl Fn() -> String) {
    let manifest = fs::read(workspace.path("run/manifest.json")).unwrap();
    let whole = fs::read(workspace.path(place)).ok();
    fs::write(workspace.path(place), bytes).unwrap();
    let begun = Instant::now();
    match catch_unwind(AssertUnwindSafe(|| target.read(&workspace.path("")))) {
        Err(_) => panic!("a panic: {}", kept()),
        Ok(Err(said)) => assert!(!said.is_empty() && !said.contains('\n'), "{said:?}: {}", kept()),
        Ok(Ok(())) => {}
    }
    assert!(begun.elapsed() < PATIENCE, "{:?}: {}", begun.elapsed(), kept());
    match whole {
        Some(whole) => fs::write(workspace.path(place), whole).unwrap(),
        None => fs::remove_file(workspace.path(place)).unwrap(),
    }
    fs::write(workspace.path("run/manifest.json"), manifest).unwrap();
}

fn fuzz(target: Target) {
    let workspace = trained();
    let (seconds, seed) = (setting("ESMM_FUZZ_SECONDS", 1), setting("ESMM_FUZZ_SEED", 1));
    let seeds = target.seeds(&workspace);
    assert!(!seeds.is_empty(), "{target:?}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut cases = 0;
    while Instant::now() < end {
        let Seed { place, name, bytes } = &seeds[rng.random_range(0..seeds.len())];
        let other = &seeds[rng.random_range(0..seeds.len())].bytes;
        let damaged = damage(bytes, other, target.words(), &mut rng);
        cases += 1;
        try_file(target, &workspace, place, &damaged, || {
            let path = std::env::temp_dir().join(format!("esmm-fuzz-{target:?}"));
            fs::write(&path, &damaged).unwrap();
            format!("{target:?}, {name} at {place}, case {cases}: kept as {}", path.display())
        });
    }
    println!("{target:?}: {cases} cases in {seconds} s");
}

/// Files that were once found to be taken badly, and small whole ones: each is taken or refused in one line.
#[test]
fn the_corpus_is_taken_or_refused_in_one_line() {
    let workspace = trained();
    for &target in Target::ALL {
        let corpus = target.corpus(&workspace);
        assert!(!corpus.is_empty(), "{target:?} has no corpus");
        for Seed { place, name, bytes } in corpus {
            try_file(target, &workspace, &place, &bytes, || format!("{target:?}, {name}"));
        }
    }
}
