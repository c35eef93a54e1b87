//! The precision in which the matmuls of a training are computed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::EsmmError;

/// What the factors of a hidden layer's matmuls are rounded to, in a training.
///
/// Sums are f32 in all of them, and so is all that is kept: weights, what the optimizers remember, statistics of batch
/// norms, activations between layers, logits and the loss. The matmul to the logits is always f32: its sums
/// decide about rates near 2e-4 and cost next to nothing. Scoring is always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 24 bits, range of f32: as every backend computes, and the same values on all of them but for rounding.
    #[default]
    F32,
    /// 11 bits, range of f32: f32 in memory, rounded by the tensor cores of NVIDIA's GPUs since Ampere.
    Tf32,
    /// 8 bits, range of f32.
    Bf16,
    /// 11 bits, from 6e-8 to 65504. Gradients, which can be smaller, are multiplied by a power of two before they are
    /// rounded: the one that takes the largest of a layer near the upper end. It is divided out after the matmul.
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

    /// The names of several, as people read them: `f32, f16`.
    pub fn list(precisions: &[Self]) -> String {
        precisions.iter().map(|precision| precision.name()).collect::<Vec<_>>().join(", ")
    }

    /// `precision = bf16: this device has f32, f16`
    pub(crate) fn missing(self, has: &[Self]) -> EsmmError {
        let found = self.name().to_owned();
        let allowed = format!("this device has {}", Self::list(has));
        EsmmError::Config { key: "precision", found, allowed }
    }
}

impl FromStr for Precision {
    type Err = EsmmError;

    /// # Errors
    /// Another name than those of [`ALL`](Self::ALL).
    fn from_str(name: &str) -> Result<Self, EsmmError> {
        let known = Self::ALL.into_iter().find(|precision| precision.name() == name);
        let allowed = || format!("allowed are {}", Self::list(&Self::ALL));
        known.ok_or_else(|| EsmmError::Config {
            key: "precision",
            found: name.to_owned(),
            allowed: allowed(),
        })
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_everywhere() {
        for precision in Precision::ALL {
            assert_eq!(precision.name().parse::<Precision>().unwrap(), precision);
            assert_eq!(serde_json::to_value(precision).unwrap(), precision.name());
        }
        let error = "half".parse::<Precision>().unwrap_err().to_string();
        assert_eq!(error, "precision = half: allowed are f32, tf32, bf16, f16");
    }
}
