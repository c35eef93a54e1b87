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

/// Names of columns as one argument of a command: `user,item`. A name that holds a comma stands in quotes, which are doubled
/// inside of it, as in CSV: `"price, EUR",user`. The name of a column without one is written `""`.
///
/// # Examples
/// ```
/// use esmm_data::ColumnNames;
///
/// let names: ColumnNames = r#""price, EUR",user"#.parse().unwrap();
/// assert_eq!(names.0, ["price, EUR", "user"]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ColumnNames(pub Vec<String>);

/// What is said of a comma too many.
const NO_NAME: &str = "a name is empty: names stand between single commas, as user,item";

impl ColumnNames {
    /// All names of several arguments, in their order.
    pub fn joined(arguments: &[Self]) -> Vec<String> {
        arguments.iter().flat_map(|names| names.0.iter().cloned()).collect()
    }
}

impl std::str::FromStr for ColumnNames {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut names = Vec::new();
        let mut rest = Some(text);
        while let Some(text) = rest {
            let (name, after) = match quoted(text) {
                Some((name, after)) => (name, after),
                None => {
                    let end = text.find(',').unwrap_or(text.len());
                    if end == 0 {
                        return Err(NO_NAME.to_owned());
                    }
                    (text[..end].to_owned(), &text[end..])
                }
            };
            names.push(name);
            rest = after.strip_prefix(',');
        }
        Ok(Self(names))
    }
}

/// A name in quotes at the start of a text, and what follows; `None` unless a comma follows, or nothing.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('"')?;
    let mut name = String::new();
    loop {
        let (before, after) = rest.split_once('"')?;
        name.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return (after.is_empty() || after.starts_with(',')).then_some((name, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_commas_stand_in_quotes() {
        for (text, expected) in [
            ("user", &["user"][..]),
            ("user,item", &["user", "item"]),
            ("\"a,b\"", &["a,b"]),
            ("x,\"a,b\",\"say \"\"c\"\", d\",y z", &["x", "a,b", "say \"c\", d", "y z"]),
            ("\"\"\"a\"\"\"", &["\"a\""]),
            // No quotes around a name: another letter follows, or nothing closes them.
            ("\" onload=\"alert(1),b", &["\" onload=\"alert(1)", "b"]),
            ("\"a,b", &["\"a", "b"]),
            ("a\"b\",c", &["a\"b\"", "c"]),
            ("\"\"", &[""]),
            ("a,\"\"", &["a", ""]),
        ] {
            let names: ColumnNames = text.parse().unwrap();
            assert_eq!(names.0, expected, "{text}");
        }
        for text in ["", ",", "a,,b", "a,", ",a"] {
            assert_eq!(text.parse::<ColumnNames>(), Err(NO_NAME.to_owned()), "{text}");
        }
        assert_eq!(ColumnNames::joined(&["a,b".parse().unwrap(), "c".parse().unwrap()]), ["a", "b", "c"]);
    }
}
