//! `[[features]]`: columns, and how their values become ids or real values.

use esmm_core::{Pooling, Side};
use esmm_data::{DenseTransform, FeatureKind, FeatureSpec, Outside, SparseEncoding};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::refuse::refuse;
use crate::error::RunError;

/// A feature: a column and how its values become ids or real values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeatureSection {
    /// Its name; no other feature has it.
    pub name: String,
    /// The column that it reads. Unless said: the one of its name.
    pub column: Option<String>,
    /// Whom it describes.
    #[serde(default = "context")]
    pub side: Side,
    /// How its values become ids or real values.
    #[serde(default)]
    pub encode: Encode,
    /// `vocabulary`: values that the training rows hold less often are unknown. Unless said: 1.
    pub min_count: Option<u64>,
    /// `hash`, `quantile`: the number of buckets, which they need; of `quantile` at least 2.
    #[schemars(range(min = 1))]
    pub buckets: Option<usize>,
    /// `ple`: the number of bins. Unless said: 16.
    #[schemars(range(min = 1, max = 1024))]
    pub bins: Option<usize>,
    /// `raw`: the number of ids, which it needs. Ids are whole numbers below it.
    #[schemars(range(min = 1))]
    pub num_embeddings: Option<usize>,
    /// Makes a sparse feature a list of any number of ids a row, and says how their embeddings become one.
    pub pooling: Option<Pooling>,
    /// With `pooling`: whether ids have weights.
    #[serde(default)]
    pub weighted: bool,
    /// With `weighted`, Parquet: the list column with the weights, as long as the list of ids in every row.
    pub weights_column: Option<String>,
    /// Sparse: the feature whose table this one uses. The table is fitted on the values of both.
    pub shares: Option<String>,
    /// Dense: what stands for a missing value, before the transform. Unless said: a missing value is an error.
    pub missing: Option<f64>,
    /// What happens to a value that the encoding does not take, such as a negative one under `log1p` or an id beyond
    /// `num_embeddings`, in rows that nothing is learned from. It is counted and said. In training rows it is an error.
    #[serde(default)]
    pub outside: OutsidePolicy,
}

fn context() -> Side {
    Side::Context
}

/// How values become ids (sparse) or real values (dense).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encode {
    /// Sparse: the values of the training rows, each with a row of the table.
    #[default]
    Vocabulary,
    /// Sparse: values hashed into `buckets`; unrelated ones may meet.
    Hash,
    /// Sparse: whole numbers from 0, used as they are.
    Raw,
    /// Sparse: real values, cut where the training rows fall into `buckets` of about equal size.
    Quantile,
    /// Dense: the value as it is.
    Dense,
    /// Dense: minus the mean of the training rows, over their standard deviation.
    Standardize,
    /// Dense: `ln(1 + x)` of a value that is not negative.
    Log1p,
    /// Dense, piecewise linear: the filled share of each of `bins` bins of about equal count in the training rows.
    Ple,
}

impl Encode {
    /// Its name in a run file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Vocabulary => "vocabulary",
            Self::Hash => "hash",
            Self::Raw => "raw",
            Self::Quantile => "quantile",
            Self::Dense => "dense",
            Self::Standardize => "standardize",
            Self::Log1p => "log1p",
            Self::Ple => "ple",
        }
    }

    /// Whether values become numbers.
    pub(crate) fn is_dense(self) -> bool {
        match self {
            Self::Vocabulary | Self::Hash | Self::Raw | Self::Quantile => false,
            Self::Dense | Self::Standardize | Self::Log1p | Self::Ple => true,
        }
    }
}

/// What happens to a value that an encoding does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutsidePolicy {
    /// The nearest value that is taken stands in; an id is missing. Where no value is the nearest it is an error.
    #[default]
    Clip,
    /// It is missing. So is a text that is no number, where a number is expected.
    Missing,
    /// It is an error.
    Error,
}

/// Bins of a piecewise-linear encoding unless said.
const PLE_BINS: usize = 16;

/// The largest number that a column of the model's input holds.
const MOST: f32 = f32::MAX;

/// A feature.
pub(super) fn resolve(section: &FeatureSection) -> Result<FeatureSpec, RunError> {
    let name = &section.name;
    let spelled = section.encode.name();
    let needs = |value: Option<usize>, key: &str| match value {
        Some(value) => Ok(value),
        None => Err(RunError::Config(format!("feature `{name}`: encode = \"{spelled}\" needs `{key}`"))),
    };
    let allowed = |key: &str, is_given: bool, fits: bool| match is_given && !fits {
        true => Err(RunError::Config(format!(
            "feature `{name}`: `{key}` does not go with encode = \"{spelled}\""
        ))),
        false => Ok(()),
    };
    let encode = section.encode;
    let dense = encode.is_dense();
    allowed("min_count", section.min_count.is_some(), encode == Encode::Vocabulary)?;
    allowed("buckets", section.buckets.is_some(), matches!(encode, Encode::Hash | Encode::Quantile))?;
    allowed("bins", section.bins.is_some(), encode == Encode::Ple)?;
    allowed("num_embeddings", section.num_embeddings.is_some(), encode == Encode::Raw)?;
    allowed("missing", section.missing.is_some(), dense)?;
    allowed("pooling", section.pooling.is_some(), !dense)?;
    allowed("shares", section.shares.is_some(), !dense)?;
    allowed("weighted", section.weighted, section.pooling.is_some())?;
    allowed("weights_column", section.weights_column.is_some(), section.weighted)?;
    let sparse = |encoding| FeatureKind::Sparse {
        encoding,
        bag: section.pooling,
        shares: section.shares.clone(),
        weighted: section.weighted,
        weights_column: section.weights_column.clone(),
    };
    let missing = section.missing.map(|value| value as f32);
    if let (Some(value), Some(false)) = (section.missing, missing.map(f32::is_finite)) {
        let key = format!("feature `{name}`: missing");
        return refuse(&key, format!("{value:e}"), &format!("it must be between -{MOST:.1e} and {MOST:.1e}"));
    }
    let real = |transform| FeatureKind::Dense { transform, missing };
    let kind = match encode {
        Encode::Vocabulary => {
            sparse(SparseEncoding::Vocabulary { min_count: section.min_count.unwrap_or(1) })
        }
        Encode::Hash => sparse(SparseEncoding::Hash { buckets: needs(section.buckets, "buckets")? }),
        Encode::Quantile => sparse(SparseEncoding::Quantile { buckets: needs(section.buckets, "buckets")? }),
        Encode::Raw => {
            sparse(SparseEncoding::Raw { num_embeddings: needs(section.num_embeddings, "num_embeddings")? })
        }
        Encode::Dense => real(DenseTransform::None),
        Encode::Standardize => real(DenseTransform::Standardize),
        Encode::Log1p => real(DenseTransform::Log1p),
        Encode::Ple => real(DenseTransform::PiecewiseLinear { bins: section.bins.unwrap_or(PLE_BINS) }),
    };
    let column = section.column.clone().unwrap_or_else(|| name.clone());
    let outside = match section.outside {
        OutsidePolicy::Clip => Outside::Clip,
        OutsidePolicy::Missing => Outside::Missing,
        OutsidePolicy::Error => Outside::Error,
    };
    Ok(FeatureSpec { name: name.clone(), column, side: section.side, kind, outside })
}
