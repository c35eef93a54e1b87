//! What `esmm evaluate` and the report say of rows that are not like the training rows.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use serde_json::Value;

use crate::common::{Funnel, Workspace};

#[test]
fn later_rows_are_held_against_the_training_rows() {
    Funnel::ALL.into_iter().for_each(later_rows);
}

fn later_rows(funnel: Funnel) {
    let workspace = Workspace::of(funnel);
    workspace.write("data.csv", &funnel.csv(4000));
    let said = workspace.esmm(&["train", "run.toml", "--run-dir", "run", "--quiet"]);
    assert_eq!(said.code, 0, "{}", said.stderr);

    let same = workspace.esmm(&["evaluate", "run", "data.csv"]);
    assert_eq!(same.code, 0, "{}", same.stderr);
    let (first, last) = (funnel.reached()[0], funnel.reached()[funnel.reached().len() - 1]);
    let shown = if funnel == Funnel::Two { "CTR" } else { first };
    assert!(same.stdout.contains(&format!("training rows:\n  {shown} ")), "{}", same.stdout);
    assert!(same.stdout.contains("within chance"), "{}", same.stdout);
    assert!(same.stdout.contains("  the features are spread as in the training rows"), "{}", same.stdout);

    // Half of the users are new, prices are higher, and two of three conversions do not happen.
    let mut text = String::new();
    for (row, line) in funnel.csv(4000).lines().enumerate() {
        let mut cells: Vec<String> = line.split(',').map(str::to_owned).collect();
        if row > 0 {
            if row % 2 == 0 {
                cells[0] = format!("new{row}");
            }
            cells[2] = format!("{}", 6.0 + (row % 3) as f64);
            if row % 3 != 0 {
                cells[4..].fill("0".to_owned());
            }
        }
        text.push_str(&(cells.join(",") + "\n"));
    }
    workspace.write("later.csv", &text);
    let later = workspace.esmm(&["evaluate", "run", "later.csv"]);
    assert_eq!(later.code, 0, "{}", later.stderr);
    for words in [
        "it fell); from the features alone the model expects",
        "`user` moved far: 50.0% of the values are missing or new, 0.0% in the training rows",
        "`price` moved far: \"",
        "the other feature is spread as in the training rows",
    ] {
        assert!(later.stdout.contains(words), "{words}: {}", later.stdout);
    }

    let json = workspace.esmm(&["evaluate", "run", "later.csv", "--json"]);
    let found: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(found["rows"], 4000);
    let drift = &found["drift"];
    assert_eq!(drift["rows_after"], 4000);
    let of_last = drift["rates"].as_array().unwrap().iter().find(|rate| rate["task"] == last).unwrap();
    let count = match funnel {
        Funnel::Two => &found["conversions"],
        Funnel::Three => &found["reached"][last],
    };
    let rate = count.as_f64().unwrap() / 4000.0;
    assert!((of_last["after"].as_f64().unwrap() - rate).abs() < 1e-12, "{of_last}");
    assert!(of_last["ratio_ci95"][1].as_f64().unwrap() < 0.6, "{of_last}");
    // The ratio of two calibrations is that of the predictions over that of the rates.
    let metrics: Value = serde_json::from_str(&workspace.read("run/metrics.json")).unwrap();
    let number = |value: &Value| value.as_f64().unwrap();
    let calibrations = number(&found[last]["calibration"]) / number(&metrics["train"][last]["calibration"]);
    let predicted = number(&of_last["predicted_after"]) / number(&of_last["predicted_before"]);
    let rates = number(&of_last["after"]) / number(&of_last["before"]);
    assert!((calibrations - predicted / rates).abs() < 1e-6, "{calibrations}, {predicted}, {rates}");

    let report = workspace.esmm(&["report", "run", "-o", "report.html"]);
    assert_eq!(report.code, 0, "{}", report.stderr);
    assert!(workspace.read("report.html").contains("Are later rows like the training rows?"));

    // A run of an older version does not know what its training rows are like.
    let mut analysis: Value = serde_json::from_str(&workspace.read("run/analysis.json")).unwrap();
    for split in analysis["splits"].as_array_mut().unwrap() {
        assert!(split.as_object_mut().unwrap().remove("period").is_some());
    }
    workspace.write("run/analysis.json", &analysis.to_string());
    let old = workspace.esmm(&["evaluate", "run", "later.csv"]);
    assert!(old.code == 0 && !old.stdout.contains("training rows:"), "{}", old.stdout);
    let report = workspace.esmm(&["report", "run", "-o", "report.html"]);
    assert_eq!(report.code, 0, "{}", report.stderr);
    assert!(!workspace.read("report.html").contains("Are later rows like the training rows?"));
}
