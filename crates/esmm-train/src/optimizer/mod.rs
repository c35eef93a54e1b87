//! How weights change: one optimizer for the towers, row-wise ones for the tables, one schedule for both.

mod clip;
mod schedule;
mod shared;
mod table;
mod tower;
mod towers;

pub use clip::{GradientNorms, clip_global_norm};
pub use esmm_run::config::{Decay, TableOptimizerConfig, TableRule, TowerOptimizerConfig};
pub use schedule::Schedule;
pub use shared::SharedOptimizer;
pub use table::TableOptimizer;
pub use tower::{TowerRule, TowerRuleState};
pub use towers::TowerOptimizer;
