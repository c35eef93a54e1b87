//! The command among others in a shell: pipes, devices, compressed files, and a reader that goes away.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::File;
use std::io::{Read, Write};
use std::process::Stdio;

use crate::common::{Said, Workspace, csv};

/// What a command says whose reader has gone before its first byte.
fn to_nobody(workspace: &Workspace, args: &[&str]) -> Said {
    let mut child = workspace.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    Said::from(child.wait_with_output().unwrap())
}

#[test]
fn a_reader_that_goes_away_ends_every_command_quietly() {
    let workspace = Workspace::trained();
    // More than the buffers of a writer and of a pipe hold.
    workspace.write("large.csv", &csv(20_000));
    for args in [
        &["--help"][..],
        &["version"],
        &["completions", "bash"],
        &["schema"],
        &["devices"],
        &["inspect", "run"],
        &["inspect", "run", "--json"],
        &["evaluate", "run", "data.csv"],
        &["evaluate", "run", "data.csv", "--json"],
        &["init", "data.csv", "-o", "-"],
        &["predict", "run", "large.csv", "-o", "-", "--quiet"],
        &["predict", "run", "large.csv", "-o", "/dev/stdout", "--quiet"],
        &["predict", "run", "large.csv", "-o", "/dev/stdout", "--quiet", "--keep", "user,tags"],
    ] {
        let said = to_nobody(&workspace, args);
        assert_eq!(said.code, 0, "{args:?}: {}", said.stderr);
        assert!(
            !said.stderr.contains("panic") && !said.stderr.contains("error:"),
            "{args:?}: {}",
            said.stderr
        );
    }
}

/// `/dev/full` refuses every write: one line of error, and no success.
#[cfg(target_os = "linux")]
#[test]
fn a_full_device_is_an_error_line_of_every_command() {
    let workspace = Workspace::trained();
    for args in [
        &["--help"][..],
        &["version"],
        &["completions", "bash"],
        &["schema"],
        &["inspect", "run", "--json"],
        &["evaluate", "run", "data.csv"],
        &["init", "data.csv", "-o", "-"],
        &["predict", "run", "data.csv", "-o", "-"],
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let said = Said::from(workspace.command(args).stdout(full).output().unwrap());
        assert!(said.error(1).contains("cannot be written"), "{args:?}: {}", said.stderr);
    }
}

#[test]
fn scores_are_the_same_in_every_kind_of_file() {
    let workspace = Workspace::trained();
    let predict = |output: &str| {
        let said = workspace.esmm(&["predict", "run", "data.csv", "-o", output, "--keep", "user", "--quiet"]);
        assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{output}");
        said.stdout
    };
    assert!(predict("scores.csv").is_empty());
    let expected = workspace.read("scores.csv");
    assert_eq!(expected.lines().count(), 401);
    assert_eq!(predict("-"), expected);
    predict("scores.csv.gz");
    let mut text = String::new();
    let packed = File::open(workspace.path("scores.csv.gz")).unwrap();
    flate2::read::GzDecoder::new(packed).read_to_string(&mut text).unwrap();
    assert_eq!(text, expected);
    predict("scores.csv.zst");
    let packed = std::fs::read(workspace.path("scores.csv.zst")).unwrap();
    assert_eq!(String::from_utf8(zstd::decode_all(packed.as_slice()).unwrap()).unwrap(), expected);
    for wrong in ["scores.json", "scores.gz", "scores"] {
        let error = workspace.esmm(&["predict", "run", "data.csv", "-o", wrong]).error(2).to_owned();
        assert!(error.contains("must end in .csv, .csv.gz, .csv.zst or .parquet, or be -"), "{error}");
    }
}

/// A file named `-` in the folder is not standard output, and no input of the command either.
#[test]
fn standard_input_and_output_are_no_files() {
    let workspace = Workspace::trained();
    let expected = workspace.esmm(&["predict", "run", "data.csv", "-o", "-", "--quiet"]).stdout;
    workspace.write("-", "a file that happens to be named so");
    let mut child = workspace
        .command(&["predict", "run", "-", "-o", "-", "--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(workspace.read("data.csv").as_bytes()).unwrap();
    drop(stdin);
    let said = Said::from(child.wait_with_output().unwrap());
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    assert_eq!(said.stdout, expected);
    assert_eq!(workspace.read("-"), "a file that happens to be named so");
}
