//! The ROC curve, thinned.

use super::super::undefined::{Undefined, both_classes, some_weight};
use super::ranking::Ranking;

impl Ranking {
    /// `[false positive rate, true positive rate]` as the threshold falls, from (0, 0) to (1, 1); rows of equal score are
    /// one straight line, so that the trapezoids under the whole curve are the AUC.
    ///
    /// Points are left out where the curve stays within a box whose sides add up to `2 / points`: at most about
    /// `2 * points` remain, and since the curve rises, each box of sides w and h moves the area by `w h / 2` at most,
    /// all of them by `1 / (2 points)`. In practice it is far less, as errors on both sides cancel.
    ///
    /// # Errors
    /// No rows, one class missing or of weight 0.
    pub fn roc(&self, points: usize) -> Result<Vec<[f64; 2]>, Undefined> {
        both_classes(self.positives(), self.negatives())?;
        let positives = some_weight(self.positive_weight(), self.positives())?;
        let negatives = some_weight(self.negative_weight(), self.negatives())?;
        let step = 2.0 / points.max(1) as f64;
        let mut kept = vec![[0.0, 0.0]];
        let mut start = [0.0, 0.0];
        let mut last = [0.0, 0.0];
        let mut false_positives = 0.0;
        let mut true_positives = 0.0;
        for tie in self.descending() {
            false_positives += tie.negative_weight;
            true_positives += tie.positive_weight;
            let point = [false_positives / negatives, true_positives / positives];
            if point[0] - start[0] + point[1] - start[1] > step && last != start {
                kept.push(last);
                start = last;
            }
            last = point;
        }
        kept.push(last);
        Ok(kept)
    }
}

/// Area under straight lines through points.
#[cfg(test)]
pub(super) fn trapezoids(points: &[[f64; 2]]) -> f64 {
    points.windows(2).map(|pair| (pair[1][0] - pair[0][0]) * (pair[1][1] + pair[0][1]) / 2.0).sum()
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::{Link, Ranking};
    use super::trapezoids;
    use crate::auc;

    fn random(rows: usize, seed: u64, levels: Option<i32>) -> (Vec<f32>, Vec<bool>) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let score = |rng: &mut ChaCha8Rng| match levels {
            Some(levels) => rng.random_range(-levels..=levels) as f32,
            None => rng.random::<f32>() * 4.0 - 2.0,
        };
        (0..rows)
            .map(|_| {
                let score = score(&mut rng);
                (score, rng.random::<f32>() < 1.0 / (1.0 + (-score).exp()))
            })
            .unzip()
    }

    #[test]
    fn the_whole_curve_has_the_area_auc() {
        for (rows, levels) in [(2000, None), (2000, Some(3)), (50, Some(10))] {
            let (scores, labels) = random(rows, 5, levels);
            let ranking = Ranking::new(&scores, &labels, Link::Logit).unwrap();
            let area = trapezoids(&ranking.roc(1_000_000).unwrap());
            let exact = auc(&scores, &labels).unwrap().value;
            assert!((area - exact).abs() < 1e-12, "{rows} {levels:?}: {area} {exact}");
        }
    }

    #[test]
    fn a_thinned_curve_has_few_points_and_the_same_area() {
        let (scores, labels) = random(200_000, 6, None);
        let ranking = Ranking::new(&scores, &labels, Link::Logit).unwrap();
        let points = ranking.roc(240).unwrap();
        assert!((240..=480).contains(&points.len()), "{}", points.len());
        assert_eq!((points.first(), points.last()), (Some(&[0.0, 0.0]), Some(&[1.0, 1.0])));
        assert!(points.is_sorted_by(|left, right| left[0] <= right[0] && left[1] <= right[1]));
        let exact = auc(&scores, &labels).unwrap().value;
        assert!((trapezoids(&points) - exact).abs() < 1e-4, "{} {exact}", trapezoids(&points));
    }

    /// The worst case that the documentation speaks of: a staircase with one corner a box.
    #[test]
    fn thinning_keeps_its_bound() {
        let labels: Vec<bool> = (0..4000).map(|row| row / 10 % 2 == 0).collect();
        let scores: Vec<f32> = (0..4000).map(|row| -(row as f32)).collect();
        let ranking = Ranking::new(&scores, &labels, Link::Logit).unwrap();
        let exact = auc(&scores, &labels).unwrap().value;
        for points in [10, 50, 240] {
            let moved = (trapezoids(&ranking.roc(points).unwrap()) - exact).abs();
            assert!(moved <= 0.5 / points as f64, "{points}: {moved}");
        }
    }

    /// The area below the curve of rows with weights is their weighted AUC, and equal weights change nothing.
    #[test]
    fn weights_make_the_curve_of_copies() {
        for (rows, levels) in [(500, None), (500, Some(3))] {
            let (scores, labels) = random(rows, 9, levels);
            let weights: Vec<f32> = (0..rows).map(|row| (row * 7 % 5) as f32 / 2.0).collect();
            let curve =
                Ranking::weighted(&scores, &labels, &weights, Link::Logit).unwrap().roc(1_000_000).unwrap();
            let exact = crate::weighted_auc(&scores, &labels, &weights).unwrap().value;
            assert!((trapezoids(&curve) - exact).abs() < 1e-12, "{rows} {levels:?}");
            assert_eq!((curve.first(), curve.last()), (Some(&[0.0, 0.0]), Some(&[1.0, 1.0])));
            let plain = Ranking::new(&scores, &labels, Link::Logit).unwrap().roc(100);
            let twice = Ranking::weighted(&scores, &labels, &vec![2.0; rows], Link::Logit).unwrap().roc(100);
            assert_eq!(plain, twice);
        }
        let none = Ranking::weighted(&[1.0, 2.0], &[true, false], &[0.0, 1.0], Link::Logit).unwrap();
        assert_eq!(none.roc(9), Err(crate::Undefined::NoWeight { rows: 1 }));
    }

    /// A score u on `[0, 1]` with p(positive) = u: TPR = 1 - t^2, FPR = (1 - t)^2 at threshold t, AUC 5/6.
    #[test]
    fn equals_the_closed_form() {
        let rows = 200_000;
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let scores: Vec<f32> = (0..rows).map(|_| rng.random()).collect();
        let labels: Vec<bool> = scores.iter().map(|score| rng.random::<f32>() < *score).collect();
        let points = Ranking::new(&scores, &labels, Link::Logit).unwrap().roc(240).unwrap();
        for [fpr, tpr] in &points {
            let expected = 1.0 - (1.0 - fpr.sqrt()).powi(2);
            // Four standard errors of a rate over 100,000 rows of a class.
            assert!((tpr - expected).abs() < 4.0 * (0.25_f64 / 1e5).sqrt() * 2.0, "{fpr} {tpr} {expected}");
        }
        assert!((trapezoids(&points) - 5.0 / 6.0).abs() < 0.005);
    }
}
