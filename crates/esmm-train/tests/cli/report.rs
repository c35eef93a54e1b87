//! `esmm report`: the page has the numbers, stays whole whatever the run directory holds, and real tools accept it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::process::Command;

use crate::common::{self, Workspace, files};
use serde_json::Value;

fn report(workspace: &Workspace, runs: &[&str], page: &str) -> String {
    let said = workspace.esmm(&[&["report"], runs, &["-o", page]].concat());
    assert_eq!(said.code, 0, "{}", said.stderr);
    workspace.read(page)
}

fn json(workspace: &Workspace, name: &str) -> Value {
    serde_json::from_str(&workspace.read(name)).unwrap()
}

/// The cells of the body of the table with this caption, row by row.
fn cells(page: &str, caption: &str) -> Vec<Vec<String>> {
    let start = format!("<caption>{caption}");
    let table = page.split(&start).nth(1).unwrap_or_else(|| panic!("no table `{caption}`"));
    let body = table.split("<tbody>").nth(1).unwrap().split("</tbody>").next().unwrap();
    let text = |cell: &str| cell.split_once('>').unwrap().1.split('<').next().unwrap().to_owned();
    let row = |row: &str| row.split("<t").skip(1).map(text).collect();
    body.split("<tr>").skip(1).map(row).collect()
}

fn shown(value: &Value) -> String {
    format!("{:.4}", value.as_f64().unwrap())
}

#[test]
fn the_numbers_of_the_page_are_those_of_the_metrics() {
    let workspace = Workspace::trained();
    let page = report(&workspace, &["run"], "report.html");
    let metrics = json(&workspace, "run/metrics.json");
    for (split, caption) in [("test", "Test split"), ("valid", "Valid split"), ("train", "Train split")] {
        let rows = cells(&page, caption);
        for (row, task) in rows.iter().zip(["ctr", "cvr", "ctcvr"]) {
            let expected = &metrics[split][task];
            assert_eq!(row[0], task.to_uppercase());
            assert_eq!(row[3], shown(&expected["auc"]), "{split} {task}");
            let interval =
                format!("{} – {}", shown(&expected["auc_ci95"][0]), shown(&expected["auc_ci95"][1]));
            assert_eq!(row[4], interval, "{split} {task}");
            assert_eq!(row[5], shown(&expected["log_loss"]), "{split} {task}");
            assert_eq!(row[6], shown(&expected["normalized_entropy"]), "{split} {task}");
            assert_eq!(row[7], format!("{:.3}", expected["calibration"].as_f64().unwrap()), "{split} {task}");
        }
        assert_eq!(rows.len(), 3);
    }
    for heading in [
        "What was trained",
        "Learning curves",
        "Calibration by decile",
        "Ranking",
        "Scores by label",
        "By feature value",
        "Embedding tables",
    ] {
        assert!(page.contains(&format!(">{heading}")), "{heading}");
    }
    assert!(page.contains("2 sparse, 1 dense"), "features");
}

#[test]
fn the_curves_and_the_values_add_up_to_the_metrics() {
    let workspace = Workspace::trained();
    let (metrics, analysis) = (json(&workspace, "run/metrics.json"), json(&workspace, "run/analysis.json"));
    for split in analysis["splits"].as_array().unwrap() {
        let measured = &metrics[split["split"].as_str().unwrap()];
        assert_eq!(split["rows"], measured["rows"]);
        for (place, task) in split["tasks"].as_array().unwrap().iter().enumerate() {
            let (name, curves) = (task["task"].as_str().unwrap(), &task["curves"]);
            let (rows, events) =
                [("rows", "clicks"), ("clicks", "conversions"), ("rows", "conversions")][place];
            assert_eq!(
                (&curves["rows"], &curves["positives"]),
                (&measured[rows], &measured[events]),
                "{name}"
            );
            let number = |value: &Value| value.as_f64().unwrap();
            let points: Vec<[f64; 2]> = serde_json::from_value(curves["roc"].clone()).unwrap();
            let trapezoid = |pair: &[[f64; 2]]| (pair[1][0] - pair[0][0]) * (pair[1][1] + pair[0][1]) / 2.0;
            let area: f64 = points.windows(2).map(trapezoid).sum();
            assert!((area - number(&measured[name]["auc"])).abs() < 1e-3, "{name}: {area}");
            let predicted: f64 = curves["deciles"]
                .as_array()
                .unwrap()
                .iter()
                .map(|bin| number(&bin["predicted"]) * number(&bin["rows"]))
                .sum();
            let calibration = number(&measured[name]["calibration"]);
            assert!((predicted / number(&measured[events]) - calibration).abs() < 1e-5, "{name}");
            let histogram = &curves["histogram"];
            let counted: u64 = ["negatives", "positives"]
                .iter()
                .flat_map(|side| histogram[side].as_array().unwrap())
                .map(|rows| rows.as_u64().unwrap())
                .sum();
            assert_eq!(Some(counted), curves["rows"].as_u64(), "{name}");
            // Each row has one user and one price: their values hold all rows and all predictions.
            for feature in split["features"].as_array().unwrap() {
                let values = feature["values"].as_array().unwrap();
                if feature["feature"] == "tags" {
                    continue;
                }
                let sum =
                    |key: &str| values.iter().map(|value| number(&value["tasks"][place][key])).sum::<f64>();
                assert_eq!(sum("rows"), number(&curves["rows"]), "{feature}");
                assert_eq!(sum("positives"), number(&curves["positives"]), "{feature}");
                assert!((sum("predicted") - predicted).abs() < 1e-3, "{feature}");
            }
        }
        let features = split["features"].as_array().unwrap().len();
        assert_eq!(features, if split["split"] == "train" { 0 } else { 3 });
    }
    // 20 users and 6 tags, all of them in 240 training rows; some of them were taken as unknown.
    let tables = analysis["tables"].as_array().unwrap();
    let table = |place: usize| {
        (&tables[place]["rows"], &tables[place]["never_touched"], &tables[place]["unknown_trained"])
    };
    assert_eq!(table(0), (&Value::from(20), &Value::from(0), &Value::from(true)));
    assert_eq!(table(1), (&Value::from(6), &Value::from(0), &Value::from(true)));
}

const EVIL: &str = "<img src=x onerror=alert(1)>&\"'";

#[test]
fn nothing_from_the_data_becomes_markup() {
    let workspace = Workspace::new();
    workspace
        .write("data.csv", &workspace.read("data.csv").replace("u0,", "</script><script>alert(2)</script>,"));
    let run = common::RUN_FILE.replace("name = \"user\"", &format!("name = '''{EVIL}''', column = \"user\""));
    workspace.write("run.toml", &run);
    let dir = "run <b>";
    let said = workspace.esmm(&["train", "run.toml", "--run-dir", dir]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let page = report(&workspace, &[dir], "report.html");
    assert_eq!(page.matches("<script").count(), 1, "the page's own");
    assert!(!page.contains("<img") && !page.contains("<b>"));
    for expected in [
        "&lt;img src=x onerror=alert(1)&gt;&amp;&quot;&#39;",
        "&lt;/script&gt;&lt;script&gt;alert(2)",
        "run &lt;b&gt;",
    ] {
        assert!(page.contains(expected), "{expected}");
    }
}

#[test]
fn what_is_missing_or_damaged_is_said_on_the_page_and_on_stderr() {
    let workspace = Workspace::trained();
    let remove = |name: &str| std::fs::remove_file(workspace.path(name)).unwrap();
    let expect = |notes: &[&str]| {
        let said = workspace.esmm(&["report", "run", "-o", "report.html"]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        let page = workspace.read("report.html");
        for note in notes {
            assert!(said.stderr.contains(note), "{note} in {}", said.stderr);
            assert!(page.contains(note), "{note} on the page");
        }
        page
    };
    let (analysis, history) = (workspace.read("run/analysis.json"), workspace.read("run/history.jsonl"));
    workspace
        .write("run/analysis.json", &analysis.replacen("\"format_version\":1", "\"format_version\":9", 1));
    let page = expect(&["analysis.json: has format version 9, this program reads 1"]);
    assert!(!page.contains("Scores by label") && page.contains("Learning curves"));
    workspace.write("run/analysis.json", &analysis[..analysis.len() / 2]);
    expect(&["analysis.json: is damaged"]);
    remove("run/analysis.json");
    let page = expect(&["analysis.json is not there"]);
    assert!(page.contains("Test split"));

    remove("run/metrics.json");
    let cut =
        history.lines().filter(|line| !line.contains("\"moment\":\"end\"")).collect::<Vec<_>>().join("\n");
    workspace.write("run/history.jsonl", &cut[..cut.len() - 20]);
    let page = expect(&[
        "metrics.json is not there: the training is under way or was interrupted",
        "the last line is cut",
    ]);
    assert!(
        page.contains("best validation so far") && page.contains("Valid split"),
        "the validation stands in"
    );
    remove("run/history.jsonl");
    let page = expect(&["history.jsonl is not there"]);
    assert!(page.contains("What was trained") && !page.contains("Learning curves"));
    workspace.write("run/config.json", "{");
    expect(&["config.json: is damaged"]);
}

#[test]
fn a_path_that_is_no_run_directory_is_one_line() {
    let workspace = Workspace::new();
    for path in ["run.toml", "nowhere", "."] {
        let said = workspace.esmm(&["report", path, "-o", "report.html"]);
        assert!(said.error(1).ends_with("is no run directory (it has no config.json)"), "{}", said.stderr);
    }
    assert_eq!(files(&workspace.path(".")), ["data.csv", "run.toml"]);
}

#[test]
fn a_page_that_cannot_be_written_leaves_nothing_behind() {
    let workspace = Workspace::trained();
    let said = workspace.esmm(&["report", "run", "-o", "no/such/folder/report.html"]);
    assert!(said.error(1).contains("no/such/folder/report.html: cannot be written"), "{}", said.stderr);
    assert_eq!(files(&workspace.path(".")), ["data.csv", "run", "run.toml"]);
}

#[test]
fn a_training_in_parts_has_every_step_once() {
    let workspace = Workspace::new();
    let first =
        ["train", "run.toml", "--run-dir", "run", "--set", "train.epochs=1", "--set", "train.log_every=1"];
    assert_eq!(workspace.esmm(&first).code, 0);
    let more = ["train", "run.toml", "--run-dir", "run", "--resume", "--set", "train.log_every=1"];
    let said = workspace.esmm(&more);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let lines: Vec<Value> =
        workspace.read("run/history.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let steps: Vec<u64> = lines
        .iter()
        .filter(|line| line["kind"] == "step")
        .map(|line| line["step"].as_u64().unwrap())
        .collect();
    assert!(steps.len() > 4 && steps.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{steps:?}");
    let ends = lines.iter().filter(|line| line["moment"] == "end").count();
    assert_eq!(ends, 3, "one a split, of the second part");
    assert!(report(&workspace, &["run"], "report.html").contains("in 2 parts"));
}

#[test]
fn several_runs_are_compared() {
    let workspace = Workspace::trained();
    let other = ["train", "run.toml", "--run-dir", "other", "--set", "train.seed=2"];
    assert_eq!(workspace.esmm(&other).code, 0);
    let page = report(&workspace, &["run", "other"], "report.html");
    let settings = cells(&page, "Settings that differ");
    assert_eq!(settings, [["train.seed", "1", "2"]]);
    let rows = cells(&page, "CTCVR: against run");
    let auc = |run: &str| {
        json(&workspace, &format!("{run}/metrics.json"))["test"]["ctcvr"]["auc"].as_f64().unwrap()
    };
    assert_eq!(rows[1][..2], ["other".to_owned(), format!("{:.4}", auc("other"))]);
    assert_eq!(rows[1][3], format!("{:+.4}", auc("other") - auc("run")));
    assert!(["overlap", "apart: higher", "apart: lower"].contains(&rows[1][4].as_str()), "{rows:?}");
    assert!(page.contains("presumably the same rows"));
    // Two directories of the same name go by their paths.
    std::fs::create_dir(workspace.path("again")).unwrap();
    std::fs::rename(workspace.path("other"), workspace.path("again/run")).unwrap();
    assert!(report(&workspace, &["run", "again/run"], "report.html").contains(">again/run</h2>"));
}

#[test]
fn a_funnel_of_three_stages_has_five_tasks() {
    let workspace = Workspace::new();
    workspace.write("data.csv", &common::csv(3000));
    let data: String = workspace
        .read("data.csv")
        .lines()
        .enumerate()
        .map(|(row, line)| match row {
            0 => format!("{line},purchase\n"),
            _ => format!("{line},{}\n", u8::from(line.ends_with('1') && row % 2 == 0)),
        })
        .collect();
    workspace.write("data.csv", &data);
    let stages = "\n[labels]\nstages = [\"click\", \"conversion\", \"purchase\"]\n";
    workspace.write("run.toml", &format!("{}{stages}", common::RUN_FILE));
    let train = ["train", "run.toml", "--run-dir", "run", "--set", "train.select=purchase.log_loss"];
    let said = workspace.esmm(&train);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let page = report(&workspace, &["run"], "report.html");
    let tasks: Vec<String> = cells(&page, "Test split").into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(tasks, ["click", "conversion|click", "conversion", "purchase|conversion", "purchase"]);
    assert!(page.contains("click → conversion → purchase"));
}

/// In Chromium, and through an HTML validator. `npm ci` in `tests/report` gets the tools; with `ESMM_REPORT_CHECK=1` they
/// must be there.
#[test]
fn browsers_and_validators_accept_the_pages() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/report");
    let browser = std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".to_owned());
    let there = folder.join("node_modules").exists() && Path::new(&browser).exists();
    if !there {
        assert!(
            std::env::var_os("ESMM_REPORT_CHECK").is_none(),
            "ESMM_REPORT_CHECK is set: {browser} and the packages of tests/report must be there"
        );
        eprintln!("skipped the check in a browser: it needs {browser} and `npm ci` in tests/report");
        return;
    }
    let workspace = Workspace::trained();
    let other = ["train", "run.toml", "--run-dir", "a <b> & long name of a run", "--set", "train.seed=2"];
    assert_eq!(workspace.esmm(&other).code, 0);
    report(&workspace, &["run"], "one.html");
    report(&workspace, &["run", "a <b> & long name of a run"], "two.html");
    std::fs::remove_file(workspace.path("run/metrics.json")).unwrap();
    std::fs::remove_file(workspace.path("run/analysis.json")).unwrap();
    report(&workspace, &["run"], "incomplete.html");
    let pages = ["one.html", "two.html", "incomplete.html"].map(|page| workspace.path(page));
    let checked = Command::new("node")
        .arg(folder.join("check.mjs"))
        .args(pages)
        .env("CHROMIUM", &browser)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{said}{}", String::from_utf8_lossy(&checked.stderr));
}
