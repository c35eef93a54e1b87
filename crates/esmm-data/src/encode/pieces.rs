//! Piecewise-linear encoding of a number: its position among bins, of which the model reads the shares that are filled.
//!
//! The training rows cut the number into bins `[e_0, e_1], [e_1, e_2], ...` of about equal count, and bin t becomes the
//! value `(x - e_(t-1)) / (e_t - e_(t-1))`, clipped to `[0, 1]`: 1 for the bins below the number, a share for the one it
//! lies in, 0 for those above (Y. Gorishniy, I. Rubachev, A. Babenko, arXiv 2203.05556, section 3.2). One linear layer on
//! top is then any piecewise-linear function of the number. All values of a number are known from their sum, its position:
//! that alone is kept, and the towers write it out ([`DenseFeature::bins`](esmm_core::DenseFeature::bins)). Unlike there, the first and the last bin are clipped as well:
//! a number outside the training rows' range counts as the end of the range, so that no outlier can be extrapolated.

/// Where the bins begin and end.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pieces {
    /// Rising; one more than there are bins. One value alone or none makes no bin.
    edges: Vec<f64>,
}

impl Pieces {
    /// Cuts values at the ranks `(n - 1) t / bins`, rounded down. Repeated values can make it fewer bins.
    pub(crate) fn fit(mut values: Vec<f64>, bins: usize) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let Some(last) = values.len().checked_sub(1) else {
            return Self { edges: Vec::new() };
        };
        let rank = |bin: usize| (last as u128 * bin as u128 / bins as u128) as usize;
        let mut edges: Vec<f64> = (0..=bins).map(|bin| values[rank(bin)]).collect();
        edges.dedup();
        Self { edges }
    }

    /// From stored edges; `None` when they do not rise or are too many for `bins` bins.
    pub(crate) fn from_edges(edges: Vec<f64>, bins: usize) -> Option<Self> {
        let fits = edges.len() <= bins + 1 && edges.is_sorted_by(|left, right| left < right);
        fits.then_some(Self { edges })
    }

    /// The edges, rising.
    pub(crate) fn edges(&self) -> &[f64] {
        &self.edges
    }

    /// The bins below the number and the share of its own that it fills, from 0 to the number of bins.
    pub(crate) fn position(&self, value: f64) -> f64 {
        let bins = self.edges.len().saturating_sub(1);
        match self.edges.partition_point(|edge| *edge <= value) {
            0 => 0.0,
            passed if passed > bins => bins as f64,
            passed => {
                let start = self.edges[passed - 1];
                let end = self.edges[passed];
                // Halves, so that no difference of two finite numbers overflows.
                (passed - 1) as f64 + (value / 2.0 - start / 2.0) / (end / 2.0 - start / 2.0)
            }
        }
    }

    /// The number at a position, within the range of the bins; `None` without any edge.
    pub(crate) fn value(&self, position: f64) -> Option<f64> {
        let last = self.edges.len().checked_sub(1)?;
        let position = position.clamp(0.0, last as f64);
        let bin = (position.floor() as usize).min(last);
        let start = self.edges[bin];
        let end = self.edges.get(bin + 1).copied().unwrap_or(start);
        let share = position - bin as f64;
        Some(start * (1.0 - share) + end * share)
    }
}

#[cfg(test)]
mod tests {
    use esmm_core::{DenseFeature, Side};

    use super::*;

    /// All shares, as the model reads them.
    fn shares(pieces: &Pieces, bins: usize, value: f64) -> Vec<f64> {
        let position = pieces.position(value) as f32;
        let feature = DenseFeature { name: "x".to_owned(), side: Side::Item, bins: Some(bins) };
        feature.values(position).map(f64::from).collect()
    }

    /// The definition of the paper, each bin by itself, clipped at both ends.
    fn by_definition(edges: &[f64], bins: usize, value: f64) -> Vec<f64> {
        let mut all: Vec<f64> =
            edges.windows(2).map(|bin| ((value - bin[0]) / (bin[1] - bin[0])).clamp(0.0, 1.0)).collect();
        all.resize(bins, 0.0);
        all
    }

    #[test]
    fn bins_have_equal_counts_and_shares_are_the_definition() {
        let pieces = Pieces::fit((0..=8).rev().map(f64::from).collect(), 4);
        assert_eq!(pieces.edges(), [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(shares(&pieces, 4, 5.0), [1.0, 1.0, 0.5, 0.0]);
        for value in [-1e300, -1.0, 0.0, 0.5, 2.0, 3.75, 6.0, 7.999, 8.0, 9.0, 1e300] {
            let expected = by_definition(pieces.edges(), 4, value);
            let pairs = || shares(&pieces, 4, value).into_iter().zip(&expected);
            // A position is rounded to 32 bits.
            assert!(
                pairs().all(|(found, expected)| (found - expected).abs() < 1e-6),
                "{value}: {expected:?}"
            );
        }
    }

    #[test]
    fn an_edge_fills_the_bins_below_it() {
        let pieces = Pieces::fit(vec![1.0, 2.0, 4.0], 2);
        assert_eq!(pieces.edges(), [1.0, 2.0, 4.0]);
        let filled = [1.0, 2.0, 4.0].map(|value| shares(&pieces, 2, value));
        assert_eq!(filled, [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]);
    }

    #[test]
    fn outside_the_range_is_its_end() {
        let pieces = Pieces::fit(vec![-1.0, 0.0, 1.0], 2);
        assert_eq!(shares(&pieces, 2, -100.0), [0.0, 0.0]);
        assert_eq!(shares(&pieces, 2, 100.0), [1.0, 1.0]);
    }

    #[test]
    fn repeated_values_make_fewer_bins_and_none_of_width_zero() {
        let pieces = Pieces::fit(vec![0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0], 4);
        assert_eq!(pieces.edges(), [0.0, 2.0]);
        assert_eq!(shares(&pieces, 4, 1.0), [0.5, 0.0, 0.0, 0.0]);
        assert_eq!(Pieces::fit(vec![1.0, 2.0], 16).edges(), [1.0, 2.0]);
    }

    #[test]
    fn one_value_and_none_say_nothing() {
        for values in [vec![5.0; 9], vec![]] {
            let pieces = Pieces::fit(values, 3);
            for value in [4.0, 5.0, 6.0] {
                assert_eq!(shares(&pieces, 3, value), [0.0; 3]);
            }
        }
        assert_eq!(Pieces::fit(vec![], 3).value(1.0), None);
        assert_eq!(Pieces::fit(vec![5.0; 9], 3).value(0.0), Some(5.0));
    }

    #[test]
    fn a_position_is_the_sum_of_the_shares_and_leads_back_to_the_number() {
        let pieces = Pieces::fit(vec![1.0, 2.0, 4.0, 10.0], 3);
        for value in [1.0, 1.5, 2.0, 3.0, 4.0, 9.0, 10.0] {
            let position = pieces.position(value);
            assert!((pieces.value(position).unwrap() - value).abs() < 1e-12, "{value}");
            let sum: f64 = shares(&pieces, 3, value).iter().sum();
            assert!((sum - position).abs() < 1e-6, "{value}: {sum}, {position}");
        }
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let pieces = Pieces::fit(vec![f64::MIN, f64::MAX], 1);
        assert_eq!(shares(&pieces, 1, 0.0), [0.5]);
        assert_eq!(pieces.value(0.5), Some(0.0));
    }

    #[test]
    fn stored_edges_must_rise_and_fit() {
        assert!(Pieces::from_edges(vec![1.0, 2.0], 1).is_some());
        assert!(Pieces::from_edges(vec![], 1).is_some());
        assert!(Pieces::from_edges(vec![1.0, 1.0], 2).is_none());
        assert!(Pieces::from_edges(vec![1.0, 2.0, 3.0], 1).is_none());
    }
}
