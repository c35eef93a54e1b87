//! Calibration: predicted events over events.

use crate::undefined::Undefined;

/// Sum of predicted probabilities over number of events: 1 is calibrated, above 1 predicts too many.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Calibration {
    rows: u64,
    predicted: f64,
    happened: f64,
    not_a_number: Option<u64>,
    not_a_probability: Option<(u64, f32)>,
}

impl Calibration {
    /// Counts one row from the log of its predicted probability.
    pub fn push(&mut self, log_p: f64, positive: bool) {
        self.push_weighted(log_p, positive, 1.0);
    }

    /// Counts one row as `weight` rows; `weight` is finite and not negative.
    pub fn push_weighted(&mut self, log_p: f64, positive: bool, weight: f64) {
        self.add(log_p, if positive { 1.0 } else { 0.0 }, weight);
    }

    /// Counts one row whose true probability is known, instead of its label.
    pub fn push_soft(&mut self, log_p: f64, truth: f32) {
        if !(0.0..=1.0).contains(&truth) {
            self.not_a_probability.get_or_insert((self.rows, truth));
        }
        self.add(log_p, f64::from(truth), 1.0);
    }

    /// The ratio, 0 or more.
    ///
    /// # Errors
    /// No rows, no event, a NaN, a true probability outside `[0, 1]`, log-probabilities so far above 0 that the sum
    /// overflows.
    pub fn value(&self) -> Result<f64, Undefined> {
        let rows = self.rows;
        match (rows, self.not_a_number, self.not_a_probability) {
            (0, ..) => Err(Undefined::NoRows),
            (_, Some(row), _) => Err(Undefined::NotANumber { row }),
            (_, None, Some((row, found))) => Err(Undefined::NotAProbability { row, found }),
            _ if self.happened == 0.0 => Err(Undefined::NoPositives { rows }),
            _ if !self.predicted.is_finite() => Err(Undefined::NotFinite),
            _ => Ok(self.predicted / self.happened),
        }
    }

    fn add(&mut self, log_p: f64, happened: f64, weight: f64) {
        if log_p.is_nan() {
            self.not_a_number.get_or_insert(self.rows);
        }
        self.predicted += weight * log_p.exp();
        self.happened += weight * happened;
        self.rows += 1;
    }
}

/// Calibration of `log_p` (log-probabilities) against `labels`.
///
/// # Errors
/// As [`Calibration::value`].
///
/// # Panics
/// When the lengths differ.
///
/// # Examples
/// ```
/// // Half an event is predicted for each of four rows, and one happens.
/// let log_p = [0.5_f32.ln(); 4];
/// let calibration = esmm_metrics::calibration(&log_p, &[true, false, false, false])?;
/// assert!((calibration - 2.0).abs() < 1e-6);
/// # Ok::<(), esmm_metrics::Undefined>(())
/// ```
pub fn calibration(log_p: &[f32], labels: &[bool]) -> Result<f64, Undefined> {
    let rows = log_p.len();
    let flags = labels.len();
    assert_eq!(rows, flags, "{rows} log-probabilities and {flags} labels");
    let mut sums = Calibration::default();
    for (log_p, positive) in log_p.iter().zip(labels) {
        sums.push(f64::from(*log_p), *positive);
    }
    sums.value()
}

/// Calibration of `log_p` (log-probabilities) against the true probabilities: sum of p over sum of truth.
///
/// # Errors
/// As [`Calibration::value`].
///
/// # Panics
/// When the lengths differ.
pub fn soft_calibration(log_p: &[f32], truth: &[f32]) -> Result<f64, Undefined> {
    let rows = log_p.len();
    let truths = truth.len();
    assert_eq!(rows, truths, "{rows} log-probabilities and {truths} true probabilities");
    let mut sums = Calibration::default();
    for (log_p, truth) in log_p.iter().zip(truth) {
        sums.push_soft(f64::from(*log_p), *truth);
    }
    sums.value()
}

#[cfg(test)]
mod tests {
    use super::{Undefined, calibration, soft_calibration};

    #[test]
    fn is_predicted_over_happened() {
        let log_p = [0.5_f32.ln(), 0.25_f32.ln(), 0.0];
        assert!((calibration(&log_p, &[true, false, false]).unwrap() - 1.75).abs() < 1e-7);
        assert!((soft_calibration(&log_p, &[0.5, 0.25, 0.125]).unwrap() - 2.0).abs() < 1e-7);
        assert_eq!(calibration(&[f32::NEG_INFINITY], &[true]), Ok(0.0));
    }

    #[test]
    fn undefined_says_why() {
        assert_eq!(calibration(&[], &[]), Err(Undefined::NoRows));
        assert_eq!(calibration(&[-1.0; 3], &[false; 3]), Err(Undefined::NoPositives { rows: 3 }));
        assert_eq!(calibration(&[-1.0, f32::NAN], &[true; 2]), Err(Undefined::NotANumber { row: 1 }));
        assert_eq!(calibration(&[1e9], &[true]), Err(Undefined::NotFinite));
        let above = soft_calibration(&[-1.0; 2], &[0.5, 1.5]);
        assert_eq!(above, Err(Undefined::NotAProbability { row: 1, found: 1.5 }));
        assert!(soft_calibration(&[-1.0], &[f32::NAN]).is_err());
    }
}
