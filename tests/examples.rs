//! Every example runs, ends well and prints what its documentation promises.

use std::env::consts::EXE_SUFFIX;
use std::error::Error;
use std::path::PathBuf;
use std::process::{Command, Output};

/// `target/PROFILE/examples/NAME`, beside this test's `target/PROFILE/deps/examples-HASH`.
fn binary(name: &str) -> Result<PathBuf, Box<dyn Error>> {
    let own = std::env::current_exe()?;
    let profile = own.ancestors().nth(2).ok_or("the test lies in no target folder")?;
    let path = profile.join("examples").join(format!("{name}{EXE_SUFFIX}"));
    if path.is_file() {
        return Ok(path);
    }
    Err(format!(
        "{} is missing: run `cargo build --examples` before `cargo test --test examples`",
        path.display()
    )
    .into())
}

fn run(name: &str, arguments: &[&str]) -> Result<Output, Box<dyn Error>> {
    Ok(Command::new(binary(name)?).args(arguments).output()?)
}

/// What an example prints when it ends well.
fn printed(name: &str) -> Result<String, Box<dyn Error>> {
    let output = run(name, &[])?;
    let (stdout, stderr) = (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr));
    if output.status.success() {
        return Ok(stdout);
    }
    Err(format!("{name}: {}\nstdout:\n{stdout}\nstderr:\n{stderr}", output.status).into())
}

/// The first number after `label` in every line that holds it.
fn numbers(text: &str, label: &str) -> Vec<f64> {
    let after = text.lines().filter_map(|line| Some(line.split_once(label)?.1));
    after.filter_map(|rest| rest.split([' ', ',']).find_map(|word| word.parse().ok())).collect()
}

#[test]
fn notebook_port() -> Result<(), Box<dyn Error>> {
    let text = printed("notebook_port")?;
    // Tables (11 + 12 + 8 + 6) x 128; a tower (514 + 1) x 128 + 2 x 128 + (128 + 1) x 64 + 2 x 64 + 64 + 1.
    let total = 37 * 128 + 2 * (515 * 128 + 2 * 128 + 129 * 64 + 2 * 64 + 65);
    assert_eq!(total, 153_986);
    let last = text.lines().rfind(|line| line.starts_with("total")).ok_or("no total")?;
    assert!(last.contains("153,986"), "{text}");
    assert!(
        text.contains("feature `user_id`: 11 is not an id, allowed are whole numbers from 0 to 10"),
        "{text}"
    );
    assert_eq!(text.lines().skip(1).take_while(|line| !line.is_empty()).count(), 5, "{text}");
    Ok(())
}

#[test]
fn own_loop() -> Result<(), Box<dyn Error>> {
    let text = printed("own_loop")?;
    for label in ["click loss", "click-and-conversion loss"] {
        let losses = numbers(&text, label);
        assert_eq!(losses.len(), 5, "{text}");
        assert!(losses.is_sorted_by(|before, after| after < before), "{label} does not fall:\n{text}");
    }
    Ok(())
}

#[test]
fn in_memory() -> Result<(), Box<dyn Error>> {
    let text = printed("in_memory")?;
    assert!(text.contains("kept the weights of epoch"), "{text}");
    // Four of ten in the evening, one of ten in the morning; three of ten clicks convert.
    let [ctr, cvr] = ["pCTR", "pCVR"].map(|label| numbers(&text, label));
    assert_eq!((ctr.len(), cvr.len()), (2, 2), "{text}");
    assert!((ctr[0] - 0.1).abs() < 0.06 && (ctr[1] - 0.4).abs() < 0.12, "{text}");
    assert!(cvr.iter().all(|cvr| (cvr - 0.3).abs() < 0.15), "{text}");
    Ok(())
}

#[test]
fn load_pytorch() -> Result<(), Box<dyn Error>> {
    let text = printed("load_pytorch")?;
    assert!(text.contains("all logits agree within 1e-5"), "{text}");
    // 4 tables; each of 2 towers has 2 x (weight, bias), 2 x 5 of a batch norm, and weight and bias of the last layer.
    assert!(text.contains("wrote notebook.safetensors, 36 entries"), "{text}");
    Ok(())
}

#[test]
fn train_csv() -> Result<(), Box<dyn Error>> {
    let text = printed("train_csv")?;
    for split in ["train: 28000 impressions", "valid: 4000 impressions", "test: 8000 impressions"] {
        assert!(text.contains(split), "`{split}` is not in:\n{text}");
    }
    assert!(text.contains("kept the weights of epoch"), "{text}");
    let areas = numbers(&text, "AUC");
    assert_eq!(areas.len(), 3, "{text}");
    assert!(areas.iter().all(|area| (0.55..1.0).contains(area)), "{text}");
    Ok(())
}

#[test]
fn score_items() -> Result<(), Box<dyn Error>> {
    let text = printed("score_items")?;
    assert!(text.contains("the best 5 of"), "{text}");
    let (ctr, cvr, ctcvr) = (numbers(&text, "pCTR"), numbers(&text, "pCVR"), numbers(&text, "pCTCVR"));
    assert_eq!((ctr.len(), cvr.len(), ctcvr.len()), (5, 5, 5), "{text}");
    assert!(ctcvr.is_sorted_by(|before, after| after <= before), "{text}");
    for ((ctr, cvr), ctcvr) in ctr.iter().zip(&cvr).zip(&ctcvr) {
        assert!((ctr * cvr - ctcvr).abs() < 2e-3, "{ctr} x {cvr} is not {ctcvr}:\n{text}");
    }
    Ok(())
}

#[test]
fn score_items_refuses_a_folder_without_a_run() -> Result<(), Box<dyn Error>> {
    let output = run("score_items", &[env!("CARGO_MANIFEST_DIR")])?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && stderr.contains("is no run directory"), "{stderr}");
    Ok(())
}

#[test]
fn tensorboard_logger() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().to_string_lossy().into_owned();
    let output = run("tensorboard_logger", &[&path])?;
    let (stdout, stderr) = (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    // The ring covers (0.8^2 - 0.3^2) pi / 4 = 0.43 of the square: "outside" alone would be right at 0.57.
    let right = numbers(&stdout, "accuracy");
    assert!(right.len() == 1 && right[0] > 0.85, "{stdout}");
    // 63 batches an epoch over 10 epochs, every fifth of them written.
    for (split, points) in [("train", 126 + 10), ("valid", 10)] {
        let files: Vec<_> = std::fs::read_dir(folder.path().join(split))?.collect::<Result<_, _>>()?;
        assert_eq!(files.len(), 1, "{files:?}");
        let events = std::fs::read(files[0].path())?;
        let losses = events.windows(4).filter(|bytes| bytes == b"Loss").count();
        assert_eq!(losses, points, "{split}");
    }
    Ok(())
}
