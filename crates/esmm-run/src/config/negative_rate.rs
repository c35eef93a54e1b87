//! Logs that keep only some of their impressions without a click.

use serde::{Deserialize, Serialize};

use crate::error::RunError;

/// The smallest rate.
const LEAST: f64 = 1e-9;

/// The share of impressions without a click that were kept, above 0 and below 1.
///
/// Sampling them at the rate r divides the odds of a click by r and leaves the conversions among clicks as they are. So the
/// model's logit of a click stays that of the full log, the loss sees it raised by `-ln r`, and an impression without a
/// click counts as `1 / r` impressions in the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct NegativeRate(f64);

impl NegativeRate {
    /// Checks a rate; 1 is `None`, as nothing was left out.
    ///
    /// # Errors
    /// A rate that is not above 0 and at most 1, or below 1e-9, where a row would weigh more than sums of f32 bear.
    pub fn new(rate: f64) -> Result<Option<Self>, RunError> {
        match rate {
            1.0 => Ok(None),
            rate if (LEAST..1.0).contains(&rate) => Ok(Some(Self(rate))),
            rate => Err(RunError::Config(format!("labels.negative_rate = {rate}: {}", Self::allowed()))),
        }
    }

    /// What a rate may be, in words.
    pub(crate) fn allowed() -> String {
        format!(
            "it must be above 0 and at most 1, and {LEAST} at least: the share of impressions without a click that is kept"
        )
    }

    /// The share.
    pub fn get(self) -> f64 {
        self.0
    }

    /// What sampling added to the logit of a click: `-ln r`, above 0.
    pub fn click_offset(self) -> f64 {
        -self.0.ln()
    }

    /// Impressions of the full log that a row stands for, by the stages that it reached.
    pub fn weight(self, depth: u8) -> f32 {
        if depth == 0 { (1.0 / self.0) as f32 } else { 1.0 }
    }
}

impl TryFrom<f64> for NegativeRate {
    type Error = String;

    fn try_from(rate: f64) -> Result<Self, String> {
        let checked = Self::new(rate).map_err(|error| error.to_string())?;
        checked.ok_or_else(|| "negative_rate = 1 is left out".to_owned())
    }
}

impl From<NegativeRate> for f64 {
    fn from(rate: NegativeRate) -> Self {
        rate.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odds_are_divided_by_the_rate() {
        let rate = NegativeRate::new(0.1).unwrap().unwrap();
        // 100 clicks of 10,000 impressions: odds 100 / 9900; of the sample 100 / 990.
        let (full, sampled) = ((100.0_f64 / 9900.0).ln(), (100.0_f64 / 990.0).ln());
        assert!((full + rate.click_offset() - sampled).abs() < 1e-12);
        assert_eq!([0, 1, 2].map(|depth| rate.weight(depth)), [10.0, 1.0, 1.0]);
    }

    #[test]
    fn rates_outside_are_refused_and_one_is_none() {
        assert_eq!(NegativeRate::new(1.0).unwrap(), None);
        for rate in [0.0, -0.5, 1.5, f64::NAN, f64::INFINITY] {
            let message = NegativeRate::new(rate).unwrap_err().to_string();
            assert!(message.contains("above 0 and at most 1"), "{message}");
        }
    }
}
