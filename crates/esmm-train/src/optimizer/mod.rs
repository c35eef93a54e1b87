//! How weights change: Burn's optimizers for the towers, row-wise ones for the tables, one schedule for both.

mod clip;
mod schedule;
mod table;
mod tower;

pub use clip::{GradientNorms, clip_global_norm};
pub use schedule::{Decay, Schedule};
pub use table::{TableOptimizer, TableOptimizerConfig, TableRule};
pub use tower::{SharedOptimizer, TowerOptimizerConfig, TowerRule, TowerRuleState};
