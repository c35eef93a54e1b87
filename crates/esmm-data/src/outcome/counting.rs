//! Columns that say how rows count: weights, rates at which rows without a click were kept, and times.

use serde::{Deserialize, Serialize};

use crate::column::real::RealColumn;
use crate::column::spelling::CellReader;
use crate::dataset::RowCounts;
use crate::error::{DataError, quoted};
use crate::read::chunk::Chunk;
use crate::read::source::SourceSpec;
use crate::split::time::{self, DATE, Moment, Moments, Span};

/// Columns that say how each row counts. All of them stand with the impressions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountSpec {
    /// The weight of the row: finite, 0 or more, and not 0 in all rows of a split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<String>,
    /// The share of the impressions without a click that were kept among rows like this one, in `(0, 1]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative_rate: Option<String>,
    /// How long a conversion may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<ConversionWindow>,
}

/// How long a row may take to reach the stages after the first. Rows that are younger when the log ends count for the first
/// stage only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConversionWindow {
    /// The time of the row, a column as of a split by time.
    pub column: String,
    /// How long: a number with a unit (`s`, `min`, `h`, `d`, `w`), or of a column of numbers a number in its unit.
    pub length: String,
    /// When the log ends; `None`: at the newest time of the rows that are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

impl CountSpec {
    /// Whether no column is named.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The columns.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        let time = self.window.as_ref().map(|window| window.column.as_str());
        [self.weight.as_deref(), self.negative_rate.as_deref(), time].into_iter().flatten()
    }

    /// A line for each way of counting.
    pub fn described(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(column) = &self.weight {
            lines.push(format!("each row counts as often as column `{column}` says"));
        }
        if let Some(column) = &self.negative_rate {
            lines.push(format!(
                "an impression without a click counts as often as there were such impressions, by column `{column}`"
            ));
        }
        if let Some(ConversionWindow { column, length, until }) = &self.window {
            let end = until
                .as_deref()
                .map_or_else(|| "at its newest row".to_owned(), |until| format!("at {until}"));
            lines.push(format!(
                "rows younger than {length} by column `{column}` count for the first stage only (the log ends {end})"
            ));
        }
        lines
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// A length that is none.
    pub fn validate(&self) -> Result<(), DataError> {
        self.window.as_ref().map_or(Ok(()), |window| window.span().map(|_| ()))
    }

    /// Finds the moment after which rows are open, in a pass over the times of all rows. Without a source no row is open.
    pub(crate) fn resolve(&self, sources: &[&SourceSpec]) -> Result<Counting, DataError> {
        let open_after = match &self.window {
            Some(window) if !sources.is_empty() => Some(window.open_after(sources)?),
            _ => None,
        };
        Ok(Counting { spec: self.clone(), open_after })
    }
}

impl ConversionWindow {
    fn span(&self) -> Result<Span, DataError> {
        Span::parse(&self.length).map_err(|reason| {
            DataError::setting("labels", format!("conversion_window = {}: {reason}", quoted(&self.length)))
        })
    }

    fn open_after(&self, sources: &[&SourceSpec]) -> Result<Moment, DataError> {
        let wrong = |reason: String| DataError::setting("labels", reason);
        let span = self.span()?;
        let mut moments = Moments::default();
        for source in sources {
            for chunk in source.open(std::slice::from_ref(&self.column))?.or_empty() {
                moments.observe(&chunk?, &self.column)?;
            }
        }
        let Some(newest) = moments.last() else {
            return Err(wrong(format!("conversion_window: column `{}` has no rows", self.column)));
        };
        let end = match &self.until {
            None => newest,
            Some(text) => {
                let Some(source) = sources.first() else { return Ok(newest) };
                let zone = source.spelling.zone().map_err(wrong)?;
                let found = Moment::parse(text, &CellReader::new(&source.spelling), zone);
                let Ok(Some(end)) = found else {
                    return Err(wrong(format!(
                        "conversions_until = {}, it must be {DATE} or a number",
                        quoted(text)
                    )));
                };
                if end.is_number() != newest.is_number() {
                    return Err(wrong(format!(
                        "conversions_until is a {}, but column `{}` holds a {} in each row: they must be alike",
                        end.kind().described(),
                        self.column,
                        newest.kind().described()
                    )));
                }
                end
            }
        };
        end.minus(span).map_err(|reason| {
            wrong(format!("conversion_window = {}: column `{}` {reason}", quoted(&self.length), self.column))
        })
    }
}

/// The same, ready to read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counting {
    pub(crate) spec: CountSpec,
    /// Rows after this moment are open.
    open_after: Option<Moment>,
}

impl Counting {
    /// How the rows of a chunk count.
    ///
    /// # Errors
    /// A column that is not there, a weight or rate out of range or missing, a time that is none.
    pub(crate) fn read(&self, chunk: &Chunk) -> Result<RowCounts, DataError> {
        let weight = self.spec.weight.as_deref().map(|column| {
            let fits = |value: f64| (0.0..=f64::from(f32::MAX)).contains(&value);
            reals(chunk, column, fits, "a weight, which is a finite number from 0 on")
        });
        let negative_rate = self.spec.negative_rate.as_deref().map(|column| {
            // Above the smallest f32, or it would become 0.
            let fits = |value: f64| value <= 1.0 && value >= f64::from(f32::MIN_POSITIVE);
            let allowed =
                "a negative_rate, the share of impressions without a click that were kept: above 0 and at most 1";
            reals(chunk, column, fits, allowed)
        });
        let open = match (&self.spec.window, &self.open_after) {
            (Some(window), Some(after)) => {
                Some(time::read(chunk, &window.column)?.iter().map(|moment| moment > after).collect())
            }
            _ => None,
        };
        Ok(RowCounts { weight: weight.transpose()?, negative_rate: negative_rate.transpose()?, open })
    }

    /// Counts of no rows, with the parts that `read` finds.
    pub(crate) fn empty(&self) -> RowCounts {
        RowCounts {
            weight: self.spec.weight.as_ref().map(|_| Vec::new()),
            negative_rate: self.spec.negative_rate.as_ref().map(|_| Vec::new()),
            open: self.open_after.as_ref().map(|_| Vec::new()),
        }
    }

    /// An error where all rows of a split weigh nothing.
    pub(crate) fn check_weight(&self, split: &str, weight: f64) -> Result<(), DataError> {
        match &self.spec.weight {
            Some(column) if weight == 0.0 => Err(DataError::setting(
                "labels",
                format!(
                    "weight: column `{column}` is 0 in all rows of the {split} split, some must weigh more"
                ),
            )),
            _ => Ok(()),
        }
    }
}

fn reals(
    chunk: &Chunk,
    column: &str,
    fits: impl Fn(f64) -> bool,
    allowed: &str,
) -> Result<Vec<f32>, DataError> {
    let mut values = Vec::with_capacity(chunk.rows());
    RealColumn::read(chunk, column, |row, value| match value {
        Some(value) if fits(value) => {
            values.push(value as f32);
            Ok(())
        }
        other => {
            let found = other.map_or_else(|| "nothing".to_owned(), |value| format!("`{value}`"));
            Err(chunk.bad_cell(row, column, found, allowed))
        }
    })?;
    Ok(values)
}
