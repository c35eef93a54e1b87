//! What a person says about a feature: its column, its side, and how values become rows of a table or numbers.

use std::collections::HashMap;

use esmm_core::{Feature, FeatureSchema, Pooling, Side, SparseFeature};
use serde::{Deserialize, Serialize};

use crate::error::DataError;

/// A feature and the column that it is made of. Several features may use one column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureSpec {
    /// Unique name.
    pub name: String,
    /// Column of the data.
    pub column: String,
    /// Whom it describes.
    pub side: Side,
    /// How its values are encoded.
    pub kind: FeatureKind,
    /// What happens to a value that the encoding does not take, in rows that nothing is learned from.
    #[serde(default, skip_serializing_if = "Outside::is_default")]
    pub outside: Outside,
}

/// What happens to a value that an encoding does not take: a negative one under `log1p`, a raw id beyond `num_embeddings`,
/// a number that does not fit into 32 bits. In training rows it is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outside {
    /// The nearest value that is taken stands in; an id is missing. Where no value is the nearest, as for a text that is no
    /// number, it is an error.
    #[default]
    Clip,
    /// It is missing. So is a text that is no number, where a number is expected.
    Missing,
    /// It is an error.
    Error,
}

impl Outside {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How the values of a feature are encoded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FeatureKind {
    /// To rows of an embedding table.
    Sparse {
        /// How a value becomes a row. Ignored with `shares`: the other feature's encoding is used.
        encoding: SparseEncoding,
        /// `None`: one value a row. `Some`: any number of values a row, pooled; null and an empty text are an empty
        /// bag, a column without lists makes bags of one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bag: Option<Pooling>,
        /// Whether the items of a bag carry weights: `a:0.7|b:0.3` in text; in Parquet a list of structs with a field
        /// `id` or `key` and a field `weight` or `value`, or a map. Weights are finite and not negative. With
        /// [`Pooling::Mean`] a bag whose weights are all zero is an empty bag.
        #[serde(default)]
        weighted: bool,
        /// A list column with the weights, as long as the bag in every row. Implies `weighted`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        weights_column: Option<String>,
        /// Use the table of this feature. It is fitted on the values of both.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shares: Option<String>,
    },
    /// To a number, or to a position among bins.
    Dense {
        /// What is done to the value.
        transform: DenseTransform,
        /// Stands for a missing value, before the transform. `None`: a missing value is an error.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        missing: Option<f32>,
    },
}

/// How a value becomes a row of a table. Row 0 is left to missing values; see [`UnknownRow`](crate::UnknownRow).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SparseEncoding {
    /// Values of the training rows get the rows after those that stand for no value, by descending count, ties by key
    /// (numbers before texts).
    Vocabulary {
        /// Values that occur less often are unknown.
        min_count: u64,
    },
    /// Row `1 + xxHash64(key) mod buckets`: nothing to fit, unrelated values may meet.
    Hash {
        /// Number of buckets; the table has one row more.
        buckets: usize,
    },
    /// Values are whole numbers `i` below `num_embeddings`; the row is `i + 1`. Any other value is an error.
    Raw {
        /// Number of ids; the table has one row more.
        num_embeddings: usize,
    },
    /// Real values, cut where the training rows fall into buckets of about equal size.
    Quantile {
        /// Number of buckets at most; repeated values can make it fewer.
        buckets: usize,
    },
}

/// What is done to the value of a dense feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DenseTransform {
    /// Nothing.
    #[default]
    None,
    /// Minus the mean, over the population standard deviation of the training rows, missing values replaced. With a
    /// standard deviation of 0 the value minus the mean.
    Standardize,
    /// `ln(1 + x)` of a value that is not negative.
    Log1p,
    /// Its position among some bins of about equal count in the training rows; the model reads the filled share of each bin
    /// (arXiv 2203.05556). Where repeated values leave fewer bins the last ones stay empty.
    PiecewiseLinear {
        /// Number of bins.
        bins: usize,
    },
}

/// Largest table that a `u32` can address, without row 0.
const MAX_ROWS: usize = u32::MAX as usize - 1;
/// Most bins of a number: each is a column of the model's input.
const MAX_BINS: usize = 1024;

impl FeatureSpec {
    /// The columns that this feature reads.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        let weights = match &self.kind {
            FeatureKind::Sparse { weights_column, .. } => weights_column.as_deref(),
            FeatureKind::Dense { .. } => None,
        };
        std::iter::once(self.column.as_str()).chain(weights)
    }

    /// The core's description, with the rows of its table.
    pub(crate) fn describe(&self, num_embeddings: usize) -> Feature {
        let name = self.name.clone();
        let side = self.side;
        match &self.kind {
            FeatureKind::Dense { transform, .. } => match *transform {
                DenseTransform::None | DenseTransform::Standardize | DenseTransform::Log1p => {
                    Feature::dense(name, side)
                }
                DenseTransform::PiecewiseLinear { bins } => Feature::piecewise(name, side, bins),
            },
            FeatureKind::Sparse { bag, shares, .. } => {
                let bag = *bag;
                let shares = shares.clone();
                Feature::Sparse(SparseFeature { name, side, num_embeddings, bag, shares })
            }
        }
    }

    /// Whether only the data tells how many rows its table has.
    pub fn has_unknown_rows(&self) -> bool {
        matches!(&self.kind, FeatureKind::Sparse { shares: None, encoding, .. } if encoding.most_rows().is_none())
    }

    /// The core's description with as many rows as its table can have, or one where only the data tells.
    pub fn with_known_rows(&self) -> Feature {
        let rows = match &self.kind {
            FeatureKind::Sparse { encoding, .. } => encoding.most_rows(),
            FeatureKind::Dense { .. } => None,
        };
        self.describe(rows.unwrap_or(1))
    }

    fn validate(&self) -> Result<(), String> {
        if self.columns().any(str::is_empty) {
            return Err("its column has no name".to_owned());
        }
        match &self.kind {
            FeatureKind::Dense { missing, .. } if missing.is_some_and(|value| !value.is_finite()) => {
                Err("missing must be a finite number".to_owned())
            }
            FeatureKind::Dense { missing: None, .. } if self.outside == Outside::Missing => {
                Err("outside = \"missing\" needs `missing`, the number that stands in".to_owned())
            }
            FeatureKind::Dense { transform: DenseTransform::Log1p, missing: Some(value) } if *value < 0.0 => {
                Err(format!("missing = {value}, with log1p it must not be negative"))
            }
            FeatureKind::Dense { transform: DenseTransform::PiecewiseLinear { bins }, .. }
                if !(1..=MAX_BINS).contains(bins) =>
            {
                Err(format!("bins = {bins}, it must be 1 to {MAX_BINS}"))
            }
            FeatureKind::Dense { .. } => Ok(()),
            FeatureKind::Sparse { bag: None, weighted, weights_column, .. }
                if *weighted || weights_column.is_some() =>
            {
                Err("only a bag has weights, give it a pooling".to_owned())
            }
            FeatureKind::Sparse { encoding, .. } => encoding.validate(),
        }
    }
}

impl SparseEncoding {
    /// Rows of the table at most; `None` where only the data tells.
    fn most_rows(self) -> Option<usize> {
        match self {
            Self::Vocabulary { .. } => None,
            Self::Hash { buckets } | Self::Quantile { buckets } => Some(buckets + 1),
            Self::Raw { num_embeddings } => Some(num_embeddings + 1),
        }
    }

    fn validate(self) -> Result<(), String> {
        let (key, value, least) = match self {
            Self::Vocabulary { .. } => return Ok(()),
            Self::Hash { buckets } => ("buckets", buckets, 1),
            Self::Raw { num_embeddings } => ("num_embeddings", num_embeddings, 1),
            Self::Quantile { buckets } => ("buckets", buckets, 2),
        };
        match value {
            value if (least..=MAX_ROWS).contains(&value) => Ok(()),
            value => Err(format!("{key} = {value}, it must be {least} to {MAX_ROWS}")),
        }
    }
}

/// Checks all features and finds, for each, the feature whose table it uses: itself, or the one that it shares.
pub(crate) fn owners(specs: &[FeatureSpec]) -> Result<Vec<usize>, DataError> {
    let setting = |spec: &FeatureSpec, reason| DataError::setting(format!("feature `{}`", spec.name), reason);
    // Before the schema, whose message would know nothing of the settings of an encoding.
    for spec in specs.iter().filter(|spec| matches!(spec.kind, FeatureKind::Dense { .. })) {
        spec.validate().map_err(|reason| setting(spec, reason))?;
    }
    FeatureSchema::new(specs.iter().map(|spec| spec.describe(1)).collect())?;
    let places: HashMap<&str, usize> =
        specs.iter().enumerate().map(|(place, spec)| (spec.name.as_str(), place)).collect();
    let owner = |(place, spec): (usize, &FeatureSpec)| match &spec.kind {
        FeatureKind::Sparse { shares: Some(other), .. } => {
            places.get(other.as_str()).copied().unwrap_or(place)
        }
        _ => place,
    };
    let owners: Vec<usize> = specs.iter().enumerate().map(owner).collect();
    for (spec, owner) in specs.iter().zip(&owners) {
        let quantile = matches!(
            specs[*owner].kind,
            FeatureKind::Sparse { encoding: SparseEncoding::Quantile { .. }, .. }
        );
        let in_bag = matches!(spec.kind, FeatureKind::Sparse { bag: Some(_), .. });
        let valid = match quantile && in_bag {
            true => Err("quantile buckets take one value a row, not a bag".to_owned()),
            false => spec.validate(),
        };
        valid.map_err(|reason| setting(spec, reason))?;
    }
    Ok(owners)
}
