//! How well probabilities fit what happened, before a correction and after it.

use serde::{Deserialize, Serialize};

/// 97.5% quantile of the standard normal distribution.
const Z_975: f64 = 1.959_963_984_540_054;

/// A value with its 95% interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The value.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// What a correction does to one task. The corrected values are measured on rows that it was not fitted on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskChange {
    /// The task, as in `metrics.json`.
    pub task: String,
    /// Impressions that it is measured on.
    pub rows: u64,
    /// Events among them.
    pub events: u64,
    /// Sum of predictions over number of events, of the model as it was trained.
    pub before: Interval,
    /// The same, corrected.
    pub after: Interval,
    /// Mean negative log-likelihood in nats, of the model as it was trained.
    pub log_loss_before: f64,
    /// The same, corrected.
    pub log_loss_after: f64,
    /// By how much the log loss falls; below 0 where it rises.
    pub gain: Interval,
}

/// Sums over the rows of a task.
#[derive(Debug, Clone, Default)]
pub(super) struct ChangeSums {
    rows: u64,
    events: u64,
    weight: f64,
    happened: f64,
    before: Side,
    after: Side,
    gain: f64,
    gain_squares: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Side {
    predicted: f64,
    /// Weighted squares of what predictions are off.
    squares: f64,
    loss: f64,
}

/// `ln p` and `ln(1 - p)`.
pub(super) type Logs = (f64, f64);

impl ChangeSums {
    pub(super) fn add(&mut self, before: Logs, after: Logs, happened: bool, weight: f64) {
        self.rows += 1;
        self.events += u64::from(happened);
        self.weight += weight;
        self.happened += if happened { weight } else { 0.0 };
        let mut losses = [0.0; 2];
        for ((side, logs), loss) in
            [&mut self.before, &mut self.after].into_iter().zip([before, after]).zip(&mut losses)
        {
            let p = logs.0.exp();
            *loss = if happened { -logs.0 } else { -logs.1 };
            side.predicted += weight * p;
            side.squares += (weight * (f64::from(u8::from(happened)) - p)).powi(2);
            side.loss += weight * *loss;
        }
        let gain = weight * (losses[0] - losses[1]);
        self.gain += gain;
        self.gain_squares += gain * gain;
    }

    /// The change of a task of this name. Intervals count rows as independent; that of a ratio is one of its logarithm.
    pub(super) fn finish(&self, task: &str) -> TaskChange {
        let ratio = |side: &Side| {
            let value = side.predicted / self.happened;
            let width = (Z_975 * side.squares.sqrt() / self.happened).exp();
            Interval { value, low: value / width, high: value * width }
        };
        let gain = self.gain / self.weight;
        // Around the mean: squares of sums of weights are those of independent rows.
        let spread = (self.gain_squares - self.gain * self.gain / self.rows.max(1) as f64).max(0.0);
        let half = Z_975 * spread.sqrt() / self.weight;
        TaskChange {
            task: task.to_owned(),
            rows: self.rows,
            events: self.events,
            before: ratio(&self.before),
            after: ratio(&self.after),
            log_loss_before: self.before.loss / self.weight,
            log_loss_after: self.after.loss / self.weight,
            gain: Interval { value: gain, low: gain - half, high: gain + half },
        }
    }
}

impl TaskChange {
    /// Whether the log loss falls by more than chance explains, rises by more, or neither.
    pub fn verdict(&self) -> &'static str {
        match (self.gain.low > 0.0, self.gain.high < 0.0) {
            (true, _) => "better",
            (_, true) => "worse",
            _ => "within chance",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logs(p: f64) -> Logs {
        (p.ln(), (1.0 - p).ln())
    }

    #[test]
    fn by_hand() {
        let mut sums = ChangeSums::default();
        // Predicted 0.4 for each of four rows, one of which happened; corrected to 0.25.
        for row in 0..4 {
            sums.add(logs(0.4), logs(0.25), row == 0, 1.0);
        }
        let found = sums.finish("ctr");
        assert!((found.before.value - 1.6).abs() < 1e-12 && (found.after.value - 1.0).abs() < 1e-12);
        // Squares of what is off: 0.36 + 3 * 0.16.
        let width = (Z_975 * 0.84_f64.sqrt()).exp();
        assert!((found.before.high - 1.6 * width).abs() < 1e-9, "{found:?}");
        let before = -(0.4_f64.ln() + 3.0 * 0.6_f64.ln()) / 4.0;
        let after = -(0.25_f64.ln() + 3.0 * 0.75_f64.ln()) / 4.0;
        assert!(
            (found.log_loss_before - before).abs() < 1e-12 && (found.log_loss_after - after).abs() < 1e-12
        );
        assert!((found.gain.value - (before - after)).abs() < 1e-12);
        assert_eq!((found.rows, found.events, found.verdict()), (4, 1, "within chance"));
    }

    #[test]
    fn many_rows_are_no_chance() {
        let (mut better, mut worse) = (ChangeSums::default(), ChangeSums::default());
        for row in 0..4000 {
            better.add(logs(0.4), logs(0.25), row % 4 == 0, 1.0);
            worse.add(logs(0.25), logs(0.4), row % 4 == 0, 1.0);
        }
        assert_eq!((better.finish("ctr").verdict(), worse.finish("ctr").verdict()), ("better", "worse"));
        let after = better.finish("ctr").after;
        assert!(after.low < 1.0 && 1.0 < after.high && after.high - after.low < 0.12, "{after:?}");
    }
}
