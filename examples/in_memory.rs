//! Columns in memory through the trainer: no file is read, and what a training leaves is in a run directory all the same.
//!
//! ```sh
//! cargo run --example in_memory   # last digits may differ between processors
//! ```
//!
//! ```text
//! kept the weights of epoch 2 of 3
//! hour  9: pCTR 0.083  pCVR 0.268  pCTCVR 0.022
//! hour 21: pCTR 0.373  pCVR 0.350  pCTCVR 0.130
//! ```

use burn::backend::Autodiff;
use burn_ndarray::{NdArray, NdArrayDevice};
use esmm_core::{BatchInput, EsmmConfig, Feature, FeatureBatch, FeatureSchema, Side, SparseInput};
use esmm_train::data::{Dataset, SparseColumn};
use esmm_train::run_dir::{Existing, RunDir};
use esmm_train::trainer::{TrainerConfig, TrainingControl, TrainingData, TrainingEnd, train};

/// Impressions: table rows of a user and of an hour, and how many stages each reached. In the evening four of ten are
/// clicked, at other times one of ten; three of ten clicks convert.
fn impressions(first: u32, rows: u32) -> Dataset {
    let numbers = first..first + rows;
    // A fixed order that looks random, another one for each salt: both are stirred until no bit tells of the other.
    let draw = |row: u32, salt: u32| {
        let mut bits = row.wrapping_mul(2_654_435_761) ^ salt.wrapping_mul(2_246_822_507);
        for _ in 0..2 {
            bits = (bits ^ (bits >> 16)).wrapping_mul(2_246_822_507);
            bits = (bits ^ (bits >> 13)).wrapping_mul(3_266_489_909);
        }
        (bits ^ (bits >> 16)) % 1000
    };
    let users = numbers.clone().map(|row| draw(row, 1) % 200).collect();
    let hours: Vec<u32> = numbers.clone().map(|row| draw(row, 2) % 24).collect();
    let depth = numbers.zip(&hours).map(|(row, hour)| {
        let clicks = if *hour >= 18 { 400 } else { 100 };
        let is_click = draw(row, 3) < clicks;
        let converts = draw(row, 4) < 300;
        u8::from(is_click) + u8::from(is_click && converts)
    });
    Dataset {
        rows: rows as usize,
        sparse: vec![SparseColumn::Single(users), SparseColumn::Single(hours.clone())],
        depth: depth.collect(),
        ..Dataset::default()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let schema = FeatureSchema::new(vec![
        Feature::sparse("user", Side::User, 200),
        Feature::sparse("hour", Side::Context, 24),
    ])?;
    let model = EsmmConfig { embedding_dim: 8, ..EsmmConfig::new(schema.clone()) };
    let stages = ["click", "conversion"].map(str::to_owned).to_vec();
    let config = TrainerConfig { batch_size: 256, ..TrainerConfig::new(model.clone(), stages) };
    let data =
        TrainingData { train: impressions(0, 20_000).into(), valid: Some(impressions(20_000, 5_000).into()) };

    let folder = tempfile::tempdir()?;
    let run = RunDir::create(&folder.path().join("run"), Existing::Refuse)?;
    let device = NdArrayDevice::default();
    match train::<Autodiff<NdArray>>(&config, &data, &run, &device, &TrainingControl::default())? {
        TrainingEnd::Finished { best, .. } => println!("kept the weights of epoch {} of 3", best.epoch),
        TrainingEnd::Interrupted { step } => println!("interrupted after step {step}"),
    }

    // The best weights, for one user in the morning and in the evening.
    let best = model.load::<NdArray>(&run.weights(), &device)?;
    let hours = [9, 21];
    let sparse = [SparseInput::Single(&[7, 7]), SparseInput::Single(&hours)];
    let input = BatchInput { rows: 2, sparse: &sparse, dense: &[], groups: None };
    let probs = best.forward(&FeatureBatch::new(&schema, input, &device)?).probs();
    let [ctr, cvr, ctcvr] = [probs.ctr, probs.cvr, probs.ctcvr].map(|column| column.into_data());
    let values = ctr.iter::<f32>().zip(cvr.iter::<f32>()).zip(ctcvr.iter::<f32>());
    for (hour, ((ctr, cvr), ctcvr)) in hours.iter().zip(values) {
        println!("hour {hour:>2}: pCTR {ctr:.3}  pCVR {cvr:.3}  pCTCVR {ctcvr:.3}");
    }
    Ok(())
}
