//! Numbers in which the products of a training are computed.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::EsmmError;

/// What the factors of a hidden layer's products are rounded to, in a training.
///
/// Sums are f32 in all of them, and so is all that is kept: weights, what the optimizers remember, statistics of batch
/// norms, activations between layers, logits and the loss. The product that gives the logits is always f32: its sums
/// decide about rates near 2e-4 and cost next to nothing. Scoring is always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 24 bits, range of f32: as every backend computes, and the same numbers on all of them but for rounding.
    #[default]
    F32,
    /// 11 bits, range of f32: f32 in memory, rounded by the tensor cores of NVIDIA's GPUs since Ampere.
    Tf32,
    /// 8 bits, range of f32.
    Bf16,
    /// 11 bits, from 6e-8 to 65504. Gradients, which can be smaller, are multiplied by a power of two before they are
    /// rounded: the one that takes the largest of a layer near the upper end. It is divided out behind the product.
    F16,
}

impl Precision {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::F32, Self::Tf32, Self::Bf16, Self::F16];

    /// As configurations and command lines call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// `precision = bf16: this device has f32, f16`
    pub(crate) fn missing(self, has: &[Self]) -> EsmmError {
        let names: Vec<_> = has.iter().map(|precision| precision.name()).collect();
        EsmmError::Config {
            key: "precision",
            found: self.name().to_owned(),
            allowed: format!("this device has {}", names.join(", ")),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
