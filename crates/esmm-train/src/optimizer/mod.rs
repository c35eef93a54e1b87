//! How weights change: Burn's optimizers for the towers, row-wise ones for the tables, one schedule for both.

mod clip;
mod schedule;
mod table;
mod tower;

pub use clip::{GradientNorms, clip_global_norm};
pub use esmm_run::config::{Decay, TableOptimizerConfig, TableRule, TowerOptimizerConfig};
pub use schedule::Schedule;
pub use table::TableOptimizer;
pub use tower::{SharedOptimizer, TowerRule, TowerRuleState};
