//! TensorBoard: event files that `tensorboard --logdir` shows.
//!
//! * [`TensorBoardMetricLogger`] is for any training on Burn: give it to `SupervisedTraining`.
//! * [`EventWriter`] is for a loop of your own.
//!
//! ```no_run
//! use esmm_train::tensorboard::{Entry, EventWriter, Histogram};
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

mod entry;
#[cfg(test)]
mod golden;
mod histogram;
mod logger;
mod pr_curve;
mod proto;
mod record;
mod writer;

pub use entry::Entry;
pub use histogram::Histogram;
pub use logger::TensorBoardMetricLogger;
pub use pr_curve::PrCurve;
pub use writer::EventWriter;
