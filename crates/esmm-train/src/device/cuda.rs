//! The devices of CUDA.

use std::path::PathBuf;

use burn::tensor::Tensor;
use burn_cubecl::cubecl::Runtime;
use burn_cubecl::cubecl::cuda::{CudaDevice, CudaRuntime};
use cudarc::driver::CudaContext;
use esmm_core::backend::DeviceFacts;

use super::{DeviceInfo, DeviceMemory, DeviceName, failure, kernel_cache, toolkit};
use crate::error::TrainError;

/// How many devices there are.
///
/// # Errors
/// No driver.
pub(super) fn count() -> Result<usize, TrainError> {
    kernel_cache::keep();
    failure::caught("CUDA cannot be used", || Ok(CudaRuntime::enumerate_all_devices(&()).len()))
}

/// What is known of a device. Starts it, and lets it compute something: a driver alone is not enough.
///
/// # Errors
/// A device that cannot be started, or cannot compile or run a kernel, with what is missing.
pub(super) fn info(index: usize) -> Result<DeviceInfo, TrainError> {
    let name = DeviceName::Cuda(index);
    kernel_cache::keep();
    let what = format!("device `{name}` cannot be used");
    failure::caught(&what, || run_a_kernel(index)).map_err(|error| {
        let reason = error.to_string();
        let cuda_path = std::env::var_os("CUDA_PATH").map(PathBuf::from);
        let missing = toolkit::missing(&reason, cuda_path.as_deref());
        TrainError::Device(missing.map_or(reason, |missing| format!("{what}: {missing}")))
    })?;
    failure::caught(&what, || {
        let device = CudaDevice::new(index);
        let client = CudaRuntime::client(&device);
        let properties = client.properties();
        let processors = properties.hardware.num_streaming_multiprocessors.unwrap_or_default();
        let description = format!("NVIDIA GPU with {processors} multiprocessors (CUDA)");
        let largest_tensor = Some(properties.memory.max_page_size);
        let precisions = <burn_cuda::Cuda>::precisions(&device);
        let memory = memory(index);
        Ok(DeviceInfo { name, description, largest_tensor, precisions, pads_rows: true, memory })
    })
}

/// What the driver says of its memory now; `None` where it does not say.
fn memory(index: usize) -> Option<DeviceMemory> {
    let (free, total) = CudaContext::new(index).and_then(|context| context.mem_get_info()).ok()?;
    Some(DeviceMemory { total: total as u64, free: free as u64 })
}

/// Has the device add two numbers.
fn run_a_kernel(index: usize) -> Result<(), TrainError> {
    let numbers = Tensor::<burn_cuda::Cuda, 1>::from_floats([1.0, 2.0], &CudaDevice::new(index));
    let found: Vec<f32> = (numbers + 0.5).into_data().iter().collect();
    if found == [1.5, 2.5] {
        return Ok(());
    }
    Err(TrainError::Device(format!("a kernel that adds 0.5 to 1 and 2 computed {found:?}")))
}
