//! An AUC in little memory: scores in bins of an eighth of a logit.

const PER_LOGIT: f64 = 8.0;
const LOWEST: f64 = -16.0;
const BINS: usize = 192; // up to a logit of 8

/// Counts by label in bins of the logit; what is beyond the ends counts in the outermost bins. 1.5 KiB.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct BinnedAuc {
    bins: Vec<[u32; 2]>,
}

impl BinnedAuc {
    pub(super) fn new() -> Self {
        Self { bins: vec![[0; 2]; BINS] }
    }

    /// One more row.
    pub(super) fn add(&mut self, logit: f64, positive: bool) {
        let bin = ((logit - LOWEST) * PER_LOGIT).clamp(0.0, (BINS - 1) as f64);
        self.bins[bin as usize][usize::from(positive)] += 1; // NaN counts in the first bin
    }

    /// The area, ties within a bin counting half; `None` when a class is missing.
    pub(super) fn value(&self) -> Option<f64> {
        let mut below = 0.0;
        let mut positives = 0.0;
        let mut wins = 0.0;
        for [negative, positive] in self.bins.iter().map(|bin| bin.map(f64::from)) {
            wins += positive * (below + negative / 2.0);
            below += negative;
            positives += positive;
        }
        (below > 0.0 && positives > 0.0).then(|| wins / (below * positives))
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::BinnedAuc;
    use esmm_metrics::auc;

    #[test]
    fn is_near_the_exact_area() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let scores: Vec<f32> = (0..20_000).map(|_| rng.random::<f32>() * 3.0 - 4.0).collect();
        let odds = |score: f32| 1.0 / (1.0 + (-score).exp());
        let labels: Vec<bool> = scores.iter().map(|score| rng.random::<f32>() < odds(*score)).collect();
        let mut binned = BinnedAuc::new();
        assert_eq!(binned.value(), None);
        for (score, positive) in scores.iter().zip(&labels) {
            binned.add(f64::from(*score), *positive);
        }
        let exact = auc(&scores, &labels).unwrap().value;
        assert!((binned.value().unwrap() - exact).abs() < 1e-3, "{:?} {exact}", binned.value());
    }

    #[test]
    fn ends_are_open_and_nan_does_not_panic() {
        let mut binned = BinnedAuc::new();
        for (logit, positive) in [(f64::NEG_INFINITY, false), (1e9, true), (f64::NAN, false)] {
            binned.add(logit, positive);
        }
        assert_eq!(binned.value(), Some(1.0));
    }
}
