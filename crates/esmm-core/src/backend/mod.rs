//! What this model asks of a Burn backend beyond Burn's own operations.
//!
//! * [`EsmmBackend`] names the [`Kernels`] of a backend: a handful of fused operations. The model is generic over it.
//! * [`Reference`] is their definition, in Burn's operations; it works on every backend.
//! * `cpu/` has the kernels of NdArray and Flex, `cube/` those of wgpu and CUDA. [`Dispatched`] takes the
//!   reference for tensors that are not f32, and runs a kernel and its definition side by side while they are compared.
//! * `differentiated.rs` wraps the kernels of a backend for `Autodiff<B>`: its backward passes call `*_backward`.
//!
//! Operands are structs over the handle of a tensor ([`Layer`], [`FirstLayer`], [`Bags`], ...), so that autodiff, slices
//! and CubeCL's tensors use the same ones.
//!
//! # A backend of your own
//! ```
//! use burn::tensor::backend::Backend;
//! use esmm_core::backend::{DeviceFacts, EsmmBackend, HostAccess, Reference};
//!
//! // On a backend `MyBackend` that implements Burn's `Backend`:
//! // impl DeviceFacts for MyBackend {}
//! // impl HostAccess for MyBackend {}
//! // impl EsmmBackend for MyBackend { type Kernels = Reference; }
//! # fn is_generic<B: Backend>() where Reference: esmm_core::backend::Kernels<B> {}
//! # is_generic::<burn_ndarray::NdArray>();
//! ```
//! Kernels of your own are a type that implements [`Kernels`], and may hand what they do not have to `Reference`.
#![warn(
    clippy::wildcard_enum_match_arm,
    reason = "a new variant of a rule or an activation must not be forgotten"
)]

mod bags;
mod blend;
mod comparison;
#[cfg(feature = "cpu-kernels")]
#[allow(unsafe_code, reason = "gemm's raw pointers, and memory that is not cleared before it is written")]
mod cpu;
#[cfg(feature = "cube-kernels")]
#[allow(unsafe_code, reason = "kernels are launched without CubeCL's checks of every index")]
mod cube;
mod differentiated;
mod dispatched;
mod host;
mod indices;
mod kernels;
mod layer;
mod operands;
#[cfg(any(feature = "cpu-kernels", feature = "cube-kernels"))]
mod packed_lines;
pub mod random;
mod reference;
mod rows;
mod towers;
mod weights;

use burn::tensor::backend::{AutodiffBackend, Backend};

pub use bags::{Bags, GroupBags, InputBags, Pooled, SharedFeatures};
pub use blend::{Blend, Running};
pub use comparison::compare_kernels;
#[cfg(feature = "cpu-kernels")]
pub use cpu::{Cpu, CpuSaved, Region, record_regions};
#[cfg(feature = "cube-kernels")]
pub use cube::{Cube, pad_rows};
pub use differentiated::Differentiated;
pub use dispatched::{Dispatched, DispatchedSaved};
pub use host::{DeviceFacts, DeviceLine, HostAccess, HostLine};
pub use indices::Indices;
pub use kernels::Kernels;
pub use layer::{
    FirstLayer, FirstLayerGrads, GroupedInput, GroupedLayer, GroupedLayerGrads, InferenceLayer, Layer,
    LayerOutput, LayerSaved, LayerSpec, LayerWeights, Moments, Norm,
};
pub use operands::Operands;
#[cfg(any(feature = "cpu-kernels", feature = "cube-kernels"))]
pub use packed_lines::PackedLines;
pub use reference::Reference;
pub use rows::{RowUpdate, TableRule, WithMoments};
pub use towers::{TowersGrads, TowersInput, TowersOperands, TowersOutput};
pub use weights::{WeightRule, WeightUpdate, WithGrad};

pub(crate) use indices::HostIndices;

/// A backend with kernels for this model. Code that scores asks for `B: EsmmBackend`, code that trains for
/// [`B: TrainBackend`](TrainBackend).
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no kernels for this model",
    label = "this is no `EsmmBackend`",
    note = "a backend gets its kernels by a cargo feature of `esmm-core`, which `esmm-train` hands on: `ndarray`, `flex`, `wgpu` or `cuda`",
    note = "any other backend can use the definitions: `impl EsmmBackend for MyBackend {{ type Kernels = esmm_core::backend::Reference; }}`"
)]
pub trait EsmmBackend: Backend + DeviceFacts + HostAccess {
    /// The kernels that run on its tensors.
    type Kernels: Kernels<Self>;
}

/// A backend that trains the model: `Autodiff<B>` of an [`EsmmBackend`] B. Implemented for all of them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot train this model",
    label = "this is no `TrainBackend`",
    note = "training needs `burn::backend::Autodiff<B>` around a backend with kernels",
    note = "a backend gets its kernels by a cargo feature of `esmm-core`, which `esmm-train` hands on: `ndarray`, `flex`, `wgpu` or `cuda`"
)]
pub trait TrainBackend: AutodiffBackend<InnerBackend: EsmmBackend> + EsmmBackend {}

impl<B> TrainBackend for B where B: AutodiffBackend<InnerBackend: EsmmBackend> + EsmmBackend {}
