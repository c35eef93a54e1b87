//! What a model is made of and what it will cost, before a training and after one.
//!
//! The layers come from [`ModelSummary`](esmm_core::ModelSummary); this adds what the training's configuration tells:
//! operations of a step, bytes that a row reads, memory. What is not known before the data was read is `None`.

mod facts;
mod layers;
mod memory;
mod show;
mod target;

pub use facts::{RunFacts, SavedWeights, SplitFacts};
pub use layers::{LayerCost, StepCost};
pub use memory::{GpuMemory, MemoryPart, TrainingMemory};
pub use target::{Inspection, inspect};
