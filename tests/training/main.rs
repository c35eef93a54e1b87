//! Trainings through the library: one binary, so that each backend's training is compiled and linked once.

mod copies;
mod golden;
mod gpu;
mod launches;
mod observers;
mod recovery;
mod regions;
