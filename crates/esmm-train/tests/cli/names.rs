//! Names of the user are data: of stages, features, columns and groups, in all that is written. None is a path, markup or
//! a line of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatchReader;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use crate::common::Workspace;

/// Names that are something else to a file system, a browser, a terminal, a spreadsheet, a format string or JSON.
const NAMES: [&str; 14] = [
    "../x",
    "a/b",
    "/tmp/esmm-was-here",
    "<script>alert(1)</script>",
    "\" onload=\"alert(1)",
    "two\nlines",
    "\u{202e}gnp.exe",
    "a|b",
    "a,b",
    "it's `quoted`",
    "{} %s $HOME \\",
    "C:\\NUL",
    "=1+1",
    "名前 é",
];

/// How TOML and JSON write a text.
fn literal(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// All files below a folder.
fn all_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(all_files(&path)),
            false => found.push(path),
        }
    }
    found
}

/// Every name is a feature; three of them are stages, one is the group.
struct Named {
    workspace: Workspace,
    stages: Vec<String>,
}

/// The stages' names differ from the features' columns by this.
const STAGE: &str = "?";

impl Named {
    /// With stages from the `first` name on.
    fn new(first: usize) -> Self {
        let workspace = Workspace::new();
        let stages: Vec<String> =
            (first..first + 3).map(|place| format!("{}{STAGE}", NAMES[place])).collect();
        let mut data = csv::Writer::from_path(workspace.path("data.csv")).unwrap();
        let header = NAMES.iter().map(|name| (*name).to_owned()).chain(stages.iter().cloned());
        data.write_record(header).unwrap();
        for row in 0..300_usize {
            let depth = [0, 1, 0, 2, 3, 0, 1][row * 5 % 7];
            let cells = (0..NAMES.len()).map(|place| (row * (place + 3) % 11).to_string());
            let labels = (0..3).map(|stage| u8::from(depth > stage).to_string());
            data.write_record(cells.chain(labels)).unwrap();
        }
        data.flush().unwrap();
        let features: String = NAMES
            .iter()
            .enumerate()
            .map(|(place, name)| match place % 3 {
                0 => format!("{{ name = {}, encode = \"ple\", bins = 2 }},\n", literal(name)),
                1 => format!("{{ name = {}, encode = \"standardize\" }},\n", literal(name)),
                _ => format!("{{ name = {} }},\n", literal(name)),
            })
            .collect();
        let quoted: Vec<String> = stages.iter().map(|stage| literal(stage)).collect();
        let run_file = workspace.read("run.toml");
        let (_, rest) = run_file.split_once("[data]\n").unwrap();
        let metrics = format!("[metrics]\ngroup = {}\n", literal(NAMES[0]));
        let labels = format!("[labels]\nstages = [{}]\n", quoted.join(", "));
        workspace.write("run.toml", &format!("features = [\n{features}]\n{labels}{metrics}[data]\n{rest}"));
        Self { workspace, stages }
    }

    fn run(&self, args: &[&str]) -> (String, String) {
        let said = self.workspace.esmm(args);
        assert_eq!(said.code, 0, "{args:?}: {}", said.stderr);
        // JSON is for programs, which get names as they are.
        let is_json = args.contains(&"--json");
        let streams = [&said.stderr, &said.stdout];
        for stream in streams.into_iter().take(if is_json { 1 } else { 2 }) {
            assert!(!stream.contains('\u{202e}'), "{args:?} turns the line around: {stream}");
            assert!(
                !stream.lines().any(|line| line.starts_with("lines")),
                "{args:?} breaks a line: {stream}"
            );
        }
        (said.stdout, said.stderr)
    }
}

#[test]
fn names_are_data_in_every_output() {
    for first in [0, 3, 6, 9, 11] {
        let named = Named::new(first);
        let Named { workspace, stages } = &named;
        let train = ["train", "run.toml", "--run-dir", "run", "--set", "train.validate_every=2"];
        named.run(&[&train[..], &["--tensorboard"]].concat());
        let (metrics, _) = named.run(&["evaluate", "run", "data.csv", "--json"]);
        named.run(&["evaluate", "run", "data.csv"]);
        named.run(&["inspect", "run"]);
        let (facts, _) = named.run(&["inspect", "run", "--json"]);
        let kept = NAMES.map(|name| match name.contains(',') {
            true => format!("\"{name}\""),
            false => name.to_owned(),
        });
        let kept = kept.join(",");
        for output in ["scores.csv", "scores.parquet"] {
            named.run(&["predict", "run", "data.csv", "-o", output, "--keep", &kept]);
        }
        named.run(&["report", "run", "-o", "report.html"]);
        named.run(&[&train[..], &["--resume", "--quiet", "--set", "train.epochs=3"]].concat());

        let metrics: Value = serde_json::from_str(&metrics).unwrap();
        for stage in stages {
            assert!(metrics[stage.as_str()]["auc"].is_number(), "{stage:?}: {metrics}");
        }
        for name in NAMES {
            assert_eq!(metrics["features"][name]["values"], 300, "{name:?}");
        }
        serde_json::from_str::<Value>(&facts).unwrap();
        check_columns(workspace, &NAMES, stages);
        check_page(&workspace.read("report.html"));

        let root = workspace.path("");
        let outside: Vec<PathBuf> = all_files(&root)
            .into_iter()
            .map(|path| path.strip_prefix(&root).unwrap().to_owned())
            .filter(|path| !path.starts_with("run") && path.components().count() != 1)
            .collect();
        assert!(outside.is_empty(), "{outside:?}");
        for path in all_files(&workspace.path("run")) {
            let path = path.display().to_string();
            let clean = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
            let below = path.strip_prefix(&workspace.path("").display().to_string()).unwrap();
            assert!(below.bytes().all(clean), "a name became a path: {path}");
        }
        assert!(!Path::new("/tmp/esmm-was-here").exists() && !root.parent().unwrap().join("x").exists());
    }
}

/// The columns that were kept, then the scores, under their names in both formats.
fn check_columns(workspace: &Workspace, keep: &[&str], stages: &[String]) {
    let [first, second, third] = stages else { panic!("{stages:?}") };
    let mut expected: Vec<String> = keep.iter().map(|name| (*name).to_owned()).collect();
    expected.extend([
        format!("p_{first}"),
        format!("p_{second}_given_{first}"),
        format!("p_{second}"),
        format!("p_{third}_given_{second}"),
        format!("p_{third}"),
    ]);
    let mut reader = csv::Reader::from_path(workspace.path("scores.csv")).unwrap();
    let header: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    assert_eq!(header, expected);
    assert_eq!(reader.records().count(), 300);
    let file = fs::File::open(workspace.path("scores.parquet")).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let names: Vec<String> = reader.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, expected);
}

/// No name is markup: none of them opens a tag or an attribute.
fn check_page(page: &str) {
    assert!(page.contains("&lt;script&gt;alert(1)"), "the name is there as text");
    for markup in ["<script>alert", "\" onload=\"alert", "\u{202e}"] {
        assert!(!page.contains(markup), "{markup:?} in the page");
    }
}

/// A feature, a stage, a column without a name is refused before anything is made.
#[test]
fn no_name_is_no_name() {
    let workspace = Workspace::new();
    for (from, to) in [
        ("name = \"user\"", "name = \"\", column = \"user\""),
        ("name = \"user\"", "name = \"user\", column = \"\""),
        ("[data]", "labels = { stages = [\"click\", \"\"] }\n[data]"),
        ("[data]", "metrics = { group = \"\" }\n[data]"),
    ] {
        workspace.write("bad.toml", &workspace.read("run.toml").replacen(from, to, 1));
        let said = workspace.esmm(&["train", "bad.toml", "--run-dir", "bad", "--quiet"]);
        assert!(said.code == 1 || said.code == 2, "{to}: {}", said.stderr);
        assert_eq!(said.stderr.lines().count(), 1, "{to}: {}", said.stderr);
        assert!(!workspace.path("bad").exists(), "{to}");
    }
}

/// What `init` drafts of such columns is a run file that trains.
#[test]
fn a_draft_names_them_as_they_are() {
    let named = Named::new(0);
    let [click, _, conversion] = &named.stages[..] else { panic!("{:?}", named.stages) };
    let drafted = ["init", "data.csv", "-o", "draft.toml", "--click", click, "--conversion", conversion];
    let said = named.workspace.esmm(&drafted);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let draft = named.workspace.read("draft.toml");
    let said = named.workspace.esmm(&[
        "train",
        "draft.toml",
        "--run-dir",
        "run",
        "--quiet",
        "--set",
        "train.epochs=1",
    ]);
    assert_eq!(said.code, 0, "{}\n{draft}", said.stderr);
}
