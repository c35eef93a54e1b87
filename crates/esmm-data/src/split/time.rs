//! Moments of a time column, in order: numbers, or dates with and without a time.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Int64Type};
use chrono_tz::Tz;

use crate::column::key::{Number, canonical_int};
use crate::column::moment::Stamp;
use crate::column::plain::{NoText, UTF8, nanos, plain};
use crate::column::real::{FINITE, RealColumn};
use crate::column::spelling::CellReader;
use crate::error::{DataError, quoted};
use crate::read::chunk::Chunk;

pub(crate) const DATE: &str =
    "a date, as 2024-01-31, 31.01.2024, 2024-01-31 23:59:59 or 2024-01-31T23:59:59+01:00";
const TIME_TYPES: &str = "numbers, dates, timestamps and text";

/// A length of time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Span {
    /// With a unit, in nanoseconds.
    Nanos(i128),
    /// Without one: in the unit of a column of numbers.
    Number(f64),
}

impl Span {
    /// `7d`, `36 h`, `90min`, `30s`, `2w`, or a number.
    ///
    /// # Errors
    /// What it must be, to be put after the text.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            "it must be a number above 0 with a unit (s, min, h, d, w), as 7d, or for a column of numbers without"
                .to_owned()
        };
        let text = text.trim();
        let digits = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: f64 = number.trim().parse().map_err(|_| wrong())?;
        if !number.is_finite() || number <= 0.0 {
            return Err(wrong());
        }
        let seconds = match unit.trim() {
            "" => return Ok(Self::Number(number)),
            "s" | "second" | "seconds" => 1.0,
            "min" | "minute" | "minutes" => 60.0,
            "h" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86_400.0,
            "w" | "week" | "weeks" => 7.0 * 86_400.0,
            _ => return Err(wrong()),
        };
        Ok(Self::Nanos((number * seconds * 1e9) as i128))
    }
}

/// A moment. A column has numbers, or moments with a zone, or moments without.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Moment {
    /// A number, and all its digits when it is whole.
    Number(f64, i64),
    /// A date or time.
    Stamp(Stamp),
}

/// What a column of times holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Number,
    Local,
    Zoned,
}

impl Kind {
    pub(crate) fn described(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Local => "time without an offset",
            Self::Zoned => "time with an offset or zone",
        }
    }
}

impl Ord for Moment {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(real, whole), Self::Number(other, than)) => {
                real.total_cmp(other).then_with(|| whole.cmp(than))
            }
            (Self::Stamp(stamp), Self::Stamp(other)) => stamp.nanos.cmp(&other.nanos),
            (Self::Number(..), Self::Stamp(_)) => Ordering::Less,
            (Self::Stamp(_), Self::Number(..)) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Moment {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Moment {}

impl Moment {
    fn whole(number: i64) -> Self {
        Self::Number(number as f64, number)
    }

    fn real(number: f64) -> Self {
        let number = number + 0.0;
        Self::Number(number, if number.fract() == 0.0 { number as i64 } else { 0 })
    }

    /// The moment that a cell stands for: `Ok(None)` when it is missing, or an error when it is none.
    pub(crate) fn parse(text: &str, cells: &CellReader<'_>, zone: Option<Tz>) -> Result<Option<Self>, ()> {
        if let Some(number) = canonical_int(text) {
            return Ok(Some(Self::whole(number)));
        }
        let Some(text) = cells.present(text) else { return Ok(None) };
        if let Some(Number::Whole(number)) = cells.number(text) {
            return Ok(Some(Self::whole(number)));
        }
        if let Some(stamp) = Stamp::parse(text, zone) {
            return Ok(Some(Self::Stamp(stamp)));
        }
        match text.starts_with(|first: char| first.is_ascii_alphabetic()) {
            true => Err(()),
            false => cells.spelling.real(text).map(|number| number.map(Self::real)).map_err(|_| ()),
        }
    }

    /// Whether it is a number, and no date.
    pub(crate) fn is_number(&self) -> bool {
        matches!(self, Self::Number(..))
    }

    /// The moment that was so long before.
    ///
    /// # Errors
    /// A length with a unit where moments are numbers, or without one where they are dates.
    pub(crate) fn minus(self, span: Span) -> Result<Self, &'static str> {
        match (self, span) {
            (Self::Number(number, _), Span::Number(length)) => Ok(Self::real(number - length)),
            (Self::Stamp(stamp), Span::Nanos(length)) => {
                Ok(Self::Stamp(Stamp { nanos: stamp.nanos - length, ..stamp }))
            }
            (Self::Number(..), Span::Nanos(_)) => {
                Err("holds numbers, whose unit nobody knows: give the length as a number in that unit")
            }
            (Self::Stamp(_), Span::Number(_)) => {
                Err("holds dates or times: give the length with a unit (s, min, h, d, w), as 7d")
            }
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Number(..) => Kind::Number,
            Self::Stamp(Stamp { zoned: true, .. }) => Kind::Zoned,
            Self::Stamp(_) => Kind::Local,
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Number(number, _) => format!("`{number}`"),
            Self::Stamp(stamp) => format!("`{}`", Stamp::text(stamp.nanos).unwrap_or_default()),
        }
    }
}

/// The moments of a chunk.
///
/// # Errors
/// A missing value, and a value that is neither a finite number nor a date.
pub(crate) fn read(chunk: &Chunk, column: &str) -> Result<Vec<Moment>, DataError> {
    let array = chunk.column(column)?;
    let zone = chunk.spelling().zone().map_err(|reason| DataError::setting("data", reason))?;
    let times = plain(array).map_err(|error| match error {
        NoText::Type(kind) => chunk.bad_type(column, &kind, TIME_TYPES),
        NoText::Bytes { index, found } => chunk.bad_cell(index, column, found, UTF8),
    })?;
    let missing = |row| chunk.bad_cell(row, column, "nothing".to_owned(), "a time");
    let rows = 0..chunk.rows();
    match times.data_type() {
        DataType::Int64 => {
            let array = times.as_primitive::<Int64Type>();
            let moment = |row| {
                array.is_valid(row).then(|| Moment::whole(array.value(row))).ok_or_else(|| missing(row))
            };
            rows.map(moment).collect()
        }
        DataType::Utf8 => {
            let array = times.as_string::<i32>();
            let cells = CellReader::new(chunk.spelling());
            let moment = |row| match array
                .is_valid(row)
                .then(|| Moment::parse(array.value(row), &cells, zone))
            {
                None | Some(Ok(None)) => Err(missing(row)),
                Some(Ok(Some(moment))) => Ok(moment),
                Some(Err(())) => {
                    Err(chunk.bad_cell(row, column, quoted(array.value(row)), &format!("a number or {DATE}")))
                }
            };
            rows.map(moment).collect()
        }
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => rows
            .map(|row| match stamp(&times, row, zone) {
                None => Err(missing(row)),
                Some(Some(stamp)) => Ok(Moment::Stamp(stamp)),
                Some(None) => {
                    let found = "a time that no clock of data.time_zone shows".to_owned();
                    Err(chunk.bad_cell(row, column, found, DATE))
                }
            })
            .collect(),
        _ => {
            let reals = RealColumn::of(chunk, column)
                .map_err(|_| chunk.bad_type(column, array.data_type(), TIME_TYPES))?;
            let moment = |row| match reals.value(row) {
                Ok(Some(value)) => Ok(Moment::real(value)),
                Ok(None) => Err(missing(row)),
                Err(found) => Err(chunk.bad_cell(row, column, found, FINITE)),
            };
            rows.map(moment).collect()
        }
    }
}

/// The moment of a row of dates or timestamps: `None` when it is missing, `Some(None)` when the zone's clocks skip it.
fn stamp(times: &ArrayRef, row: usize, zone: Option<Tz>) -> Option<Option<Stamp>> {
    let nanos = nanos(times)?(row)?;
    if matches!(times.data_type(), DataType::Timestamp(_, Some(_))) {
        return Some(Some(Stamp { nanos, zoned: true }));
    }
    match (zone, Stamp::clock(nanos)) {
        (Some(_), Some(shown)) => Some(Stamp::local(shown, zone)),
        _ => Some(Some(Stamp { nanos, zoned: false })),
    }
}

/// How often each moment occurs.
#[derive(Debug, Default)]
pub(crate) struct Moments {
    kind: Option<Kind>,
    counts: BTreeMap<Moment, u64>,
}

impl Moments {
    /// Counts the moments of a chunk.
    ///
    /// # Errors
    /// As [`read`], and a moment of another kind than those before: nobody knows which of the two is earlier.
    pub(crate) fn observe(&mut self, chunk: &Chunk, column: &str) -> Result<(), DataError> {
        for (row, moment) in read(chunk, column)?.into_iter().enumerate() {
            let kind = *self.kind.get_or_insert(moment.kind());
            if kind != moment.kind() {
                let found = format!("{}, a {}", moment.shown(), moment.kind().described());
                let allowed = format!("a {}, as in the rows before", kind.described());
                return Err(chunk.bad_cell(row, column, found, &allowed));
            }
            *self.counts.entry(moment).or_default() += 1;
        }
        Ok(())
    }

    /// What the column holds; `None` of no rows.
    pub(crate) fn kind(&self) -> Option<Kind> {
        self.kind
    }

    /// The newest moment; `None` of no rows.
    pub(crate) fn last(&self) -> Option<Moment> {
        self.counts.keys().next_back().copied()
    }

    /// The first moment of which all rows have at least this rank, counted from 0: rows that are alike stay together,
    /// on the side of the first of them. `None` past the last moment.
    pub(crate) fn first_from(&self, rank: u64) -> Option<Moment> {
        let mut before = 0;
        for (moment, count) in &self.counts {
            if before >= rank {
                return Some(*moment);
            }
            before += count;
        }
        None
    }

    /// Rows before a moment.
    pub(crate) fn rows_before(&self, moment: &Moment) -> u64 {
        self.counts.range(..*moment).map(|(_, count)| count).sum()
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> u64 {
        self.counts.values().sum()
    }
}
