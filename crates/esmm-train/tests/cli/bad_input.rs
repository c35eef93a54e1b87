//! Bad input: one clear line, the exit code of the contract, nothing half-written.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use crate::common::{RUN_FILE, Workspace, csv, files};

/// Trains on `data.csv` with `text` and expects an error of exit code `code`.
fn train_error(data: Option<&str>, run_file: &str, code: i32) -> String {
    let workspace = Workspace::new();
    match data {
        Some(data) => workspace.write("data.csv", data),
        None => std::fs::remove_file(workspace.path("data.csv")).unwrap(),
    }
    workspace.write("run.toml", run_file);
    let said = workspace.esmm(&["train", "run.toml", "--run-dir", "run"]);
    let left = files(&workspace.path("run"));
    assert!(left.is_empty(), "left behind: {left:?}");
    said.error(code).to_owned()
}

fn data_error(data: &str) -> String {
    train_error(Some(data), RUN_FILE, 1)
}

#[test]
fn missing_and_empty_files() {
    assert!(train_error(None, RUN_FILE, 1).contains("data.csv"));
    assert!(data_error("").starts_with("data.csv: "));
    assert!(data_error("user,tags,price,click,conversion\n").contains("no rows"));
}

#[test]
fn an_unknown_column_suggests_the_nearest_name() {
    let error = data_error(&csv(10).replace("price", "prize"));
    assert_eq!(error, "data.csv: there is no column `price`, did you mean `prize`?");
}

#[test]
fn a_label_is_0_or_1() {
    let error = data_error(&(csv(10) + "u1,t1,1.5,2,0\n"));
    assert!(error.starts_with("data.csv:12: column `click`: found `2`, allowed"), "{error}");
}

#[test]
fn a_conversion_without_a_click_is_refused_or_dropped() {
    let data = csv(100) + "u1,t1,1.5,0,1\n";
    let error = data_error(&data);
    assert!(error.starts_with("data.csv:102: conversion = 1 but click = 0"), "{error}");
    let workspace = Workspace::new();
    workspace.write("data.csv", &data);
    workspace.write("run.toml", &format!("{RUN_FILE}\n[labels]\norphan_conversions = \"drop\"\n"));
    let said = workspace.esmm(&["train", "run.toml", "--run-dir", "run", "--set", "train.epochs=1"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stderr.contains("1 "), "the dropped row is counted: {}", said.stderr);
}

#[test]
fn every_line_has_the_same_fields() {
    let error = data_error(&(csv(10) + "u1,t1,1.5,1\n"));
    assert_eq!(
        error,
        "data.csv:12: found 4 fields, expected 5 as in the first line, which names the columns"
    );
}

#[test]
fn text_is_utf_8() {
    let workspace = Workspace::new();
    let mut bytes = csv(10).into_bytes();
    bytes.extend(b"u\xff,t1,1.5,1,0\n");
    std::fs::write(workspace.path("data.csv"), bytes).unwrap();
    let said = workspace.esmm(&["train", "run.toml", "--run-dir", "run"]);
    let error = said.error(1);
    assert!(error.starts_with("data.csv:12: column `user`"), "{error}");
}

#[test]
fn dense_columns_hold_finite_numbers() {
    for (bad, found) in [("NaN", "nothing"), ("cheap", "`cheap`"), ("inf", "`inf`"), ("", "nothing")] {
        let error = data_error(&(csv(10) + &format!("u1,t1,{bad},1,0\n")));
        assert!(
            error.starts_with(&format!("data.csv:12: column `price`: found {found}, allowed")),
            "{error}"
        );
    }
}

#[test]
fn the_run_file_is_strict() {
    let error = train_error(Some(&csv(10)), &RUN_FILE.replace("epochs", "epoch"), 2);
    assert!(error.starts_with("run.toml:17: unknown field `epoch`"), "{error}");
    assert!(error.ends_with("(did you mean `epochs`?)"), "{error}");
    let error = train_error(Some(&csv(10)), &RUN_FILE.replace("epochs = 2", "epochs = \"two\""), 2);
    assert_eq!(error, "run.toml:17: train.epochs: found \"two\", allowed is a whole number, at least 1");
    let error = train_error(Some(&csv(10)), &RUN_FILE.replace("hidden = [8]", "hidden = [0]"), 2);
    assert!(error.starts_with("model.hidden = [0]: "), "{error}");
}

#[test]
fn a_run_directory_is_not_overwritten_unasked() {
    let workspace = Workspace::trained();
    let before = workspace.read("run/metrics.json");
    let said = workspace.esmm(&["train", "run.toml", "--run-dir", "run"]);
    assert!(said.error(2).starts_with("run: is not empty"), "{}", said.stderr);
    assert_eq!(workspace.read("run/metrics.json"), before);
    let said = workspace.esmm(&["train", "run.toml", "--run-dir", "run", "--overwrite"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
}

#[test]
fn predict_needs_every_feature() {
    let workspace = Workspace::trained();
    workspace.write("new.csv", "user,price\nu1,1.5\n");
    let said = workspace.esmm(&["predict", "run", "new.csv", "-o", "scores.csv"]);
    assert!(said.error(1).starts_with("new.csv: there is no column `tags`"), "{}", said.stderr);
    assert!(!workspace.path("scores.csv").exists());
}

#[test]
fn damaged_weights_are_named() {
    let workspace = Workspace::trained();
    let weights = workspace.path("run/model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    let damaged: [(&str, Vec<u8>); 3] =
        [("cut", bytes[..bytes.len() - 7].to_vec()), ("noise", vec![0xa5; 200]), ("empty", Vec::new())];
    for (what, bytes) in damaged {
        std::fs::write(&weights, bytes).unwrap();
        let said = workspace.esmm(&["predict", "run", "data.csv", "-o", "scores.csv"]);
        assert!(said.error(1).starts_with("run/model.safetensors: "), "{what}: {}", said.stderr);
        assert!(!workspace.path("scores.csv").exists());
    }
    std::fs::remove_file(&weights).unwrap();
    let said = workspace.esmm(&["evaluate", "run", "data.csv"]);
    assert!(said.error(1).starts_with("run/model.safetensors: cannot be read"), "{}", said.stderr);
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_backend_that_is_not_compiled_in_names_its_feature() {
    let workspace = Workspace::new();
    let said = workspace.esmm(&["train", "run.toml", "--run-dir", "run", "--device", "cuda"]);
    assert!(said.error(2).contains("`--features cuda`"), "{}", said.stderr);
    let said = workspace.esmm(&["train", "run.toml", "--run-dir", "run", "--device", "gpu"]);
    assert!(said.error(2).starts_with("unknown device `gpu`"), "{}", said.stderr);
}

#[test]
fn a_disk_that_refuses_is_an_error_with_the_file() {
    let workspace = Workspace::trained();
    workspace.write("file", "");
    let said = workspace.esmm(&["train", "run.toml", "--run-dir", "file/run"]);
    assert!(said.error(1).starts_with("file/run: cannot be used as a run directory"), "{}", said.stderr);
    let said = workspace.esmm(&["predict", "run", "data.csv", "-o", "missing/scores.csv"]);
    assert!(said.error(1).starts_with("missing/scores.csv: cannot be written"), "{}", said.stderr);
}

/// A full disk in the middle of a file: `/dev/full` refuses every write.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    let workspace = Workspace::trained();
    let said = workspace.esmm(&["predict", "run", "data.csv", "-o", "/dev/full"]);
    assert!(said.error(1).starts_with("/dev/full: cannot be written"), "{}", said.stderr);
}

/// A column that says how rows count is named with its key.
#[test]
fn a_column_that_is_missing_names_its_key() {
    for (labels, expected) in [
        ("weight = \"w\"", "(labels.weight: the weight of each row)"),
        ("negative_rate = \"w\"", "(labels.negative_rate: the negative rate of each row)"),
        ("conversion_window = \"7d\"\ntime = \"w\"", "(labels.time: the time of each row)"),
        ("stages = [\"click\", \"w\"]", "(labels.stages: a label)"),
    ] {
        let error = train_error(Some(&csv(10)), &format!("{RUN_FILE}\n[labels]\n{labels}\n"), 1);
        assert!(error.starts_with("data.csv: there is no column `w`, there are `user`, "), "{error}");
        assert!(error.ends_with(expected), "{error}");
    }
}

#[test]
fn a_label_is_nothing_else() {
    let weighted = format!("{RUN_FILE}\n[labels]\nweight = \"conversion\"\n");
    let error = train_error(Some(&csv(10)), &weighted, 2);
    assert_eq!(
        error,
        "labels.weight: column `conversion` is a label (labels.stages): it cannot be the weight of each row as well"
    );
    let workspace = Workspace::trained();
    for command in ["evaluate", "calibrate"] {
        let error =
            workspace.esmm(&[command, "run", "data.csv", "--negative-rate", "click"]).error(2).to_owned();
        let expected = "--negative-rate: column `click` is a label (labels.stages): it cannot be the negative rate of each row as well";
        assert_eq!(error, expected);
    }
    let feature = RUN_FILE.replace("{ name = \"user\"", "{ name = \"user\", column = \"click\"");
    let error = train_error(Some(&csv(10)), &feature, 2);
    assert!(error.starts_with("feature `user`: it reads `click`, a label"), "{error}");
}

/// Rows that train and validate, by one name, by two, or by a glob.
#[test]
fn no_file_is_in_two_splits() {
    let split = "path = \"data.csv\"\nsplit = { by = \"random\", valid = 0.2, test = 0.2, seed = 3 }";
    for (data, two) in [
        ("train = \"data.csv\"\nvalid = \"data.csv\"", "data.train and in data.valid"),
        ("train = \"*.csv\"\ntest = \"./data.csv\"", "data.train and in data.test"),
    ] {
        let error = train_error(Some(&csv(100)), &RUN_FILE.replace(split, data), 2);
        assert!(error.contains(&format!("data.csv: is in {two}: ")), "{error}");
    }
}

/// A file with two names is one file, whichever command reads it.
#[cfg(unix)]
#[test]
fn a_hard_link_is_the_same_file() {
    let workspace = Workspace::trained();
    std::fs::hard_link(workspace.path("data.csv"), workspace.path("twin.csv")).unwrap();
    let split = "path = \"data.csv\"\nsplit = { by = \"random\", valid = 0.2, test = 0.2, seed = 3 }";
    let files = "train = \"data.csv\"\nvalid = \"twin.csv\"";
    workspace.write("two.toml", &RUN_FILE.replace(split, files));
    for args in
        [&["train", "two.toml", "--run-dir", "two"][..], &["tune", "two.toml"], &["inspect", "two.toml"]]
    {
        let error = workspace.esmm(args).error(2).to_owned();
        assert!(error.starts_with("twin.csv: is in data.train and in data.valid: "), "{args:?}: {error}");
    }
    let said = workspace.esmm(&["evaluate", "run", "twin.csv"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stderr.contains("twin.csv: the model has learned from rows of it"), "{}", said.stderr);
    assert!(!said.stderr.contains("is read more than once"), "{}", said.stderr);
    let all = RUN_FILE.replace("\"data.csv\"", "[\"data.csv\", \"twin.csv\"]");
    workspace.write("all.toml", &all);
    for args in [
        &["evaluate", "run", "data.csv", "twin.csv"][..],
        &["calibrate", "run", "data.csv", "twin.csv"],
        &["train", "all.toml", "--run-dir", "all"],
    ] {
        let said = workspace.esmm(args);
        let repeated = said.stderr.lines().filter(|line| line.contains("is read more than once"));
        let repeated: Vec<&str> = repeated.collect();
        assert_eq!(repeated.len(), 1, "{args:?}: {}", said.stderr);
        assert!(
            repeated[0].starts_with("warning: twin.csv: is read more than once: "),
            "{args:?}: {repeated:?}"
        );
    }
}

#[test]
fn a_column_is_kept_once() {
    let workspace = Workspace::trained();
    for keep in [&["--keep", "user,price,user"][..], &["--keep", "user", "--keep", "user"]] {
        let args = [&["predict", "run", "data.csv", "-o", "scores.csv"], keep].concat();
        assert_eq!(workspace.esmm(&args).error(2), "--keep user: the column is named twice");
        assert!(!workspace.path("scores.csv").exists());
    }
}

/// A comma too many names no column.
#[test]
fn a_name_of_a_column_is_not_empty() {
    let workspace = Workspace::trained();
    for keep in ["", ",", "user,", ",user", "user,,price"] {
        let said = workspace.esmm(&["predict", "run", "data.csv", "-o", "scores.csv", "--keep", keep]);
        assert_eq!(said.code, 2, "{keep}: {}", said.stderr);
        assert!(
            said.stderr.contains("a name is empty: names stand between single commas"),
            "{}",
            said.stderr
        );
        assert!(!workspace.path("scores.csv").exists());
    }
}

#[test]
fn a_path_is_not_empty() {
    for path in ["\"\"", "\" \"", "[\"data.csv\", \"\"]"] {
        let workspace = Workspace::new();
        workspace.write("run.toml", &RUN_FILE.replace("path = \"data.csv\"", &format!("path = {path}")));
        for args in [&["train", "run.toml"][..], &["inspect", "run.toml"], &["tune", "run.toml"]] {
            let error = workspace.esmm(args).error(2).to_owned();
            assert_eq!(error, "data.path = \"\": it must name a file, a glob or a folder", "{args:?}");
        }
    }
    let workspace = Workspace::trained();
    for args in [
        &["evaluate", "run", ""][..],
        &["predict", "run", "", "-o", "scores.csv"],
        &["init", "", "-o", "a.toml"],
    ] {
        let error = workspace.esmm(args).error(2).to_owned();
        assert_eq!(error, "source: a path is empty: it must name a file, a glob or a folder", "{args:?}");
    }
}

/// A number below 0 is a number, and is answered with what is allowed.
#[test]
fn numbers_out_of_range_are_answered_with_the_range() {
    let workspace = Workspace::trained();
    for (args, allowed) in [
        (&["evaluate", "run", "data.csv", "--negative-rate", "-1"][..], "above 0 and at most 1"),
        (&["calibrate", "run", "data.csv", "--negative-rate", "-0.5"], "above 0 and at most 1"),
        (&["evaluate", "run", "data.csv", "--threads", "-1"], "from 1 to 1024"),
        (&["tune", "run.toml", "--trials", "-1"], "at least 1"),
        (&["tune", "run.toml", "--minutes", "-1"], "above 0"),
        (&["tune", "run.toml", "--windows", "-1"], "from 1 to 20"),
        (&["tune", "run.toml", "--seeds", "101"], "from 1 to 100"),
        (&["synthesize", "made", "--rows", "-1"], "at least 0"),
        (&["synthesize", "made", "--seed", "-1"], "at least 0"),
        (&["synthesize", "made", "--confounding", "-1"], "0 to 4"),
        (&["aliccp", "generate", "made", "--click-rate", "-1"], "from 0 to 0.9"),
        (&["aliccp", "prepare", "made", "out", "--max-bad-rows", "-1"], "at least 0"),
        (&["aliccp", "prepare", "made", "out", "--memory", "-1"], "allowed are bytes and sizes"),
    ] {
        let said = workspace.esmm(args);
        assert_eq!(said.code, 2, "{args:?}: {}", said.stderr);
        assert!(said.stderr.contains(allowed) && !said.stderr.contains("tip:"), "{args:?}: {}", said.stderr);
    }
}

/// Who measures or calibrates on rows that were learned from is told so, and no one else.
#[test]
fn rows_that_were_learned_from_are_told() {
    let workspace = Workspace::trained();
    workspace.write("new.csv", &csv(300));
    for (command, so) in
        [("evaluate", "metrics of new rows are lower"), ("calibrate", "a correction for them ")]
    {
        let said = workspace.esmm(&[command, "run", "new.csv", "./data.csv"]);
        let expected = format!(
            "data.csv: the model has learned from rows of it, and knows them better than new ones: {so}"
        );
        assert!(said.stderr.contains(&expected), "{}", said.stderr);
        let said = workspace.esmm(&[command, "run", "new.csv"]);
        assert!(!said.stderr.contains("has learned from"), "{}", said.stderr);
    }
}

#[test]
fn wrong_usage_exits_with_2() {
    let workspace = Workspace::new();
    for args in [&["fly"][..], &["predict", "run"], &["train", "--no-such-flag"], &["train", "--resume"]] {
        assert_eq!(workspace.esmm(args).code, 2, "{args:?}");
    }
    let said = workspace.esmm(&["evaluate", "nowhere", "data.csv"]);
    assert!(said.error(1).starts_with("nowhere: is no run directory"), "{}", said.stderr);
}
