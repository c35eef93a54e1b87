//! Precision-recall curves, exact at equal steps of recall.

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
    pub(super) const DESCRIPTION: &str = "Points at equal steps of recall, each exact over the whole split. The \
        column `Threshold` counts these steps (about 1 - recall) and is no score.";

    /// The curve of rows with a score, higher for more likely, and a label each. `None` where it is undefined: without
    /// positive rows, or with a score that is not a number.
    pub fn new(rows: impl Iterator<Item = (f32, bool)>) -> Option<Self> {
        let mut rows: Vec<(f32, bool)> = rows.collect();
        if rows.iter().any(|(score, _)| score.is_nan()) {
            return None;
        }
        rows.sort_unstable_by(|(a, _), (b, _)| b.total_cmp(a));
        let positives = rows.iter().filter(|(_, positive)| *positive).count();
        if positives == 0 {
            return None;
        }
        let mut curve = Self { rows: std::array::from_fn(|_| vec![0.0; POINTS]) };
        let (mut selected, mut hits) = (0, 0);
        for point in (0..POINTS).rev() {
            let wanted = (positives * (POINTS - 1 - point)).div_ceil(POINTS - 1).max(1);
            while hits < wanted {
                // Rows with one score are selected together.
                let score = rows[selected].0;
                let tied = rows[selected..].iter().take_while(|(other, _)| *other == score);
                let (count, positive) = tied
                    .fold((0, 0), |(count, sum), (_, positive)| (count + 1, sum + usize::from(*positive)));
                (selected, hits) = (selected + count, hits + positive);
            }
            curve.set(point, selected, hits, positives, rows.len());
        }
        Some(curve)
    }

    fn set(&mut self, point: usize, selected: usize, hits: usize, positives: usize, total: usize) {
        let misses = selected - hits;
        let negatives = total - positives;
        let values = [
            hits as f64,
            misses as f64,
            (negatives - misses) as f64,
            (positives - hits) as f64,
            hits as f64 / selected as f64,
            hits as f64 / positives as f64,
        ];
        for (row, value) in self.rows.iter_mut().zip(values) {
            row[point] = value as f32;
        }
    }

    /// Number of points.
    pub(super) fn len(&self) -> usize {
        self.rows[0].len()
    }

    /// True positives, false positives, true negatives, false negatives, precision, recall; recall falls from 1.
    pub(super) fn rows(&self) -> &[Vec<f32>; 6] {
        &self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(curve: &PrCurve, point: usize) -> [f32; 6] {
        std::array::from_fn(|row| curve.rows[row][point])
    }

    #[test]
    fn points_are_counts_above_a_score() {
        // 8, 6 and 4 are positive, 7, 5 and 3 negative.
        let rows = (3..=8).map(|score| (score as f32, score % 2 == 0));
        let curve = PrCurve::new(rows).unwrap();
        assert_eq!(curve.len(), 201);
        assert_eq!(point(&curve, 0), [3.0, 2.0, 1.0, 0.0, 0.6, 1.0], "all that is needed for a recall of 1");
        assert_eq!(point(&curve, 200), [1.0, 0.0, 3.0, 2.0, 1.0, 1.0 / 3.0], "the first positive row");
        // A recall of 1/2 needs two of three.
        assert_eq!(point(&curve, 100), [2.0, 1.0, 2.0, 1.0, 2.0 / 3.0, 2.0 / 3.0]);
        assert!(curve.rows[5].is_sorted_by(|before, after| before >= after));
    }

    #[test]
    fn tied_rows_are_selected_together() {
        let rows = [(1.0, true), (1.0, false), (1.0, false), (0.0, true), (-0.0, false)];
        let curve = PrCurve::new(rows.into_iter()).unwrap();
        assert_eq!(point(&curve, 200), [1.0, 2.0, 1.0, 1.0, 1.0 / 3.0, 0.5]);
        assert_eq!(point(&curve, 0), [2.0, 3.0, 0.0, 0.0, 0.4, 1.0], "0 and -0 are one score");
    }

    #[test]
    fn undefined_without_positive_rows_or_with_a_nan() {
        assert_eq!(PrCurve::new([(1.0, false), (2.0, false)].into_iter()), None);
        assert_eq!(PrCurve::new(std::iter::empty()), None);
        assert_eq!(PrCurve::new([(1.0, true), (f32::NAN, false)].into_iter()), None);
    }
}
