//! Trainings through the library: one binary, so that each backend's training is compiled and linked once.

mod copies;
mod golden;
mod gpu;
mod launches;
mod observers;
mod recovery;
mod regions;

#[path = "../../benches/workload/mod.rs"]
#[allow(
    clippy::expect_used,
    dead_code,
    unused_imports,
    reason = "what the benches share; these tests use a part"
)]
mod workload;
