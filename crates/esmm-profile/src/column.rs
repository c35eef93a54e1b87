//! One column of the sample, as text whatever its Arrow type, with its counts.

use std::borrow::Cow;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field};

use esmm_data::{DataError, Lists, Spelling, usual_type, zoned_text};

use crate::sample::Sample;
use crate::stats::Stats;

/// What a column's Arrow type says. Columns of text files are text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Text,
    Number,
    Flag,
    Time,
    List,
    /// Lists of ids with weights.
    Pairs,
    /// A type that no feature takes.
    Other(String),
}

/// One column.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Of the cells; of the items where they are lists.
    pub(crate) stats: Stats,
    texts: Vec<StringArray>,
    /// Number of items of each row, where the cells are lists.
    pub(crate) lengths: Option<Vec<usize>>,
}

impl Column {
    /// All columns of a sample.
    ///
    /// # Errors
    /// A chunk without one of the columns.
    pub(crate) fn all(sample: &Sample) -> Result<Vec<Self>, DataError> {
        sample.columns.iter().map(|name| Self::read(sample, name)).collect()
    }

    fn read(sample: &Sample, name: &str) -> Result<Self, DataError> {
        let mut column = Self {
            name: name.to_owned(),
            kind: Kind::Text,
            stats: Stats::default(),
            texts: Vec::with_capacity(sample.chunks.len()),
            lengths: None,
        };
        for chunk in &sample.chunks {
            let array = chunk.column(name)?;
            column.kind = kind(array.data_type());
            if column.append(array, chunk.spelling()).is_none() {
                column.kind = Kind::Other(array.data_type().to_string());
                column.texts.clear();
                return Ok(column);
            }
        }
        column.stats = Stats::of(column.cells());
        Ok(column)
    }

    /// `None` for an array that is no text and cannot be made one.
    fn append(&mut self, array: &ArrayRef, spelling: &Spelling) -> Option<()> {
        let text = |array: &ArrayRef| {
            let usual = usual_type(array)?;
            let usual = zoned_text(&usual).ok()?.unwrap_or(usual);
            let texts = cast(&usual, &DataType::Utf8).ok()?;
            Some(texts.as_string::<i32>().iter().map(|cell| shown(cell?, spelling)).collect::<StringArray>())
        };
        match self.kind {
            Kind::Other(_) => return None,
            Kind::List | Kind::Pairs => {
                let Lists { offsets, items } = Lists::of_array(array)?;
                let items = if self.kind == Kind::Pairs { ids(&items)? } else { items };
                self.texts.push(text(&items)?);
                let lengths = offsets.windows(2).map(|pair| pair[1] - pair[0]);
                self.lengths.get_or_insert_default().extend(lengths);
            }
            _ => self.texts.push(text(array)?),
        }
        Some(())
    }

    /// The cells, or the items where they are lists; `None` where one is missing.
    pub(crate) fn cells(&self) -> impl Iterator<Item = Option<&str>> + Clone {
        self.texts.iter().flat_map(|array| array.iter())
    }

    /// For each row whether something stands there: a value that is not 0, a list that is not empty.
    pub(crate) fn filled(&self) -> Vec<bool> {
        let something = |cell: Option<&str>| cell.is_some_and(|cell| !is_nothing(cell));
        match &self.lengths {
            Some(lengths) => lengths.iter().map(|length| *length > 0).collect(),
            None => self.cells().map(something).collect(),
        }
    }
}

/// A cell without its blanks, numbers with a decimal point; `None` where it is missing.
fn shown<'a>(cell: &'a str, spelling: &Spelling) -> Option<Cow<'a, str>> {
    let cell = spelling.present(cell)?;
    let is_number =
        spelling.decimal != '.' && cell.contains([spelling.decimal, spelling.thousands.unwrap_or(',')]);
    let number = is_number.then(|| spelling.number(cell)).flatten();
    Some(number.map_or(Cow::Borrowed(cell), |number| Cow::Owned(number.to_string())))
}

fn is_nothing(cell: &str) -> bool {
    cell.parse::<f64>().map_or(matches!(cell, "false" | "False" | "FALSE"), |number| number == 0.0)
}

fn kind(data_type: &DataType) -> Kind {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => Kind::Text,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Kind::Text,
        DataType::Time32(_) | DataType::Time64(_) => Kind::Text,
        DataType::Boolean => Kind::Flag,
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => Kind::Time,
        DataType::Dictionary(_, values) => kind(values),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => of_items(item),
        DataType::Map(..) => Kind::Pairs,
        number if number.is_numeric() => Kind::Number,
        other => Kind::Other(other.to_string()),
    }
}

fn of_items(item: &Field) -> Kind {
    match item.data_type() {
        DataType::Struct(_) => Kind::Pairs,
        other if other.is_nested() => Kind::Other(format!("a list of {other}")),
        _ => Kind::List,
    }
}

/// The ids of pairs of an id and a weight.
fn ids(pairs: &ArrayRef) -> Option<ArrayRef> {
    let pairs = pairs.as_struct_opt()?;
    let named = ["id", "key"].into_iter().find_map(|name| pairs.column_by_name(name));
    named.or_else(|| pairs.columns().first()).cloned()
}
