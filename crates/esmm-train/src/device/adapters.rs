//! The adapters of wgpu, in the order of their numbers.

use burn_cubecl::cubecl::Runtime;
use burn_cubecl::cubecl::future::block_on;
use burn_wgpu::graphics::{AutoGraphicsApi, GraphicsApi};
use burn_wgpu::{WgpuDevice, WgpuRuntime};
use esmm_core::Precision;
use wgpu::{AdapterInfo, DeviceType, Features, Instance, InstanceDescriptor};

use super::muted::Muted;
use super::{DeviceInfo, DeviceName};

/// Kinds of adapters, those first that compute fastest; `wgpu:N` counts through them in this order.
const KINDS: [DeviceType; 4] =
    [DeviceType::DiscreteGpu, DeviceType::IntegratedGpu, DeviceType::VirtualGpu, DeviceType::Cpu];

/// An adapter and how Burn calls it.
pub(super) struct Adapter {
    pub(super) device: WgpuDevice,
    pub(super) info: DeviceInfo,
    /// Whether a processor does the work of a GPU.
    pub(super) is_software: bool,
}

/// All adapters of the graphics interface that Burn uses on this system. Creates no device on them.
pub(super) fn adapters() -> Vec<Adapter> {
    let descriptor = InstanceDescriptor {
        backends: AutoGraphicsApi::backend().into(),
        ..InstanceDescriptor::new_without_display_handle()
    };
    let muted = Muted::begin();
    let instance = Instance::new(descriptor);
    let found = block_on(instance.enumerate_adapters(AutoGraphicsApi::backend().into()));
    let found: Vec<_> = found
        .iter()
        .map(|adapter| (adapter.get_info(), adapter.limits(), precisions(adapter.features())))
        .collect();
    drop(muted);
    let mut adapters = Vec::new();
    for kind in KINDS {
        let of_kind = found.iter().filter(|(info, ..)| info.device_type == kind).enumerate();
        for (place, (info, limits, precisions)) in of_kind {
            let Some(device) = burn_device(kind, place) else { continue };
            let largest_tensor = Some(limits.max_storage_buffer_binding_size.min(limits.max_buffer_size));
            let name = DeviceName::Wgpu(Some(adapters.len()));
            let description = describe(info);
            let precisions = precisions.clone();
            let info =
                DeviceInfo { name, description, largest_tensor, precisions, pads_rows: false, memory: None };
            adapters.push(Adapter { device, info, is_software: kind == DeviceType::Cpu });
        }
    }
    adapters
}

/// Starts a device, as the first tensor on it would, but without what libraries of the system say on standard error.
pub(super) fn start(device: &WgpuDevice) {
    let _muted = Muted::begin();
    drop(WgpuRuntime::client(device));
}

/// What [`DeviceFacts::precisions`](esmm_core::backend::DeviceFacts::precisions) will say of a device on this adapter.
fn precisions(features: Features) -> Vec<Precision> {
    let f16 = features.contains(Features::SHADER_F16).then_some(Precision::F16);
    [Precision::F32].into_iter().chain(f16).collect()
}

/// Burn counts each kind for itself, and knows one software adapter.
fn burn_device(kind: DeviceType, place: usize) -> Option<WgpuDevice> {
    match (kind, place) {
        (DeviceType::DiscreteGpu, place) => Some(WgpuDevice::DiscreteGpu(place)),
        (DeviceType::IntegratedGpu, place) => Some(WgpuDevice::IntegratedGpu(place)),
        (DeviceType::VirtualGpu, place) => Some(WgpuDevice::VirtualGpu(place)),
        (DeviceType::Cpu, 0) => Some(WgpuDevice::Cpu),
        _ => None,
    }
}

fn describe(info: &AdapterInfo) -> String {
    let kind = match info.device_type {
        DeviceType::DiscreteGpu => "GPU",
        DeviceType::IntegratedGpu => "integrated GPU",
        DeviceType::VirtualGpu => "virtual GPU",
        _ => "software on the processor, slow",
    };
    format!("{} ({kind}, {})", info.name, info.backend)
}
