//! Everything around the model of [`esmm_core`]: data, loss, Burn's Learner, metrics, run directories, scoring.
//!
//! The `esmm` command is a thin layer on this library. Data flows one way:
//!
//! [`config`] says what is wanted; [`data`] reads, splits and encodes files into columns and batches; [`EsmmLearner`]
//! makes steps of them, with [`EsmmLoss`] and the [`optimizer`]s; [`trainer`] runs the steps under Burn's
//! `SupervisedTraining`, and [`observe`] has its observers; [`evaluation`] measures with the exact [`metric`]s;
//! [`experiment`] ties a configuration to its data and [`run_dir`] keeps what comes out; [`scorer`] opens that again and
//! scores new rows; [`inspect`] says what a model costs. Reports, drafts of run files and Ali-CCP are crates of their own.
//!
//! ```no_run
//! use esmm_train::config::{RunFile, TrainConfig};
//! use esmm_train::experiment::Experiment;
//!
//! # fn main() -> Result<(), esmm_train::TrainError> {
//! let file = RunFile::read("run.toml".as_ref(), &[])?;
//! let experiment = Experiment::load(TrainConfig::resolve(&file)?)?;
//! for warning in experiment.warnings() {
//!     eprintln!("{warning}");
//! }
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

pub mod checkpoint;
mod device;
mod error;
pub mod experiment;
pub mod inspect;
pub mod learner;
pub mod optimizer;
pub mod screen;
mod side_by_side;
mod sizes;
pub mod trainer;
pub mod tune;

pub use esmm_data as data;
pub use esmm_metrics as metric;
pub use esmm_run::observe::TableNorms;
pub use esmm_run::{
    analysis, config, correction, counting, ensemble, evaluation, files, history, manifest, observe,
    predictions, run_dir, scorer, tuning, wording,
};
pub use esmm_tensorboard as tensorboard;

pub use device::{
    BackendDevices, Device, DeviceInfo, DeviceMemory, DeviceName, OnDevice, before_abort, still_works,
};
pub use error::TrainError;
pub use experiment::guard;
pub use learner::{
    EsmmLearner, EsmmLearnerConfig, EsmmLoss, FunnelLoss, LossOutput, MeasureSwitch, StepCounter,
};
pub use screen::{ProgressStyle, status_line};
pub use trainer::strategy;

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/src/library.md")]
struct LibraryPage;
