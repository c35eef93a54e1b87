//! `esmm tune`

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{Funnel, Said, Workspace, files};

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

/// The run file with the labels of a funnel.
fn run_file(funnel: Funnel) -> String {
    let stages: Vec<String> = funnel.stages().iter().map(|stage| format!("\"{stage}\"")).collect();
    format!("{RUN_FILE}\n[labels]\nstages = [{}]\n", stages.join(", "))
}

/// Rows `user,price,day,click,conversion` and the labels that are left; what is learned in more than an epoch.
fn csv(funnel: Funnel, rows: usize, first_test_row: usize) -> String {
    let mut text = format!("user,price,day,{}\n", funnel.stages().join(","));
    for row in 0..rows {
        let user = row * 7 % 20;
        let chance = (row * 7919 + 13) % 100;
        let click = u8::from(chance < 20 + 3 * user);
        let conversion = click * u8::from((row * 104_729) % 100 < 10 + 4 * user);
        // A test row that is used would end the command.
        let user = if row < first_test_row { format!("u{user}") } else { format!("test{row}") };
        text.push_str(&format!("{user},{}.5,{row},{click},{conversion}", row % 9));
        if funnel == Funnel::Three {
            let purchase = conversion * u8::from((row * 15_485_863) % 100 < 70);
            text.push_str(&format!(",{purchase}"));
        }
        text.push('\n');
    }
    text
}

fn workspace(funnel: Funnel) -> Workspace {
    let workspace = Workspace::new();
    workspace.write("data.csv", &csv(funnel, 2000, 1800));
    workspace.write("run.toml", &run_file(funnel));
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
    Funnel::ALL.into_iter().for_each(ends_with_a_run_file);
}

fn ends_with_a_run_file(funnel: Funnel) {
    let workspace = workspace(funnel);
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
    // The advice is that of the sentence before it.
    let verdicts = [
        ("Better by more than chance", "esmm train out/found.toml"),
        ("Within chance", "esmm train run.toml"),
        ("Worse", "esmm train run.toml"),
    ];
    let (_, next) = verdicts.iter().find(|(verdict, _)| said.stdout.contains(verdict)).unwrap();
    assert!(said.stdout.contains(&format!("\nNext: {next}")), "{}", said.stdout);
    assert!(page.contains(&next.replace("out/", "")), "{next}");
    assert_eq!(files(&workspace.path("out")), ["found.toml", "report.html", "trials.jsonl", "tuning.json"]);
    let trained = workspace.esmm(&["train", "out/found.toml", "--run-dir", "run", "--quiet"]);
    assert_eq!(trained.code, 0, "{}", trained.stderr);

    let error = tune(&workspace, "out", &[]).error(2).to_owned();
    assert_eq!(error, "out: holds a tuning: choose another --out, or say --resume or --overwrite");
}

/// Of a run file that names its files the windows are folds, and say so; with `--time` they follow each other as those of a
/// split by time do.
#[test]
fn windows_of_files_follow_a_column_of_times() {
    let workspace = workspace(Funnel::Two);
    let all = workspace.read("data.csv");
    let until = |row: usize| all.lines().take(1 + row).collect::<Vec<_>>().join("\n") + "\n";
    workspace.write("train.csv", &until(1800));
    let split = "path = \"data.csv\"\nsplit = { by = \"time\", column = \"day\", valid = 0.1, test = 0.1 }";
    let files = run_file(Funnel::Two).replace(split, "train = \"train.csv\"\ntest = \"nothing.csv\"");
    assert_ne!(files, run_file(Funnel::Two));
    workspace.write("run.toml", &files);
    let said = tune(&workspace, "folds", &[]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stderr.contains("windows are folds of the training rows"), "{}", said.stderr);
    assert!(workspace.read("folds/report.html").contains("2 folds of the training rows"));
    let said = tune(&workspace, "times", &["--time", "day"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(!said.stderr.contains("windows are folds"), "{}", said.stderr);
    assert!(workspace.read("times/report.html").contains("one after the other by `day`"));
    // The same as of a run file that divides these rows by time itself.
    let by_time = "path = \"train.csv\"\nsplit = { by = \"time\", column = \"day\", valid = 0.1 }";
    workspace.write("run.toml", &run_file(Funnel::Two).replace(split, by_time));
    assert_eq!(tune(&workspace, "split", &[]).code, 0);
    let [times, split] = ["times", "split"].map(|out| json(&workspace, &format!("{out}/tuning.json")));
    for key in ["time", "found", "tried", "compared"] {
        assert_eq!(times[key], split[key], "{key}");
    }
    assert_eq!(times["time"], "day");
    // Another one does not go on from there, and a run file that divides by itself has nothing to be told.
    let error = tune(&workspace, "other", &["--time", "day"]).error(2).to_owned();
    assert!(error.starts_with("--time day: run.toml says itself how rows are divided"), "{error}");
    workspace.write("run.toml", &files);
    let error = tune(&workspace, "times", &["--resume"]).error(2).to_owned();
    assert!(error.contains("--time"), "{error}");
    let error = tune(&workspace, "times", &["--time", "hour", "--overwrite"]).error(1).to_owned();
    assert!(error.contains("there is no column `hour`"), "{error}");
    workspace.write("run.toml", &files.replace("test = \"nothing.csv\"", "valid = \"nothing.csv\""));
    let error = tune(&workspace, "valid", &["--time", "day"]).error(2).to_owned();
    assert!(error.contains("leave data.valid or --time out"), "{error}");
    // A tuning reads no test rows, but a file that holds them as well is a mistake that it would hide.
    workspace.write("run.toml", &files.replace("nothing.csv", "train.csv"));
    let error = tune(&workspace, "both", &[]).error(2).to_owned();
    assert!(error.contains("train.csv: is in data.train and in data.test"), "{error}");
}

/// A folder in which somebody has things of their own keeps them, and a start that fails leaves nothing.
#[test]
fn what_is_not_the_tunings_stays() {
    let workspace = workspace(Funnel::Two);
    fs::create_dir_all(workspace.path("out/work")).unwrap();
    workspace.write("out/work/notes.txt", "mine");
    let said = tune(&workspace, "out", &["--minutes", "0.0001"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert_eq!(workspace.read("out/work/notes.txt"), "mine");
    let report = workspace.read("out/tuning.json");
    let run_file = workspace.read("run.toml");
    workspace.write("run.toml", &run_file.replace("name = \"price\"", "name = \"prize\""));
    for (out, how) in [("out", "--overwrite"), ("new/deep", "--quiet")] {
        let error = tune(&workspace, out, &[how]).error(1).to_owned();
        assert!(error.contains("`prize`"), "{error}");
    }
    assert_eq!(workspace.read("out/tuning.json"), report, "the earlier tuning is whole");
    assert!(!workspace.path("new").exists());
}

/// Labels of test rows that would turn every metric around change nothing but the sizes of files.
#[test]
fn test_rows_are_not_used() {
    Funnel::ALL.into_iter().for_each(uses_no_test_rows);
}

fn uses_no_test_rows(funnel: Funnel) {
    let workspace = workspace(funnel);
    assert_eq!(tune(&workspace, "before", &[]).code, 0);
    let turned: Vec<String> = (0..)
        .zip(workspace.read("data.csv").lines())
        .map(|(line, text)| match line > 1800 {
            true => {
                let stages = funnel.stages().len();
                text.rsplitn(stages + 1, ',').last().unwrap().to_owned() + &",1".repeat(stages)
            }
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
    Funnel::ALL.into_iter().for_each(is_resumed);
}

fn is_resumed(funnel: Funnel) {
    let workspace = workspace(funnel);
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
    workspace.write("run.toml", &run_file(funnel).replace("batch_size = 64", "batch_size = 32"));
    let said = tune(&workspace, "cut", &["--resume"]);
    assert!(said.error(2).starts_with("cut/trials.jsonl: is of another run file"), "{}", said.stderr);
    let said = tune(&workspace, "none", &["--resume"]);
    assert!(said.error(1).contains("there is nothing to resume"), "{}", said.stderr);
}

#[test]
fn a_signal_keeps_what_was_trained() {
    Funnel::ALL.into_iter().for_each(hears_a_signal);
}

fn hears_a_signal(funnel: Funnel) {
    let workspace = workspace(funnel);
    workspace.write("data.csv", &csv(funnel, 20_000, 18_000));
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
    assert!(trained() >= 2);
    assert_eq!(files(&workspace.path("out")), ["trials.jsonl"]);
}

#[test]
fn windows_that_are_too_small_are_told() {
    Funnel::ALL.into_iter().for_each(tells_small_windows);
}

fn tells_small_windows(funnel: Funnel) {
    let workspace = workspace(funnel);
    workspace.write("data.csv", &csv(funnel, 200, 180));
    let said = tune(&workspace, "out", &[]);
    let error = said.error(1);
    assert!(error.starts_with("window 1 of 2: its 20 validation rows have "), "{error}");
    assert!(error.ends_with("ask for fewer --windows, or tune on more rows"), "{error}");
    assert!(!workspace.path("out").exists(), "{:?}", files(&workspace.path("out")));
    // An earlier tuning is replaced by one that can be measured, and by no other.
    fs::create_dir(workspace.path("out")).unwrap();
    let earlier = ["found.toml", "report.html", "trials.jsonl", "tuning.json"];
    earlier.iter().for_each(|name| workspace.write(&format!("out/{name}"), "earlier"));
    let said = tune(&workspace, "out", &["--overwrite"]);
    assert!(said.error(1).starts_with("window 1 of 2: "), "{}", said.stderr);
    assert_eq!(files(&workspace.path("out")), earlier);
    assert!(earlier.iter().all(|name| workspace.read(&format!("out/{name}")) == "earlier"));
    let said = workspace.esmm(&["tune", "run.toml", "--minutes", "0"]);
    assert_eq!(said.code, 2);
    let said = workspace.esmm(&["tune", "gone.toml"]);
    assert!(said.error(2).starts_with("gone.toml: cannot be read"), "{}", said.stderr);
}

/// A budget of no time at all still measures the run file, and says that time was over.
#[test]
fn minutes_end_the_search() {
    Funnel::ALL.into_iter().for_each(ends_in_time);
}

fn ends_in_time(funnel: Funnel) {
    let workspace = workspace(funnel);
    let said = workspace.esmm(&["tune", "run.toml", "--out", "out", "--minutes", "0.0001", "--windows", "2"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let report = json(&workspace, "out/tuning.json");
    assert_eq!((report["tried"].as_array().unwrap().len(), report["out_of_time"].as_bool()), (1, Some(true)));
    assert!(said.stdout.contains("None of 0 settings was better"), "{}", said.stdout);
    assert!(said.stdout.contains("The time was over"), "{}", said.stdout);
}

/// Where time ends a round, the best on the windows that it allowed goes into the comparison, which settles it.
#[test]
fn what_was_found_before_the_time_was_over_is_compared() {
    Funnel::ALL.into_iter().for_each(compared_in_time);
}

fn compared_in_time(funnel: Funnel) {
    let workspace = workspace(funnel);
    let run = |out: &str, more: &[&str]| {
        let args = ["tune", "run.toml", "--out", out, "--windows", "2", "--seeds", "2"];
        workspace.esmm(&[&args[..], more].concat())
    };
    assert_eq!(run("whole", &["--trials", "3"]).code, 0);
    // As if time had been over after the first rung, where three epochs were the best by far.
    let lines = workspace.read("whole/trials.jsonl");
    let mut kept = String::new();
    for line in lines.lines() {
        let mut line: Value = serde_json::from_str(line).unwrap();
        let is_own = line["setting"] == serde_json::json!({});
        if line["line"] == "trial" && !is_own {
            if line["window"] != 1 {
                continue;
            }
            line["value"] = if line["setting"]["epochs"] == 3 { 0.99.into() } else { 0.01.into() };
        }
        if line["line"] == "start" || line["line"] == "trial" {
            kept.push_str(&format!("{line}\n"));
        }
    }
    assert!(kept.contains("0.99"), "{kept}");
    fs::create_dir(workspace.path("cut")).unwrap();
    workspace.write("cut/trials.jsonl", &kept);
    let said = run("cut", &["--resume", "--minutes", "0.0001"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let report = json(&workspace, "cut/tuning.json");
    assert_eq!((&report["found"]["epochs"], &report["out_of_time"]), (&Value::from(3), &Value::from(true)));
    assert_eq!(report["compared"].as_array().unwrap().len(), 3, "two windows and the last one");
    assert!(!said.stdout.contains("None of"), "{}", said.stdout);
}

#[test]
fn folds_take_the_place_of_windows_where_there_is_no_time() {
    Funnel::ALL.into_iter().for_each(takes_folds);
}

fn takes_folds(funnel: Funnel) {
    let workspace = workspace(funnel);
    for split in ["{ by = \"random\", test = 0.1 }", "{ by = \"hash\", column = \"user\", valid = 0.2 }"] {
        let by_time = "{ by = \"time\", column = \"day\", valid = 0.1, test = 0.1 }";
        let changed = run_file(funnel).replace(by_time, split);
        assert_ne!(changed, run_file(funnel));
        workspace.write("run.toml", &changed);
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
