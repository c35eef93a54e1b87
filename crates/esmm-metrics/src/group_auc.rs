//! GAUC: how well the rows of one user (or session, or page) are ranked among themselves.

use crate::auc::{area, pack};
use crate::undefined::Undefined;

/// The group of a row that has none: of an impression without a user. Such rows have no part in GAUC, as nobody ranks them
/// among themselves.
pub const NO_GROUP: u64 = u64::MAX;

/// Mean of the groups' AUCs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupAuc {
    /// The mean, each group weighted with its number of rows, in `[0, 1]`.
    pub value: f64,
    /// Groups with both classes: the ones in the mean.
    pub groups_used: u64,
    /// Groups with one class only: they have no AUC and no part in the mean.
    pub groups_skipped: u64,
}

/// Impression-weighted mean of the AUC inside each group: H. Zhu et al., Optimized Cost per Click in Taobao Display
/// Advertising, KDD 2017; G. Zhou et al., Deep Interest Network, KDD 2018. Rows of [`NO_GROUP`] are left out. Takes 16 bytes
/// a row.
///
/// # Errors
/// No rows, no group with both classes, a score that is NaN.
///
/// # Panics
/// When the lengths differ.
///
/// # Examples
/// ```
/// // User 1 is ranked right, user 2 wrong, user 3 clicked on nothing.
/// let users = [1, 1, 2, 2, 3];
/// let gauc = esmm_metrics::group_auc(&users, &[0.9, 0.1, 0.3, 0.7, 0.5], &[true, false, true, false, false])?;
/// assert_eq!(gauc.value, 0.5);
/// assert_eq!((gauc.groups_used, gauc.groups_skipped), (2, 1));
/// # Ok::<(), esmm_metrics::Undefined>(())
/// ```
pub fn group_auc(groups: &[u64], scores: &[f32], labels: &[bool]) -> Result<GroupAuc, Undefined> {
    let lengths = [groups.len(), scores.len(), labels.len()];
    assert_eq!(lengths, [labels.len(); 3], "groups, scores and labels have {lengths:?} rows");
    let rows = groups.iter().zip(scores).zip(labels);
    group_auc_of(rows.map(|((group, score), positive)| (*group, *score, *positive)))
}

/// GAUC of (group, score, is positive).
///
/// # Errors
/// As [`group_auc`].
pub(crate) fn group_auc_of(rows: impl Iterator<Item = (u64, f32, bool)>) -> Result<GroupAuc, Undefined> {
    let mut packed = Vec::with_capacity(rows.size_hint().0);
    let mut has_rows = false;
    for (row, (group, score, positive)) in rows.enumerate() {
        has_rows = true;
        let key = pack(score, u32::from(positive)).ok_or(Undefined::NotANumber { row: row as u64 })?;
        if group != NO_GROUP {
            packed.push((group, key));
        }
    }
    if !has_rows {
        return Err(Undefined::NoRows);
    }
    packed.sort_unstable();
    mean(&packed)
}

/// The weighted mean over rows sorted by group, then score.
fn mean(packed: &[(u64, u64)]) -> Result<GroupAuc, Undefined> {
    let mut sum = 0.0;
    let mut weight = 0_u64;
    let mut groups_used = 0;
    let mut groups_skipped = 0;
    let mut keys = Vec::new();
    for group in packed.chunk_by(|left, right| left.0 == right.0) {
        keys.clear();
        keys.extend(group.iter().map(|(_, key)| *key));
        if let Ok((value, _, _)) = area(&keys) {
            sum += value * group.len() as f64;
            weight += group.len() as u64;
            groups_used += 1;
        } else {
            groups_skipped += 1;
        }
    }
    match groups_used {
        0 => Err(Undefined::NoGroups { groups: groups_skipped }),
        _ => Ok(GroupAuc { value: sum / weight as f64, groups_used, groups_skipped }),
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::{GroupAuc, NO_GROUP, Undefined, group_auc};
    use crate::auc;

    #[test]
    fn by_hand() {
        // Group 9: AUC 1 over 2 rows. Group 4: AUC 1/4 (one tie, one loss) over 3 rows. Group 7: one class.
        let groups = [9, 4, 7, 4, 9, 4, 7];
        let scores = [0.1, 0.5, 3.0, 0.5, 0.2, 0.7, 1.0];
        let labels = [false, true, true, false, true, false, true];
        let expected = GroupAuc { value: 2.75 / 5.0, groups_used: 2, groups_skipped: 1 };
        assert_eq!(group_auc(&groups, &scores, &labels), Ok(expected));
    }

    /// The rows of nobody would have an AUC of 0 over 2 rows.
    #[test]
    fn rows_without_a_group_have_no_part() {
        let groups = [9, NO_GROUP, 9, NO_GROUP];
        let found = group_auc(&groups, &[0.1, 0.9, 0.2, 0.1], &[false, false, true, true]);
        assert_eq!(found, Ok(GroupAuc { value: 1.0, groups_used: 1, groups_skipped: 0 }));
        let nobody = group_auc(&[NO_GROUP; 2], &[0.1, 0.9], &[false, true]);
        assert_eq!(nobody, Err(Undefined::NoGroups { groups: 0 }));
    }

    #[test]
    fn one_group_is_the_auc() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let scores: Vec<f32> = (0..200).map(|_| rng.random_range(0..40) as f32).collect();
        let labels: Vec<bool> = (0..200).map(|_| rng.random_bool(0.3)).collect();
        let grouped = group_auc(&[5; 200], &scores, &labels).unwrap().value;
        assert_eq!(grouped, auc(&scores, &labels).unwrap().value);
    }

    #[test]
    fn undefined_says_why() {
        assert_eq!(group_auc(&[], &[], &[]), Err(Undefined::NoRows));
        let apart = group_auc(&[1, 2], &[0.5, 0.6], &[true, false]);
        assert_eq!(apart, Err(Undefined::NoGroups { groups: 2 }));
        assert_eq!(group_auc(&[1], &[f32::NAN], &[true]), Err(Undefined::NotANumber { row: 0 }));
    }
}
