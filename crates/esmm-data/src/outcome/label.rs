//! Labels: how far down the funnel each impression went.

use std::borrow::Cow;
use std::sync::LazyLock;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use serde::{Deserialize, Serialize};

use crate::column::key::Spelled;
use crate::column::plain::{NoText, UTF8, plain};
use crate::column::spelling::{CellReader, Spelling};
use crate::error::{DataError, quoted};
use crate::read::chunk::Chunk;

/// What a label may be.
const ALLOWED_SHORT: &str = "0 or 1 (or true or false)";
/// The same, with a way out for other words.
const ALLOWED: &str = "0 or 1 (or true or false; for other words say labels.positive = [\"yes\"] and labels.negative = [\"no\"])";

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
    /// Words for 1, beside `1` and `true`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub positive: Vec<String>,
    /// Words for 0, beside `0` and `false`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub negative: Vec<String>,
    /// What a missing label of a later stage means where the stage before was not reached.
    #[serde(default, skip_serializing_if = "MissingLabel::is_default")]
    pub missing: MissingLabel,
}

/// What a label means that is missing where the stage before was not reached. Elsewhere a missing label is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MissingLabel {
    /// It is an error there too.
    #[default]
    Error,
    /// The stage was not reached.
    Zero,
}

impl MissingLabel {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
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
        Self {
            columns: columns.into_iter().map(Into::into).collect(),
            orphan_conversions: Orphans::Error,
            positive: Vec::new(),
            negative: Vec::new(),
            missing: MissingLabel::Error,
        }
    }

    /// Checks that a column is none of the labels: `key` is what asks for it, `what` what it would be.
    ///
    /// # Errors
    /// A label.
    pub fn check_other(&self, key: &str, what: &str, column: &str) -> Result<(), DataError> {
        if !self.columns.iter().any(|label| label == column) {
            return Ok(());
        }
        let reason = format!("column `{column}` is a label (labels.stages): it cannot be {what} as well");
        Err(DataError::setting(key, reason))
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// Fewer than 2 or more than 255 stages, a column that is named twice, a word for both labels.
    pub fn validate(&self) -> Result<(), DataError> {
        let count = self.columns.len();
        if !(2..=usize::from(u8::MAX)).contains(&count) {
            return Err(DataError::setting("labels", format!("{count} stages, there must be 2 to 255")));
        }
        let known = |word: &str, words: &[String], usual: [&str; 2]| {
            let word = canonical(word);
            usual.contains(&word.as_str()) || words.iter().any(|other| canonical(other) == word)
        };
        if let Some(word) = self.positive.iter().find(|word| known(word, &self.negative, ["0", "false"])) {
            let reason = format!("{} stands for 1 and for 0", quoted(word));
            return Err(DataError::setting("labels", reason));
        }
        if let Some(word) = self.negative.iter().find(|word| known(word, &[], ["1", "true"])) {
            let reason = format!("{} stands for 0 and for 1", quoted(word));
            return Err(DataError::setting("labels", reason));
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
            let labels = LabelColumn::read(chunk, column, self)?;
            for (row, depth) in depth.iter_mut().enumerate() {
                let before = depth.map(usize::from);
                let reached = match labels.flag(row) {
                    Flag::No => false,
                    Flag::Yes => true,
                    Flag::Missing if self.missing == MissingLabel::Zero && before < Some(stage) => false,
                    Flag::Missing => return Err(self.nothing(chunk, row, stage)),
                    Flag::Other(found) => return Err(chunk.bad_cell(row, column, found, ALLOWED)),
                };
                match before {
                    _ if !reached => {}
                    Some(before) if before == stage => *depth = Some(before as u8 + 1),
                    Some(_) if self.orphan_conversions == Orphans::Error => {
                        let later = column.clone();
                        let earlier = self.columns[stage - 1].clone();
                        return Err(DataError::Orphan { place: chunk.place(row), later, earlier });
                    }
                    _ => *depth = None,
                }
            }
        }
        Ok(depth)
    }

    fn nothing(&self, chunk: &Chunk, row: usize, stage: usize) -> DataError {
        let allowed = match (self.missing, stage) {
            (MissingLabel::Error, 1..) => format!(
                "{ALLOWED_SHORT} (with labels.missing = \"zero\" nothing counts as 0 where `{}` is 0)",
                self.columns[stage - 1]
            ),
            (MissingLabel::Zero, 1..) => format!("{ALLOWED_SHORT} where `{}` is 1", self.columns[stage - 1]),
            (_, 0) => ALLOWED_SHORT.to_owned(),
        };
        chunk.bad_cell(row, &self.columns[stage], "nothing".to_owned(), &allowed)
    }
}

/// A column of labels.
struct LabelColumn<'a> {
    cells: Cells<'a>,
    positive: Vec<String>,
    negative: Vec<String>,
}

enum Cells<'a> {
    Number(Float64Array),
    Text(StringArray, CellReader<'a>),
}

/// What a cell says.
#[derive(Clone)]
enum Flag {
    No,
    Yes,
    Missing,
    /// Nothing that a label may be; it is ready to be shown.
    Other(String),
}

impl<'a> LabelColumn<'a> {
    fn read(chunk: &'a Chunk, column: &str, spec: &LabelSpec) -> Result<Self, DataError> {
        let array = chunk.column(column)?;
        let wrong =
            || chunk.bad_type(column, array.data_type(), "integers, floats, decimals, booleans and text");
        let usual = plain(array).map_err(|error| match error {
            NoText::Type(_) => wrong(),
            NoText::Bytes { index, found } => chunk.bad_cell(index, column, found, UTF8),
        })?;
        let text = |array: &ArrayRef| {
            Cells::Text(array.as_string::<i32>().clone(), CellReader::new(chunk.spelling()))
        };
        let cells = match usual.data_type() {
            DataType::Utf8 => text(&usual),
            kind if kind.is_decimal() => text(&cast(&usual, &DataType::Utf8).map_err(|_| wrong())?),
            kind if kind.is_numeric() || matches!(kind, DataType::Null | DataType::Boolean) => {
                let numbers = cast(&usual, &DataType::Float64).map_err(|_| wrong())?;
                Cells::Number(numbers.as_primitive::<Float64Type>().clone())
            }
            _ => return Err(wrong()),
        };
        let canonical = |words: &Vec<String>| words.iter().map(|word| canonical(word)).collect();
        Ok(Self { cells, positive: canonical(&spec.positive), negative: canonical(&spec.negative) })
    }

    fn flag(&self, row: usize) -> Flag {
        let text = match &self.cells {
            Cells::Number(array) if array.is_null(row) => return Flag::Missing,
            Cells::Number(array) => match array.value(row) {
                0.0 => return Flag::No,
                1.0 => return Flag::Yes,
                number if number.is_nan() => return Flag::Missing,
                number => Cow::Owned(number.to_string()),
            },
            Cells::Text(array, _) if array.is_null(row) => return Flag::Missing,
            Cells::Text(array, reader) => match reader.key(array.value(row)) {
                Spelled::Missing => return Flag::Missing,
                Spelled::Digits(0) | Spelled::Whole(0) => return Flag::No,
                Spelled::Digits(1) | Spelled::Whole(1) => return Flag::Yes,
                Spelled::Digits(number) | Spelled::Whole(number) => Cow::Owned(number.to_string()),
                Spelled::Same(text) => Cow::Borrowed(text),
                Spelled::Other(text) => Cow::Owned(text),
                Spelled::Rounded => Cow::Borrowed(array.value(row)),
            },
        };
        match text.as_ref() {
            "0" | "false" => Flag::No,
            "1" | "true" => Flag::Yes,
            text if self.positive.iter().any(|word| word == text) => Flag::Yes,
            text if self.negative.iter().any(|word| word == text) => Flag::No,
            text => Flag::Other(quoted(text)),
        }
    }
}

/// The label that a text stands for where no other words are named.
pub fn label_of(text: &str) -> Option<bool> {
    match canonical(text).as_str() {
        "0" | "false" => Some(false),
        "1" | "true" => Some(true),
        _ => None,
    }
}

/// A word as cells are compared with it.
fn canonical(word: &str) -> String {
    static USUAL: LazyLock<Spelling> = LazyLock::new(Spelling::default);
    USUAL.key(word).map_or_else(|| word.to_owned(), Cow::into_owned)
}
