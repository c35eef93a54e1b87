//! What is counted in a column: values, numbers, dates.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use esmm_data::moment_of;

use crate::numbers::Numbers;

/// Counts of the values of a column, or of the items of a column of lists.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Stats {
    /// Values, missing ones included.
    pub(crate) rows: usize,
    /// Values that are there.
    pub(crate) present: usize,
    /// Distinct values.
    pub(crate) distinct: usize,
    /// Values that were seen once.
    pub(crate) singles: usize,
    /// The most common value and its count.
    pub(crate) top: Option<(String, usize)>,
    /// Of the values that are numbers.
    pub(crate) numbers: Numbers,
    /// The first value that is no finite number.
    pub(crate) no_number: Option<String>,
    /// Values that look like dates, with or without a time.
    pub(crate) dates: usize,
    /// Of these those that a split by time reads.
    pub(crate) moments: usize,
    /// The first that it does not.
    pub(crate) no_moment: Option<String>,
    /// Bytes of all values.
    pub(crate) bytes: usize,
}

impl Stats {
    /// Counts some values; `None` is a missing one.
    pub(crate) fn of<'a>(values: impl Iterator<Item = Option<&'a str>>) -> Self {
        let mut stats = Self::default();
        let mut numbers = Vec::new();
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for value in values {
            stats.rows += 1;
            let Some(value) = value else { continue };
            stats.present += 1;
            stats.bytes += value.len();
            *counts.entry(value).or_default() += 1;
            match value.parse::<f64>() {
                Ok(number) if number.is_finite() => numbers.push(number),
                _ => {
                    if looks_like_date(value) {
                        stats.dates += 1;
                        match moment_of(value) {
                            Some(_) => stats.moments += 1,
                            None => drop(stats.no_moment.get_or_insert_with(|| value.to_owned())),
                        }
                    }
                    stats.no_number.get_or_insert_with(|| value.to_owned());
                }
            }
        }
        stats.distinct = counts.len();
        stats.singles = counts.values().filter(|count| **count == 1).count();
        let top = counts.iter().max_by_key(|(value, count)| (**count, std::cmp::Reverse(**value)));
        stats.top = top.map(|(value, count)| ((*value).to_owned(), *count));
        stats.numbers = Numbers::of(numbers);
        stats
    }

    /// Values that are missing.
    pub(crate) fn missing(&self) -> usize {
        self.rows - self.present
    }

    /// Whether all values that are there are finite numbers.
    pub(crate) fn all_numbers(&self) -> bool {
        self.present > 0 && self.numbers.count == self.present
    }

    /// Whether all values that are there are whole numbers.
    pub(crate) fn all_whole(&self) -> bool {
        self.all_numbers() && self.numbers.whole
    }

    /// Whether each row has another value.
    pub(crate) fn is_unique(&self) -> bool {
        self.present > 1 && self.distinct == self.present
    }

    /// Distinct values among `total` rows of which these are a sample: the guaranteed-error estimator
    /// `sqrt(N/n) f1 + (d - f1)`, f1 the values seen once (Charikar, Chaudhuri, Motwani and Narasayya, PODS 2000).
    pub(crate) fn estimated_distinct(&self, total: u64) -> u64 {
        let scale = (total as f64 / self.rows.max(1) as f64).max(1.0).sqrt();
        (scale * self.singles as f64 + (self.distinct - self.singles) as f64).round() as u64
    }
}

/// Years of dates: what has none of them is a code of numbers.
const YEARS: RangeInclusive<u32> = 1800..=2199;

/// Whether a text begins with a date in one of the ways in which people write them: `2024-01-31`, `31.01.2024`, `1/31/2024`.
pub(crate) fn looks_like_date(text: &str) -> bool {
    let end =
        text.find(|letter: char| !letter.is_ascii_digit() && !"-./".contains(letter)).unwrap_or(text.len());
    let (date, rest) = text.split_at(end);
    let Some(separator) = date.chars().find(|letter| !letter.is_ascii_digit()) else { return false };
    let parts: Vec<&str> = date.split(separator).collect();
    let number = |part: &str, length: RangeInclusive<usize>| {
        part.parse::<u32>().ok().filter(|_| length.contains(&part.len()))
    };
    let is_year = |part: &str| number(part, 4..=4).is_some_and(|year| YEARS.contains(&year));
    let is_month_and_day = |one: &str, other: &str| match (number(one, 1..=2), number(other, 1..=2)) {
        (Some(one), Some(other)) => (1..=12).contains(&one.min(other)) && (1..=31).contains(&one.max(other)),
        _ => false,
    };
    let fits = match parts.as_slice() {
        [year, month, day] if is_year(year) => is_month_and_day(month, day),
        [one, other, year] if is_year(year) => is_month_and_day(one, other),
        _ => false,
    };
    fits && !date.ends_with(separator) && (rest.is_empty() || rest.starts_with([' ', 'T', 't', ',']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted() {
        let stats = Stats::of([Some("a"), None, Some("b"), Some("a"), Some("2024-01-31")].into_iter());
        assert_eq!((stats.rows, stats.present, stats.missing()), (5, 4, 1));
        assert_eq!((stats.distinct, stats.singles, stats.dates), (3, 2, 1));
        assert_eq!((stats.top, stats.no_number), (Some(("a".into(), 2)), Some("a".into())));
    }

    #[test]
    fn dates_are_told_from_what_has_their_signs() {
        for text in ["2024-01-31", "31.01.2024 10:00", "1/31/2024", "2024/01/31T10:00", "31.1.2024, 10:00:00"]
        {
            assert!(looks_like_date(text), "{text}");
        }
        for text in
            ["1.2.3", "10.0.2024.1", "555-1234", "2024-01", "2024-01-31-7", "a", "", "1.2024", "12-34-5678x"]
        {
            assert!(!looks_like_date(text), "{text}");
        }
        // Codes of categories: no month, no day, no year.
        for text in
            ["18/48/2024", "18.18.2006", "1/0/2024", "2024-13-32", "11-17-1097", "1027/8/8", "12-11-3456"]
        {
            assert!(!looks_like_date(text), "{text}");
        }
        let stats = Stats::of(["31.01.2024", "1/31/2024", "2024-01-31 oops"].into_iter().map(Some));
        assert_eq!((stats.dates, stats.moments, stats.no_moment.as_deref()), (3, 1, Some("1/31/2024")));
    }

    /// sqrt(100 / 4) * 2 + (3 - 2)
    #[test]
    fn distinct_values_of_all_rows_are_estimated() {
        let stats = Stats::of(["a", "b", "b", "c"].into_iter().map(Some));
        assert_eq!(stats.estimated_distinct(100), 11);
        assert_eq!(stats.estimated_distinct(4), 3);
    }
}
