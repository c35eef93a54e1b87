//! Kernels on tensors whose rows lie apart, as CUDA pads them, on a device that does not pad: software Vulkan.
#![cfg(feature = "wgpu")]

use burn_wgpu::Wgpu;
use esmm_core::backend::pad_rows;

use super::{grouped, infer, layer, pooled, towers};

/// Off again, however a test ends. (The switch is one for the process: other tests may see padded rows meanwhile, and find
/// the same values.)
struct Padded;

impl Padded {
    fn new() -> Self {
        pad_rows(true);
        Self
    }
}

impl Drop for Padded {
    fn drop(&mut self) {
        pad_rows(false);
    }
}

#[test]
fn layers() {
    let _padded = Padded::new();
    layer::layers::<Wgpu>();
}

#[test]
fn all_layers() {
    let _padded = Padded::new();
    towers::on_values::<Wgpu>();
    towers::below_the_logits::<Wgpu>();
}

#[test]
fn groups() {
    let _padded = Padded::new();
    grouped::pooling::<Wgpu>();
    grouped::layers::<Wgpu>();
}

#[test]
fn inference() {
    let _padded = Padded::new();
    infer::inference::<Wgpu>();
}

#[test]
fn tables() {
    let _padded = Padded::new();
    pooled::pooled_rows::<Wgpu>();
}
