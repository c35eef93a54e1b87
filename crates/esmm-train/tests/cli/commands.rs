//! The commands as a person uses them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use crate::common::{self, Funnel, Said, Workspace, files};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

#[test]
fn train_leaves_a_run_directory_that_evaluate_and_predict_use() {
    Funnel::ALL.into_iter().for_each(every_command);
}

fn every_command(funnel: Funnel) {
    let workspace = Workspace::of(funnel);
    let said = workspace.esmm(&["train", "run.toml", "--run-dir", "run"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let columns = funnel.columns().join(", ");
    for expected in [&columns, "esmm predict run"] {
        assert!(said.stdout.contains(expected), "{expected} in: {}", said.stdout);
    }
    let expected = [
        "analysis.json",
        "checkpoint",
        "config.json",
        "encoders",
        "history.jsonl",
        "manifest.json",
        "metrics.json",
        "model.safetensors",
        "schema.json",
        "train.log",
    ];
    assert_eq!(files(&workspace.path("run")), expected);
    let metrics: Value = serde_json::from_str(&workspace.read("run/metrics.json")).unwrap();
    for split in ["train", "valid", "test"] {
        for key in funnel.tasks().iter().chain(funnel.counts()).chain(&["rows"]) {
            assert!(metrics[split].get(key).is_some(), "{split}.{key} in {metrics}");
        }
        assert!(metrics[split][funnel.tasks()[0]]["auc"].is_f64(), "{metrics}");
    }

    let said = workspace.esmm(&["evaluate", "run", "data.csv", "--json"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let all: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(all["rows"], 400);
    let said = workspace.esmm(&["evaluate", "run", "data.csv"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    // Tables fit; what is said of the drift is a sentence.
    let mut table = said.stdout.lines().filter(|line| !line.contains("from the features alone"));
    assert!(table.all(|line| line.chars().count() <= 80), "{}", said.stdout);

    let said = workspace.esmm(&["predict", "run", "data.csv", "-o", "scores.csv", "--keep", "user,click"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let scores = workspace.read("scores.csv");
    let mut lines = scores.lines();
    assert_eq!(lines.next(), Some(format!("user,click,{}", funnel.columns().join(",")).as_str()));
    let input = workspace.read("data.csv");
    let mut count = 0;
    for (line, input) in lines.zip(input.lines().skip(1)) {
        let fields: Vec<&str> = line.split(',').collect();
        let wanted: Vec<&str> = input.split(',').collect();
        assert_eq!((fields[0], fields[1]), (wanted[0], wanted[3]), "same rows in the same order");
        let scores: Vec<f64> = fields[2..].iter().map(|field| field.parse().unwrap()).collect();
        // p(click), then for each further stage its probability given the one before and that of reaching it.
        let mut before = scores[0];
        for pair in scores[1..].chunks(2) {
            let (given, reach) = (pair[0], pair[1]);
            assert!((0.0..=1.0).contains(&given) && reach <= before, "{line}");
            assert!((before * given - reach).abs() < 1e-6, "{line}");
            before = reach;
        }
        count += 1;
    }
    assert_eq!(count, 400);

    for args in [
        &["predict", "run", "data.csv", "-o", "scores.parquet"][..],
        &["report", "run", "-o", "report.html"],
        &["inspect", "run", "--data"],
    ] {
        let said = workspace.esmm(args);
        assert_eq!(said.code, 0, "{args:?}: {}", said.stderr);
    }
    let said = workspace.esmm(&["inspect", "run"]);
    assert!(said.stdout.contains("ctr_hidden_0") && said.stdout.contains("total"), "{}", said.stdout);
    let said = workspace.esmm(&["inspect", "run.toml"]);
    assert!(said.stdout.contains("ctr_hidden_0"), "{}", said.stdout);
}

/// Predictions do not depend on labels being there, nor on unseen values.
#[test]
fn predict_takes_unseen_values_and_no_labels() {
    for funnel in Funnel::ALL {
        let workspace = Workspace::trained_of(funnel);
        workspace.write("new.csv", "price,tags,user\n1.5,,nobody\n2.5,t1|new,u1\n");
        let said = workspace.esmm(&["predict", "run", "new.csv", "-o", "scores.csv"]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        assert_eq!(workspace.read("scores.csv").lines().count(), 3);
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    for funnel in Funnel::ALL {
        let workspace = Workspace::of(funnel);
        for run in ["a", "b"] {
            assert_eq!(workspace.esmm(&["train", "run.toml", "--run-dir", run]).code, 0);
        }
        for file in [
            "model.safetensors",
            "metrics.json",
            "config.json",
            "schema.json",
            "encoders/vocabularies.parquet",
        ] {
            let read = |run: &str| std::fs::read(workspace.path(&format!("{run}/{file}"))).unwrap();
            assert_eq!(read("a"), read("b"), "{file}");
        }
        let other = ["train", "run.toml", "--run-dir", "c", "--set", "train.seed=2"];
        assert_eq!(workspace.esmm(&other).code, 0);
        let read = |run: &str| std::fs::read(workspace.path(&format!("{run}/model.safetensors"))).unwrap();
        assert_ne!(read("a"), read("c"));
    }
}

/// Two epochs at once, and one epoch with a second one added later, end with the same weights.
#[test]
fn a_training_can_be_extended() {
    for funnel in Funnel::ALL {
        let workspace = Workspace::of(funnel);
        assert_eq!(workspace.esmm(&["train", "run.toml", "--run-dir", "whole"]).code, 0);
        let first = ["train", "run.toml", "--run-dir", "parts", "--set", "train.epochs=1"];
        assert_eq!(workspace.esmm(&first).code, 0);
        let said = workspace.esmm(&["train", "run.toml", "--run-dir", "parts", "--resume"]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        let read = |run: &str| std::fs::read(workspace.path(&format!("{run}/model.safetensors"))).unwrap();
        assert!(read("whole") == read("parts"), "the weights differ");
        let other = ["train", "run.toml", "--run-dir", "parts", "--resume", "--set", "model.hidden=[4]"];
        assert!(workspace.esmm(&other).error(2).starts_with("--resume: the run file differs"));
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_a_checkpoint_and_resume_ends_as_if_it_had_not_happened() {
    for funnel in Funnel::ALL {
        let workspace = Workspace::of(funnel);
        workspace.write("data.csv", &funnel.csv(20_000));
        let long = ["train", "run.toml", "--set", "train.epochs=3", "--set", "train.batch_size=16"];
        let run = |dir: &'static str| [&long[..], &["--run-dir", dir]].concat();
        let child = workspace
            .command_that_hears(&run("interrupted"))
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let log = workspace.path("interrupted/train.log");
        let is_training = || std::fs::read_to_string(&log).is_ok_and(|log| log.contains("epoch 1:"));
        while !is_training() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let kill =
            std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        assert!(kill.success());
        let said = Said::from(child.wait_with_output().unwrap());
        assert_eq!(said.code, 130, "{}", said.stderr);
        assert!(said.stderr.contains("esmm train --run-dir interrupted --resume"), "{}", said.stderr);
        assert!(said.stdout.is_empty() && !workspace.path("interrupted/metrics.json").exists());

        let said = workspace.esmm(&["train", "--run-dir", "interrupted", "--resume"]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        let said = workspace.esmm(&run("whole"));
        assert_eq!(said.code, 0, "{}", said.stderr);
        let read = |run: &str| std::fs::read(workspace.path(&format!("{run}/model.safetensors"))).unwrap();
        assert!(read("whole") == read("interrupted"), "the weights differ");
        assert_eq!(workspace.read("whole/metrics.json"), workspace.read("interrupted/metrics.json"));
    }
}

#[test]
fn guard_rails_warn() {
    let workspace = Workspace::new();
    let data: String = workspace
        .read("data.csv")
        .lines()
        .enumerate()
        .map(|(row, line)| match row {
            0 => format!("{line},leak,flat\n"),
            _ => format!("{line},{},1\n", line.split(',').nth(3).unwrap()),
        })
        .collect();
    workspace.write("data.csv", &data);
    let extra = "{ name = \"leak\" }, { name = \"flat\", encode = \"dense\" },\n]\n\n[data]";
    workspace.write("run.toml", &common::RUN_FILE.replace("]\n\n[data]", extra));
    let said = workspace.esmm(&["train", "run.toml", "--run-dir", "run"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    for expected in
        ["warning: feature `leak` alone ranks `click`", "warning: feature `flat` has the same value"]
    {
        assert!(said.stderr.contains(expected), "{expected} in: {}", said.stderr);
        assert!(workspace.read("run/train.log").contains(expected));
    }
}

#[test]
fn synthesize_writes_data_and_a_run_file_that_trains() {
    let workspace = Workspace::new();
    for format in ["csv", "parquet"] {
        let said =
            workspace.esmm(&["synthesize", format, "--rows", "3000", "--seed", "5", "--format", format]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        let run_file = format!("{format}/run.toml");
        let said = workspace.esmm(&[
            "train",
            &run_file,
            "--run-dir",
            &format!("run-{format}"),
            "--set",
            "train.epochs=1",
        ]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        assert!(said.stdout.contains("best possible"), "{}", said.stdout);
    }
    // The same impressions from both formats: the same model.
    let read = |run: &str| std::fs::read(workspace.path(&format!("{run}/model.safetensors"))).unwrap();
    assert!(read("run-csv") == read("run-parquet"), "CSV and Parquet give different models");
}

/// Every optimizer, schedule, activation and form of the model trains, and no two of them give the same weights.
#[test]
fn every_option_trains() {
    let workspace = Workspace::new();
    let options = [
        "train.towers.optimizer=adam",
        "train.towers.optimizer=adamw",
        "train.towers.optimizer=sgd",
        "train.towers.momentum=0.9",
        "train.tables.optimizer=row_wise_adam",
        "train.tables.optimizer=adagrad",
        "train.tables.optimizer=sgd",
        "train.tables.l2=0.1",
        "train.clip_norm=0.05",
        "train.schedule.decay=cosine",
        "train.schedule.warmup_steps=5",
        "train.task_weights=[1.0, 3.0]",
        "model.activation=prelu",
        "model.activation=leaky_relu",
        "model.dropout=0.5",
        "model.batch_norm=false",
        "model.shared_embeddings=false",
    ];
    let mut weights = Vec::new();
    for (number, option) in options.iter().enumerate() {
        let run = format!("run-{number}");
        let mut args = vec!["train", "run.toml", "--run-dir", &run, "--quiet", "--set", option];
        if option.starts_with("train.towers.momentum") {
            args.extend(["--set", "train.towers.optimizer=sgd"]);
        }
        if option.ends_with("adamw") {
            args.extend(["--set", "train.towers.weight_decay=0.1"]); // Without it AdamW is Adam.
        }
        let said = workspace.esmm(&args);
        assert_eq!(said.code, 0, "{option}: {}", said.stderr);
        let bytes = std::fs::read(workspace.path(&format!("{run}/model.safetensors"))).unwrap();
        assert!(!weights.contains(&bytes), "{option} changes nothing");
        weights.push(bytes);
    }
}

/// Impression, click, cart, purchase; with groups.
#[test]
fn a_funnel_of_three_stages() {
    let workspace = Workspace::of(Funnel::Three);
    workspace.write("run.toml", &format!("{}\n[metrics]\ngroup = \"user\"\n", Funnel::Three.run_file()));
    let said =
        workspace.esmm(&["train", "run.toml", "--run-dir", "run", "--set", "train.select=purchase.log_loss"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let metrics: Value = serde_json::from_str(&workspace.read("run/metrics.json")).unwrap();
    for task in Funnel::Three.tasks() {
        assert!(metrics["train"][task]["log_loss"].is_f64(), "{task} in {metrics}");
        assert!(metrics["train"][task]["gauc"].is_object(), "{task} in {metrics}");
    }
    let said = workspace.esmm(&["predict", "run", "data.csv", "-o", "scores.csv"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let expected = "p_click,p_conversion_given_click,p_conversion,p_purchase_given_conversion,p_purchase";
    assert_eq!(workspace.read("scores.csv").lines().next(), Some(expected));
}

/// The README's walk-through: its run file, its columns, its commands.
#[test]
fn the_readme_tells_the_truth() {
    let readme = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let block = |kind: &str| {
        let start = format!("```{kind}\n");
        readme.split(&start).nth(1).unwrap().split("```").next().unwrap().to_owned()
    };
    let workspace = Workspace::new();
    workspace.write("run.toml", &block("toml"));
    let mut data = block("csv");
    // Some users click more than others, and some items are bought more than others.
    let mut random = ChaCha8Rng::seed_from_u64(5);
    for row in 0..40_000 {
        let user = random.random_range(0..25);
        let item = random.random_range(0..7);
        let click = u8::from(random.random_range(0..100) < 10 + 2 * user);
        let bought = click * u8::from(random.random_range(0..100) < 15 + 9 * item);
        data.push_str(&format!(
            "{},u{user},shoes|bags,i{item},{item}.90,{click},{bought}\n",
            1_700_000_000 + row
        ));
    }
    for name in ["impressions.csv", "later.csv", "last-week.csv", "new.csv"] {
        workspace.write(name, &data);
    }
    let commands: Vec<&str> = readme.lines().filter_map(|line| line.strip_prefix("$ esmm ")).collect();
    assert_eq!(commands.len(), 7, "{commands:?}");
    for command in commands {
        let words: Vec<&str> = command.split('#').next().unwrap().split_whitespace().collect();
        let said = workspace.esmm(&words);
        assert_eq!(said.code, 0, "esmm {command}: {}", said.stderr);
    }
    assert!(workspace.read("scores.csv").starts_with("user,item,pctr,pcvr,pctcvr\n"));
}

#[test]
fn progress_is_lines_in_a_pipe_unless_it_is_quiet() {
    let workspace = Workspace::new();
    let train = |dir: &str, flag: &str| workspace.esmm(&["train", "run.toml", "--run-dir", dir, flag]);
    let said = train("a", "--dashboard");
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stderr.contains("--dashboard needs a terminal"), "{}", said.stderr);
    for (dir, flag) in [("b", "--plain"), ("c", "--quiet")] {
        let said = train(dir, flag);
        assert_eq!(said.code, 0, "{}", said.stderr);
        assert!(!said.stderr.contains('\x1b') && !said.stderr.contains('\r'), "{:?}", said.stderr);
    }
    let both = workspace.esmm(&["train", "run.toml", "--run-dir", "d", "--quiet", "--dashboard"]);
    assert_eq!(both.code, 2);
}

/// On a terminal progress is one line that is redrawn, and what is said stands above it. `script` (of bsdutils, which
/// every Debian has) gives the program a terminal.
#[cfg(target_os = "linux")]
#[test]
fn progress_is_one_line_on_a_terminal() {
    let workspace = Workspace::new();
    workspace.write("data.csv", &common::csv(20_000));
    let esmm = env!("CARGO_BIN_EXE_esmm");
    let train = format!("{esmm} train run.toml --run-dir run --set train.batch_size=8");
    let mut script = std::process::Command::new("script");
    script.args(["-qec", &train, "/dev/null"]).current_dir(workspace.path("")).env("TERM", "xterm");
    let Ok(output) = script.stdin(std::process::Stdio::null()).output() else {
        eprintln!("skipped: there is no `script` here");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    // How wide the terminal is and which steps are caught depend on the machine.
    assert!(text.contains("\repoch ") && text.contains(" step ") && text.contains("\x1b[K"), "{text:?}");
    for line in text.lines().filter(|line| line.contains("valid AUC ctr") && line.contains("the best")) {
        let line = line.rsplit('\r').next().unwrap();
        assert_eq!(line.matches("epoch").count(), 1, "what is said stands in a line of its own: {line:?}");
    }
    assert!(text.trim_end().ends_with("the model, layer by layer"), "{text:?}");
}
