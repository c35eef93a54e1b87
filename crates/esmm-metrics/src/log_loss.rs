//! Log loss and normalized entropy.

use crate::undefined::{Undefined, both_classes};

/// Mean negative log-likelihood of binary outcomes, in nats, from log-probabilities: no clamp, no epsilon.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LogLoss {
    rows: u64,
    positives: u64,
    /// Weights of all rows, of the positive ones, and the weighted sum of what they lost.
    weight: f64,
    positive_weight: f64,
    sum: f64,
    impossible: Option<u64>,
    not_a_number: Option<u64>,
}

impl LogLoss {
    /// Counts one row: `log_p` is the log-probability of a positive, `log_not_p` that of a negative.
    pub fn push(&mut self, log_p: f64, log_not_p: f64, positive: bool) {
        self.push_weighted(log_p, log_not_p, positive, 1.0);
    }

    /// Counts one row as `weight` rows; `weight` is finite and not negative.
    pub fn push_weighted(&mut self, log_p: f64, log_not_p: f64, positive: bool, weight: f64) {
        let happened = if positive { log_p } else { log_not_p };
        if log_p.is_nan() || log_not_p.is_nan() {
            self.not_a_number.get_or_insert(self.rows);
        } else if happened == f64::NEG_INFINITY && weight > 0.0 {
            self.impossible.get_or_insert(self.rows);
        } else if weight > 0.0 {
            self.sum -= weight * happened;
        }
        self.rows += 1;
        self.positives += u64::from(positive);
        self.weight += weight;
        self.positive_weight += if positive { weight } else { 0.0 };
    }

    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Number of positive rows.
    pub fn positives(&self) -> u64 {
        self.positives
    }

    /// The mean, in nats.
    ///
    /// # Errors
    /// No rows, a NaN, an outcome whose probability was 0.
    pub fn value(&self) -> Result<f64, Undefined> {
        match (self.rows, self.not_a_number, self.impossible) {
            (0, ..) => Err(Undefined::NoRows),
            (_, Some(row), _) => Err(Undefined::NotANumber { row }),
            (_, None, Some(row)) => Err(Undefined::Impossible { row }),
            (rows, None, None) if self.weight == 0.0 => Err(Undefined::NoWeight { rows }),
            (_, None, None) => Ok(self.sum / self.weight),
        }
    }

    /// Log loss over the entropy of the base rate: below 1 is better than always predicting the base rate.
    /// X. He et al., Practical Lessons from Predicting Clicks on Ads at Facebook, ADKDD 2014.
    ///
    /// # Errors
    /// As [`LogLoss::value`], and one class missing: the base rate then has no entropy.
    pub fn normalized_entropy(&self) -> Result<f64, Undefined> {
        both_classes(self.positives, self.rows - self.positives)?;
        let rate = self.positive_weight / self.weight;
        match rate > 0.0 && rate < 1.0 {
            true => Ok(self.value()? / entropy(rate)),
            false => Err(Undefined::NoWeight { rows: self.rows }),
        }
    }
}

/// Log loss of `log_p` and `log_not_p` (log-probabilities of a positive and of a negative) against `labels`, in nats.
///
/// # Errors
/// As [`LogLoss::value`].
///
/// # Panics
/// When the lengths differ.
///
/// # Examples
/// ```
/// let p = [0.8_f32, 0.2];
/// let log_p = p.map(f32::ln);
/// let log_not_p = p.map(|p| (-p).ln_1p());
/// let loss = esmm_metrics::log_loss(&log_p, &log_not_p, &[true, false])?;
/// assert!((loss - -(0.8_f64.ln())).abs() < 1e-6);
/// # Ok::<(), esmm_metrics::Undefined>(())
/// ```
pub fn log_loss(log_p: &[f32], log_not_p: &[f32], labels: &[bool]) -> Result<f64, Undefined> {
    collect(log_p, log_not_p, labels).value()
}

/// Normalized entropy of `log_p` and `log_not_p` against `labels`.
///
/// # Errors
/// As [`LogLoss::normalized_entropy`].
///
/// # Panics
/// When the lengths differ.
pub fn normalized_entropy(log_p: &[f32], log_not_p: &[f32], labels: &[bool]) -> Result<f64, Undefined> {
    collect(log_p, log_not_p, labels).normalized_entropy()
}

/// `log sigmoid(x)` without overflow or cancellation.
pub(crate) fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

fn collect(log_p: &[f32], log_not_p: &[f32], labels: &[bool]) -> LogLoss {
    let lengths = [log_p.len(), log_not_p.len(), labels.len()];
    assert_eq!(lengths, [labels.len(); 3], "log p, log(1 - p) and labels have {lengths:?} rows");
    let mut sum = LogLoss::default();
    for ((log_p, log_not_p), positive) in log_p.iter().zip(log_not_p).zip(labels) {
        sum.push(f64::from(*log_p), f64::from(*log_not_p), *positive);
    }
    sum
}

/// Entropy of a rate that is neither 0 nor 1, in nats.
fn entropy(rate: f64) -> f64 {
    -rate * rate.ln() - (1.0 - rate) * (-rate).ln_1p()
}

#[cfg(test)]
mod tests {
    use super::{Undefined, log_loss, log_sigmoid, normalized_entropy};

    const LABELS: [bool; 4] = [true, false, false, false];

    #[test]
    fn the_base_rate_has_normalized_entropy_1() {
        let p = [0.25_f32.ln(); 4];
        let not_p = [0.75_f32.ln(); 4];
        let entropy = 0.25 * 4_f64.ln() + 0.75 * (4_f64 / 3.0).ln();
        assert!((log_loss(&p, &not_p, &LABELS).unwrap() - entropy).abs() < 1e-7);
        assert!((normalized_entropy(&p, &not_p, &LABELS).unwrap() - 1.0).abs() < 1e-7);
    }

    #[test]
    fn far_beyond_what_a_probability_holds() {
        // Wrong by 200 nats: as a probability in f32 that is 0. The mean of 200 and three times 0 is 50.
        assert_eq!(log_loss(&[-200.0; 4], &[0.0; 4], &LABELS), Ok(50.0));
    }

    #[test]
    fn undefined_says_why() {
        let infinity = f32::NEG_INFINITY;
        assert_eq!(log_loss(&[], &[], &[]), Err(Undefined::NoRows));
        assert_eq!(
            log_loss(&[0.0; 4], &[-1.0, -1.0, infinity, infinity], &LABELS),
            Err(Undefined::Impossible { row: 2 })
        );
        assert_eq!(
            log_loss(&[-1.0, f32::NAN], &[-1.0; 2], &[true, false]),
            Err(Undefined::NotANumber { row: 1 })
        );
        let all = normalized_entropy(&[-1.0; 2], &[-1.0; 2], &[true, true]);
        assert_eq!(all, Err(Undefined::NoNegatives { rows: 2 }));
        // The impossible did not happen: this is a perfect prediction.
        assert_eq!(log_loss(&[0.0], &[infinity], &[true]), Ok(0.0));
    }

    #[test]
    fn log_sigmoid_at_its_limits() {
        assert_eq!(log_sigmoid(0.0), -(2_f64.ln()));
        assert_eq!(log_sigmoid(-800.0), -800.0);
        assert_eq!(log_sigmoid(90.0), -(-90_f64).exp());
        assert_eq!(log_sigmoid(f64::NEG_INFINITY), f64::NEG_INFINITY);
        assert!(log_sigmoid(f64::NAN).is_nan());
    }
}
