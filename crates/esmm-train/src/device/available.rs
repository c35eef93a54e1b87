//! What this program and this machine offer, and whether it is enough.

use esmm_core::Precision;

use super::opened::Device;
use super::{DeviceName, how};
use crate::error::TrainError;
use crate::sizes::dense_rows;

/// A device of this machine.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceInfo {
    /// What `--device` takes for it.
    pub name: DeviceName,
    /// What it is.
    pub description: String,
    /// Bytes of the largest tensor; `None` where only memory ends it.
    pub largest_tensor: Option<u64>,
    /// What `train.precision` may be here.
    pub precisions: Vec<Precision>,
    /// Whether rows of tensors begin at multiples of a power of two, as CUDA's do.
    pub pads_rows: bool,
    /// Its memory when it was opened; `None` where the driver does not tell, and of a processor.
    pub memory: Option<DeviceMemory>,
}

impl DeviceInfo {
    /// Bytes from one row of `width` values of f32 to the next.
    pub fn row_bytes(&self, width: usize) -> u64 {
        if self.pads_rows { padded_row_bytes(width) } else { dense_rows(width) }
    }
}

/// Memory of a device, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceMemory {
    /// What it has.
    pub total: u64,
    /// What nobody has taken.
    pub free: u64,
}

/// Bytes from one row of `width` values of f32 to the next where rows are padded.
pub(crate) fn padded_row_bytes(width: usize) -> u64 {
    let bytes = dense_rows(width);
    if width == 1 {
        return bytes;
    }
    bytes.next_multiple_of(bytes.next_power_of_two().clamp(SHORTEST_ROW, LONGEST_PADDING))
}

/// Bytes to which CubeCL 0.10 pads rows of CUDA's tensors: the next power of two, between these.
const SHORTEST_ROW: u64 = 16;
const LONGEST_PADDING: u64 = 512;

/// The devices of one backend, or why there are none.
#[derive(Debug)]
pub struct BackendDevices {
    /// `ndarray`, `flex`, `wgpu` or `cuda`.
    pub backend: &'static str,
    /// Its devices, or in one line why there are none and what to do.
    pub devices: Result<Vec<DeviceInfo>, String>,
}

/// A device that was found, and how Burn calls it.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) info: DeviceInfo,
    pub(super) handle: Handle,
    /// Whether a processor does the work of a GPU.
    pub(super) is_software: bool,
}

#[cfg(feature = "wgpu")]
impl From<super::adapters::Adapter> for Found {
    fn from(adapter: super::adapters::Adapter) -> Self {
        Self { info: adapter.info, handle: Handle::Wgpu(adapter.device), is_software: adapter.is_software }
    }
}

/// How Burn calls a device of a backend that is compiled in.
#[derive(Debug, Clone)]
pub(super) enum Handle {
    #[cfg(feature = "ndarray")]
    NdArray,
    #[cfg(feature = "flex")]
    Flex,
    #[cfg(feature = "wgpu")]
    Wgpu(burn_wgpu::WgpuDevice),
    #[cfg(feature = "cuda")]
    Cuda(burn_cuda::CudaDevice),
}

impl Found {
    #[cfg(any(feature = "ndarray", feature = "flex", feature = "cuda"))]
    fn new(info: DeviceInfo, handle: Handle) -> Self {
        Self { info, handle, is_software: false }
    }
}

impl DeviceName {
    /// All backends with the devices that they find.
    pub fn available() -> Vec<BackendDevices> {
        [Self::NdArray, Self::Flex, Self::Wgpu(None), Self::Cuda(0)]
            .map(|name| {
                let found = name.siblings().map_err(|error| error.to_string());
                let devices = found.map(|found| found.into_iter().map(|found| found.info).collect());
                BackendDevices { backend: name.backend(), devices }
            })
            .into()
    }

    /// Finds this device, before anything is done for it.
    ///
    /// # Errors
    /// A backend that is not compiled in, with the cargo feature that switches it on; no adapter, no driver, a number that
    /// no device has: with what to do.
    pub fn open(self) -> Result<Device, TrainError> {
        let mut found = self.siblings()?;
        let place = match self {
            Self::Wgpu(index) => index.unwrap_or(0),
            Self::Cuda(index) => index,
            Self::NdArray | Self::Flex => 0,
        };
        if place < found.len() {
            return Ok(Device::new(self, found.swap_remove(place)));
        }
        let there: Vec<String> =
            found.iter().map(|Found { info, .. }| format!("{} = {}", info.name, info.description)).collect();
        let there = there.join("; ");
        Err(TrainError::Device(format!("device `{self}` does not exist: this machine has {there}")))
    }

    /// Checks that this device exists.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn check(self) -> Result<DeviceInfo, TrainError> {
        self.open().map(|device| device.info().clone())
    }

    /// The devices of the same backend, in the order of their numbers; one at least.
    fn siblings(self) -> Result<Vec<Found>, TrainError> {
        match self {
            #[cfg(feature = "ndarray")]
            Self::NdArray => Ok(vec![Found::new(processor(self), Handle::NdArray)]),
            #[cfg(feature = "flex")]
            Self::Flex => Ok(vec![Found::new(processor(self), Handle::Flex)]),
            #[cfg(feature = "wgpu")]
            Self::Wgpu(_) => wgpu_devices(),
            #[cfg(feature = "cuda")]
            Self::Cuda(_) => cuda_devices(),
            #[allow(unreachable_patterns, reason = "with all backends compiled in nothing is left")]
            other => Err(TrainError::config(format!(
                "device `{other}` is not compiled in: {}",
                how(other.backend())
            ))),
        }
    }
}

#[cfg(any(feature = "ndarray", feature = "flex"))]
fn processor(name: DeviceName) -> DeviceInfo {
    let description = format!("this processor, {} threads", rayon::current_num_threads());
    DeviceInfo {
        name,
        description,
        largest_tensor: None,
        precisions: vec![Precision::F32],
        pads_rows: false,
        memory: None,
    }
}

#[cfg(feature = "wgpu")]
fn wgpu_devices() -> Result<Vec<Found>, TrainError> {
    let found = super::failure::caught("wgpu cannot be used", || Ok(super::adapters::adapters()))?;
    if found.is_empty() {
        return Err(TrainError::Device(
            "no wgpu adapter was found: install the driver of your GPU, or one in software \
             (`apt-get install mesa-vulkan-drivers libvulkan1`), or use another device"
                .into(),
        ));
    }
    let found = found.into_iter();
    Ok(found.map(Found::from).collect())
}

#[cfg(feature = "cuda")]
fn cuda_devices() -> Result<Vec<Found>, TrainError> {
    let count = super::cuda::count()?;
    if count == 0 {
        return Err(TrainError::Device(
            "no CUDA device was found: install the NVIDIA driver, or use another device".into(),
        ));
    }
    let found = |index| {
        let handle = Handle::Cuda(burn_cuda::CudaDevice::new(index));
        Ok(Found::new(super::cuda::info(index)?, handle))
    };
    (0..count).map(found).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an H100 was seen to take: 18 and 20 values as 32, 40 as 64; 360 begin at multiples of 512 bytes.
    #[test]
    fn padded_rows_are_counted() {
        let mut info = DeviceInfo {
            name: DeviceName::Cuda(0),
            description: String::new(),
            largest_tensor: None,
            precisions: vec![Precision::F32],
            pads_rows: true,
            memory: None,
        };
        let found = [1, 2, 4, 16, 18, 20, 40, 128, 360].map(|width| info.row_bytes(width) / 4);
        assert_eq!(found, [1, 4, 4, 16, 32, 32, 64, 128, 384]);
        info.pads_rows = false;
        assert_eq!(info.row_bytes(18), 72);
    }
}
