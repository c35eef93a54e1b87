//! What became of some impressions.

use super::row_counts::RowCounts;

/// Probabilities that the generator of the data knows, each as long as there are rows and in `[0, 1]`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Truth {
    /// p(click given impression).
    pub ctr: Vec<f32>,
    /// p(conversion given click), whether clicked or not.
    pub cvr: Vec<f32>,
    /// p(click and conversion given impression), where it is not the product of the two.
    pub ctcvr: Option<Vec<f32>>,
}

impl Truth {
    pub(super) fn append(&mut self, other: &Self, rows: &[usize]) {
        self.ctr.extend(rows.iter().map(|&row| other.ctr[row]));
        self.cvr.extend(rows.iter().map(|&row| other.cvr[row]));
        if let (Some(ctcvr), Some(more)) = (&mut self.ctcvr, &other.ctcvr) {
            ctcvr.extend(rows.iter().map(|&row| more[row]));
        }
    }
}

/// What is known about the outcome of a chunk's rows.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Stages reached, `None` for a row that is left out.
    pub(crate) depth: Vec<Option<u8>>,
    pub(crate) group: Option<Vec<u64>>,
    pub(crate) truth: Option<Truth>,
    pub(crate) counts: RowCounts,
}
