//! `esmm init`: what it makes of data that nobody has described, and what it says of data that it can make nothing of.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use crate::common::{Funnel, Workspace, csv};
use serde_json::Value;

/// Runs `esmm init` on `data.csv` with some arguments and returns the run file.
fn drafted(workspace: &Workspace, args: &[&str]) -> toml::Table {
    let args = [&["init", "data.csv", "-o", "guess.toml", "--overwrite"], args].concat();
    let said = workspace.esmm(&args);
    assert_eq!(said.code, 0, "{}", said.stderr);
    workspace.read("guess.toml").parse().unwrap()
}

/// The entry of a feature, as `key = value` in the order in which it was written; `None` when it is left out.
fn feature(file: &toml::Table, name: &str) -> Option<String> {
    let features = file["features"].as_array().unwrap();
    let found = features.iter().find(|feature| feature["name"].as_str() == Some(name))?;
    let keys = found.as_table().unwrap().iter().filter(|(key, _)| *key != "name");
    Some(keys.map(|(key, value)| format!("{key} = {value}")).collect::<Vec<_>>().join(", "))
}

#[track_caller]
fn expect(file: &toml::Table, features: &[(&str, &str)]) {
    for (name, expected) in features {
        assert_eq!(feature(file, name).as_deref(), Some(*expected), "feature {name}");
    }
}

#[test]
fn a_run_file_is_drafted_that_trains() {
    Funnel::ALL.into_iter().for_each(drafted_and_trained);
}

fn drafted_and_trained(funnel: Funnel) {
    let workspace = Workspace::of(funnel);
    let said = workspace.esmm(&["init", "data.csv", "-o", "guess.toml"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert_eq!(
        said.stdout,
        "guess.toml is written: read its comments, edit it.\nNext: esmm train guess.toml\n"
    );
    assert!(said.stderr.contains("looked at all 400 rows"), "{}", said.stderr);
    assert!(said.stderr.contains("labels: `click`"), "{}", said.stderr);
    let file: toml::Table = workspace.read("guess.toml").parse().unwrap();
    expect(&file, &[("user", "side = \"user\""), ("tags", "pooling = \"mean\"")]);
    expect(&file, &[("price", "bins = 8, encode = \"ple\", side = \"item\"")]);
    assert_eq!(file["labels"]["stages"].as_array().unwrap().len(), 2);
    assert_eq!(file["metrics"]["group"].as_str(), Some("user"));
    with_all_stages(&workspace, funnel);
    let said = workspace.esmm(&["train", "guess.toml", "--run-dir", "run"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let metrics: Value = serde_json::from_str(&workspace.read("run/metrics.json")).unwrap();
    for task in funnel.tasks() {
        assert!(metrics["train"][task]["log_loss"].is_f64(), "{task} in {metrics}");
    }
}

/// A draft has a click and a conversion as its stages. What lies between is named in a comment, to be taken instead.
fn with_all_stages(workspace: &Workspace, funnel: Funnel) {
    let stages: Vec<String> = funnel.stages().iter().map(|stage| format!("\"{stage}\"")).collect();
    let all = format!("stages = [{}]", stages.join(", "));
    let text = workspace.read("guess.toml");
    assert!(text.contains(&all), "{all} in {text}");
    // With other stages the metric of the draft is none, and the last stage's is taken unless another one is named.
    let lines = text.lines().filter(|line| funnel == Funnel::Two || !line.starts_with("select = "));
    let lines = lines.map(|line| if line.starts_with("stages = ") { all.as_str() } else { line });
    workspace.write("guess.toml", &lines.collect::<Vec<_>>().join("\n"));
}

/// A number of which every bit depends on all of `seed`: the last steps of MurmurHash3.
fn mixed(seed: u32) -> u32 {
    let mut bits = seed.wrapping_mul(0x9E37_79B9);
    bits = (bits ^ (bits >> 16)).wrapping_mul(0x85EB_CA6B);
    bits = (bits ^ (bits >> 13)).wrapping_mul(0xC2B2_AE35);
    bits ^ (bits >> 16)
}

/// 300 shelves without a name that tells, whose rates of clicks jump; a smooth quantity; a field whose
/// name is a number; two numbers that are often missing and never 0, of which one is a quantity by its clicks.
#[test]
fn ids_are_told_from_quantities() {
    let workspace = Workspace::new();
    let mut text = "shelf,width,318,sparse,tenure,click,conversion\n".to_owned();
    for row in 0..40_000_u32 {
        let random = |salt: u32| mixed(row * 8 + salt);
        let (shelf, quantity) = (10 + random(1) % 300 * 7, 10 + random(2) % 400);
        let jumps = if mixed(shelf) & 1 == 1 { 50 } else { 5 };
        let tenure = 1 + random(0) % 1500;
        let is_known = random(7) % 4 != 0;
        let known = if is_known { tenure / 30 } else { 25 };
        let click = random(3) % 200 < jumps + quantity / 8 + known;
        let conversion = click && random(4) % 3 == 0;
        let sparse = if random(5) % 4 == 0 { String::new() } else { (1 + random(6) % 90 * 3).to_string() };
        let (click, conversion) = (u8::from(click), u8::from(conversion));
        let tenure = if is_known { tenure.to_string() } else { String::new() };
        text.push_str(&format!(
            "{shelf},{quantity},{},{sparse},{tenure},{click},{conversion}\n",
            10 + random(7) % 60 * 2
        ));
    }
    workspace.write("data.csv", &text);
    let file = drafted(&workspace, &[]);
    expect(
        &file,
        &[
            ("shelf", ""),
            ("width", "encode = \"ple\""),
            ("318", ""),
            ("sparse", ""),
            ("tenure", "encode = \"ple\", missing = 750.0"),
        ],
    );
    // Of many ids some have few rows, which would keep what they start with.
    assert!(file["model"].get("embedding_init_std").is_none(), "{file}");
    let text = workspace.read("guess.toml");
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("rates jump from value to value"), "{words}");
    assert!(words.contains("whole numbers from 1 on that are often missing, taken for ids"), "{words}");
    assert!(
        words.contains("often missing as ids are, taken for a quantity, as single values tell"),
        "{words}"
    );
}

/// The names that shops, advertisers and travel agencies give to what follows a click.
#[test]
fn labels_are_found_by_their_names() {
    let workspace = Workspace::new();
    for name in ["conversion", "is_booking", "purchased", "signup"] {
        workspace.write("data.csv", &csv(400).replacen("conversion", name, 1));
        let said = workspace.esmm(&["init", "data.csv", "-o", "guess.toml", "--overwrite"]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        assert!(said.stderr.contains(&format!("then `{name}`")), "{}", said.stderr);
    }
}

/// Files that are named after the splits are used as such, and the draft plans for the rows that it learns from.
#[test]
fn files_are_used_as_their_names_say() {
    Funnel::ALL.into_iter().for_each(named_files);
}

fn named_files(funnel: Funnel) {
    let workspace = Workspace::new();
    for (name, rows) in [("train.csv", 400), ("valid.csv", 100), ("test.csv", 100)] {
        let plain = funnel.csv(rows);
        let mut text = String::new();
        for (number, line) in plain.lines().enumerate() {
            match number {
                0 => text.push_str(&format!("{line},seen_at\n")),
                row => text.push_str(&format!("{line},2024-05-{:02} 12:00:00\n", 1 + row % 30)),
            }
        }
        workspace.write(name, &text);
    }
    let args = ["init", "train.csv", "valid.csv", "test.csv", "-o", "guess.toml"];
    let said = workspace.esmm(&args);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stderr.contains("split: by the names of the files"), "{}", said.stderr);
    assert!(said.stderr.contains("epochs of 400 rows"), "{}", said.stderr);
    let file: toml::Table = workspace.read("guess.toml").parse().unwrap();
    for name in ["train", "valid", "test"] {
        assert_eq!(file["data"][name].as_str(), Some(format!("{name}.csv").as_str()));
    }
    assert!(file["data"].get("split").is_none());
    with_all_stages(&workspace, funnel);
    // A time that divides nothing is no feature, and that is said.
    let draft = workspace.read("guess.toml");
    assert!(draft.contains("`seen_at` is the time: files divide the rows here"), "{draft}");
    let said = workspace.esmm(&["train", "guess.toml", "--run-dir", "run", "--set", "train.epochs=1"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
}

/// Times as people write them divide the rows where they say which number is the day, and by when they are, not by how they
/// are spelled; others are left out with the reason.
#[test]
fn times_are_taken_as_people_write_them() {
    let workspace = Workspace::new();
    let plain = csv(1000);
    let with_times = |time: &dyn Fn(usize) -> String| {
        let lines = plain.lines().enumerate().map(|(row, line)| match row {
            0 => format!("{line},seen_at\n"),
            row => format!("{line},{}\n", time(row)),
        });
        workspace.write("data.csv", &lines.collect::<String>());
        let said = workspace.esmm(&["init", "data.csv", "-o", "guess.toml", "--overwrite"]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        said
    };
    let day = |row: usize| (1 + row * 7 % 28, 1 + row * 7 / 28 % 12, 2000 + row * 7 / 28 / 12);
    let forms: [&dyn Fn(usize) -> String; 4] = [
        &|row| format!("{2:04}-{1:02}-{0:02} 10:00", day(row).0, day(row).1, day(row).2),
        &|row| format!("{0:02}.{1:02}.{2} 10:00", day(row).0, day(row).1, day(row).2),
        &|row| format!("{0}.{1}.{2} 10:00:00", day(row).0, day(row).1, day(row).2),
        &|row| format!("{2}/{1:02}/{0:02} 10:00", day(row).0, day(row).1, day(row).2),
    ];
    let mut rows = Vec::new();
    let mut expected = Vec::new();
    for form in forms {
        let said = with_times(form);
        assert!(said.stderr.contains("split: by time, `seen_at`"), "{} of {}", said.stderr, form(1));
        let line = said.stderr.lines().find(|line| line.contains("expected of this draft: AUC of CTR "));
        expected.push(line.unwrap_or_else(|| panic!("{} of {}", said.stderr, form(1))).to_owned());
        let said = workspace.esmm(&["train", "guess.toml", "--run-dir", "run", "--overwrite", "--quiet"]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        let metrics: Value = serde_json::from_str(&workspace.read("run/metrics.json")).unwrap();
        rows.push(["train", "valid", "test"].map(|split| metrics[split].clone()));
    }
    assert!(rows.iter().all(|splits| *splits == rows[0]), "the same rows in the same splits");
    assert!(
        expected.iter().all(|line| *line == expected[0]),
        "the same rows are the latest ones: {expected:#?}"
    );
    let said = with_times(&|row| format!("{1:02}/{0:02}/{2} 10:00", day(row).0, day(row).1, day(row).2));
    assert!(said.stderr.contains("split: at random"), "{}", said.stderr);
    let expected = "`seen_at` is left out: it holds dates that are not read, as `01/08/2000 10:00`: write them as 2024-01-31 10:00";
    assert!(said.stderr.contains(expected), "{}", said.stderr);
}

/// A column that is nearly the time of an impression is named with what keeps it from being that.
#[test]
fn a_time_that_cannot_be_read_is_told_with_what_can() {
    let workspace = Workspace::new();
    let unsure = |name: &str, time: &dyn Fn(usize) -> String| {
        let plain = csv(1000);
        let lines = plain.lines().enumerate().map(|(row, line)| match row {
            0 => format!("{line},{name}\n"),
            row => format!("{line},{}\n", time(row)),
        });
        workspace.write("data.csv", &lines.collect::<String>());
        let said = workspace.esmm(&["init", "data.csv", "-o", "guess.toml", "--overwrite"]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        assert!(said.stderr.contains("split: at random"), "{}", said.stderr);
        said.stderr
    };
    let day = |row: usize| (1 + row % 28, 1 + row / 28 % 12, 21 + row / 28 / 12);
    let short = |row: usize| format!("{:02}.{:02}.{} 10:00", day(row).0, day(row).1, day(row).2);
    let long = |row: usize| format!("{:02}.{:02}.20{} 10:00", day(row).0, day(row).1, day(row).2);
    let way_out = "(write them as 2024-01-31 10:00, 31.01.2024 10:00 or as numbers): the rows are split at random, which \
                   flatters the metrics";
    for (name, time, found) in [
        (
            "seen_at",
            &short as &dyn Fn(usize) -> String,
            "1,000 of its 1,000 values are not read as times, such as `02.01.21 10:00`",
        ),
        (
            "seen_at",
            &|row| if row == 7 { "soon".to_owned() } else { long(row) },
            "1 of its 1,000 values are not read as times, such as `soon`",
        ),
        (
            "angesehen",
            &|row| if row == 7 { short(7) } else { long(row) },
            "1 of its 1,000 values are not read as times, such as `08.01.21 10:00`",
        ),
        (
            "angesehen",
            &|row| if row % 20 == 7 { String::new() } else { long(row) },
            "50 of its 1,000 values are missing",
        ),
        (
            "timestamp",
            &|row| if row == 7 { String::new() } else { (1_700_000_000 + row).to_string() },
            "1 of its 1,000 values are missing",
        ),
    ] {
        let said = unsure(name, time);
        let expected = format!("`{name}` may be the time of an impression, but {found} {way_out}");
        assert!(said.contains(&expected), "{expected} in: {said}");
    }
    assert!(unsure("colour", &|row| format!("c{}", row % 7)).contains("no column looks like the time"));
}

#[test]
fn nothing_is_replaced_unasked() {
    Funnel::ALL.into_iter().for_each(replaces_nothing);
}

fn replaces_nothing(funnel: Funnel) {
    let workspace = Workspace::of(funnel);
    let before = workspace.read("run.toml");
    let said = workspace.esmm(&["init", "data.csv"]);
    assert_eq!(said.error(2), "run.toml: is there already: --overwrite replaces it, -o names another one");
    assert_eq!(workspace.read("run.toml"), before);
    let said = workspace.esmm(&["init", "data.csv", "-o", "-"]);
    assert_eq!((said.code, workspace.read("run.toml")), (0, before));
    assert_eq!(workspace.esmm(&["init", "data.csv", "--overwrite"]).code, 0);
    assert_eq!(workspace.read("run.toml"), said.stdout, "the same on stdout and in the file");
}

/// A table with one column of each kind, with semicolons between the fields.
fn every_kind(rows: usize) -> String {
    let mut text =
        "row_id;ts;user_id;segment;item_id;tags;scores;price;height;flat;visits_7d;note;city;is_clicked;\
                    cart;order;spend;dwell_time\n"
            .to_owned();
    for row in 0..rows {
        let (user, item) = (row * 7919 % 61, row * 104_729 % 37);
        let clicked = (row * 31 + user) % 5 < 2;
        let cart = clicked && (row + item) % 2 == 0;
        let order = cart && row % 3 == 0;
        let flag = |value: bool| if value { "1" } else { "0" };
        let price = 1.0 + 0.1 * (1.0 + (row * 37 % 101) as f64 / 10.0).exp2();
        let height =
            if row % 11 == 0 { String::new() } else { format!("{:.2}", 1.5 + (row % 53) as f64 / 100.0) };
        let cells = [
            (row + 1).to_string(),
            (1_700_000_000 + 60 * row).to_string(),
            format!("u{user}"),
            ["old", "new", "none"][row % 3].to_owned(),
            (5000 + item).to_string(),
            format!("t{}|t{}|t{}", row % 5, row % 7, row % 3),
            format!("a{}:0.{}|b{}:1.5", row % 4, row % 9 + 1, row % 3),
            format!("{price:.2}"),
            height,
            "x".to_owned(),
            (row * row % 40).to_string(),
            format!("\"a long remark; number {row} of a person who wrote all of it by hand\""),
            ["Köln", "Paris, Texas", "Rome"][row % 3].to_owned(),
            flag(clicked).to_owned(),
            flag(cart).to_owned(),
            flag(order).to_owned(),
            if order { format!("{price:.2}") } else { "0".to_owned() },
            if clicked { (row % 17 + 1).to_string() } else { String::new() },
        ];
        text.push_str(&(cells.join(";") + "\n"));
    }
    text
}

#[test]
fn every_kind_of_column_is_told() {
    let workspace = Workspace::new();
    workspace.write("data.csv", &every_kind(3000));
    let file = drafted(&workspace, &[]);
    expect(
        &file,
        &[
            ("user_id", "side = \"user\""),
            ("segment", ""),
            ("item_id", "side = \"item\""),
            ("tags", "pooling = \"mean\""),
            ("scores", "pooling = \"mean\", weighted = true"),
            ("price", "encode = \"ple\", side = \"item\""),
            ("height", "encode = \"ple\", missing = 1.76"),
            ("city", ""),
        ],
    );
    for left_out in ["row_id", "ts", "flat", "note", "is_clicked", "cart", "order", "spend", "dwell_time"] {
        assert_eq!(feature(&file, left_out), None, "{left_out}");
    }
    assert_eq!(file["labels"]["stages"], toml::Value::from(vec!["is_clicked", "order"]));
    assert_eq!(file["data"]["delimiter"].as_str(), Some(";"));
    assert_eq!(file["data"]["split"]["column"].as_str(), Some("ts"));
    assert_eq!(file["metrics"]["group"].as_str(), Some("user_id"));
    let text = workspace.read("guess.toml");
    for expected in [
        "`spend` holds a value only where `order` is 1",
        "`dwell_time` holds a value only where `is_clicked` is 1",
        "`row_id` has another value in every row",
        "`flat` has the same value in every row (`x`)",
        "`note` holds long texts that hardly recur",
        "stages = [\"is_clicked\", \"cart\", \"order\"]",
        "9.1% missing",
    ] {
        assert!(
            text.split_whitespace().collect::<Vec<_>>().join(" ").contains(expected),
            "{expected} in {text}"
        );
    }
    let said = workspace.esmm(&["train", "guess.toml", "--run-dir", "run", "--set", "train.epochs=1"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(!said.stderr.contains("knows the label"), "{}", said.stderr);
}

#[test]
fn labels_can_be_named() {
    let workspace = Workspace::new();
    workspace.write("data.csv", &csv(400).replace("click,conversion", "first,second"));
    let said = workspace.esmm(&["init", "data.csv", "-o", "guess.toml"]);
    let error = said.error(1);
    assert!(error.starts_with("data.csv: found no labels: looked for columns of 0 and 1"), "{error}");
    assert!(error.contains("columns of 0 and 1 are `first`, `second`"), "{error}");
    assert!(!workspace.path("guess.toml").exists());
    let file = drafted(&workspace, &["--click", "first", "--conversion", "second"]);
    assert_eq!(file["labels"]["stages"], toml::Value::from(vec!["first", "second"]));
    let named = |click: &str, conversion: &str| {
        let args = ["init", "data.csv", "-o", "-", "--click", click, "--conversion", conversion];
        workspace.esmm(&args).error(1).to_owned()
    };
    assert_eq!(named("frist", "second"), "data.csv: there is no column `frist`, did you mean `first`?");
    assert_eq!(
        named("first", "price"),
        "data.csv: column `price`: found `0.5` (data.csv:2), a label is 0 or 1 in every row"
    );
    assert!(named("second", "first").contains("a conversion needs a click"), "{}", named("second", "first"));
}

/// The cell that is in the way is named by its line, after a field that spans two lines as well.
#[test]
fn a_label_that_is_none_is_named_by_its_line() {
    let workspace = Workspace::new();
    let text = "note,click,conversion\n\"two\nlines\",1,0\nx,0,0\nx,yes,0\n";
    workspace.write("data.csv", &format!("{text}{}", "x,1,1\n".repeat(200)));
    let error = workspace.esmm(&["init", "data.csv", "-o", "-"]).error(1).to_owned();
    assert!(error.contains("`click` holds `yes` (data.csv:5)"), "{error}");
}

/// One conversion without a click in a hundred rows is dropped; a third of them is no funnel.
#[test]
fn conversions_without_a_click_are_few_or_no_funnel() {
    let workspace = Workspace::new();
    workspace.write("data.csv", &(csv(400) + "u1,t1,1.5,0,1\n"));
    let file = drafted(&workspace, &[]);
    assert_eq!(file["labels"]["orphan_conversions"].as_str(), Some("drop"));
    let said = workspace.esmm(&["train", "guess.toml", "--run-dir", "run", "--set", "train.epochs=1"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    workspace.write("data.csv", &(csv(400) + &"u1,t1,1.5,0,1\n".repeat(30)));
    let error = workspace.esmm(&["init", "data.csv", "-o", "-"]).error(1).to_owned();
    assert!(error.contains("in 30 of them `click` is 0"), "{error}");
}

#[test]
fn bad_input_is_one_line() {
    let workspace = Workspace::new();
    let error = |name: &str, bytes: &[u8]| {
        std::fs::write(workspace.path(name), bytes).unwrap();
        let said = workspace.esmm(&["init", name, "-o", "guess.toml"]);
        assert!(!workspace.path("guess.toml").exists());
        said.error(1).to_owned()
    };
    assert_eq!(error("empty.csv", b""), "empty.csv: the file is empty, its first line must name the columns");
    assert_eq!(error("header.csv", b"user,click,conversion\n"), "header.csv: no rows");
    assert_eq!(
        error("headless.csv", b"1,0,5\n2,1,6\n"),
        "headless.csv: the first line is data (`1`, `0`, `5`), it must name the columns"
    );
    let junk: Vec<u8> = (0..4096_u32).map(|place| (place.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    assert!(error("junk.csv", &junk).starts_with("junk.csv: is no text"), "{}", error("junk.csv", &junk));
    assert!(error("junk.parquet", &junk).starts_with("junk.parquet: "));
    assert!(
        error("latin.csv", b"user,click,conversion\nJos\xe9,1,0\n").contains("latin.csv:2: column `user`")
    );
    assert!(
        error("ragged.csv", b"user,click,conversion\nu1,1,0\nu2,1\n")
            .starts_with("ragged.csv:3: found 2 fields")
    );
    assert!(error("one.csv", b"click\n1\n0\n").contains("found a click (`click`) but no conversion"));
    let bare = error("bare.csv", b"click,conversion\n1,0\n0,0\n1,1\n");
    assert_eq!(bare, "bare.csv: no column is left that could be a feature");
    assert!(error("odd.xlsx", b"PK\x03\x04").contains("unknown type of file"));
    let said = workspace.esmm(&["init", "missing.csv", "-o", "guess.toml"]);
    assert!(said.error(1).starts_with("missing.csv: No such file"));
    assert_eq!(workspace.esmm(&["init"]).code, 2);
}

#[test]
fn ten_thousand_columns_stay_readable() {
    let workspace = Workspace::new();
    let names: Vec<String> = (0..10_000).map(|column| format!("c{column}")).collect();
    let mut text = format!("{},click,conversion\n", names.join(","));
    for row in 0..120_usize {
        let cells = (0..10_000).map(|column| match column % 3 {
            0 => format!("{}.5", row * (column + 7) % 97),
            1 => format!("v{}", row * (column + 3) % 11),
            _ => "7".to_owned(),
        });
        let cells: Vec<String> = cells.collect();
        text.push_str(&format!(
            "{},{},{}\n",
            cells.join(","),
            u8::from(row % 3 == 0),
            u8::from(row % 9 == 0)
        ));
    }
    workspace.write("data.csv", &text);
    let said = workspace.esmm(&["init", "data.csv", "-o", "guess.toml"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stderr.lines().count() < 25, "{}", said.stderr);
    assert!(said.stderr.lines().all(|line| line.chars().count() < 250), "{}", said.stderr);
    let file: toml::Table = workspace.read("guess.toml").parse().unwrap();
    let features = file["features"].as_array().unwrap().len();
    assert!((6000..6700).contains(&features), "{features} features");
    assert!(workspace.read("guess.toml").lines().count() < features + 100);
}

/// The synthetic funnel without its own run file: the same guesses from CSV and Parquet, and a model that is nearly as
/// good as the truth allows.
#[test]
fn the_synthetic_funnel_is_understood() {
    let workspace = Workspace::new();
    let mut drafts = Vec::new();
    for format in ["csv", "parquet"] {
        let said =
            workspace.esmm(&["synthesize", format, "--rows", "30000", "--seed", "5", "--format", format]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        let (data, output) = (format!("{format}/data.{format}"), format!("{format}.toml"));
        let said = workspace.esmm(&["init", &data, "-o", &output]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        drafts.push(workspace.read(&output).parse::<toml::Table>().unwrap());
    }
    assert_eq!(drafts[0]["features"], drafts[1]["features"]);
    let file = &drafts[1];
    expect(file, &[("user_id", "min_count = 5, side = \"user\"")]);
    assert!(feature(file, "user_spend").unwrap().contains("weighted = true"), "{file:?}");
    assert!(feature(file, "user_history").unwrap().contains("pooling = \"mean\""), "{file:?}");
    assert!(feature(file, "price").unwrap().contains("\"ple\""), "{file:?}");
    assert!(feature(file, "true_cvr").is_none());
    assert_eq!(file["data"]["split"]["column"].as_str(), Some("time"));
    assert_eq!(file["metrics"]["true_ctcvr"].as_str(), Some("true_ctcvr"));
    let said = workspace.esmm(&["train", "parquet.toml", "--run-dir", "run"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let metrics: Value = serde_json::from_str(&workspace.read("run/metrics.json")).unwrap();
    for task in ["ctr", "cvr", "ctcvr"] {
        let auc = metrics["test"][task]["auc"].as_f64().unwrap();
        let best = metrics["test"]["entire_space"]["best"][format!("{task}_auc")].as_f64().unwrap();
        assert!(auc > 0.65 && auc > best - 0.1, "{task}: AUC {auc}, best possible {best}");
    }
}

/// A Parquet file as pandas and Polars write it: dictionaries, timestamps, booleans, lists with weights beside them.
#[test]
fn columns_of_parquet_have_types() {
    let workspace = Workspace::new();
    write_parquet(&workspace.path("data.parquet"), 2000, Some);
    let said = workspace.esmm(&["init", "data.parquet", "-o", "guess.toml"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let file: toml::Table = workspace.read("guess.toml").parse().unwrap();
    expect(
        &file,
        &[
            ("segment", ""),
            ("cates", "pooling = \"mean\", weighted = true, weights_column = \"cate_weights\""),
            ("score", "encode = \"ple\", missing = 0.5"),
        ],
    );
    for left_out in ["cate_weights", "vector", "at", "signup_date", "contract"] {
        assert_eq!(feature(&file, left_out), None, "{left_out}");
    }
    assert_eq!(file["data"]["split"]["column"].as_str(), Some("at"));
    assert!(workspace.read("guess.toml").contains("`vector` holds lists of reals"));
    let said = workspace.esmm(&["train", "guess.toml", "--run-dir", "run", "--set", "train.epochs=1"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
}

/// Where one time of an impression is not known, the dates of something else do not take its place.
#[test]
fn a_time_with_holes_is_not_replaced_by_another() {
    let workspace = Workspace::new();
    write_parquet(&workspace.path("data.parquet"), 2000, |row| (row != 7).then_some(row));
    let said = workspace.esmm(&["init", "data.parquet", "-o", "guess.toml"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stderr.contains("split: at random"), "{}", said.stderr);
    let hint = "`at` may be the time of an impression, but 1 of its 2,000 values are missing";
    assert!(said.stderr.contains(hint), "{}", said.stderr);
}

/// `seen` is the second at which an impression was seen, if that is known.
fn write_parquet(path: &std::path::Path, rows: i64, seen: impl Fn(i64) -> Option<i64>) {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BooleanArray, Date32Array, DictionaryArray, Float64Array, ListArray, RecordBatch,
        TimestampMillisecondArray,
    };
    use arrow::datatypes::{Float64Type, Int32Type, Int64Type};

    let numbers = || 0..rows;
    let click = |row: i64| row * 7 % 10 < 3;
    let segments: DictionaryArray<Int32Type> =
        numbers().map(|row| Some(["old", "new", "none"][row as usize % 3])).collect();
    let cates = numbers()
        .map(|row| Some((0..row % 4).map(|place| Some((row + place * place) % 9)).collect::<Vec<_>>()));
    let weights =
        numbers().map(|row| Some((0..row % 4).map(|place| Some(0.5 + place as f64)).collect::<Vec<_>>()));
    let vectors = numbers().map(|row| Some(vec![Some(row as f64 / 7.0); 3]));
    let score = |row: i64| (row % 5 > 0).then_some((row * 37 % 101) as f64 / 100.0);
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "at",
            Arc::new(TimestampMillisecondArray::from_iter(
                numbers().map(|row| seen(row).map(|second| 1_700_000_000_000 + second * 1000)),
            )),
        ),
        (
            "signup_date",
            Arc::new(Date32Array::from_iter_values(numbers().map(|row| 18_000 + (row % 400) as i32))),
        ),
        (
            "contract",
            Arc::new(Date32Array::from_iter_values(numbers().map(|row| 19_000 + (row % 300) as i32))),
        ),
        ("segment", Arc::new(segments)),
        ("cates", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(cates))),
        ("cate_weights", Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(weights))),
        ("vector", Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(vectors))),
        ("score", Arc::new(Float64Array::from_iter(numbers().map(score)))),
        ("click", Arc::new(BooleanArray::from_iter(numbers().map(|row| Some(click(row)))))),
        ("buy", Arc::new(BooleanArray::from_iter(numbers().map(|row| Some(click(row) && row % 4 == 0))))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}
