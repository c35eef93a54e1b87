//! Precision-recall curves, exact at equal steps of recall.

use esmm_metrics::Ranking;

/// Points of a curve.
const POINTS: usize = 201;

/// A precision-recall curve.
///
/// Its points lie at equal steps of recall, from 1 down to the first positive row, and are exact: each is what selecting
/// all rows above one score gives. TensorBoard expects thresholds spaced evenly over the probabilities, which puts
/// all but a few points where no score is when events are rare; nothing but its column of thresholds depends on that.
#[derive(Debug, Clone, PartialEq)]
pub struct PrCurve {
    rows: [Vec<f32>; 6],
}

impl PrCurve {
    /// What the numbers on the page mean.
    pub(crate) const DESCRIPTION: &str = "Points at equal steps of recall, each exact over the whole split. The \
        column `Threshold` counts these steps (about 1 - recall) and is no score.";

    /// The curve of ranked rows; `None` without positive ones.
    pub fn of(ranking: &Ranking) -> Option<Self> {
        let points = ranking.counts_at_recalls(POINTS).ok()?;
        let mut rows = std::array::from_fn(|_| Vec::with_capacity(points.len()));
        for point in points {
            let hits = point.true_positives;
            let misses = point.false_positives;
            let [hits, misses, spared, missed] = [hits, misses, point.true_negatives, point.false_negatives];
            let values = [hits, misses, spared, missed, hits / (hits + misses), hits / (hits + missed)];
            rows.iter_mut().zip(values).for_each(|(row, value): (&mut Vec<f32>, f64)| row.push(value as f32));
        }
        Some(Self { rows })
    }

    /// Number of points.
    pub(crate) fn len(&self) -> usize {
        self.rows[0].len()
    }

    /// True positives, false positives, true negatives, false negatives, precision, recall; recall falls from 1.
    pub(crate) fn rows(&self) -> &[Vec<f32>; 6] {
        &self.rows
    }
}
