//! `esmm inspect`: what a model is made of, before and after a training.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use crate::common::{Funnel, RUN_FILE, Workspace};
use serde_json::Value;

fn json(workspace: &Workspace, args: &[&str]) -> Value {
    let said = workspace.esmm(&[&["inspect", "--json"], args].concat());
    assert_eq!(said.code, 0, "{}", said.stderr);
    serde_json::from_str(&said.stdout).unwrap()
}

/// Learned values of a weights file: the header of safetensors is JSON after its length in 8 bytes.
fn learned_values(bytes: &[u8]) -> u64 {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let tensors = header.as_object().unwrap().iter();
    let learned = tensors.filter(|(name, _)| name.ends_with(".weight") || name.ends_with(".bias"));
    let size =
        |shape: &Value| shape.as_array().unwrap().iter().map(|size| size.as_u64().unwrap()).product::<u64>();
    learned.map(|(_, tensor)| size(&tensor["shape"])).sum()
}

#[test]
fn a_run_file_is_counted_as_far_as_it_can_be() {
    Funnel::ALL.into_iter().for_each(run_file_is_counted);
}

fn run_file_is_counted(funnel: Funnel) {
    let workspace = Workspace::of(funnel);
    let before = json(&workspace, &["run.toml"]);
    assert_eq!(before["unknown_tables"], serde_json::json!(["user", "tags"]));
    assert_eq!(before["unknown_lists"], serde_json::json!(["tags"]));
    assert_eq!(before["memory"]["complete"], false);
    // A tower a stage: 9 inputs to 8, batch norm, ReLU, 8 to 1; a bag of one id of 4 values.
    let towers = funnel.stages().len() * (2 * 9 * 8 + 4 * 8 + 8 + 2 * 8);
    assert_eq!(before["step"]["flops_per_row"], towers + 2 * 4);
    assert_eq!(before["step"]["flops_per_step"], 3 * 64 * (towers + 2 * 4));
    let said = workspace.esmm(&["inspect", "run.toml"]);
    for expected in
        ["ctr_hidden_0", ">= ", "the sizes of 2 tables (?)", "lists are counted with one id", "--data"]
    {
        assert!(said.stdout.contains(expected), "{expected} in: {}", said.stdout);
    }

    let after = json(&workspace, &["run.toml", "--data"]);
    assert_eq!(after["unknown_tables"], serde_json::json!([]));
    assert_eq!(after["list_lengths"]["tags"], 2.0, "every row has two tags");
    assert_eq!(after["step"]["flops_per_row"], towers + 2 * 2 * 4);
    assert_eq!(after["memory"]["complete"], true);
    // 20 users and 6 tags, in each table a row for missing and one for unknown ones, of 4 values: the tables, and two moments of lazy Adam.
    let part = |place: usize| after["memory"]["parts"][place]["bytes"].as_u64().unwrap();
    assert_eq!((part(0), part(1)), (4 * 4 * 30, 2 * 4 * 4 * 30));
    // On a GPU the first five; where rows are padded those of 9 values take the room of 16, those of 4 and 8 no more.
    let on_gpu: u64 = (0..5).map(part).sum();
    assert_eq!(after["memory"]["gpu"]["dense"], on_gpu);
    assert!(after["memory"]["gpu"]["padded"].as_u64().unwrap() > on_gpu);
    assert_eq!(before["memory"]["gpu"]["padded"], Value::Null);
    let sum: u64 = (0..after["memory"]["parts"].as_array().unwrap().len()).map(part).sum();
    assert_eq!(after["memory"]["total"], sum);
    let said = workspace.esmm(&["inspect", "run.toml", "--data"]).stdout;
    assert!(!said.contains('?') && said.contains("; on CUDA, which pads rows of tensors, "), "{said}");
}

#[test]
fn a_run_directory_tells_what_was_trained_on_what() {
    Funnel::ALL.into_iter().for_each(run_directory_tells);
}

fn run_directory_tells(funnel: Funnel) {
    let workspace = Workspace::trained_of(funnel);
    let inspection = json(&workspace, &["run"]);
    assert_eq!(
        inspection["parameters"],
        learned_values(&std::fs::read(workspace.path("run/model.safetensors")).unwrap())
    );
    assert_eq!(inspection["parameters"], json(&workspace, &["run.toml", "--data"])["parameters"]);
    let metrics: Value = serde_json::from_str(&workspace.read("run/metrics.json")).unwrap();
    let run = &inspection["run"];
    assert_eq!((&run["data"], &run["split_by"]), (&serde_json::json!(["data.csv"]), &"random".into()));
    for (place, split) in ["train", "valid", "test"].into_iter().enumerate() {
        assert_eq!(run["splits"][place]["metrics"], metrics[split]);
    }
    let epoch = run["best"]["epoch"].as_u64().unwrap();
    let log = workspace.read("run/train.log");
    assert!(log.contains(&format!("epoch {epoch}")) && log.contains("kept the weights of"), "{log}");
    assert_eq!(json(&workspace, &["run", "--data"])["list_lengths"]["tags"], 2.0);
    let said = workspace.esmm(&["inspect", "run"]);
    let last = match funnel {
        Funnel::Two => "CTCVR",
        Funnel::Three => "purchase",
    };
    let expected = [format!("the weights are those of epoch {epoch}"), "test split: ".into(), last.into()];
    for expected in expected {
        assert!(said.stdout.contains(&expected), "{expected} in: {}", said.stdout);
    }
}

#[test]
fn a_training_under_way_shows_what_is_there() {
    Funnel::ALL.into_iter().for_each(training_under_way);
}

fn training_under_way(funnel: Funnel) {
    let workspace = Workspace::trained_of(funnel);
    std::fs::remove_file(workspace.path("run/metrics.json")).unwrap();
    std::fs::remove_dir_all(workspace.path("run/checkpoint")).unwrap();
    let said = workspace.esmm(&["inspect", "run"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stdout.contains("no weights were saved yet"), "{}", said.stdout);
}

/// Once the rows are known, no batch has more than there are.
#[test]
fn a_batch_is_not_larger_than_the_data() {
    let workspace = Workspace::trained();
    let of_batch = |args: &[&str], size: usize| {
        let text = RUN_FILE.replace("batch_size = 64", &format!("batch_size = {size}"));
        workspace.write("run.toml", &text);
        json(&workspace, args)
    };
    let training_rows = json(&workspace, &["run"])["run"]["splits"][0]["metrics"]["rows"].as_u64().unwrap();
    assert!(training_rows < 400);
    let whole = of_batch(&["run.toml", "--data"], training_rows as usize);
    let large = of_batch(&["run.toml", "--data"], 1_000_000);
    assert_eq!(whole, large);
    assert_eq!(large["step"]["batch_size"], training_rows);
    assert_eq!(of_batch(&["run.toml"], 1_000_000)["step"]["batch_size"], 1_000_000, "nobody has counted");
}

/// Numbers that no machine has room for are counted, or refused in one line.
#[test]
fn large_numbers_are_counted_or_refused() {
    let workspace = Workspace::new();
    let price = "encode = \"standardize\"";
    for number in [u64::from(u32::MAX), 10_u64.pow(16), 10_u64.pow(18), u64::MAX] {
        for (before, after) in [
            ("batch_size = 64", "batch_size = N"),
            ("epochs = 2", "epochs = N"),
            (
                "epochs = 2",
                "epochs = N\nvalidate_every = N\ncheckpoint_every = N\nlog_every = N\npatience = N",
            ),
            ("epochs = 2", "epochs = N\nseed = N\nseeds = 100"),
            ("epochs = 2", "seeds = N"),
            ("epochs = 2", "schedule = { kind = \"cosine\", warmup_steps = N }"),
            ("embedding_dim = 4", "embedding_dim = N"),
            ("hidden = [8]", "hidden = [N, N]"),
            ("seed = 3", "seed = N"),
            ("path = \"data.csv\"", "path = \"data.csv\"\nstreaming = true\nshuffle_rows = N"),
            ("path = \"data.csv\"", "path = \"data.csv\"\nmemory = \"NGiB\""),
            ("name = \"user\"", "name = \"user\", min_count = N"),
            (price, "encode = \"hash\", buckets = N"),
            (price, "encode = \"quantile\", buckets = N"),
            (price, "encode = \"raw\", num_embeddings = N"),
            (price, "encode = \"ple\", bins = N"),
        ] {
            assert!(RUN_FILE.contains(before), "{before}");
            let after = after.replace('N', &number.to_string());
            workspace.write("run.toml", &RUN_FILE.replace(before, &after));
            let said = workspace.esmm(&["inspect", "run.toml"]);
            if said.code != 0 {
                said.error(2);
            }
        }
    }
    // The largest that are taken, all at once.
    let largest = RUN_FILE
        .replace("batch_size = 64", "batch_size = 4294967295")
        .replace("embedding_dim = 4", "embedding_dim = 1048576")
        .replace("hidden = [8]", "hidden = [1048576, 1048576]");
    workspace.write("run.toml", &largest);
    let inspected = json(&workspace, &["run.toml"]);
    assert_eq!(inspected["step"]["flops_per_step"], u64::MAX, "what 64 bits do not count");
}

/// What a training refuses before it opens a file, `inspect` refuses in the same words.
#[test]
fn what_no_training_takes_is_not_inspected() {
    let workspace = Workspace::new();
    let price = "encode = \"standardize\"";
    for (before, after) in [
        (price, "encode = \"ple\", bins = 100000"),
        (price, "encode = \"ple\", bins = 0"),
        (price, "encode = \"dense\", missing = 1e39"),
        (price, "encode = \"hash\", buckets = 0"),
        (price, "encode = \"raw\", num_embeddings = 10_000_000_000"),
        (price, "encode = \"standardize\", column = \"click\""),
        ("name = \"price\"", "name = \"user\""),
        ("valid = 0.2", "valid = 0.9"),
        ("seed = 3", "column = \"user\""),
        ("path = \"data.csv\"", "path = \"data.csv\"\ndelimiter = \"|\"\nquote = \"|\""),
        ("path = \"data.csv\"", "path = \"data.csv\"\ntime_zone = \"Mars/Base\""),
        ("[train]", "[labels]\nweight = \"click\"\n[train]"),
        ("[train]", "[labels]\nstages = [\"click\"]\n[train]"),
        ("[train]", "[labels]\nconversion_window = \"soon\"\ntime = \"price\"\n[train]"),
        ("[train]", "[metrics]\ntrue_ctr = \"price\"\n[train]"),
        ("batch_size = 64", "batch_size = 1"),
        ("batch_size = 64", "batch_size = 4294967296"),
        ("embedding_dim = 4", "embedding_dim = 1048577"),
        ("hidden = [8]", "hidden = [8, 1048577]"),
        ("batch_size = 64", "select = \"ctr.accuracy\""),
    ] {
        assert!(RUN_FILE.contains(before), "{before}");
        workspace.write("run.toml", &RUN_FILE.replace(before, after));
        let inspected = workspace.esmm(&["inspect", "run.toml"]).error(2).to_owned();
        let trained = workspace.esmm(&["train", "run.toml", "--run-dir", "run"]).error(2).to_owned();
        assert_eq!(inspected, trained, "{after}");
        assert!(!workspace.path("run").exists());
    }
}

#[test]
fn what_cannot_be_inspected_is_one_line() {
    let workspace = Workspace::new();
    std::fs::create_dir(workspace.path("folder")).unwrap();
    let error = |target: &str, code| workspace.esmm(&["inspect", target]).error(code).to_owned();
    assert_eq!(error("folder", 1), "folder: is no run directory (it has no config.json)");
    assert!(error("missing.toml", 2).starts_with("missing.toml: cannot be read"));
    assert!(error("data.csv", 2).starts_with("data.csv:1: "));
}
