//! Columns by their names.

use std::path::Path;

use crate::error::{DataError, nearest};

/// The places of some columns among the names of a file.
pub(crate) fn find_columns(
    path: &Path,
    names: &[String],
    columns: &[String],
) -> Result<Vec<usize>, DataError> {
    let find = |column: &String| {
        let mut places = names.iter().enumerate().filter(|(_, name)| *name == column).map(|(place, _)| place);
        match (places.next(), places.next()) {
            (Some(place), None) => Ok(place),
            (Some(_), Some(_)) => Err(DataError::file(path, format!("column `{column}` is there twice"))),
            (None, _) => {
                let hint = nearest(column, names.iter().map(String::as_str));
                Err(DataError::UnknownColumn { path: path.to_owned(), column: column.clone(), hint })
            }
        }
    };
    columns.iter().map(find).collect()
}
