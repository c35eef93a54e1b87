//! The best items for one user: every item of a log scored by a trained model, ranked by pCTCVR.
//!
//! ```sh
//! cargo run --example score_items              # trains a small model first
//! cargo run --example score_items -- RUN_DIR   # what `cargo run --release -p esmm-train` left
//! ```
//!
//! ```text
//! user 7: the best 5 of 500 items
//! item 231  pCTR 0.313  pCVR 0.472  pCTCVR 0.148
//! item 102  pCTR 0.294  pCVR 0.445  pCTCVR 0.131
//! item 235  pCTR 0.230  pCVR 0.524  pCTCVR 0.121
//! item 253  pCTR 0.314  pCVR 0.369  pCTCVR 0.116
//! item 452  pCTR 0.238  pCVR 0.469  pCTCVR 0.112
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use burn_ndarray::{NdArray, NdArrayDevice};
use esmm_train::DeviceName;
use esmm_train::config::{RunFile, TrainConfig};
use esmm_train::data::synthetic::{SyntheticConfig, write_csv};
use esmm_train::experiment::Experiment;
use esmm_train::run_dir::{Existing, RunDir};
use esmm_train::scorer::Scorer;
use esmm_train::trainer::TrainingControl;

const USER: &str = "7";
const RUN: &str = r#"
features = [
  { name = "user_id", side = "user" }, { name = "user_history", side = "user", pooling = "mean" },
  { name = "item_id", side = "item" }, { name = "category", side = "item" },
]
data.train = "log.csv"
train = { batch_size = 512, towers.learning_rate = 3e-3, tables.learning_rate = 3e-3 }
"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let [log, file] = ["log.csv", "candidates.csv"].map(|name| folder.path().join(name));
    let config = SyntheticConfig { rows: 40_000, ..SyntheticConfig::default() };
    write_csv(config, &log)?;
    let run = match std::env::args_os().nth(1) {
        Some(path) => RunDir::open(Path::new(&path))?,
        None => train(&log, &folder.path().join("run"))?,
    };

    let (items, rows) = candidates(&std::fs::read_to_string(&log)?).ok_or("the user is not in the log")?;
    std::fs::write(&file, rows)?;
    let mut scorer = Scorer::<NdArray>::open(&run, &NdArrayDevice::default())?;
    let source = scorer.source(&[file.display().to_string()]);
    let mut scores = Vec::new();
    for chunk in source.open(&scorer.required_columns())? {
        let batch = scorer.score(&chunk?)?;
        let columns = [0, 1, 2].map(|index| batch.column(index).to_data().buffers()[0].clone());
        let score = |row: usize| columns.each_ref().map(|column| column.typed_data::<f32>()[row]);
        scores.extend((0..batch.num_rows()).map(score)); // pctr, pcvr, pctcvr
    }
    let mut ranked: Vec<_> = items.into_iter().zip(scores).collect();
    ranked.sort_by(|(_, left), (_, right)| right[2].total_cmp(&left[2]));
    println!("user {USER}: the best 5 of {} items", ranked.len());
    for (item, [ctr, cvr, ctcvr]) in ranked.into_iter().take(5) {
        println!("item {item:>3}  pCTR {ctr:.3}  pCVR {cvr:.3}  pCTCVR {ctcvr:.3}");
    }
    Ok(())
}

/// The log's items, and each as a row of the user's last impression: columns 7 to 10 are the item's.
fn candidates(log: &str) -> Option<(Vec<u32>, String)> {
    let (header, _) = log.split_once('\n')?;
    let rows = || log.lines().map(|line| line.split(',').collect::<Vec<&str>>());
    let user = rows().rfind(|row| row[2] == USER)?;
    let mut items = BTreeMap::new();
    for row in rows().skip(1) {
        let shown = [&user[..7], &row[7..11], &user[11..]].concat().join(",");
        items.insert(row[7].parse().ok()?, shown + "\n");
    }
    let shown: String = items.values().map(String::as_str).collect();
    Some((items.into_keys().collect(), format!("{header}\n{shown}")))
}

fn train(log: &Path, folder: &Path) -> Result<RunDir, Box<dyn std::error::Error>> {
    let run = RunDir::create(folder, Existing::Refuse)?;
    let text = RUN.replace("log.csv", &log.display().to_string().replace('\\', "/"));
    let experiment = Experiment::load(TrainConfig::resolve(&RunFile::parse(&text, "run.toml", &[])?)?)?;
    experiment.run(&run, &DeviceName::NdArray.open()?, &TrainingControl::default())?;
    Ok(run)
}
