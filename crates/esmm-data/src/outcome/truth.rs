//! Columns with the true probabilities of synthetic data.

use serde::{Deserialize, Serialize};

use crate::column::real::RealColumn;
use crate::dataset::Truth;
use crate::error::DataError;
use crate::read::chunk::Chunk;

/// Columns with true probabilities. `ctr` and `cvr` are needed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TruthSpec {
    /// p(click given impression).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ctr: Option<String>,
    /// p(conversion given click).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cvr: Option<String>,
    /// p(click and conversion given impression), where hidden causes keep it from being the product.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ctcvr: Option<String>,
}

impl TruthSpec {
    /// The columns, in the order ctr, cvr, ctcvr.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        [&self.ctr, &self.cvr, &self.ctcvr].into_iter().filter_map(|column| column.as_deref())
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// When `ctr` or `cvr` is not given.
    pub fn validate(&self) -> Result<(), DataError> {
        match (&self.ctr, &self.cvr) {
            (Some(_), Some(_)) => Ok(()),
            _ => Err(DataError::setting("truth", "the columns of `ctr` and `cvr` are both needed")),
        }
    }

    /// The probabilities of a chunk.
    ///
    /// # Errors
    /// As [`TruthSpec::validate`], and a cell that is not a probability.
    pub fn read(&self, chunk: &Chunk) -> Result<Truth, DataError> {
        self.validate()?;
        let column =
            |name: &Option<String>| name.as_deref().map(|name| probabilities(chunk, name)).transpose();
        let ctr = column(&self.ctr)?;
        let cvr = column(&self.cvr)?;
        let ctcvr = column(&self.ctcvr)?;
        Ok(Truth { ctr: ctr.unwrap_or_default(), cvr: cvr.unwrap_or_default(), ctcvr })
    }
}

fn probabilities(chunk: &Chunk, column: &str) -> Result<Vec<f32>, DataError> {
    let mut values = Vec::with_capacity(chunk.rows());
    RealColumn::read(chunk, column, |row, value| match value {
        Some(value) if (0.0..=1.0).contains(&value) => {
            values.push(value as f32);
            Ok(())
        }
        other => {
            let found = other.map_or_else(|| "nothing".to_owned(), |value| format!("`{value}`"));
            Err(chunk.bad_cell(row, column, found, "a probability from 0 to 1"))
        }
    })?;
    Ok(values)
}
