//! The rows of a column in order of time.

use std::cmp::Ordering;

use esmm_data::moment_of;

use crate::column::Column;

impl Column {
    /// The rank in time of each row, from 0; rows of the same moment have the same rank. Numbers are compared as numbers,
    /// dates and times as the moments that a split by time reads, anything else as text. Missing values come first.
    pub(crate) fn time_ranks(&self) -> Vec<usize> {
        ranks(self.cells(), self.stats.all_numbers())
    }
}

fn ranks<'a>(cells: impl Iterator<Item = Option<&'a str>> + Clone, all_numbers: bool) -> Vec<usize> {
    if all_numbers {
        // Adding 0 makes -0 and 0 one moment.
        let number = |cell: &str| cell.parse::<f64>().map_or(f64::NAN, |number| number + 0.0);
        let numbers: Vec<Option<f64>> = cells.map(|cell| cell.map(number)).collect();
        return ranked(&numbers, f64::total_cmp);
    }
    let moment = |cell: Option<&str>| match cell {
        Some(cell) => moment_of(cell).map(Some),
        None => Some(None),
    };
    let moments: Option<Vec<Option<i128>>> = cells.clone().map(moment).collect();
    if let Some(moments) = moments {
        return ranked(&moments, Ord::cmp);
    }
    let texts: Vec<Option<&str>> = cells.collect();
    ranked(&texts, Ord::cmp)
}

fn ranked<T>(values: &[Option<T>], compare: impl Fn(&T, &T) -> Ordering) -> Vec<usize> {
    let compared = |left: usize, right: usize| match (&values[left], &values[right]) {
        (Some(left), Some(right)) => compare(left, right),
        (left, right) => left.is_some().cmp(&right.is_some()),
    };
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|left, right| compared(*left, *right));
    let mut ranks = vec![0; values.len()];
    for pair in order.windows(2) {
        let is_later = compared(pair[0], pair[1]) == Ordering::Less;
        ranks[pair[1]] = ranks[pair[0]] + usize::from(is_later);
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_order_of_time_however_it_is_written() {
        // The same moments each time: the third, the first, the second, the third again.
        for cells in [
            ["2024-02-01", "2023-11-14", "2024-01-31", "2024-02-01"],
            ["01.02.2024", "14.11.2023", "31.01.2024", "1.2.2024"],
            ["01.02.2024 00:15", "14.11.2023 22:13", "31.01.2024 23:59", "1.2.2024 00:15:00"],
            ["2024-02-01T01:00+01:00", "2023-11-14T23:59Z", "2024-01-31T20:00-03:00", "2024-02-01T00:00Z"],
            ["c", "a", "b", "c"],
        ] {
            assert_eq!(ranks(cells.into_iter().map(Some), false), [2, 0, 1, 2], "{cells:?}");
        }
        let numbers = ["1000000000", "-5", "999999999", "1e9"];
        assert_eq!(ranks(numbers.into_iter().map(Some), true), [2, 0, 1, 2]);
        assert_eq!(ranks([Some("0"), Some("-0")].into_iter(), true), [0, 0]);
        assert_eq!(
            ranks([Some("14.11.2023"), None, Some("1.2.2024"), None].into_iter(), false),
            [1, 0, 2, 0]
        );
        assert_eq!(ranks(std::iter::empty(), false), [0; 0]);
    }
}
