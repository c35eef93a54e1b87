//! `esmm tune`

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{Said, Workspace};

const RUN_FILE: &str = r#"# What people buy.
features = [
  { name = "user", side = "user" },  # who
  { name = "price", side = "item", encode = "standardize" },
]

[data]
path = "data.csv"
split = { by = "time", column = "day", valid = 0.1, test = 0.1 }

[model]
embedding_dim = 4
hidden = [8]

[train]
epochs = 1
batch_size = 64
"#;

/// Rows `user,price,day,click,conversion`; what is learned in more than an epoch.
fn csv(rows: usize, first_test_row: usize) -> String {
    let mut text = String::from("user,price,day,click,conversion\n");
    for row in 0..rows {
        let user = row * 7 % 20;
        let chance = (row * 7919 + 13) % 100;
        let click = u8::from(chance < 20 + 3 * user);
        let conversion = click * u8::from((row * 104_729) % 100 < 10 + 4 * user);
        // A test row that is used would end the command.
        let user = if row < first_test_row { format!("u{user}") } else { format!("test{row}") };
        text.push_str(&format!("{user},{}.5,{row},{click},{conversion}\n", row % 9));
    }
    text
}

fn workspace() -> Workspace {
    let workspace = Workspace::new();
    workspace.write("data.csv", &csv(2000, 1800));
    workspace.write("run.toml", RUN_FILE);
    workspace
}

fn json(workspace: &Workspace, name: &str) -> Value {
    serde_json::from_str(&workspace.read(name)).unwrap()
}

fn tune(workspace: &Workspace, out: &str, more: &[&str]) -> Said {
    let args = ["tune", "run.toml", "--out", out, "--trials", "8", "--windows", "2", "--seeds", "2"];
    workspace.esmm(&[&args[..], more].concat())
}

#[test]
fn it_ends_with_a_run_file_that_trains_a_comparison_and_a_page() {
    let workspace = workspace();
    let said = tune(&workspace, "out", &[]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let report = json(&workspace, "out/tuning.json");
    let tried = report["tried"].as_array().unwrap();
    assert_eq!(tried[0]["setting"], serde_json::json!({}), "the run file as it is comes first");
    assert!(tried.len() >= 5 && tried.len() <= 9, "{report}");
    assert!(tried[0]["values"].as_array().unwrap().iter().all(Value::is_f64));
    let page = workspace.read("out/report.html");
    assert!(page.contains("Tuning of run.toml") && page.contains("All that was tried"));
    let found = workspace.read("out/found.toml");
    assert!(found.starts_with("# Found by `esmm tune run.toml` in ") && found.contains("# who"), "{found}");
    let more_epochs = report["found"]["epochs"].as_u64();
    assert!(more_epochs.is_some_and(|epochs| epochs > 1), "an epoch is too little here: {report}");
    assert!(found.contains(&format!("epochs = {}", more_epochs.unwrap())), "{found}");
    let compared = report["compared"].as_array().unwrap();
    let windows: Vec<&Value> = compared.iter().map(|window| &window["window"]).collect();
    assert_eq!(windows, [&Value::from(0), &Value::from(1), &Value::Null]);
    for window in compared {
        assert_eq!(window["rows"], 200);
        let [low, high] = [0, 1].map(|end| window["gain_interval"][end].as_f64().unwrap());
        let gain = window["gain"].as_f64().unwrap();
        assert!(low < gain && gain < high, "{window}");
        let difference = window["found"].as_f64().unwrap() - window["own"].as_f64().unwrap();
        assert!((difference - gain).abs() < 1e-9);
    }
    let verdicts = ["Better by more than chance", "Within chance", "Worse"];
    assert!(verdicts.iter().any(|verdict| said.stdout.contains(verdict)), "{}", said.stdout);
    assert!(said.stdout.contains("Next: esmm train out/found.toml"), "{}", said.stdout);
    assert!(!workspace.path("out/work").exists());
    let trained = workspace.esmm(&["train", "out/found.toml", "--run-dir", "run", "--quiet"]);
    assert_eq!(trained.code, 0, "{}", trained.stderr);

    let error = tune(&workspace, "out", &[]).error(2).to_owned();
    assert_eq!(error, "out: holds a tuning: choose another --out, or say --resume or --overwrite");
}

/// Labels of test rows that would turn every metric around change nothing but the sizes of files.
#[test]
fn test_rows_are_not_used() {
    let workspace = workspace();
    assert_eq!(tune(&workspace, "before", &[]).code, 0);
    let turned: Vec<String> = (0..)
        .zip(workspace.read("data.csv").lines())
        .map(|(line, text)| match line > 1800 {
            true => text.rsplitn(3, ',').last().unwrap().to_owned() + ",1,1",
            false => text.to_owned(),
        })
        .collect();
    workspace.write("data.csv", &(turned.join("\n") + "\n"));
    assert_eq!(tune(&workspace, "after", &[]).code, 0);
    let [mut before, mut after] =
        ["before", "after"].map(|out| json(&workspace, &format!("{out}/tuning.json")));
    for report in [&mut before, &mut after] {
        report.as_object_mut().unwrap().remove("seconds");
    }
    assert_eq!(before, after);
}

#[test]
fn what_was_trained_is_not_trained_again() {
    let workspace = workspace();
    assert_eq!(tune(&workspace, "whole", &[]).code, 0);
    let lines = workspace.read("whole/trials.jsonl");
    // Of a tuning that was killed half way, in the middle of a line.
    fs::create_dir(workspace.path("cut")).unwrap();
    workspace.write("cut/trials.jsonl", &lines[..lines.len() / 2]);
    assert_eq!(tune(&workspace, "cut", &["--resume"]).code, 0);
    let [whole, cut] = ["whole", "cut"].map(|out| json(&workspace, &format!("{out}/tuning.json")));
    for key in ["found", "tried", "compared", "trainings"] {
        assert_eq!(whole[key], cut[key], "{key}");
    }
    assert_eq!(workspace.read("cut/found.toml"), workspace.read("whole/found.toml"));
    workspace.write("run.toml", &RUN_FILE.replace("batch_size = 64", "batch_size = 32"));
    let said = tune(&workspace, "cut", &["--resume"]);
    assert!(said.error(2).starts_with("cut/trials.jsonl: is of another run file"), "{}", said.stderr);
    let said = tune(&workspace, "none", &["--resume"]);
    assert!(said.error(1).contains("there is nothing to resume"), "{}", said.stderr);
}

#[test]
fn a_signal_keeps_what_was_trained() {
    let workspace = workspace();
    workspace.write("data.csv", &csv(20_000, 18_000));
    let args = ["tune", "run.toml", "--out", "out", "--trials", "100"];
    let mut child =
        workspace.command_that_hears(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(120);
    let trained = || {
        let text = fs::read_to_string(workspace.path("out/trials.jsonl")).unwrap_or_default();
        text.matches("\"line\":\"trial\"").count()
    };
    while trained() < 2 {
        assert!(Instant::now() < end && child.try_wait().unwrap().is_none(), "nothing was trained");
        std::thread::sleep(Duration::from_millis(5));
    }
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let said = Said::from(child.wait_with_output().unwrap());
    assert_eq!(said.code, 130, "{}", said.stderr);
    assert!(said.stderr.contains("go on with: esmm tune run.toml --out out --resume"), "{}", said.stderr);
    assert!(trained() >= 2 && !workspace.path("out/work").exists());
}

#[test]
fn windows_that_are_too_small_are_told() {
    let workspace = workspace();
    workspace.write("data.csv", &csv(200, 180));
    let said = tune(&workspace, "out", &[]);
    let error = said.error(1);
    assert!(error.starts_with("window 1 of 2: its 20 validation rows have "), "{error}");
    assert!(error.ends_with("ask for fewer --windows, or tune on more rows"), "{error}");
    let said = workspace.esmm(&["tune", "run.toml", "--minutes", "0"]);
    assert_eq!(said.code, 2);
    let said = workspace.esmm(&["tune", "gone.toml"]);
    assert!(said.error(2).starts_with("gone.toml: cannot be read"), "{}", said.stderr);
}

/// A budget of no time at all still measures the run file, and says that time was over.
#[test]
fn minutes_end_the_search() {
    let workspace = workspace();
    let said = workspace.esmm(&["tune", "run.toml", "--out", "out", "--minutes", "0.0001", "--windows", "2"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let report = json(&workspace, "out/tuning.json");
    assert_eq!((report["tried"].as_array().unwrap().len(), report["out_of_time"].as_bool()), (1, Some(true)));
    assert!(said.stdout.contains("None of 0 settings was better"), "{}", said.stdout);
    assert!(said.stdout.contains("The time was over"), "{}", said.stdout);
}

#[test]
fn folds_take_the_place_of_windows_where_there_is_no_time() {
    let workspace = workspace();
    for split in ["{ by = \"random\", test = 0.1 }", "{ by = \"hash\", column = \"user\", valid = 0.2 }"] {
        let run_file =
            RUN_FILE.replace("{ by = \"time\", column = \"day\", valid = 0.1, test = 0.1 }", split);
        assert_ne!(run_file, RUN_FILE);
        workspace.write("run.toml", &run_file);
        let said = workspace.esmm(&[
            "tune",
            "run.toml",
            "--out",
            "out",
            "--overwrite",
            "--trials",
            "1",
            "--windows",
            "2",
        ]);
        assert_eq!(said.code, 0, "{split}: {}", said.stderr);
    }
}
