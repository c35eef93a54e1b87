//! Buckets of about equal size for real values.

/// Where the buckets begin: bucket `b` holds the values from edge `b - 1` up to but without edge `b`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Quantiles {
    edges: Vec<f64>,
}

impl Quantiles {
    /// Cuts sorted values at the ranks `n j / buckets`. A value is never split over two buckets, and none is empty.
    pub(crate) fn fit(mut values: Vec<f64>, buckets: usize) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let buckets = buckets.min(values.len());
        let rank = |bucket: usize| (values.len() as u128 * bucket as u128 / buckets as u128) as usize;
        let mut edges: Vec<f64> = (1..buckets).map(|bucket| values[rank(bucket)]).collect();
        edges.dedup();
        edges.retain(|edge| values.first().is_some_and(|least| edge > least));
        Self { edges }
    }

    /// From stored edges; `None` when they do not rise.
    pub(crate) fn from_edges(edges: Vec<f64>) -> Option<Self> {
        edges.is_sorted_by(|left, right| left < right).then_some(Self { edges })
    }

    /// The edges, rising.
    pub(crate) fn edges(&self) -> &[f64] {
        &self.edges
    }

    /// The bucket of a value, from 0.
    pub(crate) fn bucket(&self, value: f64) -> u32 {
        self.edges.partition_point(|edge| *edge <= value) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_equal_where_values_differ() {
        let quantiles = Quantiles::fit((1..=8).rev().map(f64::from).collect(), 4);
        assert_eq!(quantiles.edges(), [3.0, 5.0, 7.0]);
        let buckets: Vec<u32> = (0..=9).map(|value| quantiles.bucket(f64::from(value))).collect();
        assert_eq!(buckets, [0, 0, 0, 1, 1, 2, 2, 3, 3, 3]);
    }

    #[test]
    fn repeated_values_stay_together_and_leave_no_bucket_empty() {
        let quantiles = Quantiles::fit(vec![0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0], 4);
        assert_eq!(quantiles.edges(), [1.0]);
        assert_eq!(Quantiles::fit(vec![1.0, 2.0, 2.0, 2.0, 2.0, 2.0], 4).edges(), [2.0]);
        assert!(Quantiles::fit(vec![5.0; 9], 3).edges().is_empty());
        assert!(Quantiles::fit(vec![], 3).edges().is_empty());
        assert_eq!(Quantiles::fit(vec![1.0, 2.0], 100).edges(), [2.0]);
    }
}
