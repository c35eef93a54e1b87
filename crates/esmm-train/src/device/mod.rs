//! Devices by name: the only place of this crate that knows which backends are compiled in.

#[cfg(feature = "wgpu")]
mod adapters;
mod available;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(any(feature = "wgpu", feature = "cuda", test))]
mod failure;
mod fit;
#[cfg(any(feature = "cuda", test))]
mod kernel_cache;
#[cfg(feature = "wgpu")]
mod muted;
mod opened;
#[cfg(any(feature = "cuda", test))]
mod toolkit;

use std::fmt;
use std::str::FromStr;

pub(crate) use available::padded_row_bytes;
pub use available::{BackendDevices, DeviceInfo, DeviceMemory};
pub use opened::Device;

use esmm_core::TrainBackend;

use crate::error::TrainError;

/// A device as a person names it: `ndarray` (or `cpu`), `flex`, `wgpu`, `cuda` or `cuda:1`.
///
/// # Examples
/// ```
/// use esmm_train::DeviceName;
///
/// assert_eq!("cuda:1".parse::<DeviceName>()?, DeviceName::Cuda(1));
/// assert!("tpu".parse::<DeviceName>().is_err());
/// assert!(DeviceName::compiled().contains(&"ndarray"));
/// # Ok::<(), esmm_train::TrainError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceName {
    /// CPU, burn-ndarray.
    NdArray,
    /// CPU, burn-flex.
    Flex,
    /// A GPU through WebGPU: Vulkan, Metal or DirectX. The number counts discrete GPUs, then integrated, virtual and
    /// software ones; without it the first.
    Wgpu(Option<usize>),
    /// An NVIDIA GPU.
    Cuda(usize),
}

/// Work that runs on whichever backend a [`DeviceName`] selects.
pub trait OnDevice: Send {
    /// What comes out.
    type Output: Send;

    /// The work.
    ///
    /// # Errors
    /// Those of the work.
    fn run<B>(self, device: B::Device) -> Result<Self::Output, TrainError>
    where
        B: TrainBackend;
}

impl DeviceName {
    /// The devices of the backends that are compiled in.
    pub fn compiled() -> Vec<&'static str> {
        let all = [
            ("ndarray", cfg!(feature = "ndarray")),
            ("flex", cfg!(feature = "flex")),
            ("wgpu", cfg!(feature = "wgpu")),
            ("cuda", cfg!(feature = "cuda")),
        ];
        all.into_iter().filter_map(|(name, compiled)| compiled.then_some(name)).collect()
    }

    /// Runs work on this device.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`Device::run`].
    pub fn run<W: OnDevice>(self, work: W) -> Result<W::Output, TrainError> {
        self.open()?.run(work)
    }

    fn backend(self) -> &'static str {
        match self {
            Self::NdArray => "ndarray",
            Self::Flex => "flex",
            Self::Wgpu(_) => "wgpu",
            Self::Cuda(_) => "cuda",
        }
    }
}

/// Says whether the device under the work of [`DeviceName::run`] still works. Where it is a thread of CubeCL that panics, the
/// work goes on, with whatever lies in memory for results: ask before they are written.
///
/// # Errors
/// The first panic since the work began.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub fn still_works() -> Result<(), TrainError> {
    failure::first("the device failed").map_or(Ok(()), Err)
}

/// Says whether the device under the work of [`DeviceName::run`] still works. No device that is compiled in fails without a
/// word.
///
/// # Errors
/// None.
#[cfg(not(any(feature = "wgpu", feature = "cuda")))]
pub fn still_works() -> Result<(), TrainError> {
    Ok(())
}

/// Has `tell` told the error of a device's work where the process is aborted before [`Device::run`] can return it: Rust's
/// runtime does that where a destructor panics while another panic is on its way, as buffers of a lost device do. `tell` may
/// end the process itself, so that it ends as it does otherwise.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub fn before_abort(tell: impl Fn(TrainError) + Send + 'static) {
    failure::before_abort(Box::new(tell));
}

/// Has `tell` told the error of a device's work where the process is aborted before [`Device::run`] can return it. No device
/// that is compiled in fails so.
#[cfg(not(any(feature = "wgpu", feature = "cuda")))]
pub fn before_abort(tell: impl Fn(TrainError) + Send + 'static) {
    drop(tell);
}

fn how(backend: &str) -> String {
    format!(
        "build with `--features {backend}` (for example `cargo run --release -p esmm-train --features {backend}`)"
    )
}

impl FromStr for DeviceName {
    type Err = TrainError;

    fn from_str(text: &str) -> Result<Self, TrainError> {
        let (name, index) = match text.split_once(':') {
            Some((name, index)) => (name, Some(index.parse::<usize>().ok())),
            None => (text, None),
        };
        match (name, index) {
            ("ndarray" | "cpu", None) => Ok(Self::NdArray),
            ("flex", None) => Ok(Self::Flex),
            ("wgpu", None) => Ok(Self::Wgpu(None)),
            ("wgpu", Some(Some(index))) => Ok(Self::Wgpu(Some(index))),
            ("cuda", None) => Ok(Self::Cuda(0)),
            ("cuda", Some(Some(index))) => Ok(Self::Cuda(index)),
            _ => {
                let allowed = "ndarray (or cpu), flex, wgpu, wgpu:N, cuda, cuda:N";
                Err(TrainError::config(format!("unknown device `{text}`, allowed are {allowed}")))
            }
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wgpu(Some(index)) | Self::Cuda(index) => write!(f, "{}:{index}", self.backend()),
            _ => f.write_str(self.backend()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for name in ["ndarray", "flex", "wgpu", "wgpu:1", "cuda:0", "cuda:2"] {
            assert_eq!(name.parse::<DeviceName>().unwrap().to_string(), name);
        }
        assert_eq!("cpu".parse::<DeviceName>().unwrap(), DeviceName::NdArray);
        for name in ["gpu", "cuda:x", "ndarray:1", ""] {
            let error = name.parse::<DeviceName>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("unknown device `{name}`, allowed are ndarray")), "{error}");
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_missing_backend_names_its_feature() {
        struct Nothing;
        impl OnDevice for Nothing {
            type Output = ();
            fn run<B>(self, _: B::Device) -> Result<(), TrainError>
            where
                B: TrainBackend,
            {
                Ok(())
            }
        }
        let error = DeviceName::Cuda(0).run(Nothing).unwrap_err();
        assert!(error.is_usage());
        assert!(
            error.to_string().starts_with("device `cuda:0` is not compiled in: build with `--features cuda`")
        );
    }
}
