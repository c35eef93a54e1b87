//! Calibration by quantile of the score.

use serde::{Deserialize, Serialize};

use super::super::auc::Z_975;
use super::ranking::{Ranking, Tie};

/// Rows with neighbouring scores: what was predicted for them, and what happened.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Number of rows.
    pub rows: u64,
    /// Positive rows among them.
    pub positives: u64,
    /// What the rows weigh; `None` where rows have no weights. `predicted` and `observed` count weights then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// Mean of the predicted probabilities.
    pub predicted: f64,
    /// Lowest and highest predicted probability.
    pub range: [f64; 2],
    /// Share of positive rows.
    pub observed: f64,
    /// Wilson's 95% interval of `observed`: [`wilson`], with weights w of `(sum w)^2 / sum w^2` rows, their effective size
    /// (L. Kish, Survey Sampling, 1965).
    pub observed_ci95: [f64; 2],
}

impl Ranking {
    /// The rows in `bins` bins of about equal size by score, of about equal weight where rows have weights, lowest first.
    /// Rows of equal score stay together, which can make bins fewer and their sizes unequal; none is empty, or of weight 0.
    pub fn reliability(&self, bins: usize) -> Vec<ReliabilityBin> {
        let all = self.positive_weight() + self.negative_weight();
        let bins = bins.max(1) as f64;
        let mut found: Vec<(f64, Sums)> = Vec::new();
        let mut below = 0.0;
        for tie in self.ascending() {
            let middle = 2.0 * below + tie.weight();
            // Rows of weight 0 at the end may lie beyond the last bin by rounding.
            let place = (middle * bins / (2.0 * all)).floor().min(bins - 1.0);
            below += tie.weight();
            let probability = self.link().probability(tie.score);
            match found.last_mut() {
                Some((last, sums)) if *last == place => sums.add(probability, tie),
                _ => {
                    let mut sums = Sums { range: [probability; 2], ..Sums::default() };
                    sums.add(probability, tie);
                    found.push((place, sums));
                }
            }
        }
        let with_weight = found.into_iter().filter(|(_, sums)| sums.weight > 0.0);
        with_weight.map(|(_, sums)| sums.finish(self.is_weighted())).collect()
    }
}

/// A bin that is being counted.
#[derive(Debug, Clone, Default)]
struct Sums {
    rows: u64,
    positives: u64,
    weight: f64,
    positive_weight: f64,
    squared_weights: f64,
    predicted: f64,
    range: [f64; 2],
}

impl Sums {
    fn add(&mut self, probability: f64, tie: Tie) {
        self.rows += tie.positives + tie.negatives;
        self.positives += tie.positives;
        self.weight += tie.weight();
        self.positive_weight += tie.positive_weight;
        self.squared_weights += tie.squared_weights;
        self.predicted += probability * tie.weight();
        self.range[1] = probability;
    }

    fn finish(self, is_weighted: bool) -> ReliabilityBin {
        let observed = self.positive_weight / self.weight;
        let effective = self.weight * self.weight / self.squared_weights;
        let observed_ci95 = match is_weighted {
            false => wilson(self.positives, self.rows),
            true => wilson_of(observed * effective, effective),
        };
        ReliabilityBin {
            rows: self.rows,
            positives: self.positives,
            weight: is_weighted.then_some(self.weight),
            predicted: self.predicted / self.weight,
            range: self.range,
            observed,
            observed_ci95,
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
    wilson_of(positives as f64, rows as f64)
}

/// The same of an effective number of rows, which need not be whole.
fn wilson_of(hits: f64, rows: f64) -> [f64; 2] {
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

    /// A weight is as many copies: the same bins, but intervals of the effective size, and rows that are counted once.
    #[test]
    fn weights_are_copies() {
        let rows = 0..200;
        let scores: Vec<f32> = rows.clone().map(|row| row as f32 / 50.0 - 2.0).collect();
        let labels: Vec<bool> = rows.clone().map(|row| row % 3 == 0).collect();
        let weights: Vec<f32> = rows.map(|row| (row * 7 % 4) as f32).collect();
        let copied = |place: usize| std::iter::repeat_n(place, weights[place] as usize);
        let copies: Vec<usize> = (0..200).flat_map(copied).collect();
        let of_copies = Ranking::new(
            &copies.iter().map(|row| scores[*row]).collect::<Vec<_>>(),
            &copies.iter().map(|row| labels[*row]).collect::<Vec<_>>(),
            Link::Logit,
        );
        let of_copies = of_copies.unwrap();
        let weighted = Ranking::weighted(&scores, &labels, &weights, Link::Logit).unwrap();
        for (found, expected) in weighted.reliability(10).iter().zip(of_copies.reliability(10)) {
            assert_eq!((found.weight, expected.weight), (Some(expected.rows as f64), None));
            assert!((found.predicted - expected.predicted).abs() < 1e-12, "{found:?} {expected:?}");
            assert!((found.observed - expected.observed).abs() < 1e-12, "{found:?} {expected:?}");
            assert!(found.rows < expected.rows, "rows are counted once");
            let width = |bin: &super::ReliabilityBin| bin.observed_ci95[1] - bin.observed_ci95[0];
            assert!(width(found) > width(&expected), "a copy tells nothing new");
        }
        // Equal weights change nothing: the effective size is the number of rows.
        let plain = Ranking::new(&scores, &labels, Link::Logit).unwrap().reliability(10);
        let twice = Ranking::weighted(&scores, &labels, &[2.0; 200], Link::Logit).unwrap().reliability(10);
        for (plain, twice) in plain.iter().zip(&twice) {
            assert_eq!((plain.rows, plain.range), (twice.rows, twice.range));
            let same = plain.observed_ci95.iter().zip(twice.observed_ci95);
            assert!(same.into_iter().all(|(plain, twice)| (plain - twice).abs() < 1e-12));
        }
        let nothing = Ranking::weighted(&scores, &labels, &[0.0; 200], Link::Logit).unwrap();
        assert!(nothing.reliability(10).is_empty());
    }

    #[test]
    fn equal_scores_stay_together() {
        let scores = [1.0_f32, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 3.0, 4.0];
        let bins = Ranking::new(&scores, &[true; 10], Link::Logit).unwrap().reliability(5);
        assert_eq!(bins.iter().map(|bin| bin.rows).collect::<Vec<_>>(), [7, 1, 2]);
        assert!(Ranking::new(&[], &[], Link::Logit).unwrap().reliability(5).is_empty());
    }
}
