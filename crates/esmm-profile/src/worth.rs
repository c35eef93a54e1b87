//! A trial with the labels: do the single values of a column of numbers tell more of clicks than ranges of them do?
//!
//! An id that is written as a number says nothing by its size: rates of clicks jump from one value to the next. A
//! quantity's rates change slowly. So each half of the rows predicts the clicks of the other, once from the rate of the
//! single value and once from the rate of the range in which it lies, both drawn towards the rate of all rows; and the
//! rates of neighbouring values are correlated.

use std::fmt;

use crate::column::Column;

/// Ranges of about equal count.
const RANGES: usize = 32;
/// Rows of the rate of all rows that are added to those of a value or range.
const PRIOR_ROWS: f64 = 20.0;
/// Stretches of rows that belong to the halves in turn: rows of one visit, which stand together, share a half.
const STRETCHES: usize = 64;
/// Single values must tell so many times more than ranges ...
const TIMES: f64 = 1.5;
/// ... and so much more, as log loss in nats a row.
const NATS: f64 = 0.002;
/// Rates of neighbouring values of an id are correlated less than this.
const CORRELATED: f64 = 0.15;
/// From so many rows a value on, both halves have most values, unless the rows of each stand together.
const ENOUGH_ROWS: usize = 5;
/// Where fewer rows than this share have a value that the other half has, the trial is blind.
const SEEN: f64 = 0.5;

/// What single values and ranges tell, as the log loss in nats a row by which they beat the rate of all rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Worth {
    /// Of single values.
    pub(crate) values: f64,
    /// Of ranges.
    pub(crate) ranges: f64,
    /// Correlation of the rates of neighbouring values, weighted with their rows.
    pub(crate) neighbours: f64,
    /// Whether values recur, but the rows of each stand together, so that neither half tells anything of the other.
    pub(crate) is_blind: bool,
}

impl Worth {
    /// Tries a column of single numbers; `None` where it holds none.
    pub(crate) fn of(column: &Column, clicks: &[bool]) -> Option<Self> {
        let numbers: Vec<Option<f64>> =
            column.cells().map(|cell| cell.and_then(|cell| cell.parse().ok())).collect();
        Self::of_numbers(&numbers, clicks)
    }

    fn of_numbers(numbers: &[Option<f64>], clicks: &[bool]) -> Option<Self> {
        let mut order: Vec<(f64, usize)> =
            numbers.iter().enumerate().filter_map(|(row, number)| Some(((*number)?, row))).collect();
        if order.is_empty() || numbers.len() != clicks.len() {
            return None;
        }
        order.sort_by(|left, right| left.0.total_cmp(&right.0).then(left.1.cmp(&right.1)));
        // Place 0 of both is that of missing values.
        let mut value_of = vec![0_usize; numbers.len()];
        let mut range_of = vec![0_usize; numbers.len()];
        let mut values = 0;
        let mut range = 0;
        for (rank, (number, row)) in order.iter().enumerate() {
            if rank == 0 || *number != order[rank - 1].0 {
                values += 1;
                range = 1 + rank * RANGES / order.len();
            }
            (value_of[*row], range_of[*row]) = (values, range);
        }
        let rates = Rates::of(&value_of, values, clicks, |_| true);
        Some(Self {
            values: gain(&value_of, values, clicks),
            ranges: gain(&range_of, RANGES, clicks),
            neighbours: rates.neighbours(),
            is_blind: order.len() >= ENOUGH_ROWS * values && seen(&value_of, values) < SEEN,
        })
    }

    /// Whether it looks like ids.
    pub(crate) fn is_ids(self) -> bool {
        self.values > TIMES * self.ranges.max(0.0)
            && self.values - self.ranges > NATS
            && self.neighbours < CORRELATED
    }

    /// Whether ranges tell so much more than single values that these would only be learned by heart.
    pub(crate) fn is_quantity(self) -> bool {
        !self.is_blind && self.ranges - self.values > NATS
    }

    /// Whether little would have to change for the other answer.
    pub(crate) fn is_close(self) -> bool {
        let weak = self.scaled(0.7);
        let strong = self.scaled(1.0 / 0.7);
        weak.is_ids() != strong.is_ids()
    }

    /// The same with single values that tell so many times as much, and neighbours that are so many times less alike.
    fn scaled(self, times: f64) -> Self {
        Self { values: self.values * times, neighbours: self.neighbours / times, ..self }
    }
}

impl fmt::Display for Worth {
    /// `single values tell 0.0192 nats of a click, ranges of them 0.0050`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.values.max(0.0);
        let ranges = self.ranges.max(0.0);
        write!(f, "single values tell {values:.4} nats of a click, ranges of them {ranges:.4}")
    }
}

/// Rows and clicks of each place.
struct Rates {
    rows: Vec<f64>,
    clicks: Vec<f64>,
    base: f64,
}

impl Rates {
    fn of(places: &[usize], last: usize, clicks: &[bool], keep: impl Fn(usize) -> bool) -> Self {
        let mut rows = vec![0.0; last + 1];
        let mut clicked = vec![0.0; last + 1];
        for (row, (place, click)) in places.iter().zip(clicks).enumerate() {
            if keep(row) {
                rows[*place] += 1.0;
                clicked[*place] += f64::from(u8::from(*click));
            }
        }
        let all: f64 = rows.iter().sum();
        // Half a click and half a miss: a rate of 0 or 1 would make a loss infinite.
        let base = (clicked.iter().sum::<f64>() + 0.5) / (all + 1.0);
        Self { rows, clicks: clicked, base }
    }

    fn rate(&self, place: usize) -> f64 {
        (self.clicks[place] + PRIOR_ROWS * self.base) / (self.rows[place] + PRIOR_ROWS)
    }

    fn neighbours(&self) -> f64 {
        let pairs: Vec<(f64, f64, f64)> = (2..self.rows.len())
            .map(|place| {
                let weight = (self.rows[place - 1] * self.rows[place]).sqrt();
                (self.rate(place - 1), self.rate(place), weight)
            })
            .collect();
        let weight: f64 = pairs.iter().map(|pair| pair.2).sum();
        let mean = |value: fn(&(f64, f64, f64)) -> f64| {
            pairs.iter().map(|pair| pair.2 * value(pair)).sum::<f64>() / weight
        };
        let left = mean(|pair| pair.0);
        let right = mean(|pair| pair.1);
        let mut both = 0.0;
        let mut lefts = 0.0;
        let mut rights = 0.0;
        for (own, next, weight) in &pairs {
            both += weight * (own - left) * (next - right);
            lefts += weight * (own - left).powi(2);
            rights += weight * (next - right).powi(2);
        }
        let scale = (lefts * rights).sqrt();
        if scale > 0.0 { both / scale } else { 0.0 }
    }
}

/// The half of the rows that a row belongs to.
fn half(row: usize, rows: usize) -> usize {
    row * STRETCHES / rows % 2
}

/// The share of the rows with a value that have one which the other half has too.
fn seen(places: &[usize], last: usize) -> f64 {
    let mut halves = vec![[0_usize; 2]; last + 1];
    for (row, place) in places.iter().enumerate() {
        halves[*place][half(row, places.len())] += 1;
    }
    // Place 0 is that of missing values.
    let values = &halves[1..];
    let all: usize = values.iter().flatten().sum();
    let in_both: usize = values.iter().filter(|[one, other]| *one > 0 && *other > 0).flatten().sum();
    in_both as f64 / all.max(1) as f64
}

/// Log loss a row by which the rates of one half beat its base rate on the other half, both ways.
fn gain(places: &[usize], last: usize, clicks: &[bool]) -> f64 {
    let half = |row: usize| half(row, places.len());
    let mut gained = 0.0;
    for own in [0, 1] {
        let rates = Rates::of(places, last, clicks, |row| half(row) == own);
        for (row, (place, click)) in places.iter().zip(clicks).enumerate() {
            if half(row) != own {
                let loss = |rate: f64| if *click { -rate.ln() } else { -(1.0 - rate).ln() };
                gained += loss(rates.base) - loss(rates.rate(*place));
            }
        }
    }
    gained / places.len() as f64
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// 40,000 rows of 200 values with their clicks.
    fn tried(rate: impl Fn(u32) -> f64) -> Worth {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let rows = (0..40_000).map(|_| {
            let value = rng.random_range(0..200_u32);
            (Some(f64::from(value)), rng.random::<f64>() < rate(value))
        });
        let (numbers, clicks): (Vec<_>, Vec<_>) = rows.unzip();
        Worth::of_numbers(&numbers, &clicks).unwrap()
    }

    #[test]
    fn rates_that_jump_from_value_to_value_are_those_of_ids() {
        let jumps = tried(|value| if value.wrapping_mul(2_654_435_761) >> 16 & 1 == 1 { 0.5 } else { 0.1 });
        assert!(jumps.is_ids() && !jumps.is_close(), "{jumps:?}");
        assert!(!jumps.is_quantity());
        let rises = tried(|value| 0.1 + 0.4 * f64::from(value) / 200.0);
        assert!(!rises.is_ids() && !rises.is_close() && rises.neighbours > 0.5, "{rises:?}");
        let nothing = tried(|_| 0.3);
        assert!(!nothing.is_ids() && nothing.values < NATS, "{nothing:?}");
    }

    /// Twenty rows a value: what single values tell is mostly chance, what ranges tell is not. Ids that differ lose by ranges.
    #[test]
    fn many_values_of_a_quantity_are_worth_less_than_its_ranges() {
        let of = |rate: fn(u32) -> f64| {
            let mut rng = ChaCha8Rng::seed_from_u64(5);
            let rows = (0..20_000).map(|_| {
                let value = rng.random_range(0..1000_u32);
                (Some(f64::from(value)), rng.random::<f64>() < rate(value))
            });
            let (numbers, clicks): (Vec<_>, Vec<_>) = rows.unzip();
            Worth::of_numbers(&numbers, &clicks).unwrap()
        };
        let rises = of(|value| 0.2 + 0.2 * f64::from(value) / 1000.0);
        assert!(rises.is_quantity() && !rises.is_ids(), "{rises:?}");
        let jumps = of(|value| if value.wrapping_mul(2_654_435_761) >> 16 & 1 == 1 { 0.4 } else { 0.2 });
        assert!(!jumps.is_quantity(), "{jumps:?}");
    }

    /// A wave whose length is that of two ranges: ranges cannot tell it, but neighbours are alike.
    #[test]
    fn a_quantity_with_a_fine_structure_stays_one() {
        let wave = tried(|value| 0.3 + 0.25 * (f64::from(value) / 12.5 * std::f64::consts::TAU).sin());
        assert!(wave.neighbours > CORRELATED && !wave.is_ids(), "{wave:?}");
    }

    /// The rows of each value stand together, as in a file that is sorted by it: each half has values of its own.
    #[test]
    fn values_whose_rows_stand_together_cannot_be_tried() {
        let number = |row: u32| f64::from(row / 10);
        let clicks: Vec<bool> = (0..40_000_u32).map(|row| row / 10 % 3 == 0).collect();
        let sorted: Vec<Option<f64>> = (0..40_000).map(|row| Some(number(row))).collect();
        assert!(Worth::of_numbers(&sorted, &clicks).unwrap().is_blind);
        let mixed: Vec<Option<f64>> = (0..40_000_u32).map(|row| Some(number(row * 7919 % 40_000))).collect();
        assert!(!Worth::of_numbers(&mixed, &clicks).unwrap().is_blind);
        // A number that hardly recurs is nothing that a trial was to tell.
        let unique: Vec<Option<f64>> = (0..40_000).map(|row| Some(f64::from(row))).collect();
        assert!(!Worth::of_numbers(&unique, &clicks).unwrap().is_blind);
    }

    #[test]
    fn odd_columns_are_survived() {
        assert_eq!(Worth::of_numbers(&[None, None], &[true, false]), None);
        let one = Worth::of_numbers(&[Some(1.0), None, Some(1.0)], &[true, true, true]).unwrap();
        assert!(one.values.is_finite() && one.neighbours == 0.0 && !one.is_ids(), "{one:?}");
    }
}
