//! The notebook's way in: two feature dicts and one float matrix.

use crate::batch::HostBatch;
use crate::batch_builder::BatchBuilder;
use crate::batch_input::{BatchInput, SparseInput};
use crate::error::EsmmError;
use crate::esmm::EsmmConfig;
use crate::schema::{Feature, FeatureSchema, Side};
use crate::tower::{Activation, TowersConfig};

/// One entry of a feature dict: name, number of values, column of the matrix. A number of 1 makes a dense feature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotebookFeature {
    /// Name, unique over both dicts.
    pub name: String,
    /// Number of values: more than 1 for ids `0..number`, exactly 1 for a dense feature.
    pub number: usize,
    /// Column of the matrix, from 0.
    pub column: usize,
}

/// The notebook's `ESMM(user_feature_dict, item_feature_dict, emb_dim, hidden_dim, dropouts, output_size, num_task)`.
///
/// # Examples
/// ```
/// use esmm_core::{NotebookConfig, NotebookFeature};
///
/// # fn main() -> Result<(), esmm_core::EsmmError> {
/// let users = vec![NotebookFeature::new("user_id", 1000, 0), NotebookFeature::new("age", 1, 1)];
/// let items = vec![NotebookFeature::new("item_id", 500, 2)];
/// let notebook = NotebookConfig { emb_dim: 16, ..NotebookConfig::new(users, items) };
/// // Two impressions: user 17 of age 0.3, items 4 and 9.
/// let batch = notebook.batch(&[17.0, 0.3, 4.0, 17.0, 0.3, 9.0], 3)?;
/// assert_eq!((batch.rows(), notebook.model()?.embedding_dim), (2, 16));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct NotebookConfig {
    /// The users' features in their order.
    pub user_features: Vec<NotebookFeature>,
    /// The items' features in their order.
    pub item_features: Vec<NotebookFeature>,
    /// Width of an embedding.
    pub emb_dim: usize,
    /// Widths of the hidden layers.
    pub hidden_dim: Vec<usize>,
    /// One dropout a hidden layer.
    pub dropouts: Vec<f64>,
    /// Stages of the funnel.
    pub num_task: usize,
    /// Seed of the initial values.
    pub seed: u64,
}

impl NotebookFeature {
    /// `name: (number, column)`.
    pub fn new(name: impl Into<String>, number: usize, column: usize) -> Self {
        Self { name: name.into(), number, column }
    }

    fn to_feature(&self, side: Side) -> Feature {
        match self.number {
            1 => Feature::dense(&self.name, side),
            number => Feature::sparse(&self.name, side, number),
        }
    }
}

impl NotebookConfig {
    /// The notebook's defaults: embeddings of 128, hidden 128 and 64, dropout 0.5, no activation, 2 tasks.
    pub fn new(user_features: Vec<NotebookFeature>, item_features: Vec<NotebookFeature>) -> Self {
        Self {
            user_features,
            item_features,
            emb_dim: 128,
            hidden_dim: vec![128, 64],
            dropouts: vec![0.5, 0.5],
            num_task: 2,
            seed: 0,
        }
    }

    /// The model's configuration.
    ///
    /// # Errors
    /// A missing feature set, and what [`FeatureSchema::new`] and [`EsmmConfig::validate`] refuse.
    pub fn model(&self) -> Result<EsmmConfig, EsmmError> {
        let sides = [("user_features", &self.user_features), ("item_features", &self.item_features)];
        for (key, features) in sides {
            if features.is_empty() {
                let allowed = "at least one feature `name: (number of values, column)` is needed".to_owned();
                return Err(EsmmError::Config { key, found: "{}".into(), allowed });
            }
        }
        let features = self.features().map(|(side, feature)| feature.to_feature(side)).collect();
        let config = EsmmConfig {
            schema: FeatureSchema::new(features)?,
            embedding_dim: self.emb_dim,
            towers: TowersConfig {
                hidden: self.hidden_dim.clone(),
                activation: Activation::None,
                batch_norm: true,
                dropout: self.dropouts.clone(),
            },
            stages: self.num_task,
            shared_embeddings: true,
            // PyTorch's `nn.Embedding` starts with standard normal values.
            embedding_init_std: 1.0,
            seed: self.seed,
        };
        config.validate().map(|()| config)
    }

    /// Reads a batch out of the matrix.
    ///
    /// # Shapes
    /// `matrix`: row-major `[B, columns]`.
    ///
    /// # Errors
    /// A matrix without a feature's column, ids out of range, not whole or NaN, and dense values that are not finite.
    /// The error names row, column and value.
    pub fn batch(&self, matrix: &[f32], columns: usize) -> Result<HostBatch, EsmmError> {
        let shape = |found: String, expected: String| EsmmError::BatchShape {
            what: "matrix".into(),
            found,
            expected,
        };
        if columns == 0 || !matrix.len().is_multiple_of(columns) {
            return Err(shape(format!("{} values", matrix.len()), format!("rows of {columns} values")));
        }
        if let Some((_, feature)) = self.features().find(|(_, feature)| feature.column >= columns) {
            let expected = format!("column {} for feature `{}`", feature.column, feature.name);
            return Err(shape(format!("{columns} columns"), expected));
        }
        let mut sparse = Vec::new();
        let mut dense = Vec::new();
        for (_, feature) in self.features() {
            let cells = matrix.iter().skip(feature.column).step_by(columns).copied();
            match feature.number {
                1 => dense.push(cells.collect::<Vec<f32>>()),
                _ => sparse.push(ids(cells, feature)?),
            }
        }
        let sparse: Vec<_> = sparse.iter().map(|ids| SparseInput::Single(ids)).collect();
        let dense: Vec<_> = dense.iter().map(Vec::as_slice).collect();
        let input = BatchInput { rows: matrix.len() / columns, sparse: &sparse, dense: &dense, groups: None };
        BatchBuilder::new(&self.model()?.schema).build(input)
    }

    fn features(&self) -> impl Iterator<Item = (Side, &NotebookFeature)> {
        let users = self.user_features.iter().map(|feature| (Side::User, feature));
        users.chain(self.item_features.iter().map(|feature| (Side::Item, feature)))
    }
}

fn ids(cells: impl Iterator<Item = f32>, feature: &NotebookFeature) -> Result<Vec<u32>, EsmmError> {
    let max = feature.number.saturating_sub(1);
    let id = |(row, found): (usize, f32)| {
        if found.fract() == 0.0 && (0.0..=max as f32).contains(&found) {
            return Ok(found as u32);
        }
        let name = feature.name.clone();
        let column = feature.column;
        Err(EsmmError::NotAnId { row, column, name, found, max })
    };
    cells.enumerate().map(id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> NotebookConfig {
        let users = vec![NotebookFeature::new("user_id", 11, 0), NotebookFeature::new("user_num", 1, 2)];
        NotebookConfig::new(users, vec![NotebookFeature::new("item_id", 8, 1)])
    }

    #[test]
    fn missing_feature_sets_are_named() {
        let mut config = config();
        config.item_features.clear();
        assert!(config.model().unwrap_err().to_string().starts_with("item_features = {}: at least one"));
    }

    #[test]
    fn bad_cells_name_row_column_and_value() {
        let message =
            |row: [f32; 3]| config().batch(&[[1.0, 2.0, 0.5], row].concat(), 3).unwrap_err().to_string();
        let allowed = "is not an id, allowed are whole numbers from 0 to 10";
        assert_eq!(message([11.0, 0.0, 0.0]), format!("row 1, column 0, feature `user_id`: 11 {allowed}"));
        assert_eq!(message([1.5, 0.0, 0.0]), format!("row 1, column 0, feature `user_id`: 1.5 {allowed}"));
        assert_eq!(
            message([f32::NAN, 0.0, 0.0]),
            format!("row 1, column 0, feature `user_id`: NaN {allowed}")
        );
        assert_eq!(message([-1.0, 0.0, 0.0]), format!("row 1, column 0, feature `user_id`: -1 {allowed}"));
        assert_eq!(message([1.0, 0.0, f32::NAN]), "row 1, feature `user_num`: NaN is not a finite number");
    }

    #[test]
    fn a_matrix_without_the_column_is_refused() {
        let error = config().batch(&[1.0, 2.0], 2).unwrap_err().to_string();
        assert_eq!(error, "matrix: found 2 columns, expected column 2 for feature `user_num`");
    }
}
