//! Where the last biases of the towers start: at the logits of the conditional rates of the training rows.
//!
//! Without it each tower starts at about 50%, and a few hundred steps are not enough to come down to a rate of a
//! percent: all probabilities are then too high on the very rows that were learned from.

use esmm_data::StageWeights;
use esmm_run::config::NegativeRate;

/// Logit of reaching each stage from the one before: `ln(reached / (before - reached))`, both of them weights of rows. A rate
/// of 0 or 1
/// has no finite logit, and no row says nothing about a rate; then half a row is added on either side (a Beta(1/2, 1/2)
/// prior). Where only some of the impressions without a click were kept, the logit of a click is that of the full log.
///
/// ```
/// use esmm_data::StageWeights;
/// use esmm_train::trainer::prior_logits;
///
/// let rates = [
///     StageWeights { before: 1000.0, reached: 100.0 },
///     StageWeights { before: 100.0, reached: 20.0 },
/// ];
/// let logits = prior_logits(&rates, None);
/// assert_eq!(logits, [(100.0_f64 / 900.0).ln(), (20.0_f64 / 80.0).ln()]);
/// ```
pub fn prior_logits(rates: &[StageWeights], negative_rate: Option<NegativeRate>) -> Vec<f64> {
    let mut logits: Vec<f64> = rates.iter().map(|rate| logit(rate.reached, rate.before)).collect();
    if let (Some(rate), Some(click)) = (negative_rate, logits.first_mut()) {
        *click -= rate.click_offset();
    }
    logits
}

fn logit(reached: f64, before: f64) -> f64 {
    let missed = before - reached;
    match reached > 0.0 && missed > 0.0 {
        true => (reached / missed).ln(),
        false => ((reached + 0.5) / (missed + 0.5)).ln(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rates of rows that all count once.
    fn counted(rows: u64, reached: &[u64]) -> Vec<StageWeights> {
        let before = std::iter::once(&rows).chain(reached);
        let pairs = before.zip(reached);
        pairs
            .map(|(before, reached)| StageWeights { before: *before as f64, reached: *reached as f64 })
            .collect()
    }

    #[test]
    fn logits_are_those_of_the_conditional_rates() {
        // Rates 1/2, 1/4 and 1/5 of the stage before.
        let logits = prior_logits(&counted(800, &[400, 100, 20]), None);
        let rates: Vec<f64> = logits.iter().map(|logit| 1.0 / (1.0 + (-logit).exp())).collect();
        for (rate, expected) in rates.iter().zip([0.5, 0.25, 0.2]) {
            assert!((rate - expected).abs() < 1e-15, "{rates:?}");
        }
    }

    #[test]
    fn sampled_negatives_count_in_full() {
        // 100 of 10,000 clicked; a tenth of the other 9,900 was kept.
        let rate = NegativeRate::new(0.1).unwrap();
        let found = prior_logits(&counted(100 + 990, &[100, 20]), rate);
        assert!(
            (found[0] - (100.0_f64 / 9900.0).ln()).abs() < 1e-12 && found[1] == (0.25_f64).ln(),
            "{found:?}"
        );
    }

    #[test]
    fn rates_without_a_logit_are_finite() {
        assert_eq!(prior_logits(&counted(10, &[10, 0]), None), [21.0_f64.ln(), (0.5_f64 / 10.5).ln()]);
        assert_eq!(prior_logits(&counted(0, &[0, 0]), None), [0.0, 0.0]);
    }
}
