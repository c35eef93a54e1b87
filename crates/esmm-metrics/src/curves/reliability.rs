//! Calibration by quantile of the score.

use serde::{Deserialize, Serialize};

use super::super::auc::Z_975;
use super::ranking::Ranking;

/// Rows with neighbouring scores: what was predicted for them, and what happened.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Number of rows.
    pub rows: u64,
    /// Positive rows among them.
    pub positives: u64,
    /// Mean of the predicted probabilities.
    pub predicted: f64,
    /// Lowest and highest predicted probability.
    pub range: [f64; 2],
    /// Share of positive rows.
    pub observed: f64,
    /// Wilson's 95% interval of `observed`: [`wilson`].
    pub observed_ci95: [f64; 2],
}

impl Ranking {
    /// The rows in `bins` bins of about equal size by score, lowest first. Rows of equal score stay together, which can
    /// make bins fewer and their sizes unequal; none is empty.
    pub fn reliability(&self, bins: usize) -> Vec<ReliabilityBin> {
        let rows = u128::from(self.rows());
        let bins = bins.max(1) as u128;
        let mut found: Vec<(u128, ReliabilityBin)> = Vec::new();
        let mut below = 0_u128;
        for tie in self.ascending() {
            let middle = 2 * below + u128::from(tie.rows());
            let place = middle * bins / (2 * rows);
            below += u128::from(tie.rows());
            let probability = self.link().probability(tie.score);
            match found.last_mut() {
                Some((last, bin)) if *last == place => bin.add(probability, tie.positives, tie.rows()),
                _ => {
                    let mut bin = ReliabilityBin { range: [probability; 2], ..ReliabilityBin::default() };
                    bin.add(probability, tie.positives, tie.rows());
                    found.push((place, bin));
                }
            }
        }
        found.into_iter().map(|(_, bin)| bin.finish()).collect()
    }
}

impl ReliabilityBin {
    /// Counts rows; `predicted` is their sum until [`ReliabilityBin::finish`].
    fn add(&mut self, probability: f64, positives: u64, rows: u64) {
        self.rows += rows;
        self.positives += positives;
        self.predicted += probability * rows as f64;
        self.range[1] = probability;
    }

    fn finish(self) -> Self {
        let rows = self.rows as f64;
        Self {
            predicted: self.predicted / rows,
            observed: self.positives as f64 / rows,
            observed_ci95: wilson(self.positives, self.rows),
            ..self
        }
    }
}

/// Wilson's 95% score interval of a rate of `positives` in `rows`; `[0, 1]` of no rows. Unlike the normal
/// approximation it stays inside `[0, 1]` and has a width where nothing happened.
/// E. B. Wilson, Journal of the American Statistical Association 22 (1927), 209-212.
///
/// # Examples
/// ```
/// let [low, high] = esmm_metrics::wilson(0, 100); // no event in 100 rows is not a rate of 0
/// assert!(low == 0.0 && (0.03..0.04).contains(&high));
/// ```
pub fn wilson(positives: u64, rows: u64) -> [f64; 2] {
    if rows == 0 {
        return [0.0, 1.0];
    }
    let hits = positives as f64;
    let rows = rows as f64;
    let z2 = Z_975 * Z_975;
    let middle = (hits + z2 / 2.0) / (rows + z2);
    let half = Z_975 / (rows + z2) * (hits * (rows - hits) / rows + z2 / 4.0).sqrt();
    [(middle - half).max(0.0), (middle + half).min(1.0)]
}

#[cfg(test)]
mod tests {
    use super::super::{Link, Ranking};
    use super::{Z_975, wilson};

    /// Both ends solve (p - observed)^2 = z^2 p (1 - p) / n, the definition of the interval.
    #[test]
    fn wilson_solves_its_equation() {
        for (positives, rows) in [(1, 10), (5, 10), (37, 1000), (999, 1000)] {
            let n = rows as f64;
            let observed = positives as f64 / rows as f64;
            for p in wilson(positives, rows) {
                let left = (p - observed).powi(2);
                assert!((left - Z_975.powi(2) * p * (1.0 - p) / n).abs() < 1e-15, "{positives}/{rows}: {p}");
            }
        }
        assert_eq!(wilson(0, 50)[0], 0.0);
        // z^2 / (n + z^2), by hand from the formula with no event.
        assert!((wilson(0, 50)[1] - Z_975.powi(2) / (50.0 + Z_975.powi(2))).abs() < 1e-15);
        assert_eq!(wilson(50, 50)[1], 1.0);
        assert_eq!(wilson(0, 0), [0.0, 1.0]);
    }

    #[test]
    fn bins_hold_all_rows_and_the_sums() {
        let scores: Vec<f32> = (0..1000).map(|row| row as f32 / 250.0 - 2.0).collect();
        let labels: Vec<bool> = (0..1000).map(|row| row % 4 == 0).collect();
        let bins = Ranking::new(&scores, &labels, Link::Logit).unwrap().reliability(10);
        assert_eq!(bins.iter().map(|bin| bin.rows).collect::<Vec<_>>(), [100; 10]);
        assert!(bins.iter().all(|bin| bin.positives == 25 && bin.observed == 0.25));
        let predicted: f64 = bins.iter().map(|bin| bin.predicted * bin.rows as f64).sum();
        let expected: f64 = scores.iter().map(|score| 1.0 / (1.0 + f64::from(-score).exp())).sum();
        assert!((predicted - expected).abs() < 1e-9);
        assert_eq!(bins[0].range[0], Link::Logit.probability(-2.0));
        assert!(bins.windows(2).all(|pair| pair[0].range[1] < pair[1].range[0]));
    }

    #[test]
    fn equal_scores_stay_together() {
        let scores = [1.0_f32, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 3.0, 4.0];
        let bins = Ranking::new(&scores, &[true; 10], Link::Logit).unwrap().reliability(5);
        assert_eq!(bins.iter().map(|bin| bin.rows).collect::<Vec<_>>(), [7, 1, 2]);
        assert!(Ranking::new(&[], &[], Link::Logit).unwrap().reliability(5).is_empty());
    }
}
