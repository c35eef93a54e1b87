//! What this program and this machine offer, and whether it is enough.

use esmm_core::{EsmmConfig, Precision};

use super::{DeviceName, how};
use crate::error::TrainError;

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
}

/// The devices of one backend, or why there are none.
#[derive(Debug)]
pub struct BackendDevices {
    /// `ndarray`, `flex`, `wgpu` or `cuda`.
    pub backend: &'static str,
    /// Its devices, or in one line why there are none and what to do.
    pub devices: Result<Vec<DeviceInfo>, String>,
}

impl DeviceName {
    /// All backends with the devices that they find.
    pub fn available() -> Vec<BackendDevices> {
        [Self::NdArray, Self::Flex, Self::Wgpu(None), Self::Cuda(0)]
            .map(|name| {
                let devices = name.siblings().map_err(|error| error.to_string());
                BackendDevices { backend: name.backend(), devices }
            })
            .into()
    }

    /// Checks that this device exists, before anything is done for it.
    ///
    /// # Errors
    /// A backend that is not compiled in, no adapter, no driver, a number that no device has: with what to do.
    pub fn check(self) -> Result<DeviceInfo, TrainError> {
        let mut devices = self.siblings()?;
        let place = match self {
            Self::Wgpu(index) => index.unwrap_or(0),
            Self::Cuda(index) => index,
            Self::NdArray | Self::Flex => 0,
        };
        if place < devices.len() {
            return Ok(devices.swap_remove(place));
        }
        let there: Vec<String> =
            devices.iter().map(|info| format!("{} = {}", info.name, info.description)).collect();
        let there = there.join("; ");
        Err(TrainError::Device(format!("device `{self}` does not exist: this machine has {there}")))
    }

    /// Checks that the tables of a model fit a tensor of this device.
    ///
    /// # Errors
    /// No such device, or tables that are larger than it allows, with what to do.
    pub fn check_model(self, model: &EsmmConfig) -> Result<(), TrainError> {
        let info = self.check()?;
        let rows = model.copies() as u64 * model.schema.num_rows() as u64;
        let bytes = rows * model.embedding_dim as u64 * size_of::<f32>() as u64;
        match info.largest_tensor {
            Some(largest) if bytes > largest => Err(TrainError::Device(format!(
                "the tables take {} in one tensor ({rows} rows of {}), but `{}`, {}, allows {}: use smaller tables \
                 (min_count, buckets, model.embedding_dim) or another device",
                mebibytes(bytes),
                model.embedding_dim,
                info.name,
                info.description,
                mebibytes(largest)
            ))),
            _ => Ok(()),
        }
    }

    /// Checks that a training can have its matmuls in this precision here.
    ///
    /// # Errors
    /// No such device, or numbers that it lacks, with those that it has.
    pub fn check_precision(self, precision: Precision) -> Result<(), TrainError> {
        let info = self.check()?;
        if info.precisions.contains(&precision) {
            return Ok(());
        }
        Err(TrainError::Config(format!(
            "train.precision = {precision}: `{}`, {}, has {}",
            info.name,
            info.description,
            Precision::list(&info.precisions)
        )))
    }

    /// The devices of the same backend, in the order of their numbers; one at least.
    fn siblings(self) -> Result<Vec<DeviceInfo>, TrainError> {
        match self {
            #[cfg(feature = "ndarray")]
            Self::NdArray => Ok(vec![processor(self)]),
            #[cfg(feature = "flex")]
            Self::Flex => Ok(vec![processor(self)]),
            #[cfg(feature = "wgpu")]
            Self::Wgpu(_) => wgpu_devices(),
            #[cfg(feature = "cuda")]
            Self::Cuda(_) => cuda_devices(),
            #[allow(unreachable_patterns, reason = "with all backends compiled in nothing is left")]
            other => Err(TrainError::Config(format!(
                "device `{other}` is not compiled in: {}",
                how(other.backend())
            ))),
        }
    }
}

/// `122.1 MiB`
fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(any(feature = "ndarray", feature = "flex"))]
fn processor(name: DeviceName) -> DeviceInfo {
    let description = format!("this processor, {} threads", rayon::current_num_threads());
    DeviceInfo { name, description, largest_tensor: None, precisions: vec![Precision::F32] }
}

#[cfg(feature = "wgpu")]
fn wgpu_devices() -> Result<Vec<DeviceInfo>, TrainError> {
    let found = super::failure::caught("wgpu cannot be used", || Ok(super::adapters::adapters()))?;
    if found.is_empty() {
        return Err(TrainError::Device(
            "no wgpu adapter was found: install the driver of your GPU, or one in software \
             (`apt-get install mesa-vulkan-drivers libvulkan1`), or use another device"
                .into(),
        ));
    }
    Ok(found.into_iter().map(|adapter| adapter.info).collect())
}

#[cfg(feature = "cuda")]
fn cuda_devices() -> Result<Vec<DeviceInfo>, TrainError> {
    let count = super::cuda::count()?;
    if count == 0 {
        return Err(TrainError::Device(
            "no CUDA device was found: install the NVIDIA driver, or use another device".into(),
        ));
    }
    (0..count).map(super::cuda::info).collect()
}
