//! Two AUCs on the same rows: their difference with its variance.
//!
//! What both models find easy or hard cancels, so the difference is known better than either AUC. With `V10(i)` and `V01(j)`
//! as in [`auc`](mod@crate::auc), the variance of a difference is that of an AUC with the differences of the components in
//! their place: E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson, Biometrics 44 (1988), 837-845.

use crate::auc::{pack, ties};
use crate::evaluator::Evaluator;
use crate::undefined::{Undefined, both_classes};

/// For each positive row the share of negatives below it, and for each negative row the share of positives above it, a tie
/// counting half. Their means are the AUC.
#[derive(Debug, Clone, PartialEq)]
pub struct Placements {
    positives: Vec<f64>,
    negatives: Vec<f64>,
}

/// A difference of two AUCs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AucDifference {
    /// The first less the second.
    pub value: f64,
    /// DeLong's variance. `None` when a class has a single row.
    pub variance: Option<f64>,
}

impl Placements {
    /// Of scores (any scale) with their labels (true is positive).
    ///
    /// # Errors
    /// No rows, one class missing, a score that is NaN.
    ///
    /// # Panics
    /// When the lengths differ, and at 2^32 rows.
    ///
    /// # Examples
    /// ```
    /// use esmm_metrics::Placements;
    ///
    /// let labels = [true, true, false, false];
    /// let one = Placements::of(&[0.9, 0.4, 0.6, 0.1], &labels)?;
    /// let other = Placements::of(&[0.9, 0.7, 0.6, 0.1], &labels)?;
    /// assert_eq!((one.auc(), other.auc()), (0.75, 1.0));
    /// assert_eq!(other.less(&one).value, 0.25);
    /// # Ok::<(), esmm_metrics::Undefined>(())
    /// ```
    pub fn of(scores: &[f32], labels: &[bool]) -> Result<Self, Undefined> {
        assert_eq!(scores.len(), labels.len(), "{} scores and {} labels", scores.len(), labels.len());
        assert!(u32::try_from(scores.len()).is_ok(), "{} rows", scores.len());
        let packed = (0..)
            .zip(scores)
            .map(|(row, score)| pack(*score, row).ok_or(Undefined::NotANumber { row: u64::from(row) }));
        let mut packed: Vec<u64> = packed.collect::<Result<_, _>>()?;
        packed.sort_unstable();
        let positives = labels.iter().filter(|label| **label).count() as u64;
        let negatives = labels.len() as u64 - positives;
        both_classes(positives, negatives)?;
        let mut placed = vec![0.0; labels.len()];
        let mut positives_below = 0.0;
        let mut negatives_below = 0.0;
        for run in ties(&packed) {
            let rows = || run.iter().map(|packed| *packed as u32 as usize);
            let tied_positives = rows().filter(|row| labels[*row]).count() as f64;
            let tied_negatives = run.len() as f64 - tied_positives;
            for row in rows() {
                placed[row] = match labels[row] {
                    true => (negatives_below + 0.5 * tied_negatives) / negatives as f64,
                    false => 1.0 - (positives_below + 0.5 * tied_positives) / positives as f64,
                };
            }
            positives_below += tied_positives;
            negatives_below += tied_negatives;
        }
        let of_class = |class: bool| {
            let rows = placed.iter().zip(labels).filter(|(_, label)| **label == class);
            rows.map(|(placed, _)| *placed).collect()
        };
        Ok(Self { positives: of_class(true), negatives: of_class(false) })
    }

    /// The means over several models that scored the same rows; `None` of none. Their AUC is the mean of the AUCs.
    ///
    /// # Panics
    /// When they are not of the same rows.
    pub fn mean(several: &[Self]) -> Option<Self> {
        let (first, others) = several.split_first()?;
        let mut mean = first.clone();
        let count = several.len() as f64;
        for other in others {
            mean.check(other);
            add(&mut mean.positives, &other.positives);
            add(&mut mean.negatives, &other.negatives);
        }
        mean.positives.iter_mut().chain(&mut mean.negatives).for_each(|placed| *placed /= count);
        Some(mean)
    }

    /// The AUC.
    pub fn auc(&self) -> f64 {
        self.positives.iter().sum::<f64>() / self.positives.len() as f64
    }

    /// DeLong's variance of the AUC. `None` when a class has a single row.
    pub fn variance(&self) -> Option<f64> {
        let nothing = |placed: &[f64]| vec![0.0; placed.len()];
        let positives = Moments::of(&self.positives, &nothing(&self.positives));
        let negatives = Moments::of(&self.negatives, &nothing(&self.negatives));
        positives.variance.zip(negatives.variance).map(|(own, other)| own + other)
    }

    /// This AUC less another one on the same rows.
    ///
    /// # Panics
    /// When they are not of the same rows.
    pub fn less(&self, other: &Self) -> AucDifference {
        self.check(other);
        let positives = Moments::of(&self.positives, &other.positives);
        let negatives = Moments::of(&self.negatives, &other.negatives);
        let variance = positives.variance.zip(negatives.variance).map(|(own, other)| own + other);
        AucDifference { value: positives.mean, variance }
    }

    fn check(&self, other: &Self) {
        let rows = |placements: &Self| (placements.positives.len(), placements.negatives.len());
        assert_eq!(rows(self), rows(other), "positive and negative rows of both");
    }
}

fn add(to: &mut [f64], other: &[f64]) {
    to.iter_mut().zip(other).for_each(|(to, other)| *to += other);
}

/// Mean of differences, and the variance of that mean.
struct Moments {
    mean: f64,
    variance: Option<f64>,
}

impl Moments {
    fn of(left: &[f64], right: &[f64]) -> Self {
        let count = left.len() as f64;
        let differences = || left.iter().zip(right).map(|(left, right)| left - right);
        let mean = differences().sum::<f64>() / count;
        let squares: f64 = differences().map(|difference| (difference - mean).powi(2)).sum();
        Self { mean, variance: (left.len() > 1).then(|| squares / ((count - 1.0) * count)) }
    }
}

impl Evaluator {
    /// The placements of a task's measured rows; `None` for a task that there is not, and where rows have weights.
    pub fn placements(&self, task: &str) -> Option<Result<Placements, Undefined>> {
        self.scores_and_labels(task).map(|(scores, labels)| Placements::of(scores, &labels))
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::auc;

    fn win(positive: f32, negative: f32) -> f64 {
        if positive == negative { 0.5 } else { f64::from(positive > negative) }
    }

    /// Variance of the mean of some values.
    fn variance(values: &[f64]) -> f64 {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0) / count
    }

    /// All pairs, as DeLong's paper defines the components; scores of few values, so that many tie.
    #[test]
    fn differences_are_those_of_all_pairs() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        for rows in [7, 60, 300] {
            let labels: Vec<bool> = (0..rows).map(|row| row < 3 || rng.random::<f64>() < 0.3).collect();
            let mut scores = || (0..rows).map(|_| rng.random_range(0..9_u8).into()).collect::<Vec<f32>>();
            let (left, right) = (scores(), scores());
            let (positives, negatives): (Vec<usize>, Vec<usize>) = (0..rows).partition(|row| labels[*row]);
            let pair = |positive: usize, negative: usize| {
                win(left[positive], left[negative]) - win(right[positive], right[negative])
            };
            let (p, n) = (positives.len() as f64, negatives.len() as f64);
            let v10: Vec<f64> = positives
                .iter()
                .map(|positive| negatives.iter().map(|negative| pair(*positive, *negative)).sum::<f64>() / n)
                .collect();
            let v01: Vec<f64> = negatives
                .iter()
                .map(|negative| positives.iter().map(|positive| pair(*positive, *negative)).sum::<f64>() / p)
                .collect();
            let expected = v10.iter().sum::<f64>() / p;
            let one = Placements::of(&left, &labels).unwrap();
            let other = Placements::of(&right, &labels).unwrap();
            let found = one.less(&other);
            assert!((found.value - expected).abs() < 1e-12, "{found:?} {expected}");
            assert!((found.value - (one.auc() - other.auc())).abs() < 1e-12);
            assert!((one.auc() - auc(&left, &labels).unwrap().value).abs() < 1e-12);
            let expected = variance(&v10) + variance(&v01);
            assert!((found.variance.unwrap() - expected).abs() < 1e-12, "{found:?} {expected}");
            let constant = Placements::of(&vec![1.0; rows], &labels).unwrap();
            let alone = auc(&left, &labels).unwrap().variance.unwrap();
            assert!(
                (one.less(&constant).variance.unwrap() - alone).abs() < 1e-12,
                "against a constant: the AUC's own"
            );
            assert!((one.variance().unwrap() - alone).abs() < 1e-12);
            let mean = Placements::mean(&[one.clone(), other.clone()]).unwrap();
            assert!((mean.auc() - 0.5 * (one.auc() + other.auc())).abs() < 1e-12);
            assert_eq!(one.less(&one), AucDifference { value: 0.0, variance: Some(0.0) });
        }
    }

    #[test]
    fn what_has_no_auc_has_no_placements() {
        assert!(Placements::of(&[], &[]).is_err());
        assert!(Placements::of(&[1.0, 2.0], &[true, true]).is_err());
        assert!(Placements::of(&[f32::NAN, 2.0], &[true, false]).is_err());
        assert_eq!(Placements::mean(&[]), None);
        let single = Placements::of(&[1.0, 2.0], &[true, false]).unwrap();
        assert_eq!(single.less(&single).variance, None);
    }
}
