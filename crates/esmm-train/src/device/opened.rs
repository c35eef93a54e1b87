//! A device that was found: asked what it can do, and worked on.

use std::fmt;

use burn::tensor::Tensor;
use esmm_core::{EsmmConfig, Precision, TrainBackend};
use esmm_run::config::TrainConfig;

use super::available::{DeviceInfo, Found, Handle};
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use super::failure;
use super::{DeviceName, OnDevice, how};
use crate::error::TrainError;

/// A device that was found by its name. [`DeviceName::open`] looks for it once.
#[derive(Debug, Clone)]
pub struct Device {
    name: DeviceName,
    found: Found,
}

impl Device {
    pub(super) fn new(name: DeviceName, found: Found) -> Self {
        Self { name, found }
    }

    /// The device for those who do not choose: CUDA, a GPU of wgpu, ndarray, flex, the first that is compiled in and
    /// found here. A GPU that is imitated in software comes last.
    ///
    /// # Errors
    /// A program without any backend, or whose only backend finds no device.
    pub fn preferred() -> Result<Self, TrainError> {
        if let Ok(cuda) = DeviceName::Cuda(0).open() {
            return Ok(cuda);
        }
        let wgpu = DeviceName::Wgpu(None).open();
        if let Ok(wgpu) = wgpu
            && !wgpu.found.is_software
        {
            return Ok(wgpu);
        }
        let compiled = DeviceName::compiled();
        let order = [DeviceName::NdArray, DeviceName::Flex, DeviceName::Wgpu(None), DeviceName::Cuda(0)];
        let first = order.into_iter().find(|name| compiled.contains(&name.backend()));
        let Some(first) = first else {
            let way_out = how("ndarray");
            return Err(TrainError::config(format!("this program was built without a backend: {way_out}")));
        };
        first.open()
    }

    /// The name by which it was asked for.
    pub fn name(&self) -> DeviceName {
        self.name
    }

    /// What it is.
    pub fn info(&self) -> &DeviceInfo {
        &self.found.info
    }

    /// Whether it computes with this machine's cores, on which several trainings can share them.
    pub fn is_cpu(&self) -> bool {
        match self.name {
            DeviceName::NdArray | DeviceName::Flex => true,
            DeviceName::Wgpu(_) | DeviceName::Cuda(_) => false,
        }
    }

    /// Checks that the tables of a model fit a tensor of this device.
    ///
    /// # Errors
    /// Tables that are larger than it allows, with what to do.
    pub fn check_model(&self, model: &EsmmConfig) -> Result<(), TrainError> {
        let info = self.info();
        let rows = model.copies() as u64 * model.schema.num_rows() as u64;
        let row = info.row_bytes(model.embedding_dim);
        let padded = row / size_of::<f32>() as u64;
        let padding = if padded == model.embedding_dim as u64 {
            String::new()
        } else {
            format!(", which this device pads to {padded}")
        };
        let bytes = rows * row;
        match info.largest_tensor {
            Some(largest) if bytes > largest => Err(TrainError::Device(format!(
                "the tables take {} in one tensor ({rows} rows of {}{padding}), but `{}`, {}, allows {}: use smaller \
                 tables (min_count, buckets, model.embedding_dim) or another device",
                mebibytes(bytes),
                model.embedding_dim,
                info.name,
                info.description,
                mebibytes(largest)
            ))),
            _ => Ok(()),
        }
    }

    /// Checks that steps of a training fit this device; `rows` is the number of training rows.
    ///
    /// # Errors
    /// Tables, or tensors of a batch, that are larger than it allows; weights, optimizers and activations that do not fit
    /// into the memory that is free there, with the batch that would.
    pub fn check_training(
        &self,
        model: &EsmmConfig,
        config: &TrainConfig,
        rows: u64,
    ) -> Result<(), TrainError> {
        self.check_model(model)?;
        self.info().check_training(model, config, rows)
    }

    /// What a training takes of its memory, in words, and what there is to do where that is refused; `rows` is the number
    /// of training rows. For [`TrainError::with_needs`].
    pub fn training_needs(&self, model: &EsmmConfig, config: &TrainConfig, rows: u64) -> String {
        self.info().training_needs(model, config, rows)
    }

    /// The same of scoring with a model.
    pub fn scoring_needs(&self, model: &EsmmConfig) -> String {
        self.info().scoring_needs(model)
    }

    /// Checks that a training can have its matmuls in this precision here.
    ///
    /// # Errors
    /// A precision that it lacks, with those that it has.
    pub fn check_precision(&self, precision: Precision) -> Result<(), TrainError> {
        let info = self.info();
        if info.precisions.contains(&precision) {
            return Ok(());
        }
        Err(TrainError::config(format!(
            "train.precision = {precision}: `{}`, {}, has {}",
            info.name,
            info.description,
            Precision::list(&info.precisions)
        )))
    }

    /// Has it add numbers, and reads them back: that a device is listed does not say that it computes.
    ///
    /// # Errors
    /// A device that fails, or computes something else.
    pub fn check_computes(&self) -> Result<(), TrainError> {
        self.run(Addition)
    }

    /// Runs work on this device.
    ///
    /// # Errors
    /// A device that fails meanwhile, in one line; and those of the work.
    pub fn run<W: OnDevice>(&self, work: W) -> Result<W::Output, TrainError> {
        match &self.found.handle {
            #[cfg(feature = "ndarray")]
            Handle::NdArray => {
                on_worker(|| work.run::<burn::backend::Autodiff<burn_ndarray::NdArray>>(Default::default()))
            }
            #[cfg(feature = "flex")]
            Handle::Flex => {
                on_worker(|| work.run::<burn::backend::Autodiff<burn_flex::Flex>>(Default::default()))
            }
            #[cfg(feature = "wgpu")]
            Handle::Wgpu(device) => failure::caught(&format!("device `{}` failed", self.name), || {
                super::adapters::start(device);
                work.run::<burn::backend::Autodiff<burn_wgpu::Wgpu>>(device.clone())
            }),
            #[cfg(feature = "cuda")]
            Handle::Cuda(device) => failure::caught(&format!("device `{}` failed", self.name), || {
                work.run::<burn::backend::Autodiff<burn_cuda::Cuda>>(device.clone())
            }),
        }
    }
}

/// Adds two numbers.
struct Addition;

impl OnDevice for Addition {
    type Output = ();

    fn run<B>(self, device: B::Device) -> Result<(), TrainError>
    where
        B: TrainBackend,
    {
        let numbers = Tensor::<B::InnerBackend, 1>::from_floats([1.0, 2.0], &device);
        let found: Vec<f32> = (numbers + 0.5).into_data().iter::<f32>().collect();
        if found == [1.5, 2.5] {
            return Ok(());
        }
        Err(TrainError::Device(format!("a kernel that adds 0.5 to 1 and 2 computed {found:?}")))
    }
}

impl fmt::Display for Device {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(formatter)
    }
}

/// Runs the work on a thread of the pool that the kernels of the CPU backends use: it starts each of them itself,
/// instead of waking another thread and waiting for it.
#[cfg(any(feature = "ndarray", feature = "flex"))]
fn on_worker<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}

/// `122.1 MiB`
fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
