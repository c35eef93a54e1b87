//! The `esmm` command, run as a person runs it: one binary, so that the library is linked once.

mod common;

mod aliccp;
mod bad_input;
mod calibrate;
mod claims;
mod commands;
mod counting;
mod devices;
mod drift;
mod endings;
#[cfg(all(target_os = "linux", feature = "wgpu"))]
mod failing_device;
#[cfg(all(target_os = "linux", feature = "wgpu"))]
mod failing_vulkan;
mod fuzz;
mod init;
mod inspect;
mod names;
mod odd_names;
mod quality;
mod report;
mod resume;
mod seeds;
mod shell;
mod streaming;
mod tensorboard;
mod tune;
mod unknown;
