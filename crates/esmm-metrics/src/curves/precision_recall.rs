//! The precision-recall curve, thinned, and counts at thresholds.

use super::super::undefined::{Undefined, some_weight};
use super::ranking::Ranking;

/// What a threshold on the probability makes of the rows: their numbers, or what they weigh where they have weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ThresholdCounts {
    /// Rows with a probability of at least this are predicted positive.
    pub threshold: f64,
    /// Positive rows at or above it.
    pub true_positives: f64,
    /// Negative rows at or above it.
    pub false_positives: f64,
    /// Negative rows below it.
    pub true_negatives: f64,
    /// Positive rows below it.
    pub false_negatives: f64,
}

/// A stretch of recall: its first, lowest, highest and last point.
#[derive(Clone, Copy)]
struct Stretch {
    cell: usize,
    points: [[f64; 2]; 4],
}

impl Ranking {
    /// `[recall, precision]` as the threshold falls: the first point is that of the highest score alone, at recall 0,
    /// the last is recall 1 with the base rate as precision.
    ///
    /// Of each stretch of `4 / points` of recall the first, last, lowest and highest point are kept, so that at most
    /// about `points` remain and what is drawn spans what the whole curve does. Between two points the curve is a step,
    /// not a line; [`Ranking::average_precision`] is the area below all of them.
    ///
    /// # Errors
    /// No rows, no positive row.
    pub fn precision_recall(&self, points: usize) -> Result<Vec<[f64; 2]>, Undefined> {
        self.some_positive()?;
        let cells = (points / 4).max(1);
        let mut kept: Vec<[f64; 2]> = Vec::with_capacity(points + 2);
        let mut open: Option<Stretch> = None;
        for [recall, precision] in self.recall_and_precision() {
            if kept.is_empty() && open.is_none() {
                kept.push([0.0, precision]);
            }
            let cell = (recall * cells as f64) as usize;
            let point = [recall, precision];
            match &mut open {
                Some(stretch) if stretch.cell == cell => stretch.add(point),
                _ => {
                    open.replace(Stretch { cell, points: [point; 4] })
                        .map(Stretch::finish)
                        .into_iter()
                        .for_each(|points| kept.extend(points));
                }
            }
        }
        kept.extend(open.map(Stretch::finish).into_iter().flatten());
        kept.dedup();
        Ok(kept)
    }

    /// Sum of precision times gain in recall over all thresholds: the area below the steps, as scikit-learn's
    /// `average_precision_score`. A random ranking has the base rate, a perfect one 1.
    ///
    /// # Errors
    /// No rows, no positive row.
    pub fn average_precision(&self) -> Result<f64, Undefined> {
        self.some_positive()?;
        let mut before = 0.0;
        let gains = self.recall_and_precision().map(|[recall, precision]| {
            let gain = recall - before;
            before = recall;
            gain * precision
        });
        Ok(gains.sum())
    }

    /// Counts at thresholds on the probability, in the order given.
    pub fn counts_at(&self, thresholds: &[f64]) -> Vec<ThresholdCounts> {
        let mut order: Vec<usize> = (0..thresholds.len()).collect();
        order.sort_by(|left, right| thresholds[*right].total_cmp(&thresholds[*left]));
        let mut counts: Vec<Option<ThresholdCounts>> = vec![None; thresholds.len()];
        let mut true_positives = 0.0;
        let mut false_positives = 0.0;
        let mut ties = self.descending().peekable();
        for place in order {
            let threshold = thresholds[place];
            while let Some(tie) = ties.next_if(|tie| self.link().probability(tie.score) >= threshold) {
                true_positives += tie.positive_weight;
                false_positives += tie.negative_weight;
            }
            counts[place] = Some(self.counts(threshold, true_positives, false_positives));
        }
        counts.into_iter().flatten().collect()
    }

    /// Counts at `points` equal steps of recall, at the highest threshold that reaches each: first at a recall of 1, last
    /// where the first positive row is.
    ///
    /// # Errors
    /// No rows, no positive row.
    pub fn counts_at_recalls(&self, points: usize) -> Result<Vec<ThresholdCounts>, Undefined> {
        self.some_positive()?;
        let mut ties = self.descending();
        let mut threshold = f64::INFINITY;
        let mut true_positives = 0.0;
        let mut false_positives = 0.0;
        let steps = points.saturating_sub(1).max(1) as f64;
        let mut counts = Vec::with_capacity(points);
        for step in 0..points {
            let wanted = self.positive_weight() * step as f64 / steps;
            while (true_positives < wanted || true_positives == 0.0)
                && let Some(tie) = ties.next()
            {
                true_positives += tie.positive_weight;
                false_positives += tie.negative_weight;
                threshold = self.link().probability(tie.score);
            }
            counts.push(self.counts(threshold, true_positives, false_positives));
        }
        counts.reverse();
        Ok(counts)
    }

    fn counts(&self, threshold: f64, true_positives: f64, false_positives: f64) -> ThresholdCounts {
        ThresholdCounts {
            threshold,
            true_positives,
            false_positives,
            true_negatives: self.negative_weight() - false_positives,
            false_negatives: self.positive_weight() - true_positives,
        }
    }

    fn recall_and_precision(&self) -> impl Iterator<Item = [f64; 2]> {
        let all = self.positive_weight();
        // Rows that weigh nothing select nothing.
        let ties = self.descending().skip_while(|tie| tie.weight() == 0.0);
        ties.scan((0.0, 0.0), move |(positives, rows), tie| {
            *positives += tie.positive_weight;
            *rows += tie.weight();
            Some([*positives / all, *positives / *rows])
        })
    }

    fn some_positive(&self) -> Result<(), Undefined> {
        match (self.rows(), self.positives()) {
            (0, _) => Err(Undefined::NoRows),
            (rows, 0) => Err(Undefined::NoPositives { rows }),
            (_, positives) => some_weight(self.positive_weight(), positives).map(|_| ()),
        }
    }
}

impl Stretch {
    fn add(&mut self, point: [f64; 2]) {
        let [_, lowest, highest, last] = &mut self.points;
        if point[1] < lowest[1] {
            *lowest = point;
        }
        if point[1] > highest[1] {
            *highest = point;
        }
        *last = point;
    }

    /// The points in order. Recall does not fall along the curve, so sorting by it keeps first and last in place; of two
    /// at the same recall the higher precision comes first, as it has the higher threshold.
    fn finish(self) -> [[f64; 2]; 4] {
        let mut points = self.points;
        points.sort_by(|left, right| left[0].total_cmp(&right[0]).then(right[1].total_cmp(&left[1])));
        points
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::{Link, Ranking};
    use crate::Undefined;

    fn ranking(scores: &[f32], labels: &[u8]) -> Ranking {
        let labels: Vec<bool> = labels.iter().map(|label| *label == 1).collect();
        Ranking::new(scores, &labels, Link::Logit).unwrap()
    }

    #[test]
    fn by_hand() {
        // Falling scores: 1 of 1, 1 of 2, then a tie with one positive of two: 2 of 4.
        let found = ranking(&[3.0, 2.0, 1.0, 1.0], &[1, 0, 1, 0]);
        let curve = found.precision_recall(1000).unwrap();
        assert_eq!(curve, [[0.0, 1.0], [0.5, 1.0], [0.5, 0.5], [1.0, 0.5]]);
        assert_eq!(found.average_precision(), Ok(0.5 * 1.0 + 0.5 * 0.5));
        assert_eq!(ranking(&[1.0; 4], &[1, 0, 0, 0]).average_precision(), Ok(0.25));
        assert_eq!(ranking(&[], &[]).precision_recall(9), Err(Undefined::NoRows));
        assert_eq!(ranking(&[1.0], &[0]).average_precision(), Err(Undefined::NoPositives { rows: 1 }));
        assert_eq!(ranking(&[1.0], &[1]).average_precision(), Ok(1.0));
    }

    /// A score u on `[0, 1]` with p(positive) = u: above t, precision is (1 + t) / 2 and recall 1 - t^2.
    #[test]
    fn equals_the_closed_form_and_is_thin() {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        let scores: Vec<f32> = (0..200_000).map(|_| rng.random()).collect();
        let labels: Vec<u8> = scores.iter().map(|score| u8::from(rng.random::<f32>() < *score)).collect();
        let found = ranking(&scores, &labels);
        let curve = found.precision_recall(240).unwrap();
        assert!(curve.len() <= 244, "{}", curve.len());
        assert!(curve.is_sorted_by(|left, right| left[0] <= right[0]));
        for [recall, precision] in curve.iter().filter(|point| point[0] > 0.05) {
            let expected = (1.0 + (1.0 - recall).max(0.0).sqrt()) / 2.0;
            assert!((precision - expected).abs() < 0.02, "{recall} {precision} {expected}");
        }
        // The integral of (1 + sqrt(1 - r)) / 2 over r is 5/6.
        assert!((found.average_precision().unwrap() - 5.0 / 6.0).abs() < 0.005);
        let base = found.positives() as f64 / found.rows() as f64;
        assert_eq!(curve.last(), Some(&[1.0, base]));
    }

    /// By hand, falling scores: a negative that weighs nothing, a positive of weight 2, a negative of weight 2, then a
    /// positive of weight 1.
    #[test]
    fn weights_by_hand() {
        let labels = [true, false, true, false];
        let found =
            Ranking::weighted(&[1.0, 2.0, 3.0, 4.0], &labels, &[1.0, 2.0, 2.0, 0.0], Link::Logit).unwrap();
        let third = 2.0 / 3.0;
        assert_eq!(
            found.precision_recall(1000).unwrap(),
            [[0.0, 1.0], [third, 1.0], [third, 0.5], [1.0, 0.6]]
        );
        assert!((found.average_precision().unwrap() - (third + 0.6 / 3.0)).abs() < 1e-15);
        let counts = found.counts_at_recalls(3).unwrap();
        let table = counts.iter().map(|at| [at.true_positives, at.false_positives, at.true_negatives]);
        assert_eq!(table.collect::<Vec<_>>(), [[3.0, 2.0, 0.0], [2.0, 0.0, 2.0], [2.0, 0.0, 2.0]]);
        let none = Ranking::weighted(&[1.0, 2.0], &[true, false], &[0.0, 1.0], Link::Logit).unwrap();
        assert_eq!(none.average_precision(), Err(Undefined::NoWeight { rows: 1 }));
    }

    #[test]
    fn counts_at_thresholds_in_any_order() {
        let found = ranking(&[-2.0, 0.0, 2.0, 4.0], &[0, 1, 0, 1]);
        let counts = found.counts_at(&[0.5, 0.0, 1.0, 0.9]);
        let table: Vec<[f64; 4]> = counts
            .iter()
            .map(|at| [at.true_positives, at.false_positives, at.true_negatives, at.false_negatives])
            .collect();
        // sigmoid of the scores: 0.12, 0.5, 0.88, 0.98.
        assert_eq!(
            table,
            [[2.0, 1.0, 1.0, 0.0], [2.0, 2.0, 0.0, 0.0], [0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 2.0, 1.0]]
        );
        assert_eq!(counts[3].threshold, 0.9);
    }

    #[test]
    fn counts_at_equal_steps_of_recall() {
        // Falling scores: positive, negative, positive, negative, and then a tie of a positive with a negative.
        let found = ranking(&[5.0, 4.0, 3.0, 2.0, 0.0, -0.0], &[1, 0, 1, 0, 1, 0]);
        let counts = found.counts_at_recalls(5).unwrap();
        let table: Vec<[f64; 4]> = counts
            .iter()
            .map(|at| [at.true_positives, at.false_positives, at.true_negatives, at.false_negatives])
            .collect();
        // Recalls of 1, 3/4, 1/2, 1/4 and the first positive row, of three positive ones.
        let expected = [[3, 3, 0, 0], [3, 3, 0, 0], [2, 1, 2, 1], [1, 0, 3, 2], [1, 0, 3, 2]];
        assert_eq!(table, expected.map(|row| row.map(f64::from)));
        assert_eq!((counts[0].threshold, counts[2].threshold), (0.5, Link::Logit.probability(3.0)));
        assert_eq!(ranking(&[1.0], &[0]).counts_at_recalls(5), Err(Undefined::NoPositives { rows: 1 }));
    }
}
