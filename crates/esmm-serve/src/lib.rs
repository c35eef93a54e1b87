//! A service that ranks with a trained ESMM.
//!
//! [`Service`] holds a model that can be exchanged while requests are under way; [`router`] makes HTTP routes of it, gRPC
//! among them, and [`serve`] answers connections until it is told to end. The `esmm-serve` command is a thin layer on
//! these. This crate alone has a web stack, and no other depends on it.
#![forbid(unsafe_code)]

mod activity;
mod failure;
mod http;
mod limits;
mod memory;
mod metrics;
mod model;
mod oip;
mod options;
mod rank;
mod server;
mod service;
mod tls;
#[cfg(feature = "train")]
mod train;

pub use http::router;
pub use limits::Limits;
pub use model::{ItemFiles, ModelSource};
pub use options::{LogFormat, Options};
pub use server::serve;
pub use service::Service;
pub use tls::acceptor as tls_acceptor;
#[cfg(feature = "train")]
pub use train::train_if_missing;
