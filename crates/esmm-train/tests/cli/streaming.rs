//! Trainings that read their rows from files in every pass.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use crate::common::{self, Funnel, Workspace};
use serde_json::Value;

fn streamed(workspace: &Workspace, funnel: Funnel) {
    let data = "[data]\nstreaming = true\nshuffle_rows = 100\n";
    workspace.write("run.toml", &funnel.run_file().replace("[data]\n", data));
}

/// The metrics of a streamed training are those of the same weights on the same rows in memory, digit by digit.
#[cfg(feature = "ndarray")]
#[test]
fn splits_in_files_have_the_metrics_of_splits_in_memory() {
    Funnel::ALL.into_iter().for_each(as_in_memory);
}

#[cfg(feature = "ndarray")]
fn as_in_memory(funnel: Funnel) {
    use burn_ndarray::NdArray;
    use esmm_train::config::TrainConfig;
    use esmm_train::experiment::{Experiment, RunMetrics};
    use esmm_train::observe::Observers;
    use esmm_train::run_dir::{RunDir, read_json};
    use esmm_train::trainer::BestWeights;

    let workspace = Workspace::new();
    workspace.write("data.csv", &funnel.csv(20_000));
    streamed(&workspace, funnel);
    let said = workspace.esmm(&["train", "run.toml", "--run-dir", "run"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let run = RunDir::open(&workspace.path("run")).unwrap();
    let mut config: TrainConfig = read_json(&run.config()).unwrap();
    assert_eq!(config.reading.streaming, Some(true));
    let streamed: RunMetrics = read_json(&run.metrics()).unwrap();
    config.reading.streaming = Some(false);
    let path = workspace.path("data.csv").to_str().unwrap().to_owned();
    let esmm_train::data::SplitSpec::Random { source, .. } = &mut config.data else { panic!("{config:?}") };
    source.paths = vec![path];
    let experiment = Experiment::load(config).unwrap();
    let best = BestWeights { step: 1, epoch: 1 };
    let metrics = experiment.evaluate::<NdArray>(&run, &Default::default(), best, &Observers::default());
    assert_eq!(metrics.unwrap(), streamed);

    let said = workspace.esmm(&["evaluate", "run", "data.csv", "--json"]);
    let all: Value = serde_json::from_str(&said.stdout).unwrap();
    let rows = |split: &Option<esmm_train::metric::SplitMetrics>| split.as_ref().unwrap().rows;
    let rows = streamed.train.rows + rows(&streamed.valid) + rows(&streamed.test);
    assert_eq!((all["rows"].as_u64(), rows), (Some(20_000), 20_000));
}

#[test]
fn rows_are_streamed_when_memory_is_short() {
    Funnel::ALL.into_iter().for_each(streamed_when_short);
}

fn streamed_when_short(funnel: Funnel) {
    let workspace = Workspace::of(funnel);
    let train = |memory: &str, run: &str| {
        let memory = format!("data.memory={memory}");
        workspace.esmm(&["train", "run.toml", "--run-dir", run, "--set", &memory])
    };
    let message = "more than data.memory = 0 MiB: every pass reads their files";
    let said = train("5kB", "small");
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stderr.contains(message), "{}", said.stderr);
    let said = train("1MiB", "large");
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(!said.stderr.contains(message), "{}", said.stderr);
    let said = train("5 apples", "none");
    assert!(said.error(2).starts_with("data.memory = \"5 apples\": a number with a unit"), "{}", said.stderr);
    let set = ["train", "run.toml", "--set", "data.shuffle_rows=0"];
    assert_eq!(workspace.esmm(&set).error(2), "data.shuffle_rows = 0: it must be at least 1");
    let set = ["train", "run.toml", "--set", "train.validate_every=0"];
    assert_eq!(workspace.esmm(&set).error(2), "train.validate_every = 0: it must be at least 1");
}

/// Ali-CCP's users, read and computed once a group, have the metrics of rows that have all of their features.
#[test]
fn groups_are_trained_and_measured_as_rows_are() {
    let workspace = Workspace::new();
    let rates = ["--click-rate", "0.3", "--conversion-rate", "0.1"];
    let generate = ["aliccp", "generate", "raw", "--rows", "3000"];
    assert_eq!(workspace.esmm(&[&generate[..], &rates].concat()).code, 0);
    assert_eq!(workspace.esmm(&["aliccp", "prepare", "raw", "out", "--quiet"]).code, 0);
    let small =
        ["--set", "model.hidden=[8]", "--set", "model.embedding_dim=4", "--set", "train.batch_size=128"];
    let train = |run: &str, by_group: &str| {
        let set = ["--set", "data.streaming=true", "--set", by_group];
        let args = [&["train", "out/run.toml", "--run-dir", run][..], &small, &set].concat();
        let said = workspace.esmm(&args);
        assert_eq!(said.code, 0, "{}", said.stderr);
        said.stderr.contains("rows of a group stay together")
    };
    assert!(train("groups", "data.by_group=true") && !train("rows", "data.by_group=false"));
    for run in ["groups", "rows"] {
        let said = workspace.esmm(&["evaluate", run, "out/test/impressions.parquet", "--json"]);
        let flat: Value = serde_json::from_str(&said.stdout).unwrap();
        let metrics: Value = serde_json::from_str(&workspace.read(&format!("{run}/metrics.json"))).unwrap();
        for task in ["ctr", "cvr", "ctcvr"] {
            for metric in ["auc", "log_loss"] {
                let [flat, found] =
                    [&flat, &metrics["test"]].map(|metrics| metrics[task][metric].as_f64().unwrap());
                // Sums in another order: logits differ by about 1e-6, and a pair of rows may change places.
                assert!((flat - found).abs() < 1e-5, "{run}: {task}.{metric} is {found} and {flat}");
            }
        }
    }
    // Rows, events and unknown ids of each feature's values are counted by row either way.
    let counts = |run: &str| {
        let analysis: Value = serde_json::from_str(&workspace.read(&format!("{run}/analysis.json"))).unwrap();
        let test = &analysis["splits"].as_array().unwrap().last().unwrap().clone();
        let of_value = |value: &Value| {
            (value["value"].clone(), value["rows"].clone(), value["tasks"][0]["positives"].clone())
        };
        let features = test["features"].as_array().unwrap().iter();
        // The twenty most frequent values; the worst calibrated ones after them depend on the predictions.
        let values = features.map(|feature| {
            feature["values"].as_array().unwrap().iter().take(20).map(of_value).collect::<Vec<_>>()
        });
        (analysis["tables"].clone(), test["unknown"].clone(), values.collect::<Vec<_>>())
    };
    assert_eq!(counts("groups"), counts("rows"));
}

/// Scores of impressions whose users are encoded and computed once a group are those of rows with all of their features, in
/// the same order, with the columns that were to be kept: of the impressions and of the groups.
#[test]
fn groups_are_scored_as_rows_are() {
    let workspace = Workspace::new();
    assert_eq!(workspace.esmm(&["aliccp", "generate", "raw", "--rows", "20000"]).code, 0);
    assert_eq!(workspace.esmm(&["aliccp", "prepare", "raw", "out", "--quiet"]).code, 0);
    let small = ["--set", "model.hidden=[8]", "--set", "model.embedding_dim=4", "--set", "train.epochs=1"];
    let said = workspace.esmm(&[&["train", "out/run.toml", "--run-dir", "run"][..], &small].concat());
    assert_eq!(said.code, 0, "{}", said.stderr);
    let scores = |name: &str| {
        let keep = ["-o", name, "--keep", "sample_id,101"];
        let said = workspace.esmm(&[&["predict", "run", "out/test/impressions.parquet"], &keep[..]].concat());
        assert_eq!(said.code, 0, "{}", said.stderr);
        workspace.read(name)
    };
    let found = scores("groups.csv");
    let config = workspace.read("run/config.json");
    assert!(config.contains("\"by_group\": true"));
    workspace.write("run/config.json", &config.replace("\"by_group\": true", "\"by_group\": false"));
    // As a run directory of the version before: its files may be changed by hand.
    std::fs::remove_file(workspace.path("run/manifest.json")).unwrap();
    let expected = scores("rows.csv");
    assert!(found.lines().count() > 8192 && found.lines().count() == expected.lines().count());
    for (number, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        let mut cells = found.split(',').zip(expected.split(','));
        assert!(cells.by_ref().take(2).all(|(found, expected)| found == expected), "line {number}: {found}");
        if number > 0 {
            let near = |(found, expected): (&str, &str)| {
                (found.parse::<f64>().unwrap() - expected.parse::<f64>().unwrap()).abs() < 1e-6
            };
            assert!(cells.all(near), "line {number}: {found}, row by row {expected}");
        }
    }
}

/// A file that disappears between two passes ends the training with its name, not with a shorter epoch.
#[test]
fn a_file_that_is_gone_is_an_error() {
    Funnel::ALL.into_iter().for_each(file_is_gone);
}

fn file_is_gone(funnel: Funnel) {
    let workspace = Workspace::of(funnel);
    streamed(&workspace, funnel);
    workspace.write("data.csv", &funnel.csv(20_000));
    let args = ["train", "run.toml", "--run-dir", "run", "--set", "train.epochs=50"];
    let child = workspace
        .command(&args)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let log = workspace.path("run/train.log");
    while !std::fs::read_to_string(&log).is_ok_and(|log| log.contains("epoch 1:")) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    std::fs::remove_file(workspace.path("data.csv")).unwrap();
    let said = common::Said::from(child.wait_with_output().unwrap());
    assert_eq!(said.error(1), "data.csv: No such file or directory", "{}", said.stderr);
}

/// 112 MB of encoded rows with 6 MiB allowed: the peak of the process shows that they were never together in memory.
#[cfg(target_os = "linux")]
#[test]
fn rows_ten_times_the_memory_are_never_together_in_it() {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float32Array, Int32Array};
    use arrow::record_batch::RecordBatch;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const ROWS: usize = 700_000;
    const COLUMNS: usize = 40;
    let workspace = Workspace::new();
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut columns: Vec<(String, ArrayRef)> = (0..COLUMNS)
        .map(|column| {
            let values = (0..ROWS).map(|_| rng.random::<f32>());
            (format!("x{column}"), Arc::new(Float32Array::from_iter_values(values)) as ArrayRef)
        })
        .collect();
    for (name, one_in) in [("click", 3), ("conversion", 9)] {
        let labels = Int32Array::from_iter_values((0..ROWS as i32).map(|row| i32::from(row % one_in == 0)));
        columns.push((name.to_owned(), Arc::new(labels)));
    }
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file = std::fs::File::create(workspace.path("data.parquet")).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    for start in (0..ROWS).step_by(20_000) {
        writer.write(&batch.slice(start, 20_000)).unwrap();
        writer.flush().unwrap();
    }
    writer.close().unwrap();
    let features: String =
        (0..COLUMNS).map(|column| format!("{{ name = \"x{column}\", encode = \"dense\" }},\n")).collect();
    let run = format!(
        "features = [\n{features}]\n[data]\ntrain = \"data.parquet\"\nmemory = \"6MiB\"\n\
         [model]\nhidden = [8]\n[train]\nepochs = 1\nbatch_size = 4096\n"
    );
    workspace.write("run.toml", &run);
    let peak = |run: &str, streaming: bool| {
        let streaming = format!("data.streaming={streaming}");
        let args = ["train", "run.toml", "--run-dir", run, "--quiet", "--set", &streaming];
        let mut child = workspace.command(&args).stdout(std::process::Stdio::null()).spawn().unwrap();
        let status = format!("/proc/{}/status", child.id());
        let mut peak = 0;
        let end = loop {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            // Without the pages of the program itself, of which more or fewer are mapped from run to run.
            let found =
                text.lines().find_map(|line| line.strip_prefix("RssAnon:")?.split_whitespace().next());
            peak = peak.max(found.and_then(|kibibytes| kibibytes.parse::<usize>().ok()).unwrap_or(0));
            match child.try_wait().unwrap() {
                Some(end) => break end,
                None => std::thread::sleep(std::time::Duration::from_millis(2)),
            }
        };
        assert!(end.success());
        peak >> 10
    };
    let (in_files, in_memory) = (peak("files", true), peak("memory", false));
    let encoded = (ROWS * COLUMNS * 4) >> 20;
    eprintln!("{in_files} MiB in files, {in_memory} MiB in memory, {encoded} MiB of rows");
    assert!(in_files + encoded * 3 / 4 < in_memory, "{in_files} MiB in files, {in_memory} MiB in memory");
}
