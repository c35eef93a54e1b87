//! The devices of CUDA.

use burn_cubecl::cubecl::Runtime;
use burn_cubecl::cubecl::cuda::{CudaDevice, CudaRuntime};
use esmm_core::EsmmBackend;

use super::{DeviceInfo, DeviceName, failure};
use crate::error::TrainError;

/// How many devices there are.
///
/// # Errors
/// No driver.
pub(super) fn count() -> Result<usize, TrainError> {
    failure::caught("CUDA cannot be used", || Ok(CudaRuntime::enumerate_all_devices(&()).len()))
}

/// What is known of a device. Starts it.
///
/// # Errors
/// A device that cannot be started.
pub(super) fn info(index: usize) -> Result<DeviceInfo, TrainError> {
    let name = DeviceName::Cuda(index);
    failure::caught(&format!("device `{name}` cannot be used"), || {
        let device = CudaDevice::new(index);
        let client = CudaRuntime::client(&device);
        let properties = client.properties();
        let processors = properties.hardware.num_streaming_multiprocessors.unwrap_or_default();
        let description = format!("NVIDIA GPU with {processors} multiprocessors (CUDA)");
        let largest_tensor = Some(properties.memory.max_page_size);
        let precisions = <burn_cuda::Cuda>::precisions(&device);
        Ok(DeviceInfo { name, description, largest_tensor, precisions })
    })
}
