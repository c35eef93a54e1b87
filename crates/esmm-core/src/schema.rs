//! Which features a model reads: names, sides, tables.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::error::EsmmError;

/// Rows that the tables of a schema may have together: their numbers are 32-bit integers on every device.
const MOST_ROWS: usize = i32::MAX as usize;

/// Whom a feature describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The person who sees the impression.
    User,
    /// The thing that is shown.
    Item,
    /// Neither: position, hour, device.
    Context,
}

/// How the embeddings of a bag become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// Weighted sum (section 3.2 of arXiv 1804.07931 pools with a sum).
    Sum,
    /// Weighted sum over the sum of weights. An empty bag is zero.
    Mean,
}

/// A categorical feature with an embedding table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SparseFeature {
    /// Unique name.
    pub name: String,
    /// Whom it describes.
    pub side: Side,
    /// Rows of its table; ids run from 0 to `num_embeddings - 1`. Ignored when `shares` is set.
    pub num_embeddings: usize,
    /// `None`: exactly one id a row. `Some`: any number of ids a row, pooled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bag: Option<Pooling>,
    /// Use the table of this feature instead of an own one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<String>,
}

/// A real-valued feature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DenseFeature {
    /// Unique name.
    pub name: String,
    /// Whom it describes.
    pub side: Side,
    /// `None`: the towers read the number itself. `Some`: the number is a position among so many bins of a piecewise-linear
    /// encoding (arXiv 2203.05556), from 0 to `bins`, and the towers read a column for each bin: the share of it that lies
    /// below the position, `clamp(position - k, 0, 1)` of bin k from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bins: Option<usize>,
}

impl DenseFeature {
    /// Columns of the towers' input that it fills: 1, or one a bin.
    pub fn width(&self) -> usize {
        self.bins.unwrap_or(1)
    }

    /// Names of these columns: its own, or `name[1]`, `name[2]`, ... of bins.
    pub fn columns(&self) -> Vec<String> {
        match self.bins {
            None => vec![self.name.clone()],
            Some(bins) => (1..=bins).map(|bin| format!("{}[{bin}]", self.name)).collect(),
        }
    }

    /// What the towers read of a number, a value for each column.
    ///
    /// # Examples
    /// ```
    /// use esmm_core::{DenseFeature, Side};
    ///
    /// let price = DenseFeature { name: "price".into(), side: Side::Item, bins: Some(4) };
    /// assert!(price.values(2.25).eq([1.0, 1.0, 0.25, 0.0]));
    /// let weight = DenseFeature { bins: None, ..price };
    /// assert!(weight.values(2.25).eq([2.25]));
    /// ```
    pub fn values(&self, number: f32) -> impl Iterator<Item = f32> {
        let is_position = self.bins.is_some();
        (0..self.width()).map(move |bin| if is_position { share(number, bin) } else { number })
    }
}

/// The share of a bin that lies below a position, in `[0, 1]`.
pub(crate) fn share(position: f32, bin: usize) -> f32 {
    (position - bin as f32).clamp(0.0, 1.0)
}

/// One feature.
///
/// # Examples
/// ```
/// use esmm_core::{Feature, Pooling, Side};
///
/// let item = Feature::sparse("item", Side::Item, 500);
/// let price = Feature::dense("price", Side::Item);
/// // Items that a user saw before, on the table of `item`.
/// let history = Feature::bag("history", Side::User, 0, Pooling::Mean).sharing("item");
/// assert_eq!([item.name(), price.name(), history.name()], ["item", "price", "history"]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Feature {
    /// Ids.
    Sparse(SparseFeature),
    /// Reals.
    Dense(DenseFeature),
}

impl Feature {
    /// A single-valued sparse feature with its own table.
    pub fn sparse(name: impl Into<String>, side: Side, num_embeddings: usize) -> Self {
        Self::Sparse(SparseFeature { name: name.into(), side, num_embeddings, bag: None, shares: None })
    }

    /// A bag of ids with its own table.
    pub fn bag(name: impl Into<String>, side: Side, num_embeddings: usize, pooling: Pooling) -> Self {
        Self::Sparse(SparseFeature {
            name: name.into(),
            side,
            num_embeddings,
            bag: Some(pooling),
            shares: None,
        })
    }

    /// A dense feature.
    pub fn dense(name: impl Into<String>, side: Side) -> Self {
        Self::Dense(DenseFeature { name: name.into(), side, bins: None })
    }

    /// A dense feature in a piecewise-linear encoding: its numbers are positions among `bins` bins, from 0 to `bins`.
    pub fn piecewise(name: impl Into<String>, side: Side, bins: usize) -> Self {
        Self::Dense(DenseFeature { name: name.into(), side, bins: Some(bins) })
    }

    /// This feature on the table of `other`. Dense features have no table and stay as they are.
    pub fn sharing(mut self, other: impl Into<String>) -> Self {
        if let Self::Sparse(sparse) = &mut self {
            sparse.shares = Some(other.into());
        }
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Sparse(feature) => &feature.name,
            Self::Dense(feature) => &feature.name,
        }
    }

    /// Its side.
    pub fn side(&self) -> Side {
        match self {
            Self::Sparse(feature) => feature.side,
            Self::Dense(feature) => feature.side,
        }
    }
}

impl Feature {
    /// What tells it from others, for messages, such as `` `user` (sparse, User, 10 rows) ``.
    fn describe(&self) -> String {
        match self {
            Self::Dense(DenseFeature { name, side, bins }) => {
                let bins = bins.map_or_else(String::new, |bins| format!(", {bins} bins"));
                format!("`{name}` (dense, {side:?}{bins})")
            }
            Self::Sparse(SparseFeature { name, side, num_embeddings, bag, shares }) => {
                let pooling = bag.map_or_else(String::new, |pooling| format!(", bag with {pooling:?}"));
                let table = match shares {
                    Some(other) => format!("the table of `{other}`"),
                    None => format!("{num_embeddings} rows"),
                };
                format!("`{name}` (sparse, {side:?}{pooling}, {table})")
            }
        }
    }
}

/// The features of a model, in the order in which a `state_dict` concatenates them. Always valid.
///
/// Inside the model the sparse features come first and the dense ones after them, each group in schema order.
///
/// # Examples
/// ```
/// use esmm_core::{Feature, FeatureSchema, Side};
///
/// # fn main() -> Result<(), esmm_core::EsmmError> {
/// let schema = FeatureSchema::new(vec![
///     Feature::sparse("user", Side::User, 1000),
///     Feature::sparse("item", Side::Item, 500),
///     Feature::dense("price", Side::Item),
/// ])?;
/// assert_eq!(schema.num_rows(), 1500);
/// assert_eq!(schema.input_width(16), 2 * 16 + 1);
///
/// let twice = FeatureSchema::new(vec![Feature::dense("x", Side::User), Feature::dense("x", Side::Item)]);
/// assert!(twice.is_err_and(|error| error.to_string().contains("`x` is declared twice")));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Feature>", into = "Vec<Feature>")]
pub struct FeatureSchema {
    features: Vec<Feature>,
}

/// The rows that one feature's table occupies among all rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowRange {
    /// First row of the arena.
    pub start: usize,
    /// Number of rows, `num_embeddings`.
    pub len: usize,
}

impl FeatureSchema {
    /// Checks and takes the features.
    ///
    /// # Errors
    /// No feature, an empty or repeated name, a dense feature of 0 bins, a table without rows or more rows than 2^31 - 1 in all, and a `shares` that names an unknown feature,
    /// a dense one, or one that itself shares. The error names the feature.
    pub fn new(features: Vec<Feature>) -> Result<Self, EsmmError> {
        validate(&features)?;
        Ok(Self { features })
    }

    /// All features in their order.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// Panics with the first difference when a batch was made for another schema: its rows would be others of this model.
    pub(crate) fn expect_same(&self, of_batch: &Self) {
        if self == of_batch {
            return;
        }
        let count = self.features.len().max(of_batch.features.len());
        let pairs = (0..count).map(|place| (self.features.get(place), of_batch.features.get(place)));
        let Some((place, (own, other))) = pairs.enumerate().find(|(_, (own, other))| own != other) else {
            return;
        };
        panic!(
            "the batch was made for another schema than the model's: feature {} is {} in the batch and {} in the model",
            place + 1,
            other.map_or_else(|| "missing".to_owned(), Feature::describe),
            own.map_or_else(|| "missing".to_owned(), Feature::describe),
        );
    }

    /// The sparse features in their order.
    pub fn sparse(&self) -> impl Iterator<Item = &SparseFeature> {
        self.features.iter().filter_map(|feature| match feature {
            Feature::Sparse(sparse) => Some(sparse),
            Feature::Dense(_) => None,
        })
    }

    /// The dense features in their order.
    pub fn dense(&self) -> impl Iterator<Item = &DenseFeature> {
        self.features.iter().filter_map(|feature| match feature {
            Feature::Sparse(_) => None,
            Feature::Dense(dense) => Some(dense),
        })
    }

    /// Number of sparse features, F.
    pub fn num_sparse(&self) -> usize {
        self.sparse().count()
    }

    /// Number of dense features.
    pub fn num_dense(&self) -> usize {
        self.dense().count()
    }

    /// Columns that dense features fill, V: one each, but those with bins one a bin.
    pub fn dense_width(&self) -> usize {
        self.dense().map(DenseFeature::width).sum()
    }

    /// Width of the towers' input: `F * embedding_dim` + the columns of dense features.
    pub fn input_width(&self, embedding_dim: usize) -> usize {
        self.num_sparse() * embedding_dim + self.dense_width()
    }

    /// The tables that exist (features that share one are left out), in order.
    pub fn tables(&self) -> impl Iterator<Item = &SparseFeature> {
        self.sparse().filter(|feature| feature.shares.is_none())
    }

    /// Rows of all tables together.
    pub fn num_rows(&self) -> usize {
        self.tables().map(|table| table.num_embeddings).sum()
    }

    /// For every sparse feature in order, the rows of the table that it uses.
    pub fn row_ranges(&self) -> Vec<RowRange> {
        let mut start = 0;
        let mut by_name = HashMap::new();
        for table in self.tables() {
            let range = RowRange { start, len: table.num_embeddings };
            by_name.insert(table.name.as_str(), range);
            start += table.num_embeddings;
        }
        self.sparse().map(|feature| by_name[feature.shares.as_deref().unwrap_or(&feature.name)]).collect()
    }
}

impl TryFrom<Vec<Feature>> for FeatureSchema {
    type Error = EsmmError;

    fn try_from(features: Vec<Feature>) -> Result<Self, EsmmError> {
        Self::new(features)
    }
}

impl From<FeatureSchema> for Vec<Feature> {
    fn from(schema: FeatureSchema) -> Self {
        schema.features
    }
}

fn validate(features: &[Feature]) -> Result<(), EsmmError> {
    if features.is_empty() {
        return Err(EsmmError::EmptySchema);
    }
    let mut by_name = HashMap::new();
    for (index, feature) in features.iter().enumerate() {
        let name = feature.name();
        if name.trim().is_empty() {
            return Err(EsmmError::EmptyName { position: index + 1 });
        }
        if by_name.insert(name, feature).is_some() {
            return Err(EsmmError::DuplicateName { name: name.to_owned() });
        }
    }
    for feature in features {
        match feature {
            Feature::Sparse(sparse) => validate_table(sparse, &by_name)?,
            Feature::Dense(DenseFeature { name, bins: Some(0), .. }) => {
                return Err(EsmmError::ZeroBins { name: name.clone() });
            }
            Feature::Dense(_) => {}
        }
    }
    let tables = features.iter().filter_map(|feature| match feature {
        Feature::Sparse(sparse) if sparse.shares.is_none() => Some(sparse.num_embeddings),
        Feature::Sparse(_) | Feature::Dense(_) => None,
    });
    let rows = tables.fold(0_usize, usize::saturating_add);
    match rows <= MOST_ROWS {
        true => Ok(()),
        false => Err(EsmmError::Config {
            key: "features",
            found: format!("{rows} table rows"),
            allowed: format!("at most {MOST_ROWS} rows fit one arena"),
        }),
    }
}

fn validate_table(feature: &SparseFeature, by_name: &HashMap<&str, &Feature>) -> Result<(), EsmmError> {
    let name = feature.name.clone();
    let Some(shares) = feature.shares.clone() else {
        return match feature.num_embeddings {
            0 => Err(EsmmError::ZeroRows { name }),
            _ => Ok(()),
        };
    };
    let reason = match by_name.get(shares.as_str()) {
        None => "is not in the schema",
        Some(Feature::Dense(_)) => "is dense and has no table",
        Some(Feature::Sparse(other)) if other.shares.is_some() => "itself shares another table",
        Some(Feature::Sparse(_)) => return Ok(()),
    };
    Err(EsmmError::BadShare { name, shares, reason: reason.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(features: Vec<Feature>) -> String {
        FeatureSchema::new(features).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_the_feature() {
        let user = || Feature::sparse("user", Side::User, 10);
        assert!(message(vec![]).contains("at least one feature"));
        assert!(message(vec![user(), Feature::dense(" ", Side::Item)]).contains("number 2"));
        assert!(message(vec![user(), user()]).contains("`user` is declared twice"));
        assert!(message(vec![Feature::sparse("item", Side::Item, 0)]).contains("`item`: num_embeddings = 0"));
        assert!(message(vec![Feature::piecewise("age", Side::User, 0)]).contains("`age`: bins = 0"));
        assert!(message(vec![user().sharing("nobody")]).contains("`nobody`, which is not in the schema"));
        assert!(message(vec![Feature::dense("age", Side::User), user().sharing("age")]).contains("is dense"));
    }

    #[test]
    fn tables_beyond_all_numbers_are_refused() {
        let table = |name: &str, rows| Feature::sparse(name, Side::Item, rows);
        let told = "2147483647 rows fit one arena";
        assert!(message(vec![table("a", 1 << 31)]).contains(told));
        assert!(message(vec![table("a", usize::MAX), table("b", usize::MAX)]).contains(told));
        assert!(FeatureSchema::new(vec![table("a", (1 << 31) - 2), table("b", 1)]).is_ok());
    }

    #[test]
    fn sharing_features_use_the_same_rows() {
        let schema = FeatureSchema::new(vec![
            Feature::sparse("user", Side::User, 10),
            Feature::dense("age", Side::User),
            Feature::bag("history", Side::User, 0, Pooling::Mean).sharing("item"),
            Feature::sparse("item", Side::Item, 7),
            Feature::piecewise("price", Side::Item, 5),
        ])
        .unwrap();
        let item = RowRange { start: 10, len: 7 };
        assert_eq!(schema.row_ranges(), [RowRange { start: 0, len: 10 }, item, item]);
        assert_eq!(schema.num_rows(), 17);
        assert_eq!((schema.num_dense(), schema.dense_width(), schema.input_width(4)), (2, 6, 18));
    }

    #[test]
    fn a_schema_is_written_and_read() {
        let written = |feature: Feature| serde_json::to_string(&feature).unwrap();
        let plain = r#"{"kind":"dense","name":"age","side":"user"}"#;
        assert_eq!(written(Feature::dense("age", Side::User)), plain);
        let bins = r#"{"kind":"dense","name":"age","side":"user","bins":16}"#;
        assert_eq!(written(Feature::piecewise("age", Side::User, 16)), bins);
        for text in [plain, bins] {
            assert_eq!(written(serde_json::from_str(text).unwrap()), text);
        }
    }

    #[test]
    fn a_position_fills_the_bins_below_it() {
        let price = DenseFeature { name: "price".to_owned(), side: Side::Item, bins: Some(3) };
        let values = |position| price.values(position).collect::<Vec<_>>();
        assert_eq!(values(0.0), [0.0, 0.0, 0.0]);
        assert_eq!(values(0.75), [0.75, 0.0, 0.0]);
        assert_eq!(values(1.0), [1.0, 0.0, 0.0]);
        assert_eq!(values(2.5), [1.0, 1.0, 0.5]);
        assert_eq!(values(3.0), [1.0, 1.0, 1.0]);
        assert_eq!(price.columns(), ["price[1]", "price[2]", "price[3]"]);
    }
}
