//! TensorBoard: event files that `tensorboard --logdir` shows.
//!
//! * [`TensorBoardObserver`] is the observer of a training of ESMM: curves, distributions, precision-recall curves, the
//!   graph, hyperparameters. `esmm train --tensorboard` switches it on.
//! * `TensorBoardMetricLogger` (feature `metric-logger`) is for any other training on Burn: give it to
//!   `SupervisedTraining`.
//! * [`EventWriter`] is for a loop of your own.
//!
//! ```no_run
//! use esmm_tensorboard::{Entry, EventWriter, Histogram};
//!
//! let mut writer = EventWriter::new("runs/mine");
//! for step in 1..=100 {
//!     let loss = 1.0 / step as f64;
//!     let mut entries = vec![Entry::scalar("loss/train", loss)];
//!     let weights = [0.1, -0.3, loss];
//!     entries.extend(Histogram::of(weights.into_iter()).map(|weights| Entry::histogram("weights", &weights)));
//!     writer.add(step, entries);
//! }
//! ```
//!
//! The files hold what TensorFlow's protocol files say, written with `prost` from structs in this module: there is no
//! crate for it on crates.io that is kept up.

mod distributions;
mod entry;
#[cfg(test)]
mod golden;
mod graph;
mod graph_builder;
mod histogram;
mod hparams;
#[cfg(feature = "metric-logger")]
mod logger;
mod observer;
mod pr_curve;
mod proto;
mod reader;
mod record;
mod writer;

pub use entry::Entry;
pub use histogram::Histogram;
#[cfg(feature = "metric-logger")]
pub use logger::TensorBoardMetricLogger;
pub use observer::{TensorBoardConfig, TensorBoardObserver};
pub use pr_curve::PrCurve;
pub use writer::EventWriter;
