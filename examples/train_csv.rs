//! From a CSV file to a measured model: what `esmm train run.toml` does, through the library.
//!
//! ```sh
//! cargo run --example train_csv   # last digits may differ between processors
//! ```
//!
//! ```text
//! train: 28000 impressions
//! valid: 4000 impressions
//! test: 8000 impressions
//! kept the weights of epoch 3 of 3
//! test ctr    AUC 0.686, 95% interval 0.672 to 0.701
//! test cvr    AUC 0.734, 95% interval 0.705 to 0.764
//! test ctcvr  AUC 0.727, 95% interval 0.701 to 0.754
//! ```

use esmm_train::DeviceName;
use esmm_train::config::{RunFile, TrainConfig};
use esmm_train::data::synthetic::{SyntheticConfig, write_csv};
use esmm_train::experiment::Experiment;
use esmm_train::run_dir::{Existing, RunDir};
use esmm_train::trainer::{TrainingControl, TrainingEnd};

const RUN: &str = r#"
features = [
  { name = "user_id", side = "user" },
  { name = "age", side = "user", encode = "standardize" },
  { name = "user_history", side = "user", pooling = "mean" },
  { name = "item_id", side = "item" },
  { name = "category", side = "item" },
  { name = "price", side = "item", encode = "log1p" },
  { name = "position", encode = "raw", num_embeddings = 11 },
]
[data]
path = "data.csv"
split = { by = "time", column = "time", valid = 0.1, test = 0.2 }
[model]
embedding_dim = 8
hidden = [32, 16]
[train]
epochs = 3
batch_size = 512
towers = { learning_rate = 3e-3 }
tables = { learning_rate = 3e-3 }
"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data.csv");
    let config = SyntheticConfig { rows: 40_000, ..SyntheticConfig::default() };
    write_csv(config, &data)?;

    // What a person would have in run.toml, and `RunFile::read` would read.
    let text = RUN.replace("data.csv", &data.display().to_string().replace('\\', "/"));
    let file = RunFile::parse(&text, "run.toml", &[])?;
    let experiment = Experiment::load(TrainConfig::resolve(&file)?)?;
    for (split, rows) in experiment.splits() {
        println!("{split}: {} impressions", rows.rows());
    }
    for warning in experiment.warnings() {
        println!("warning: {warning}");
    }

    let run = RunDir::create(&folder.path().join("run"), Existing::Refuse)?;
    let trained = experiment.run(&run, &DeviceName::NdArray.open()?, &TrainingControl::default())?;
    match trained.end {
        TrainingEnd::Finished { best, .. } => println!("kept the weights of epoch {} of 3", best.epoch),
        TrainingEnd::Interrupted { step } => println!("interrupted after step {step}"),
    }
    let metrics = trained.metrics.ok_or("the training was interrupted")?;
    let test = metrics.test.ok_or("there is no test split")?;
    for (task, metrics) in &test.tasks {
        let (auc, interval) = metrics.auc.zip(metrics.auc_ci95).ok_or("the AUC is undefined")?;
        let [low, high] = interval.map(|bound| format!("{bound:.3}"));
        println!("test {task:<5}  AUC {auc:.3}, 95% interval {low} to {high}");
    }
    Ok(())
}
