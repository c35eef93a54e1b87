//! The sections `[model]` and `[train]` of a run file, resolved.

use esmm_core::{Activation, TowersConfig};

use super::optimizer::{TableOptimizerConfig, TableRule, TowerOptimizerConfig};
use super::refuse::refuse;
use super::sections::{
    ActivationName, DropoutSection, ModelSection, TableOptimizerName, TableSection, TowerOptimizerName,
    TowerSection, TrainSection,
};
use super::train_config::{ModelConfig, ScheduleConfig, TrainingConfig};
use crate::error::RunError;

/// Models of one run directory at most.
const MOST_SEEDS: u64 = 100;

pub(super) fn model(section: &ModelSection) -> Result<ModelConfig, RunError> {
    let activation = match section.activation {
        ActivationName::None => Activation::None,
        ActivationName::Relu => Activation::Relu,
        ActivationName::LeakyRelu => Activation::LeakyRelu { negative_slope: section.negative_slope },
        ActivationName::Prelu => Activation::Prelu,
    };
    let dropout = match &section.dropout {
        DropoutSection::All(probability) => vec![*probability; section.hidden.len()],
        DropoutSection::Each(probabilities) => probabilities.clone(),
    };
    if section.embedding_dim == 0 {
        return refuse("model.embedding_dim", 0, "it must be at least 1");
    }
    let init_std = section.embedding_init_std;
    if !(init_std >= 0.0 && init_std.is_finite()) {
        return refuse("model.embedding_init_std", init_std, "it must be finite and at least 0");
    }
    let hidden = section.hidden.clone();
    Ok(ModelConfig {
        embedding_dim: section.embedding_dim,
        towers: TowersConfig { hidden, activation, batch_norm: section.batch_norm, dropout },
        shared_embeddings: section.shared_embeddings,
        embedding_init_std: section.embedding_init_std,
        prior: section.prior,
    })
}

pub(super) fn training(section: &TrainSection, columns: &[String]) -> Result<TrainingConfig, RunError> {
    let stages = columns.len();
    if section.epochs == 0 {
        return refuse("train.epochs", 0, "it must be at least 1");
    }
    if section.batch_size == 0 {
        return refuse("train.batch_size", 0, "it must be at least 1");
    }
    for (key, every) in
        [("validate_every", section.validate_every), ("checkpoint_every", section.checkpoint_every)]
    {
        if every == Some(0) {
            return refuse(&format!("train.{key}"), 0, "it must be at least 1");
        }
    }
    if section.log_every == 0 {
        return refuse("train.log_every", 0, "it must be at least 1");
    }
    if !(1..=MOST_SEEDS).contains(&section.seeds) {
        let allowed = format!("it must be at least 1 and at most {MOST_SEEDS}");
        return refuse("train.seeds", section.seeds, &allowed);
    }
    let task_weights = section.task_weights.clone().unwrap_or_else(|| vec![1.0; stages]);
    if task_weights.len() != stages || !task_weights.iter().all(|weight| *weight >= 0.0 && weight.is_finite())
    {
        let allowed = format!("one finite weight of at least 0 for each of the {stages} stages");
        return refuse("train.task_weights", format!("{task_weights:?}"), &allowed);
    }
    positive("train.clip_norm", section.clip_norm.unwrap_or(1.0))?;
    positive("train.schedule.final_factor", section.schedule.final_factor)?;
    let schedule = ScheduleConfig {
        learning_rate: positive("train.towers.learning_rate", section.towers.learning_rate)?,
        warmup_steps: section.schedule.warmup_steps,
        decay: section.schedule.decay,
        final_factor: section.schedule.final_factor,
    };
    Ok(TrainingConfig {
        epochs: section.epochs,
        batch_size: section.batch_size,
        seed: section.seed,
        seeds: section.seeds,
        precision: section.precision,
        clip_norm: section.clip_norm,
        task_weights,
        select: section.select.clone().unwrap_or_else(|| last_auc(columns)),
        patience: section.patience,
        validate_every: section.validate_every,
        checkpoint_every: section.checkpoint_every,
        log_every: section.log_every,
        tensorboard: section.tensorboard,
        towers: towers(&section.towers)?,
        tables: tables(&section.tables, schedule.learning_rate)?,
        schedule,
    })
}

/// Name of the metric that selects the best weights where nobody says another: the AUC of reaching the last stage from an
/// impression.
pub fn last_auc(columns: &[String]) -> String {
    match columns {
        [.., last] if columns.len() > 2 => format!("{last}.auc"),
        _ => "ctcvr.auc".to_owned(),
    }
}

fn towers(section: &TowerSection) -> Result<TowerOptimizerConfig, RunError> {
    let beta_1 = share("train.towers.beta_1", section.beta_1)?;
    let beta_2 = share("train.towers.beta_2", section.beta_2)?;
    let epsilon = positive("train.towers.epsilon", section.epsilon)?;
    let weight_decay = section.weight_decay;
    if !(weight_decay >= 0.0 && weight_decay.is_finite()) {
        return refuse("train.towers.weight_decay", weight_decay, "it must be finite and at least 0");
    }
    Ok(match section.optimizer {
        TowerOptimizerName::Adam => TowerOptimizerConfig::Adam { beta_1, beta_2, epsilon, weight_decay },
        TowerOptimizerName::AdamW => TowerOptimizerConfig::AdamW { beta_1, beta_2, epsilon, weight_decay },
        TowerOptimizerName::Sgd => TowerOptimizerConfig::Sgd {
            momentum: share("train.towers.momentum", section.momentum)?,
            weight_decay,
        },
    })
}

fn tables(section: &TableSection, towers_rate: f64) -> Result<TableOptimizerConfig, RunError> {
    let epsilon = positive("train.tables.epsilon", section.epsilon)?;
    let betas = || {
        let beta_1 = share("train.tables.beta_1", section.beta_1)?;
        Ok::<_, RunError>((beta_1, share("train.tables.beta_2", section.beta_2)?))
    };
    let rule = match section.optimizer {
        TableOptimizerName::Sgd => TableRule::Sgd,
        TableOptimizerName::Adagrad => TableRule::Adagrad { epsilon },
        TableOptimizerName::LazyAdam => {
            let (beta_1, beta_2) = betas()?;
            TableRule::LazyAdam { beta_1, beta_2, epsilon }
        }
        TableOptimizerName::RowWiseAdam => {
            let (beta_1, beta_2) = betas()?;
            TableRule::RowWiseAdam { beta_1, beta_2, epsilon }
        }
    };
    let l2 = section.l2;
    if !(l2 >= 0.0 && l2.is_finite()) {
        return refuse("train.tables.l2", l2, "it must be finite and at least 0");
    }
    let rate = positive("train.tables.learning_rate", section.learning_rate)?;
    Ok(TableOptimizerConfig { rule, learning_rate_ratio: rate / towers_rate, l2 })
}

fn positive(key: &str, value: f64) -> Result<f64, RunError> {
    if value > 0.0 && value.is_finite() {
        Ok(value)
    } else {
        refuse(key, value, "it must be finite and above 0")
    }
}

fn share(key: &str, value: f64) -> Result<f64, RunError> {
    if (0.0..1.0).contains(&value) { Ok(value) } else { refuse(key, value, "it must be in [0, 1)") }
}
