//! All integration tests of the crate in one binary, for linking takes longer than running them.
//!
//! * `golden.rs`, `funnel.rs`: against PyTorch and 50-digit arithmetic.
//! * `kernels/`: every operation on every backend against its definition, the definition against loops in f64.
//! * `gradients/`: what autodiff returns against finite differences.
//! * `groups.rs`, `bins.rs`, `variants.rs`: whole models, at the edges of what a configuration allows.
//! * `interop.rs`, `files.rs`: state dicts, and files that are none.
//! * `host_values.rs`: values of tensors in host memory; `uploads.rs`: batches on their way to a device.
#![cfg(feature = "ndarray")]
#![allow(clippy::unwrap_used)]

mod bins;
mod common;
#[cfg(feature = "pytorch")]
mod files;
mod funnel;
#[cfg(feature = "pytorch")]
mod golden;
mod gradients;
mod groups;
mod host_values;
#[cfg(feature = "pytorch")]
mod interop;
mod kernels;
mod uploads;
mod variants;
