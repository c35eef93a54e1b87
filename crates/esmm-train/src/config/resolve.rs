//! From a run file to a configuration without gaps: every default filled in, every contradiction refused.

use esmm_core::{Activation, EsmmConfig, FeatureSchema, TowersConfig};
use serde::{Deserialize, Serialize};

use super::run_file::{DataSection, Encode, FeatureSection, MetricSection, OrphanPolicy, RunFile, SplitBy};
use super::sections::{
    ActivationName, DropoutSection, ModelSection, TableOptimizerName, TableSection, TowerOptimizerName,
    TowerSection, TrainSection,
};
use crate::data::{
    CsvOptions, DenseTransform, FeatureKind, FeatureSpec, LabelSpec, ListFormat, Orphans, SourceSpec,
    SparseEncoding, SplitSpec, TruthSpec,
};
use crate::error::TrainError;
use crate::learner::EsmmLearnerConfig;
use crate::loss::EsmmLoss;
use crate::metric::Goal;
use crate::optimizer::{Decay, Schedule, TableOptimizerConfig, TableRule, TowerOptimizerConfig};
use crate::trainer::TrainerConfig;

/// Version of the saved configuration.
const FORMAT_VERSION: u32 = 1;

/// A resolved configuration: `config.json` of a run directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainConfig {
    /// Layout of this file.
    pub format_version: u32,
    /// Where the impressions are, and how they are split.
    pub data: SplitSpec,
    /// The features, in the order of the model's input.
    pub features: Vec<FeatureSpec>,
    /// The stages of the funnel.
    pub labels: LabelSpec,
    /// The column whose values are the groups of GAUC.
    pub group: Option<String>,
    /// Columns with true rates.
    pub truth: Option<TruthSpec>,
    /// The model.
    pub model: ModelConfig,
    /// The training.
    pub train: TrainingConfig,
}

/// The model, but for the sizes of its tables, which the data gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Width of every embedding.
    pub embedding_dim: usize,
    /// Shape of every tower.
    pub towers: TowersConfig,
    /// Whether the towers read the same tables.
    pub shared_embeddings: bool,
    /// Standard deviation of the first embedding values.
    pub embedding_init_std: f64,
}

/// The training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingConfig {
    /// Passes over the training split.
    pub epochs: u64,
    /// Rows of a batch.
    pub batch_size: usize,
    /// Seed of first values, order and dropout.
    pub seed: u64,
    /// Largest norm of all gradients together.
    pub clip_norm: Option<f64>,
    /// One weight a stage.
    pub task_weights: Vec<f64>,
    /// The validation metric that selects the best weights.
    pub select: String,
    /// Stop after so many validations without a better one.
    pub patience: Option<u64>,
    /// The towers' optimizer.
    pub towers: TowerOptimizerConfig,
    /// The tables' optimizer.
    pub tables: TableOptimizerConfig,
    /// The towers' learning rate over the steps.
    pub schedule: ScheduleConfig,
}

/// The learning rate over the steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ScheduleConfig {
    /// The towers' learning rate after the warm-up.
    pub learning_rate: f64,
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// What follows.
    pub decay: Decay,
    /// Share of the learning rate at the last step.
    pub final_factor: f64,
}

impl TrainConfig {
    /// Fills in defaults and checks ranges; files are not opened yet.
    ///
    /// # Errors
    /// One line that names the key, its value and what is allowed.
    pub fn resolve(file: &RunFile) -> Result<Self, TrainError> {
        let orphans = match file.labels.orphan_conversions {
            OrphanPolicy::Error => Orphans::Error,
            OrphanPolicy::Drop => Orphans::Drop,
        };
        let labels = LabelSpec {
            columns: file.labels.stages.clone(),
            orphan_conversions: orphans,
        };
        let features: Result<Vec<_>, _> = file.features.iter().map(feature).collect();
        let config = Self {
            format_version: FORMAT_VERSION,
            data: split(&file.data)?,
            features: features?,
            group: file.metrics.group.clone(),
            truth: truth(&file.metrics),
            model: model(&file.model)?,
            train: training(&file.train, labels.columns.len())?,
            labels,
        };
        config.model.towers.validate()?;
        Ok(config)
    }

    /// The model for a schema.
    ///
    /// # Errors
    /// Sizes out of range.
    pub fn model(&self, schema: FeatureSchema) -> Result<EsmmConfig, TrainError> {
        let config = EsmmConfig {
            schema,
            embedding_dim: self.model.embedding_dim,
            towers: self.model.towers.clone(),
            stages: self.labels.columns.len(),
            shared_embeddings: self.model.shared_embeddings,
            embedding_init_std: self.model.embedding_init_std,
            seed: self.train.seed,
        };
        config.validate()?;
        Ok(config)
    }

    /// The trainer for a model.
    pub fn trainer(&self, model: &EsmmConfig) -> TrainerConfig {
        let train = &self.train;
        let schedule = train.schedule;
        TrainerConfig {
            model: model.clone(),
            stages: self.labels.columns.clone(),
            learner: EsmmLearnerConfig {
                loss: EsmmLoss {
                    task_weights: train.task_weights.clone(),
                },
                tables: train.tables,
                clip_norm: train.clip_norm,
                seed: train.seed,
            },
            towers: train.towers,
            schedule: Schedule {
                base: schedule.learning_rate,
                warmup_steps: schedule.warmup_steps,
                decay: schedule.decay,
                final_factor: schedule.final_factor,
                total_steps: 0,
                step: 0,
            },
            epochs: train.epochs,
            batch_size: train.batch_size,
            seed: train.seed,
            select: train.select.clone(),
            patience: train.patience,
        }
    }

    /// This saved configuration with the epochs and the patience of another one.
    ///
    /// # Errors
    /// Another one that differs in anything else: a training cannot go on as a different one.
    pub fn extended_to(&self, other: Self) -> Result<Self, TrainError> {
        let mut extended = self.clone();
        extended.train.epochs = other.train.epochs;
        extended.train.patience = other.train.patience;
        if extended == other {
            return Ok(extended);
        }
        let message = "--resume: the run file differs from the saved config.json in more than train.epochs and \
                       train.patience; start a new run directory instead";
        Err(TrainError::Config(message.into()))
    }
}

fn refuse<T>(key: &str, found: impl std::fmt::Display, allowed: &str) -> Result<T, TrainError> {
    Err(TrainError::Config(format!("{key} = {found}: {allowed}")))
}

fn split(data: &DataSection) -> Result<SplitSpec, TrainError> {
    let csv = CsvOptions {
        delimiter: data.delimiter,
        quote: data.quote.unwrap_or('"'),
    };
    let default = ListFormat::default();
    let lists = ListFormat {
        separator: data.list_separator.unwrap_or(default.separator),
        weight_separator: data.weight_separator.unwrap_or(default.weight_separator),
    };
    let source = |paths: Vec<String>| SourceSpec { paths, csv, lists };
    let given = |paths: Vec<String>| (!paths.is_empty()).then(|| source(paths));
    let (train, valid, test) = (data.train.to_vec(), data.valid.to_vec(), data.test.to_vec());
    let path = data.path.to_vec();
    match (train.is_empty(), path.is_empty()) {
        (true, true) => Err(TrainError::Config(
            "[data] names no file: give `train`, or `path` with `split`".into(),
        )),
        (false, false) => Err(TrainError::Config(
            "[data] has both `train` and `path`: one of them".into(),
        )),
        (false, true) if data.split.is_some() => Err(TrainError::Config(
            "[data.split] goes with `path`, not with `train`".into(),
        )),
        (false, true) => Ok(SplitSpec::Files {
            train: source(train),
            valid: given(valid),
            test: given(test),
        }),
        (true, false) if !valid.is_empty() || !test.is_empty() => Err(TrainError::Config(
            "[data] `valid` and `test` go with `train`, not with `path`".into(),
        )),
        (true, false) => split_source(data, source(path)),
    }
}

fn split_source(data: &DataSection, source: SourceSpec) -> Result<SplitSpec, TrainError> {
    let Some(split) = &data.split else {
        return Ok(SplitSpec::Files {
            train: source,
            valid: None,
            test: None,
        });
    };
    let (valid, test, seed) = (split.valid, split.test, split.seed);
    let column = |by: &str| match &split.column {
        Some(column) => Ok(column.clone()),
        None => Err(TrainError::Config(format!(
            "data.split.by = \"{by}\" needs `column`"
        ))),
    };
    match split.by {
        SplitBy::Time => Ok(SplitSpec::Time {
            source,
            column: column("time")?,
            valid,
            test,
        }),
        SplitBy::Hash => Ok(SplitSpec::Hash {
            source,
            column: column("hash")?,
            valid,
            test,
            seed,
        }),
        SplitBy::Random if split.column.is_some() => refuse(
            "data.split.column",
            "given",
            "a split by \"random\" has no column (do you mean \"hash\"?)",
        ),
        SplitBy::Random => Ok(SplitSpec::Random {
            source,
            valid,
            test,
            seed,
        }),
    }
}

fn feature(section: &FeatureSection) -> Result<FeatureSpec, TrainError> {
    let name = &section.name;
    let needs = |value: Option<usize>, key: &str| match value {
        Some(value) => Ok(value),
        None => Err(TrainError::Config(format!(
            "feature `{name}`: encode = {:?} needs `{key}`",
            section.encode
        ))),
    };
    let allowed = |key: &str, is_given: bool, fits: bool| match is_given && !fits {
        true => Err(TrainError::Config(format!(
            "feature `{name}`: `{key}` does not go with encode = {:?}",
            section.encode
        ))),
        false => Ok(()),
    };
    let encode = section.encode;
    let dense = matches!(encode, Encode::Dense | Encode::Standardize | Encode::Log1p);
    allowed(
        "min_count",
        section.min_count.is_some(),
        encode == Encode::Vocabulary,
    )?;
    allowed(
        "buckets",
        section.buckets.is_some(),
        matches!(encode, Encode::Hash | Encode::Quantile),
    )?;
    allowed(
        "num_embeddings",
        section.num_embeddings.is_some(),
        encode == Encode::Raw,
    )?;
    allowed("missing", section.missing.is_some(), dense)?;
    allowed("pooling", section.pooling.is_some(), !dense)?;
    allowed("shares", section.shares.is_some(), !dense)?;
    allowed("weighted", section.weighted, section.pooling.is_some())?;
    allowed(
        "weights_column",
        section.weights_column.is_some(),
        section.weighted,
    )?;
    let sparse = |encoding| FeatureKind::Sparse {
        encoding,
        bag: section.pooling,
        shares: section.shares.clone(),
        weighted: section.weighted,
        weights_column: section.weights_column.clone(),
    };
    let real = |transform| FeatureKind::Dense {
        transform,
        missing: section.missing,
    };
    let kind = match encode {
        Encode::Vocabulary => sparse(SparseEncoding::Vocabulary {
            min_count: section.min_count.unwrap_or(1),
        }),
        Encode::Hash => sparse(SparseEncoding::Hash {
            buckets: needs(section.buckets, "buckets")?,
        }),
        Encode::Quantile => sparse(SparseEncoding::Quantile {
            buckets: needs(section.buckets, "buckets")?,
        }),
        Encode::Raw => sparse(SparseEncoding::Raw {
            num_embeddings: needs(section.num_embeddings, "num_embeddings")?,
        }),
        Encode::Dense => real(DenseTransform::None),
        Encode::Standardize => real(DenseTransform::Standardize),
        Encode::Log1p => real(DenseTransform::Log1p),
    };
    let column = section.column.clone().unwrap_or_else(|| name.clone());
    Ok(FeatureSpec {
        name: name.clone(),
        column,
        side: section.side,
        kind,
    })
}

fn truth(metrics: &MetricSection) -> Option<TruthSpec> {
    let (ctr, cvr, ctcvr) = (
        metrics.true_ctr.clone(),
        metrics.true_cvr.clone(),
        metrics.true_ctcvr.clone(),
    );
    let given = ctr.is_some() || cvr.is_some() || ctcvr.is_some();
    given.then_some(TruthSpec { ctr, cvr, ctcvr })
}

fn model(section: &ModelSection) -> Result<ModelConfig, TrainError> {
    let activation = match section.activation {
        ActivationName::None => Activation::None,
        ActivationName::Relu => Activation::Relu,
        ActivationName::LeakyRelu => Activation::LeakyRelu {
            negative_slope: section.negative_slope,
        },
        ActivationName::Prelu => Activation::Prelu,
    };
    let dropout = match &section.dropout {
        DropoutSection::All(probability) => vec![*probability; section.hidden.len()],
        DropoutSection::Each(probabilities) => probabilities.clone(),
    };
    let (hidden, batch_norm) = (section.hidden.clone(), section.batch_norm);
    Ok(ModelConfig {
        embedding_dim: section.embedding_dim,
        towers: TowersConfig {
            hidden,
            activation,
            batch_norm,
            dropout,
        },
        shared_embeddings: section.shared_embeddings,
        embedding_init_std: section.embedding_init_std,
    })
}

fn training(section: &TrainSection, stages: usize) -> Result<TrainingConfig, TrainError> {
    if section.epochs == 0 {
        return refuse("train.epochs", 0, "it must be at least 1");
    }
    if section.batch_size == 0 {
        return refuse("train.batch_size", 0, "it must be at least 1");
    }
    let task_weights = section.task_weights.clone().unwrap_or_else(|| vec![1.0; stages]);
    if task_weights.len() != stages
        || !task_weights
            .iter()
            .all(|weight| *weight >= 0.0 && weight.is_finite())
    {
        let allowed = format!("one finite weight of at least 0 for each of the {stages} stages");
        return refuse("train.task_weights", format!("{task_weights:?}"), &allowed);
    }
    if Goal::of(&section.select).is_none() {
        return refuse(
            "train.select",
            &section.select,
            "a metric such as ctcvr.auc, cvr.log_loss, ctr.gauc",
        );
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
        clip_norm: section.clip_norm,
        task_weights,
        select: section.select.clone(),
        patience: section.patience,
        towers: towers(&section.towers)?,
        tables: tables(&section.tables, schedule.learning_rate)?,
        schedule,
    })
}

fn towers(section: &TowerSection) -> Result<TowerOptimizerConfig, TrainError> {
    let beta_1 = share("train.towers.beta_1", section.beta_1)?;
    let beta_2 = share("train.towers.beta_2", section.beta_2)?;
    let epsilon = positive("train.towers.epsilon", section.epsilon)?;
    let weight_decay = section.weight_decay;
    if !(weight_decay >= 0.0 && weight_decay.is_finite()) {
        return refuse(
            "train.towers.weight_decay",
            weight_decay,
            "it must be finite and at least 0",
        );
    }
    Ok(match section.optimizer {
        TowerOptimizerName::Adam => TowerOptimizerConfig::Adam {
            beta_1,
            beta_2,
            epsilon,
            weight_decay,
        },
        TowerOptimizerName::AdamW => TowerOptimizerConfig::AdamW {
            beta_1,
            beta_2,
            epsilon,
            weight_decay,
        },
        TowerOptimizerName::Sgd => TowerOptimizerConfig::Sgd {
            momentum: share("train.towers.momentum", section.momentum)?,
            weight_decay,
        },
    })
}

fn tables(section: &TableSection, towers_rate: f64) -> Result<TableOptimizerConfig, TrainError> {
    let epsilon = positive("train.tables.epsilon", section.epsilon)?;
    let rule = match section.optimizer {
        TableOptimizerName::Sgd => TableRule::Sgd,
        TableOptimizerName::Adagrad => TableRule::Adagrad { epsilon },
        TableOptimizerName::LazyAdam => {
            let beta_1 = share("train.tables.beta_1", section.beta_1)?;
            TableRule::LazyAdam {
                beta_1,
                beta_2: share("train.tables.beta_2", section.beta_2)?,
                epsilon,
            }
        }
    };
    let l2 = section.l2;
    if !(l2 >= 0.0 && l2.is_finite()) {
        return refuse("train.tables.l2", l2, "it must be finite and at least 0");
    }
    let rate = positive("train.tables.learning_rate", section.learning_rate)?;
    Ok(TableOptimizerConfig {
        rule,
        learning_rate_ratio: rate / towers_rate,
        l2,
    })
}

fn positive(key: &str, value: f64) -> Result<f64, TrainError> {
    if value > 0.0 && value.is_finite() {
        Ok(value)
    } else {
        refuse(key, value, "it must be finite and above 0")
    }
}

fn share(key: &str, value: f64) -> Result<f64, TrainError> {
    if (0.0..1.0).contains(&value) {
        Ok(value)
    } else {
        refuse(key, value, "it must be in [0, 1)")
    }
}
