//! Scores by label, on a scale that shows rare events.

use serde::{Deserialize, Serialize};

use super::ranking::Ranking;

/// Widths of a bin, in logits.
const STEPS: [f64; 7] = [0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0];
/// Where the scale ends: logits beyond it (infinite ones too) count in the outermost bins.
const LIMIT: f64 = 96.0;

/// Numbers of rows by predicted probability, whatever the rows weigh. The bins are equally wide in the logit, so that a conversion rate of 2e-4
/// has as much room as one of 0.5, and lie on multiples of their width, so that histograms can be laid over each other.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// Logits at which bins begin and end: one more than there are bins, empty when there are no rows. Bin b holds the
    /// rows from edge b up to but without edge b + 1, the last one its end as well.
    pub edges: Vec<f64>,
    /// Negative rows of each bin.
    pub negatives: Vec<u64>,
    /// Positive rows of each bin.
    pub positives: Vec<u64>,
}

impl Ranking {
    /// The rows by predicted probability, in at most `bins` bins (24 or more).
    pub fn histogram(&self, bins: usize) -> Histogram {
        let logit = |score| self.link().logit(score).clamp(-LIMIT, LIMIT);
        let ends = (self.ascending().next(), self.descending().next());
        let (Some(lowest), Some(highest)) = ends else {
            return Histogram::default();
        };
        let lowest = logit(lowest.score);
        let highest = logit(highest.score);
        let (first, count, step) = grid(lowest, highest, bins);
        let edge = |place: usize| first + place as f64 * step;
        let mut histogram = Histogram {
            edges: (0..=count).map(edge).collect(),
            negatives: vec![0; count],
            positives: vec![0; count],
        };
        for tie in self.ascending() {
            let place = (((logit(tie.score) - first) / step) as usize).min(count - 1);
            histogram.negatives[place] += tie.negatives;
            histogram.positives[place] += tie.positives;
        }
        histogram
    }
}

/// First edge, number of bins and their width: the narrowest that needs at most `bins` bins.
fn grid(lowest: f64, highest: f64, bins: usize) -> (f64, usize, f64) {
    let fit = |step: f64| {
        let first = (lowest / step).floor() * step;
        (first, (((highest - first) / step).ceil() as usize).max(1), step)
    };
    let mut grids = STEPS.into_iter().map(fit);
    let found = grids.find(|(_, count, _)| *count <= bins);
    found.unwrap_or_else(|| fit(STEPS[STEPS.len() - 1]))
}

#[cfg(test)]
mod tests {
    use super::super::{Link, Ranking};

    #[test]
    fn rows_land_between_their_edges() {
        let scores = [-3.0, -2.99, 0.0, 0.1, 0.26, 1.0];
        let labels = [false, true, true, false, true, true];
        let found = Ranking::new(&scores, &labels, Link::Logit).unwrap().histogram(48);
        assert_eq!(found.edges.len(), 33);
        assert_eq!((found.edges[0], found.edges[32]), (-3.0, 1.0));
        assert_eq!((found.negatives[0], found.positives[0]), (1, 1));
        assert_eq!((found.negatives[24], found.positives[24]), (1, 1));
        assert_eq!(found.positives[26], 1);
        assert_eq!(found.positives[31], 1, "the last bin has its end");
        assert_eq!(found.negatives.iter().chain(&found.positives).sum::<u64>(), 6);
    }

    #[test]
    fn wide_scales_have_wide_bins_and_infinities_a_place() {
        let scores = [f32::NEG_INFINITY, -1e-4];
        let found = Ranking::new(&scores, &[false, true], Link::Log).unwrap().histogram(48);
        assert!(found.edges.len() <= 49 && found.edges.len() == found.negatives.len() + 1);
        assert_eq!((found.negatives[0], found.positives.last()), (1, Some(&1)));
        let one = Ranking::new(&[0.3], &[true], Link::Logit).unwrap().histogram(48);
        assert_eq!((one.edges, one.positives), (vec![0.25, 0.375], vec![1]));
        assert!(Ranking::new(&[], &[], Link::Log).unwrap().histogram(48).edges.is_empty());
        let wide = Ranking::new(&[-200.0, 200.0], &[true; 2], Link::Logit).unwrap().histogram(48);
        assert_eq!((wide.edges.first(), wide.edges.last()), (Some(&-96.0), Some(&96.0)));
    }
}
