//! A catalogue from files.

use arrow::array::{Array, AsArray, Float32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type};
use esmm_data::{Chunk, SourceSpec, usual_type};

use crate::catalogue::Catalogue;
use crate::error::RankError;
use crate::model::RankModel;
use crate::part::Part;
use crate::shares::SharePrecision;

/// Where the items of a catalogue come from.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemSource {
    /// Files, globs or folders, CSV or Parquet, written as those of the training; with the columns of the item features.
    pub paths: Vec<String>,
    /// The column with their ids, each once.
    pub key: String,
    /// Columns of numbers that requests can rank by, as a price.
    pub values: Vec<String>,
    /// How the shares lie in memory.
    pub precision: SharePrecision,
    /// Bytes that the shares may take at most.
    pub memory: Option<u64>,
}

impl RankModel {
    /// Reads items and computes their shares of the first layer.
    ///
    /// # Errors
    /// Files that cannot be read or lack a column, values that the encoders refuse, an id that is missing or there twice, a
    /// number that is not finite; shares that would not fit into the memory that they may take.
    pub fn catalogue(&self, source: &ItemSource) -> Result<Catalogue, RankError> {
        let mut columns: Vec<String> = self.columns(Part::Item).into_iter().map(str::to_owned).collect();
        for column in std::iter::once(&source.key).chain(&source.values) {
            if !columns.contains(column) {
                columns.push(column.clone());
            }
        }
        let files = self.source(&source.paths);
        let mut catalogue = Catalogue::new(&self.ranker, source.precision, source.values.clone());
        self.check_memory(source, self.known_items(&files)?)?;
        for chunk in files.open(&columns)? {
            let chunk = chunk?;
            self.check_memory(source, (catalogue.len() + chunk.rows()) as u64)?;
            let keys = chunk.keys(&source.key)?;
            let at = |row: usize| chunk.origin().place(row).to_string();
            if let Some(row) = (0..keys.len()).find(|row| keys.is_null(*row)) {
                return Err(RankError::Catalogue(format!("{}: column `{}` is empty", at(row), source.key)));
            }
            let ids: Vec<&str> = keys.iter().flatten().collect();
            let values = source.values.iter().map(|column| values(&chunk, column));
            let values = values.collect::<Result<Vec<_>, _>>()?;
            let values: Vec<&[f32]> = values.iter().map(|column| column.values().as_ref()).collect();
            let encoded = self.encode_chunk(Part::Item, &chunk)?;
            let pushed = catalogue.push(&self.ranker, &ids, &encoded.borrow().columns(), &values);
            pushed.map_err(|error| {
                let path = chunk.origin().path().display();
                RankError::Catalogue(format!("{path}, the rows from {} on: {error}", at(0)))
            })?;
        }
        Ok(catalogue)
    }

    /// Items of files that say how many rows they have; 0 for others.
    fn known_items(&self, files: &SourceSpec) -> Result<u64, RankError> {
        let mut total = 0;
        for path in files.files()? {
            total += files.known_rows(&path)?.unwrap_or(0);
        }
        Ok(total)
    }

    fn check_memory(&self, source: &ItemSource, items: u64) -> Result<(), RankError> {
        let bytes = Catalogue::bytes_for(&self.ranker, source.precision, items);
        match source.memory {
            Some(most) if bytes > most => {
                let mebibytes = |bytes: u64| bytes >> 20;
                Err(RankError::Catalogue(format!(
                    "the shares of {items} items would take {} MiB, {} MiB are allowed: use f16 shares, fewer items, or \
                     more memory",
                    mebibytes(bytes),
                    mebibytes(most)
                )))
            }
            _ => Ok(()),
        }
    }
}

/// Numbers by the rules for files: `9,50` where the training's files have a decimal comma.
fn values(chunk: &Chunk, column: &str) -> Result<Float32Array, RankError> {
    let refused = |row: usize| {
        let place = chunk.origin().place(row);
        RankError::Catalogue(format!("{place}: column `{column}` holds no finite number of 32 bits"))
    };
    let Some(array) = usual_type(chunk.column(column)?) else { return Err(refused(0)) };
    let numbers: Float32Array = match array.data_type() {
        DataType::Utf8 => {
            let number = |cell: &str| chunk.spelling().number(cell).map(|number| number as f32);
            array.as_string::<i32>().iter().map(|cell| cell.and_then(number)).collect()
        }
        _ => match cast(&array, &DataType::Float32) {
            Ok(numbers) => numbers.as_primitive::<Float32Type>().clone(),
            Err(_) => return Err(refused(0)),
        },
    };
    let finite = |row: &usize| numbers.is_valid(*row) && numbers.value(*row).is_finite();
    match (0..numbers.len()).find(|row| !finite(row)) {
        None => Ok(numbers),
        Some(row) => Err(refused(row)),
    }
}
