//! What a person types ([`RunFile`], strict) and what it comes to ([`TrainConfig`], resolved and saved).
//!
//! A file a section: its keys with type, default and meaning, what they come to, and the check and the way from the one
//! to the other.

mod data;
mod features;
mod instant;
mod labels;
mod memory;
mod metrics;
mod model;
mod negative_rate;
mod parse;
mod reference;
mod refuse;
mod resolve;
mod run_file;
mod saved;
mod schedule;
mod split;
mod tables;
mod towers;
mod train;
mod train_config;
mod version;

pub use data::{DataSection, Paths, ReadingConfig};
pub use features::{Encode, FeatureSection, OutsidePolicy};
pub use instant::Instant;
pub use labels::{LabelSection, MissingPolicy, NegativeRateSetting, OrphanPolicy};
pub use memory::memory_amount;
pub use metrics::MetricSection;
pub use model::{ActivationName, DropoutSection, ModelConfig, ModelSection};
pub use negative_rate::NegativeRate;
pub use run_file::RunFile;
pub use schedule::{Decay, ScheduleConfig, ScheduleSection};
pub use split::{SplitBy, SplitSection};
pub use tables::{NamedRule, TableOptimizerConfig, TableRule, TableSection};
pub use towers::{TowerOptimizerConfig, TowerOptimizerName, TowerSection};
pub use train::{TrainSection, TrainingConfig, last_auc};
pub use train_config::TrainConfig;
pub use version::{FORMAT_VERSION, check_version, newer_than};
