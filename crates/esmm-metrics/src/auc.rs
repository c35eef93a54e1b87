//! Area under the ROC curve, exact, with its interval.
//!
//! AUC is the probability that a positive row scores above a negative one, a tie counting half. With P positives, N
//! negatives and the structural components `V10(i)` (share of negatives below positive i) and `V01(j)` (share of
//! positives above negative j), its variance is `S10 / P + S01 / N`, S the sample variances of the components:
//! E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson, Biometrics 44 (1988), 837-845. The components come from ranks,
//! as in X. Sun, W. Xu, IEEE Signal Processing Letters 21 (2014), 1389-1393: one sort, no P x N matrix.

use crate::undefined::{Undefined, both_classes};

/// 97.5% quantile of the standard normal distribution.
pub(crate) const Z_975: f64 = 1.959_963_984_540_054;

/// An exact AUC.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Auc {
    /// The area, in `[0, 1]`.
    pub value: f64,
    /// DeLong's variance of `value`. `None` when a class has a single row.
    pub variance: Option<f64>,
    /// Number of positive rows.
    pub positives: u64,
    /// Number of negative rows.
    pub negatives: u64,
}

impl Auc {
    /// The 95% interval `value -+ 1.96 sqrt(variance)`, clipped to `[0, 1]`.
    ///
    /// It is a normal approximation: with a handful of rows in a class it is too narrow, and where the classes are
    /// separated without error its width is 0.
    ///
    /// # Errors
    /// [`Undefined::NoVariance`] when a class has a single row.
    pub fn ci95(&self) -> Result<(f64, f64), Undefined> {
        let variance = self
            .variance
            .ok_or(Undefined::NoVariance { positives: self.positives, negatives: self.negatives })?;
        let half = Z_975 * variance.sqrt();
        Ok(((self.value - half).max(0.0), (self.value + half).min(1.0)))
    }
}

/// AUC of `scores` (any scale, infinities allowed) against `labels` (true is positive). Takes 4 bytes a row.
///
/// # Errors
/// No rows, one class missing, a score that is NaN.
///
/// # Panics
/// When the lengths differ.
///
/// # Examples
/// ```
/// let auc = esmm_metrics::auc(&[0.9, 0.4, 0.6, 0.1], &[true, true, false, false])?;
/// assert_eq!(auc.value, 0.75); // three of the four pairs are in order
/// assert_eq!((auc.positives, auc.negatives), (2, 2));
/// let (low, high) = auc.ci95()?;
/// assert!(low < 0.75 && high == 1.0); // four rows say little
/// # Ok::<(), esmm_metrics::Undefined>(())
/// ```
pub fn auc(scores: &[f32], labels: &[bool]) -> Result<Auc, Undefined> {
    assert_eq!(scores.len(), labels.len(), "{} scores and {} labels", scores.len(), labels.len());
    auc_of(scores.len(), scores.iter().copied().zip(labels.iter().copied()))
}

/// AUC of pairs (score, is positive), `most` at most.
///
/// # Errors
/// As [`auc`].
pub(crate) fn auc_of(most: usize, rows: impl Iterator<Item = (f32, bool)>) -> Result<Auc, Undefined> {
    // Negatives from the front, positives from the back: apart they need no label, and half the memory of pairs.
    let mut keys = vec![0_u32; most];
    let mut front = 0;
    let mut back = most;
    for (row, (score, positive)) in rows.enumerate() {
        let key = key(score).ok_or(Undefined::NotANumber { row: row as u64 })?;
        if positive {
            back -= 1;
            keys[back] = key;
        } else {
            keys[front] = key;
            front += 1;
        }
    }
    let (negatives, positives) = keys.split_at_mut(back);
    let negatives = &mut negatives[..front];
    negatives.sort_unstable();
    positives.sort_unstable();
    let runs = || Runs { positives, negatives };
    let (value, positives, negatives) = area_of(runs())?;
    let variance = (positives > 1 && negatives > 1).then(|| variance(runs(), value, positives, negatives));
    Ok(Auc { value, variance, positives, negatives })
}

/// Positives and negatives of each run of equal score, in ascending order of the score.
struct Runs<'a> {
    positives: &'a [u32],
    negatives: &'a [u32],
}

impl Iterator for Runs<'_> {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        let lowest = match (self.positives.first(), self.negatives.first()) {
            (Some(positive), Some(negative)) => *positive.min(negative),
            (one, other) => *one.or(other)?,
        };
        Some((drop_run(&mut self.positives, lowest), drop_run(&mut self.negatives, lowest)))
    }
}

/// Takes all keys off the front that are `key`, and counts them.
fn drop_run(keys: &mut &[u32], key: u32) -> u64 {
    let count = keys.iter().take_while(|other| **other == key).count();
    *keys = &keys[count..];
    count as u64
}

/// A number that sorts as the score does. `None` for NaN.
pub(crate) fn key(score: f32) -> Option<u32> {
    if score.is_nan() {
        return None;
    }
    let bits = (score + 0.0).to_bits(); // -0 becomes +0: they tie
    Some(if bits >> 31 == 1 { !bits } else { bits | 1 << 31 })
}

/// Score in the upper half, so that packed rows sort as their scores do; anything in the lower. `None` for NaN.
pub(crate) fn pack(score: f32, payload: u32) -> Option<u64> {
    Some(u64::from(key(score)?) << 32 | u64::from(payload))
}

/// Runs of equal score among sorted packed rows.
pub(crate) fn ties(packed: &[u64]) -> impl Iterator<Item = &[u64]> {
    packed.chunk_by(|left, right| left >> 32 == right >> 32)
}

/// Area, positives and negatives of sorted rows whose payload is the label.
///
/// # Errors
/// No rows, one class missing.
pub(crate) fn area(packed: &[u64]) -> Result<(f64, u64, u64), Undefined> {
    area_of(ties(packed).map(classes))
}

fn area_of(runs: impl Iterator<Item = (u64, u64)>) -> Result<(f64, u64, u64), Undefined> {
    let mut doubled_wins = 0_u128;
    let mut positives = 0;
    let mut negatives = 0;
    for (tied_positives, tied_negatives) in runs {
        let doubled_below = 2 * negatives + tied_negatives;
        doubled_wins += u128::from(tied_positives) * u128::from(doubled_below);
        positives += tied_positives;
        negatives += tied_negatives;
    }
    both_classes(positives, negatives)?;
    let doubled_pairs = 2 * u128::from(positives) * u128::from(negatives);
    Ok((doubled_wins as f64 / doubled_pairs as f64, positives, negatives))
}

/// Positives and negatives of a run.
fn classes(run: &[u64]) -> (u64, u64) {
    let positives = run.iter().map(|row| row & 1).sum();
    (positives, run.len() as u64 - positives)
}

fn variance(runs: Runs<'_>, value: f64, positives: u64, negatives: u64) -> f64 {
    let all_positives = positives as f64;
    let all_negatives = negatives as f64;
    let mut positives_below = 0.0;
    let mut negatives_below = 0.0;
    let mut squares_of_positives = 0.0;
    let mut squares_of_negatives = 0.0;
    for (tied_positives, tied_negatives) in runs {
        let tied_positives = tied_positives as f64;
        let tied_negatives = tied_negatives as f64;
        let v10 = (negatives_below + 0.5 * tied_negatives) / all_negatives;
        let v01 = 1.0 - (positives_below + 0.5 * tied_positives) / all_positives;
        squares_of_positives += tied_positives * (v10 - value).powi(2);
        squares_of_negatives += tied_negatives * (v01 - value).powi(2);
        positives_below += tied_positives;
        negatives_below += tied_negatives;
    }
    squares_of_positives / ((all_positives - 1.0) * all_positives)
        + squares_of_negatives / ((all_negatives - 1.0) * all_negatives)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::{Auc, Undefined, auc};

    fn win(positive: f32, negative: f32) -> f64 {
        if positive == negative { 0.5 } else { f64::from(positive > negative) }
    }

    fn mean(values: impl Iterator<Item = f64> + Clone) -> f64 {
        values.clone().sum::<f64>() / values.count() as f64
    }

    /// DeLong's mean and variance as in the definition: every pair, then the sample variances.
    fn all_pairs(positives: &[f32], negatives: &[f32]) -> (f64, f64) {
        let v10 = positives.iter().map(|p| mean(negatives.iter().map(|n| win(*p, *n))));
        let v01 = negatives.iter().map(|n| mean(positives.iter().map(|p| win(*p, *n))));
        let value = mean(v10.clone());
        let share = |n: usize| 1.0 / ((n - 1) * n) as f64;
        let s10 = v10.map(|v| (v - value).powi(2)).sum::<f64>() * share(positives.len());
        let s01 = v01.map(|v| (v - value).powi(2)).sum::<f64>() * share(negatives.len());
        (value, s10 + s01)
    }

    fn joined(positives: &[f32], negatives: &[f32]) -> Result<Auc, Undefined> {
        let labels: Vec<bool> = (0..positives.len() + negatives.len()).map(|i| i < positives.len()).collect();
        auc(&[positives, negatives].concat(), &labels)
    }

    #[test]
    fn equals_all_pairs() {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        for case in 0..300 {
            let levels = [2, 5, 1000][case % 3];
            let mut draw = |n: usize| -> Vec<f32> {
                (0..n).map(|_| rng.random_range(-levels..=levels) as f32 / 8.0).collect()
            };
            let positives = draw(2 + case % 17);
            let negatives = draw(2 + case % 23);
            let (value, variance) = all_pairs(&positives, &negatives);
            let found = joined(&positives, &negatives).unwrap();
            assert!((found.value - value).abs() < 1e-14, "case {case}: {found:?}, {value}");
            assert!((found.variance.unwrap() - variance).abs() < 1e-14, "case {case}: {found:?}, {variance}");
        }
    }

    #[test]
    fn by_hand() {
        // Wins 1 + 1/2 + 1 of 4 pairs: 2.5 / 4. V10 = 3/4, 1/2 and V01 = 1, 1/4 (by hand), so that
        // variance = (2/64) / 2 + (2 * 9/64) / 2.
        let found = joined(&[3.0, 2.0], &[1.0, 3.0]).unwrap();
        assert_eq!(found.value, 0.625);
        assert_eq!((found.positives, found.negatives), (2, 2));
        assert!((found.variance.unwrap() - (1.0 / 64.0 + 9.0 / 64.0)).abs() < 1e-15);
        let (low, high) = found.ci95().unwrap();
        assert_eq!(low, 0.0_f64.max(0.625 - 1.959_963_984_540_054 * 0.156_25_f64.sqrt()));
        assert_eq!(high, 1.0);
    }

    #[test]
    fn order_is_that_of_the_numbers() {
        let infinity = f32::INFINITY;
        assert_eq!(joined(&[-1.0, infinity], &[-2.0, -infinity]).unwrap().value, 1.0);
        assert_eq!(joined(&[0.0], &[-0.0]).unwrap().value, 0.5);
        assert_eq!(joined(&[f32::MIN_POSITIVE], &[-f32::MIN_POSITIVE]).unwrap().value, 1.0);
        assert_eq!(joined(&[-3.0], &[2.0]).unwrap().value, 0.0);
    }

    #[test]
    fn undefined_says_why() {
        assert_eq!(joined(&[], &[]), Err(Undefined::NoRows));
        assert_eq!(joined(&[], &[1.0, 2.0]), Err(Undefined::NoPositives { rows: 2 }));
        assert_eq!(joined(&[1.0], &[]), Err(Undefined::NoNegatives { rows: 1 }));
        assert_eq!(joined(&[1.0], &[f32::NAN]), Err(Undefined::NotANumber { row: 1 }));
        let single = joined(&[1.0], &[0.0, 2.0]).unwrap();
        assert_eq!(single.value, 0.5);
        assert_eq!(single.ci95(), Err(Undefined::NoVariance { positives: 1, negatives: 2 }));
    }

    #[test]
    fn interval_covers_the_truth_95_times_in_100() {
        // Positives are the larger of two uniforms, negatives one uniform: AUC = E[max] = 2/3.
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let covered = (0..2000).filter(|_| {
            let positives: Vec<f32> = (0..60).map(|_| rng.random::<f32>().max(rng.random())).collect();
            let negatives: Vec<f32> = (0..140).map(|_| rng.random()).collect();
            let (low, high) = joined(&positives, &negatives).unwrap().ci95().unwrap();
            (low..=high).contains(&(2.0 / 3.0))
        });
        let share = covered.count() as f64 / 2000.0;
        // Standard error of the share: sqrt(0.95 * 0.05 / 2000) = 0.005.
        assert!((0.93..=0.97).contains(&share), "{share}");
    }
}
