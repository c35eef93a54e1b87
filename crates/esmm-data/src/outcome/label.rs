//! Labels: how far down the funnel each impression went.

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use serde::{Deserialize, Serialize};

use crate::column::real::RealColumn;
use crate::error::{DataError, quoted};
use crate::read::chunk::Chunk;

/// What a label may be.
const ALLOWED: &str = "0 or 1 (or true or false)";

/// The label columns of a funnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelSpec {
    /// Columns of the stages in their order, as click, conversion; at least 2. Their cells are 0 or 1 as numbers,
    /// booleans or text.
    pub columns: Vec<String>,
    /// What happens to a row that reached a stage but not the one before.
    #[serde(default)]
    pub orphan_conversions: Orphans,
}

/// What happens to a conversion without a click.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Orphans {
    /// It is an error.
    #[default]
    Error,
    /// The row is left out and counted.
    Drop,
}

impl LabelSpec {
    /// Labels named in order; orphans are errors.
    pub fn new(columns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { columns: columns.into_iter().map(Into::into).collect(), orphan_conversions: Orphans::Error }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// Fewer than 2 or more than 255 stages, and a column that is named twice.
    pub fn validate(&self) -> Result<(), DataError> {
        let count = self.columns.len();
        if !(2..=usize::from(u8::MAX)).contains(&count) {
            return Err(DataError::setting("labels", format!("{count} stages, there must be 2 to 255")));
        }
        let twice = (1..count).find(|place| self.columns[..*place].contains(&self.columns[*place]));
        twice.map_or(Ok(()), |place| {
            let column = &self.columns[place];
            Err(DataError::setting("labels", format!("column `{column}` is named for two stages")))
        })
    }

    /// The number of stages that each row reached, 0 to K; `None` for an orphan that is to be dropped.
    ///
    /// # Errors
    /// A column that is not there or has an unsuitable type, a cell that is not a label, an orphan.
    pub fn read(&self, chunk: &Chunk) -> Result<Vec<Option<u8>>, DataError> {
        let mut depth = vec![Some(0_u8); chunk.rows()];
        for (stage, column) in self.columns.iter().enumerate() {
            let reached = flags(chunk, column)?;
            for (row, depth) in depth.iter_mut().enumerate().filter(|(row, _)| reached[*row]) {
                match *depth {
                    Some(before) if usize::from(before) == stage => *depth = Some(before + 1),
                    Some(_) if self.orphan_conversions == Orphans::Error => {
                        let (later, earlier) = (column.clone(), self.columns[stage - 1].clone());
                        return Err(DataError::Orphan { place: chunk.place(row), later, earlier });
                    }
                    _ => *depth = None,
                }
            }
        }
        Ok(depth)
    }
}

fn flags(chunk: &Chunk, column: &str) -> Result<Vec<bool>, DataError> {
    let array = chunk.column(column)?;
    let labels = Labels::new(array)
        .ok_or_else(|| chunk.bad_type(column, array.data_type(), "integers, floats, booleans and text"))?;
    let flag = |row| labels.flag(row).map_err(|found| chunk.bad_cell(row, column, found, ALLOWED));
    (0..chunk.rows()).map(flag).collect()
}

/// A column of labels.
struct Labels(RealColumn);

impl Labels {
    fn new(array: &ArrayRef) -> Option<Self> {
        match array.data_type() {
            DataType::Decimal128(..) | DataType::Decimal256(..) => None,
            _ => RealColumn::new(array).map(Self),
        }
    }

    fn flag(&self, row: usize) -> Result<bool, String> {
        match &self.0 {
            RealColumn::Number(array) => match array.is_valid(row).then(|| array.value(row)) {
                Some(0.0) => Ok(false),
                Some(1.0) => Ok(true),
                Some(other) => Err(format!("`{other}`")),
                None => Err("nothing".to_owned()),
            },
            RealColumn::Text(array) => match array.is_valid(row).then(|| array.value(row)) {
                Some("0" | "0.0" | "false" | "False" | "FALSE") => Ok(false),
                Some("1" | "1.0" | "true" | "True" | "TRUE") => Ok(true),
                Some("") | None => Err("nothing".to_owned()),
                Some(other) => Err(quoted(other)),
            },
        }
    }
}
