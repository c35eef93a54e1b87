//! What a person types ([`RunFile`], strict) and what it comes to ([`TrainConfig`], resolved and saved).

mod memory;
mod negative_rate;
mod optimizer;
mod parse;
mod reference;
mod refuse;
mod resolve;
mod resolve_data;
mod resolve_train;
mod run_file;
mod saved;
mod sections;
mod train_config;
mod version;

pub use negative_rate::NegativeRate;
pub use optimizer::{Decay, TableOptimizerConfig, TableRule, TowerOptimizerConfig};
pub use resolve_train::last_auc;
pub use run_file::{
    DataSection, Encode, FeatureSection, Instant, LabelSection, MetricSection, MissingPolicy,
    NegativeRateSetting, OrphanPolicy, OutsidePolicy, Paths, RunFile, SplitBy, SplitSection,
};
pub use sections::{
    ActivationName, DropoutSection, ModelSection, ScheduleSection, TableOptimizerName, TableSection,
    TowerOptimizerName, TowerSection, TrainSection,
};
pub use train_config::{ModelConfig, ReadingConfig, ScheduleConfig, TrainConfig, TrainingConfig};
pub use version::{FORMAT_VERSION, check_version, newer_than};
