//! Metrics over the entire space: all impressions, also the ones whose label nobody will ever see.
//!
//! An impression that was not clicked has no conversion label, but synthetic data knows its true CVR. Every metric
//! here takes that probability in place of the label. arXiv 1804.07931 names the space: pCVR is used on all of it, while
//! real data can measure it on clicked rows only.

use crate::auc::{Auc, auc_of, pack, ties};
use crate::calibration::Calibration;
use crate::log_loss::log_sigmoid;
use crate::report::{BestReachable, EntireSpaceMetrics, Reasons, defined};
use crate::undefined::Undefined;

/// The true probabilities of B impressions, each in `[0, 1]`.
#[derive(Debug, Clone, Copy)]
pub struct TruthRows<'a> {
    /// True CVR of every impression, clicked or not, `[B]`.
    pub cvr: &'a [f32],
    /// True CTR, `[B]`. Without it the best reachable values are unknown.
    pub ctr: Option<&'a [f32]>,
    /// True CTCVR, `[B]`. Without it the product of CTR and CVR stands in, which is right where nothing hidden drives
    /// both clicks and conversions.
    pub ctcvr: Option<&'a [f32]>,
}

/// The truth of a split of two stages, and the scores to hold against it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Truth {
    scores: Vec<f32>,
    calibration: Calibration,
    cvr: Vec<f32>,
    ctr: Vec<f32>,
    ctcvr: Vec<f32>,
}

impl Truth {
    /// Adds a batch; `logits` are the conditional ones, `[B, 2]`.
    ///
    /// # Panics
    /// When lengths disagree, or the true CTR is there for some batches only.
    pub(crate) fn push(&mut self, logits: &[f32], truth: TruthRows<'_>) {
        self.check(logits.len() / 2, truth);
        for (logits, cvr) in logits.chunks_exact(2).zip(truth.cvr) {
            self.scores.push(logits[1]);
            self.calibration.push_soft(log_sigmoid(f64::from(logits[1])), *cvr);
        }
        self.cvr.extend_from_slice(truth.cvr);
        let Some(ctr) = truth.ctr else { return };
        self.ctr.extend_from_slice(ctr);
        match truth.ctcvr {
            Some(ctcvr) => self.ctcvr.extend_from_slice(ctcvr),
            None => self.ctcvr.extend(ctr.iter().zip(truth.cvr).map(|(ctr, cvr)| ctr * cvr)),
        }
    }

    /// The metrics of everything pushed; `depth` is of all rows.
    pub(crate) fn metrics(&self, depth: &[u8]) -> EntireSpaceMetrics {
        let mut undefined = Reasons::new();
        let metrics = EntireSpaceMetrics {
            cvr_auc: defined(&mut undefined, "cvr_auc", soft_auc(&self.scores, &self.cvr)),
            cvr_calibration: defined(&mut undefined, "cvr_calibration", self.calibration.value()),
            best: (self.ctr.len() == depth.len()).then(|| self.best(depth, &mut undefined)),
            undefined: Reasons::new(),
        };
        EntireSpaceMetrics { undefined, ..metrics }
    }

    fn best(&self, depth: &[u8], undefined: &mut Reasons) -> BestReachable {
        let mut note = |name: &str, value| defined(undefined, name, value);
        let ctr = self.ctr.iter().zip(depth).map(|(ctr, depth)| (*ctr, *depth >= 1));
        let ctcvr = self.ctcvr.iter().zip(depth).map(|(ctcvr, depth)| (*ctcvr, *depth >= 2));
        // What a click reveals about hidden causes counts here: on clicked rows the best score is CTCVR / CTR.
        let given_click = ctcvr.clone().zip(ctr.clone()).filter(|(_, (_, click))| *click);
        let given_click = given_click.map(|((ctcvr, conversion), (ctr, _))| (ctcvr / ctr, conversion));
        let value = |auc: Result<Auc, Undefined>| auc.map(|auc| auc.value);
        BestReachable {
            ctr_auc: note("best.ctr_auc", value(auc_of(depth.len(), ctr))),
            cvr_auc: note("best.cvr_auc", value(auc_of(depth.len(), given_click))),
            ctcvr_auc: note("best.ctcvr_auc", value(auc_of(depth.len(), ctcvr))),
            entire_space_cvr_auc: note("best.entire_space_cvr_auc", soft_auc(&self.cvr, &self.cvr)),
        }
    }

    fn check(&self, batch: usize, truth: TruthRows<'_>) {
        let length = |column: Option<&[f32]>| column.map_or(batch, <[f32]>::len);
        let found = [truth.cvr.len(), length(truth.ctr), length(truth.ctcvr)];
        assert_eq!(found, [batch; 3], "true CVR, CTR and CTCVR of {batch} rows");
        let ctr_before = if truth.ctr.is_some() { self.cvr.len() } else { 0 };
        let before = self.ctr.len();
        let rows = self.cvr.len();
        assert_eq!(
            before, ctr_before,
            "true CTR of {before} of the {rows} rows before: it must be there for all or none"
        );
    }
}

/// AUC in expectation, when row i is positive with probability `truth[i]`, independently of the others.
///
/// With scores s and truths t it is
/// `sum over i != j of t_i (1 - t_j) w(s_i, s_j)` over `sum over i != j of t_i (1 - t_j)`,
/// where w is 1 for `s_i > s_j`, 1/2 for a tie and 0 otherwise. Where all truths are 0 or 1 this is the AUC. Even
/// the perfect ranking, `scores = truth`, stays below 1 when truths lie between. Takes 8 bytes a row.
///
/// # Errors
/// No rows, a single row, all truths 0 or all 1, a score that is NaN, a truth outside `[0, 1]`.
///
/// # Panics
/// When the lengths differ.
pub fn soft_auc(scores: &[f32], truth: &[f32]) -> Result<f64, Undefined> {
    let rows = scores.len();
    let truths = truth.len();
    assert_eq!(rows, truths, "{rows} scores and {truths} true probabilities");
    let mut packed = Vec::with_capacity(rows);
    for (row, (score, found)) in scores.iter().zip(truth).enumerate() {
        let row = row as u64;
        let found = *found;
        if !(0.0..=1.0).contains(&found) {
            return Err(Undefined::NotAProbability { row, found });
        }
        packed.push(pack(*score, found.to_bits()).ok_or(Undefined::NotANumber { row })?);
    }
    packed.sort_unstable();
    soft_area(&packed)
}

/// The quotient over sorted rows whose payload is the truth.
fn soft_area(packed: &[u64]) -> Result<f64, Undefined> {
    let mut positives = 0.0;
    let mut negatives = 0.0;
    let mut won = 0.0;
    let mut lost = 0.0;
    let mut tied = 0.0;
    for run in ties(packed) {
        let mut run_positives = 0.0;
        let mut run_negatives = 0.0;
        for truth in run.iter().map(|row| f64::from(f32::from_bits(*row as u32))) {
            // Every pair of different rows of the run, once from each side.
            tied += truth * run_negatives + (1.0 - truth) * run_positives;
            run_positives += truth;
            run_negatives += 1.0 - truth;
        }
        won += run_positives * negatives;
        lost += run_negatives * positives;
        positives += run_positives;
        negatives += run_negatives;
    }
    let rows = packed.len() as u64;
    match rows {
        0 => Err(Undefined::NoRows),
        _ if positives == 0.0 => Err(Undefined::NoPositives { rows }),
        _ if negatives == 0.0 => Err(Undefined::NoNegatives { rows }),
        1 => Err(Undefined::NoPairs),
        _ => Ok((won + 0.5 * tied) / (won + lost + tied)),
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::{Undefined, soft_auc};
    use crate::auc;

    fn all_pairs(scores: &[f32], truth: &[f32]) -> f64 {
        let mut above = 0.0;
        let mut below = 0.0;
        for (i, t_i) in truth.iter().enumerate() {
            for (j, t_j) in truth.iter().enumerate().filter(|(j, _)| *j != i) {
                let weight = f64::from(*t_i) * (1.0 - f64::from(*t_j));
                let win = if scores[i] == scores[j] { 0.5 } else { f64::from(scores[i] > scores[j]) };
                above += weight * win;
                below += weight;
            }
        }
        above / below
    }

    #[test]
    fn equals_all_pairs() {
        let mut rng = ChaCha8Rng::seed_from_u64(17);
        for case in 0..200 {
            let rows = 2 + case % 30;
            let levels = [3, 1000][case % 2];
            let scores: Vec<f32> = (0..rows).map(|_| rng.random_range(-levels..levels) as f32).collect();
            let truth: Vec<f32> = (0..rows).map(|_| rng.random()).collect();
            let found = soft_auc(&scores, &truth).unwrap();
            let expected = all_pairs(&scores, &truth);
            assert!((found - expected).abs() < 1e-13, "case {case}: {found}, {expected}");
        }
    }

    #[test]
    fn certain_truth_is_the_auc() {
        let mut rng = ChaCha8Rng::seed_from_u64(19);
        let scores: Vec<f32> = (0..300).map(|_| rng.random_range(0..50) as f32).collect();
        let labels: Vec<bool> = (0..300).map(|_| rng.random_bool(0.2)).collect();
        let truth: Vec<f32> = labels.iter().map(|label| if *label { 1.0 } else { 0.0 }).collect();
        let expected = auc(&scores, &labels).unwrap().value;
        assert!((soft_auc(&scores, &truth).unwrap() - expected).abs() < 1e-14);
    }

    #[test]
    fn closed_form_of_the_uniform_truth() {
        // Truth uniform, ranked perfectly: P(positive above negative) = E[u (1-v) [u > v]] / (1/4) = (5/24) * 4.
        let truth: Vec<f32> = (0..4000).map(|row| (row as f32 + 0.5) / 4000.0).collect();
        assert!((soft_auc(&truth, &truth).unwrap() - 5.0 / 6.0).abs() < 1e-3);
        assert_eq!(soft_auc(&[1.0; 4000], &truth), Ok(0.5));
    }

    #[test]
    fn undefined_says_why() {
        assert_eq!(soft_auc(&[], &[]), Err(Undefined::NoRows));
        assert_eq!(soft_auc(&[1.0], &[0.5]), Err(Undefined::NoPairs));
        assert_eq!(soft_auc(&[1.0; 2], &[0.0; 2]), Err(Undefined::NoPositives { rows: 2 }));
        assert_eq!(soft_auc(&[1.0; 2], &[1.0; 2]), Err(Undefined::NoNegatives { rows: 2 }));
        assert_eq!(soft_auc(&[1.0, f32::NAN], &[0.5; 2]), Err(Undefined::NotANumber { row: 1 }));
        let above = soft_auc(&[1.0; 2], &[0.5, 2.0]);
        assert_eq!(above, Err(Undefined::NotAProbability { row: 1, found: 2.0 }));
        assert!(soft_auc(&[1.0], &[f32::NAN]).is_err());
    }
}
