//! What is said before a training about its number of steps.

use super::TrainerConfig;

/// A training of fewer steps than this has hardly moved its weights.
const FEW_STEPS: u64 = 200;

/// Says how many steps a training will have, and warns where they are few.
pub(super) fn say_steps(config: &TrainerConfig, rows: u64, steps: u64) {
    let batch = config.batch_size;
    let epochs = config.epochs;
    let label = &config.label;
    let plural = if epochs == 1 { "epoch" } else { "epochs" };
    log::info!("{label}{steps} steps: {rows} rows in batches of {batch}, {epochs} {plural}");
    if steps >= FEW_STEPS {
        return;
    }
    let way_out = match rows * epochs / FEW_STEPS {
        enough @ 16.. => format!("train.batch_size = {} would make more", 1_u64 << enough.ilog2()),
        _ => "more rows or more epochs are needed".to_owned(),
    };
    log::warn!(
        "{steps} steps are few: weights hardly leave their initial values in under {FEW_STEPS}; {way_out}"
    );
}
