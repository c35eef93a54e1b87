//! How the rows are divided: by time where there is one.

use esmm_data::moment_of;

use crate::column::{Column, Kind};
use crate::label::listed;
use crate::words::{is_one_of, words};

/// Names of the time of an impression.
const EXACT: &str = "time timestamp ts datetime date dt day event_time event_timestamp event_date impression_time \
    request_time log_time created_at logged_at event_ts";
/// Words of times.
const WORDS: &str = "time timestamp ts date datetime day at";
/// Words of other times and of durations.
const OTHER: &str = "dwell watch stay duration last first birth register registered registration release released publish \
    published update updated spent since";
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
        times.sort_by_key(|(weight, column)| std::cmp::Reverse((*weight, column.stats.distinct)));
        let names: Vec<&str> = times.iter().map(|(_, column)| column.name.as_str()).collect();
        for (_, column) in &times {
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
            None => ("no column looks like a time", "no column looks like the time of an impression"),
            Some(_) => (
                "the times are too few to divide by",
                "the column of the time has too few moments to divide by",
            ),
        };
        let unsure = Some(format!("{unsure}: the rows are split at random, which flatters the metrics"));
        Self { time: None, valid: 0.1, test: 0.1, why: why.to_owned(), unsure }
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
    let words = words(&column.name);
    let has = |list: &str| words.iter().any(|word| is_one_of(word, list));
    let is_moment = is_dates || stats.numbers.min >= MOMENT;
    if is_one_of(&words.join("_"), EXACT) {
        return Some(3);
    }
    match () {
        () if has(OTHER) || !is_moment => None,
        () if has(WORDS) => Some(2),
        () => (column.kind == Kind::Time).then_some(1),
    }
}

/// The rows of each moment, in order.
fn counts(column: &Column) -> Vec<usize> {
    let runs = |equal: &mut dyn FnMut(usize) -> bool, count: usize| {
        let mut runs = Vec::new();
        for place in 0..count {
            match runs.last_mut() {
                Some(run) if equal(place) => *run += 1,
                _ => runs.push(1),
            }
        }
        runs
    };
    if column.stats.all_numbers() {
        let mut numbers: Vec<f64> = column.cells().flatten().filter_map(|cell| cell.parse().ok()).collect();
        numbers.sort_by(f64::total_cmp);
        return runs(&mut |place| numbers[place] == numbers[place - 1], numbers.len());
    }
    let moments: Option<Vec<i128>> = column.cells().flatten().map(moment_of).collect();
    if let Some(mut moments) = moments {
        moments.sort_unstable();
        return runs(&mut |place| moments[place] == moments[place - 1], moments.len());
    }
    let mut texts: Vec<&str> = column.cells().flatten().collect();
    texts.sort_unstable();
    runs(&mut |place| texts[place] == texts[place - 1], texts.len())
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
