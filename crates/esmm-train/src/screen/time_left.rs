//! How fast a training goes, and how long the rest of it will take.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The speed is that of so much time.
const WINDOW: Duration = Duration::from_secs(30);
/// Between two points of the window.
const STEP: Duration = Duration::from_millis(200);

/// Rows at moments of the last half minute, and how long a validation took.
#[derive(Debug, Default)]
pub(crate) struct TimeLeft {
    points: VecDeque<(Instant, usize)>,
    validating_since: Option<Instant>,
    validation: Duration,
}

impl TimeLeft {
    /// So many rows, of all epochs together, are trained on.
    pub(crate) fn trained(&mut self, now: Instant, rows: usize) {
        if let Some(since) = self.validating_since.take() {
            self.validation = now.duration_since(since);
        }
        if self.points.back().is_some_and(|(last, _)| now.duration_since(*last) < STEP) {
            return;
        }
        self.points.push_back((now, rows));
        while self.points.len() > 2
            && self.points.front().is_some_and(|(at, _)| now.duration_since(*at) > WINDOW)
        {
            self.points.pop_front();
        }
    }

    /// A validation is under way: its time is none of the training's.
    pub(crate) fn validating(&mut self, now: Instant) {
        self.validating_since.get_or_insert(now);
        self.points.clear();
    }

    /// Rows a second; `None` before there is anything to tell it from.
    pub(crate) fn rate(&self) -> Option<f64> {
        let (start, first) = self.points.front()?;
        let (end, last) = self.points.back()?;
        let seconds = end.duration_since(*start).as_secs_f64();
        (last > first && seconds > 0.0).then(|| (last - first) as f64 / seconds)
    }

    /// Seconds for so many rows and validations.
    pub(crate) fn seconds(&self, rows: usize, validations: usize) -> Option<f64> {
        Some(rows as f64 / self.rate()? + self.validation.as_secs_f64() * validations as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100 rows a second for a minute, then 300 a second: the last half minute counts.
    #[test]
    fn the_rate_is_that_of_the_last_half_minute() {
        let start = Instant::now();
        let mut left = TimeLeft::default();
        assert_eq!(left.rate(), None);
        for second in 0..=100_u64 {
            let rows = 100 * second + 200 * second.saturating_sub(60);
            left.trained(start + Duration::from_secs(second), rows as usize);
        }
        assert_eq!(left.rate(), Some(300.0));
        assert_eq!(left.seconds(600, 5), Some(2.0));
    }

    #[test]
    fn validations_take_time_of_their_own() {
        let start = Instant::now();
        let mut left = TimeLeft::default();
        let at = |seconds| start + Duration::from_secs(seconds);
        (0..=10).for_each(|second| left.trained(at(second), 50 * second as usize));
        left.validating(at(10));
        left.validating(at(12));
        (14..=16).for_each(|second| left.trained(at(second), 500 + 50 * (second - 14) as usize));
        assert_eq!(left.rate(), Some(50.0));
        assert_eq!(left.seconds(100, 2), Some(2.0 + 2.0 * 4.0));
    }
}
