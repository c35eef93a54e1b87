//! The run directory of a training of ESMM: what it was asked for, what it tells while it runs, what it leaves; and
//! that opened again, to measure and to score.
//!
//! [`config`] has what a person types and what it comes to; [`run_dir`] the files; [`observe`] the observers of a
//! training, of which [`history`] is one; [`evaluation`] measures with exact metrics, [`counting`] says how rows count there,
//! [`analysis`] looks closer;
//! [`correction`] changes probabilities after a training; [`scorer`] opens a run directory and scores rows, which [`predictions`] writes. Nothing here trains.
//!
//! ```no_run
//! use burn_ndarray::NdArray;
//! use esmm_run::run_dir::RunDir;
//! use esmm_run::scorer::Scorer;
//!
//! # fn main() -> Result<(), esmm_run::RunError> {
//! let run = RunDir::open("runs/mine".as_ref())?;
//! let mut scorer = Scorer::<NdArray>::open(&run, &Default::default())?;
//! let source = scorer.source(&["new.parquet".to_owned()]);
//! for chunk in source.open(&scorer.required_columns())? {
//!     let scores = scorer.score(&chunk?)?;
//!     println!("{} rows", scores.num_rows());
//! }
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

pub mod analysis;
pub mod config;
pub mod correction;
pub mod counting;
pub mod ensemble;
mod error;
pub mod evaluation;
pub mod files;
pub mod history;
pub mod manifest;
pub mod metrics;
pub mod observe;
pub mod predictions;
pub mod run_dir;
pub mod scorer;
pub mod tuning;
pub mod wording;

pub use error::RunError;
pub use metrics::{BestWeights, RunMetrics};
