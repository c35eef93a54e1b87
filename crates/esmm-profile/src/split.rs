//! How the rows are divided: by time where there is one.

use esmm_data::{moment_of, quoted};
use esmm_run::wording::grouped;

use crate::column::{Column, Kind};
use crate::label::listed;
use crate::words::{is_one_of, words};

/// Names of the time of an impression.
const EXACT: &str = "time timestamp ts datetime date dt day event_time event_timestamp event_date impression_time \
    request_time log_time created_at logged_at event_ts";
/// Words of times.
const WORDS: &str = "time timestamp ts date datetime day at";
/// Words of other times and of durations.
const OTHER: &str = "dwell watch stay duration last first birth birthday born dob register registered registration signup \
    joined renewal release released publish published update updated spent since";
/// The weight of a column of times whose name does not tell of what.
const UNNAMED: u32 = 1;
/// The smallest number that is a moment whatever the name: 1973, in seconds since 1970, or 19000101.
const MOMENT: f64 = 19_000_101.0;
/// Fewer distinct moments than this, and a split is looked at closely.
const FEW: usize = 100;
/// Shares of the validation and of the test split that are tried.
const SHARES: [f64; 7] = [0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5];

/// A guess at the split.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SplitGuess {
    /// The column of the time, or a split at random.
    pub(crate) time: Option<String>,
    pub(crate) valid: f64,
    pub(crate) test: f64,
    pub(crate) why: String,
    pub(crate) unsure: Option<String>,
}

impl SplitGuess {
    /// The split that the columns allow; `whole` when every row was looked at.
    pub(crate) fn of(columns: &[Column], whole: bool) -> Self {
        let mut times: Vec<(u32, &Column)> =
            columns.iter().filter_map(|column| Some((weight(column)?, column))).collect();
        // Where that is known, a time without such a name is that of something else, as a birthday.
        if columns.iter().any(is_time_with_holes) {
            times.retain(|(weight, _)| *weight > UNNAMED);
        }
        times.sort_by_key(|(weight, column)| std::cmp::Reverse((*weight, column.stats.distinct)));
        let names: Vec<&str> = times.iter().map(|(_, column)| column.name.as_str()).collect();
        for (weight, column) in &times {
            let counts = counts(column);
            let few = counts.len() < FEW;
            let shares = match few && whole {
                true => fitting(&counts),
                false => Some((0.1, 0.1)),
            };
            let Some((valid, test)) = shares else { continue };
            let mut unsure = None;
            if names.len() > 1 {
                unsure = Some(format!("{} are times: split by `{}`", listed(&names), column.name));
            } else if *weight == UNNAMED {
                unsure = Some(format!(
                    "`{}` is taken for the time of an impression, for it holds times: say split = {{ by = \"random\", ... }} if it is \
                     that of something else",
                    column.name
                ));
            } else if few {
                unsure = Some(format!(
                    "`{}` has {} different moments: rows of one moment stay in one split, so the splits may not get \
                     the shares they were given",
                    column.name,
                    counts.len()
                ));
            }
            let why = "the latest rows test, as the model will be used on later rows than it learned from"
                .to_owned();
            return Self { time: Some(column.name.clone()), valid, test, why, unsure };
        }
        let (why, unsure) = match names.first() {
            None => (
                "no column looks like a time",
                nearly_time(columns)
                    .unwrap_or_else(|| "no column looks like the time of an impression".to_owned()),
            ),
            Some(_) => (
                "the times are too few to divide by",
                "the column of the time has too few moments to divide by".to_owned(),
            ),
        };
        let unsure = Some(format!("{unsure}: the rows are split at random, which flatters the metrics"));
        Self { time: None, valid: 0.1, test: 0.1, why: why.to_owned(), unsure }
    }
}

/// What keeps a column from being the time of an impression: some of its values, and how to write them. Of several columns
/// the one with the fewest such values. What [`choose`](crate::choose) says of columns of dates is not said again.
fn nearly_time(columns: &[Column]) -> Option<String> {
    let mut near = Vec::new();
    for column in columns {
        let stats = &column.stats;
        let is_told = stats.no_moment.is_some() && stats.dates == stats.present;
        let is_near = Named::of(column).is_time() || 10 * stats.moments >= 9 * stats.rows;
        let count = unread(column).count();
        // What most rows have no value of, as the time of a click, is not the time of an impression.
        let is_there = 10 * stats.present >= 9 * stats.rows;
        if count > 0 && is_near && is_there && !is_told && stats.distinct > 2 && column.lengths.is_none() {
            near.push((count, column));
        }
    }
    let (count, column) = near.into_iter().min_by_key(|(count, _)| *count)?;
    let found = match unread(column).flatten().next() {
        Some(text) => format!("are not read as times, such as {}", quoted(text)),
        None => "are missing".to_owned(),
    };
    Some(format!(
        "`{}` may be the time of an impression, but {} of its {} values {found} (write them as 2024-01-31 10:00, \
         31.01.2024 10:00 or as numbers)",
        column.name,
        grouped(count as u64),
        grouped(column.stats.rows as u64)
    ))
}

/// The cells that are no time: missing ones, and those that are neither a number nor read as a moment.
fn unread(column: &Column) -> impl Iterator<Item = Option<&str>> {
    let is_read = |cell: &str| cell.parse().is_ok_and(f64::is_finite) || moment_of(cell).is_some();
    column.cells().filter(move |cell| !cell.is_some_and(is_read))
}

/// Whether a column is named as the time of an impression and would be it but for some cells.
fn is_time_with_holes(column: &Column) -> bool {
    let unread = unread(column).count();
    Named::of(column).is_time() && unread > 0 && 10 * unread <= column.stats.rows && column.stats.distinct > 2
}

/// What a column's name says of times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    /// It is a name of the time of an impression.
    Exactly,
    /// It has a word of times.
    Time,
    /// It has a word of other times or of durations.
    OtherTime,
    /// Nothing.
    NoTime,
}

impl Named {
    fn of(column: &Column) -> Self {
        let words = words(&column.name);
        let has = |list: &str| words.iter().any(|word| is_one_of(word, list));
        match () {
            () if is_one_of(&words.join("_"), EXACT) => Self::Exactly,
            () if has(OTHER) => Self::OtherTime,
            () if has(WORDS) => Self::Time,
            () => Self::NoTime,
        }
    }

    /// Whether that is the time of an impression.
    fn is_time(self) -> bool {
        matches!(self, Self::Exactly | Self::Time)
    }
}

/// How surely a column is the time of an impression.
fn weight(column: &Column) -> Option<u32> {
    let stats = &column.stats;
    let readable = stats.missing() == 0 && stats.distinct > 2;
    let is_dates = stats.moments == stats.rows || (column.kind == Kind::Time && stats.dates == stats.rows);
    if !readable || !(is_dates || stats.all_numbers()) || column.lengths.is_some() {
        return None;
    }
    let is_moment = is_dates || stats.numbers.min >= MOMENT;
    match Named::of(column) {
        Named::Exactly => Some(3),
        Named::Time => is_moment.then_some(2),
        Named::OtherTime => None,
        Named::NoTime => (is_moment && column.kind == Kind::Time).then_some(UNNAMED),
    }
}

/// The number of rows of each moment, in order of time.
fn counts(column: &Column) -> Vec<usize> {
    let mut counts = Vec::new();
    for rank in column.time_ranks() {
        if counts.len() <= rank {
            counts.resize(rank + 1, 0);
        }
        counts[rank] += 1;
    }
    counts
}

/// The smallest shares with which every split gets rows, and training most of them.
fn fitting(counts: &[usize]) -> Option<(f64, f64)> {
    let rows: usize = counts.iter().sum();
    let pairs = SHARES.iter().flat_map(|test| SHARES.iter().map(move |valid| (*valid, *test)));
    let fits = pairs.filter(|(valid, test)| {
        let [train, valid, test] = parts(counts, *valid, *test);
        2 * train >= rows && valid > 0 && test > 0
    });
    fits.min_by(|left, right| (left.0 + left.1).total_cmp(&(right.0 + right.1)))
}

/// Rows of the splits: a split begins with the first moment of which all rows have at least its rank.
fn parts(counts: &[usize], valid: f64, test: f64) -> [usize; 3] {
    let rows: usize = counts.iter().sum();
    let part = |share: f64| (rows as f64 * share).round() as usize;
    let test_rank = rows.saturating_sub(part(test));
    let valid_rank = test_rank.saturating_sub(part(valid));
    let from = |rank: usize| {
        let mut before = 0;
        counts.iter().find_map(|count| {
            let found = (before >= rank).then_some(before);
            before += count;
            found
        })
    };
    let test_from = from(test_rank).unwrap_or(rows);
    let valid_from = from(valid_rank).unwrap_or(rows).min(test_from);
    [valid_from, test_from - valid_from, rows - test_from]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten days of ten rows; a week whose last day has a fifth of all rows.
    #[test]
    fn shares_grow_until_every_split_has_rows() {
        assert_eq!(parts(&[10; 10], 0.1, 0.1), [80, 10, 10]);
        assert_eq!(fitting(&[10; 10]), Some((0.1, 0.1)));
        let week = [13, 13, 13, 13, 14, 14, 20];
        assert_eq!(parts(&week, 0.1, 0.1), [80, 20, 0]);
        let (valid, test) = fitting(&week).unwrap();
        let parts = parts(&week, valid, test);
        assert!(parts.iter().all(|rows| *rows > 0) && parts[0] >= 50, "{parts:?} with {valid}, {test}");
        assert_eq!(fitting(&[50, 50]), None);
    }
}
