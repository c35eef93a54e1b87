//! AUC of rows that stand for several rows each.
//!
//! With weights w the area is the weighted share of pairs that are ranked right, and the structural components of DeLong
//! (see [`auc`](crate::auc())) are weighted shares. A class with weights w counts as `(sum w)^2 / sum w^2` rows in the
//! variance, its effective size (L. Kish, Survey Sampling, 1965): with equal weights that is its number of rows.

use crate::auc::Auc;
use crate::auc::key;
use crate::group_auc::{GroupAuc, NO_GROUP};
use crate::undefined::{Undefined, both_classes};

/// A row: the key of its score, its weight.
type Row = (u32, f64);

/// AUC of `scores` against `labels`, each row counting as `weights` rows. Takes 16 bytes a row.
///
/// # Errors
/// As [`auc`](crate::auc()), and a class whose weights are all 0.
///
/// # Panics
/// When the lengths differ.
///
/// # Examples
/// ```
/// // A negative that stands for three: as if it were there three times.
/// let once = esmm_metrics::weighted_auc(&[0.5, 0.2, 0.9], &[true, false, false], &[1.0, 3.0, 1.0])?;
/// assert_eq!(once.value, 0.75);
/// # Ok::<(), esmm_metrics::Undefined>(())
/// ```
pub fn weighted_auc(scores: &[f32], labels: &[bool], weights: &[f32]) -> Result<Auc, Undefined> {
    let lengths = [scores.len(), labels.len(), weights.len()];
    assert_eq!(lengths, [labels.len(); 3], "scores, labels and weights have {lengths:?} rows");
    let rows = scores.iter().zip(labels).zip(weights);
    weighted_auc_of(rows.map(|((score, positive), weight)| (*score, *positive, f64::from(*weight))))
}

/// AUC of (score, is positive, weight).
///
/// # Errors
/// As [`weighted_auc`].
pub(crate) fn weighted_auc_of(rows: impl Iterator<Item = (f32, bool, f64)>) -> Result<Auc, Undefined> {
    let mut positives: Vec<Row> = Vec::new();
    let mut negatives: Vec<Row> = Vec::new();
    for (row, (score, positive, weight)) in rows.enumerate() {
        let key = key(score).ok_or(Undefined::NotANumber { row: row as u64 })?;
        if positive { positives.push((key, weight)) } else { negatives.push((key, weight)) }
    }
    both_classes(positives.len() as u64, negatives.len() as u64)?;
    positives.sort_by(order);
    negatives.sort_by(order);
    let above = Class::of(&positives)?;
    let below = Class::of(&negatives)?;
    let shares_above = shares_below(&positives, &negatives, below.weight);
    let shares_below = shares_below(&negatives, &positives, above.weight);
    let value = mean(&positives, &shares_above, above.weight);
    let one_row =
        positives.len() < 2 || negatives.len() < 2 || above.effective <= 1.0 || below.effective <= 1.0;
    let variance = (!one_row).then(|| {
        above.variance_of_mean(&positives, &shares_above, value)
            + below.variance_of_mean(&negatives, &shares_below, 1.0 - value)
    });
    Ok(Auc { value, variance, positives: positives.len() as u64, negatives: negatives.len() as u64 })
}

/// GAUC of (group, score, is positive, weight): each group weighs what its rows weigh.
///
/// # Errors
/// As [`group_auc`](crate::group_auc()).
pub(crate) fn weighted_group_auc_of(
    rows: impl Iterator<Item = (u64, f32, bool, f64)>,
) -> Result<GroupAuc, Undefined> {
    let mut sorted = Vec::new();
    let mut has_rows = false;
    for (row, (group, score, positive, weight)) in rows.enumerate() {
        has_rows = true;
        if score.is_nan() {
            return Err(Undefined::NotANumber { row: row as u64 });
        }
        if group != NO_GROUP {
            sorted.push((group, score, positive, weight));
        }
    }
    if !has_rows {
        return Err(Undefined::NoRows);
    }
    sorted.sort_by_key(|row| row.0);
    let mut sum = 0.0;
    let mut weight = 0.0;
    let mut groups_used = 0;
    let mut groups_skipped = 0;
    for group in sorted.chunk_by(|left, right| left.0 == right.0) {
        let rows = group.iter().map(|(_, score, positive, weight)| (*score, *positive, *weight));
        match weighted_auc_of(rows) {
            Ok(auc) => {
                let own: f64 = group.iter().map(|row| row.3).sum();
                sum += own * auc.value;
                weight += own;
                groups_used += 1;
            }
            Err(_) => groups_skipped += 1,
        }
    }
    match groups_used {
        0 => Err(Undefined::NoGroups { groups: groups_skipped }),
        _ => Ok(GroupAuc { value: sum / weight, groups_used, groups_skipped }),
    }
}

/// By score, then by weight, so that the order of equal scores does not depend on that of the rows.
fn order(left: &Row, right: &Row) -> std::cmp::Ordering {
    left.0.cmp(&right.0).then(left.1.total_cmp(&right.1))
}

/// What the rows of a class weigh.
struct Class {
    weight: f64,
    /// Rows of equal weight that would tell as much.
    effective: f64,
}

impl Class {
    fn of(rows: &[Row]) -> Result<Self, Undefined> {
        let weight: f64 = rows.iter().map(|row| row.1).sum();
        let squares: f64 = rows.iter().map(|row| row.1 * row.1).sum();
        match weight > 0.0 {
            true => Ok(Self { weight, effective: weight * weight / squares }),
            false => Err(Undefined::NoWeight { rows: rows.len() as u64 }),
        }
    }

    /// Variance of the weighted mean of some shares.
    fn variance_of_mean(&self, rows: &[Row], shares: &[f64], mean: f64) -> f64 {
        let squares = rows.iter().zip(shares).map(|(row, share)| (row.1 * (share - mean)).powi(2));
        squares.sum::<f64>() / (self.weight * self.weight) * self.effective / (self.effective - 1.0)
    }
}

/// For each row the weighted share of the others that score lower, a tie counting half. Both are sorted.
fn shares_below(rows: &[Row], others: &[Row], weight: f64) -> Vec<f64> {
    let mut below = 0.0;
    let mut next = 0;
    let mut shares = Vec::with_capacity(rows.len());
    for run in rows.chunk_by(|left, right| left.0 == right.0) {
        let key = run[0].0;
        while next < others.len() && others[next].0 < key {
            below += others[next].1;
            next += 1;
        }
        let tied = others[next..].iter().take_while(|other| other.0 == key).map(|other| other.1);
        let share = (below + 0.5 * tied.sum::<f64>()) / weight;
        shares.extend(std::iter::repeat_n(share, run.len()));
    }
    shares
}

fn mean(rows: &[Row], shares: &[f64], weight: f64) -> f64 {
    rows.iter().zip(shares).map(|(row, share)| row.1 * share).sum::<f64>() / weight
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::{auc, group_auc};

    struct Rows {
        scores: Vec<f32>,
        labels: Vec<bool>,
        weights: Vec<f32>,
        groups: Vec<u64>,
    }

    fn random(seed: u64, rows: usize) -> Rows {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Rows {
            scores: (0..rows).map(|_| rng.random_range(-9..=9) as f32 / 4.0).collect(),
            labels: (0..rows).map(|row| row < 2 || (row > 3 && rng.random_bool(0.3))).collect(),
            weights: (0..rows).map(|_| rng.random_range(1..=4) as f32).collect(),
            groups: (0..rows).map(|_| rng.random_range(0..7)).collect(),
        }
    }

    fn repeated<T: Copy>(values: &[T], weights: &[f32]) -> Vec<T> {
        let copies = values.iter().zip(weights).map(|(value, weight)| vec![*value; *weight as usize]);
        copies.flatten().collect()
    }

    #[test]
    fn weights_of_one_change_nothing() {
        for seed in 0..40 {
            let rows = random(seed, 30 + seed as usize);
            let ones = vec![1.0; rows.labels.len()];
            let plain = auc(&rows.scores, &rows.labels).unwrap();
            let found = weighted_auc(&rows.scores, &rows.labels, &ones).unwrap();
            assert!((found.value - plain.value).abs() < 1e-14, "{found:?}, {plain:?}");
            assert!(
                (found.variance.unwrap() - plain.variance.unwrap()).abs() < 1e-14,
                "{found:?}, {plain:?}"
            );
        }
    }

    /// The value is that of repeated rows. The interval is not narrower for it: a copy tells nothing new.
    #[test]
    fn a_weight_is_as_many_copies() {
        for seed in 0..40 {
            let rows = random(seed, 50);
            let found = weighted_auc(&rows.scores, &rows.labels, &rows.weights).unwrap();
            let copies =
                auc(&repeated(&rows.scores, &rows.weights), &repeated(&rows.labels, &rows.weights)).unwrap();
            assert!((found.value - copies.value).abs() < 1e-13, "{found:?}, {copies:?}");
            assert!(found.variance.unwrap() > copies.variance.unwrap());
            let twice: Vec<f32> = rows.weights.iter().map(|weight| 2.0 * weight).collect();
            let scaled = weighted_auc(&rows.scores, &rows.labels, &twice).unwrap();
            assert!((scaled.variance.unwrap() - found.variance.unwrap()).abs() < 1e-14);
        }
    }

    #[test]
    fn groups_weigh_what_their_rows_weigh() {
        for seed in 0..20 {
            let rows = random(seed, 60);
            let all = || rows.groups.iter().zip(&rows.scores).zip(rows.labels.iter().zip(&rows.weights));
            let found = weighted_group_auc_of(
                all().map(|((group, score), (label, weight))| (*group, *score, *label, f64::from(*weight))),
            );
            let copies = group_auc(
                &repeated(&rows.groups, &rows.weights),
                &repeated(&rows.scores, &rows.weights),
                &repeated(&rows.labels, &rows.weights),
            );
            match (found, copies) {
                (Ok(found), Ok(copies)) => {
                    assert!((found.value - copies.value).abs() < 1e-12);
                    assert_eq!(found.groups_used, copies.groups_used);
                }
                (found, copies) => assert_eq!(found, copies),
            }
        }
    }

    #[test]
    fn undefined_says_why() {
        let found = weighted_auc(&[1.0, 2.0], &[true, false], &[0.0, 1.0]);
        assert_eq!(found, Err(Undefined::NoWeight { rows: 1 }));
        assert_eq!(weighted_auc(&[], &[], &[]), Err(Undefined::NoRows));
        assert_eq!(weighted_auc(&[1.0], &[true], &[1.0]), Err(Undefined::NoNegatives { rows: 1 }));
        assert_eq!(weighted_auc(&[f32::NAN], &[true], &[1.0]), Err(Undefined::NotANumber { row: 0 }));
        // One row carries all of its class: no variance.
        let alone = weighted_auc(&[1.0, 2.0, 0.0, 3.0], &[true, true, false, false], &[1.0, 0.0, 1.0, 1.0]);
        assert_eq!(alone.unwrap().variance, None);
    }
}
