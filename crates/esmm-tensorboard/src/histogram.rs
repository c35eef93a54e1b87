//! Distributions: buckets of equal width between the smallest and the largest value.

use crate::proto::HistogramProto;

/// Buckets of a histogram.
const BUCKETS: usize = 40;

/// How often values fall where.
///
/// # Examples
/// ```
/// use esmm_tensorboard::Histogram;
///
/// let histogram = Histogram::of([0.1, 0.3, f64::NAN].into_iter());
/// assert_eq!(histogram.map(|histogram| histogram.count()), Some(2)); // NaN is left out
/// assert_eq!(Histogram::of(std::iter::empty()), None);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    min: f64,
    max: f64,
    count: u64,
    sum: f64,
    sum_squares: f64,
    counts: Vec<u64>,
}

impl Histogram {
    /// The histogram of some values; those that are no finite number are left out. `None` without values. The iterator
    /// is run twice.
    pub fn of(values: impl Iterator<Item = f64> + Clone) -> Option<Self> {
        let finite = || values.clone().filter(|value| value.is_finite());
        let start = (f64::INFINITY, f64::NEG_INFINITY);
        let (min, max) = finite().fold(start, |(min, max), value| (min.min(value), max.max(value)));
        if min > max {
            return None;
        }
        let buckets = if min == max { 1 } else { BUCKETS };
        let count = 0;
        let sum = 0.0;
        let sum_squares = 0.0;
        let counts = vec![0; buckets];
        let mut histogram = Self { min, max, count, sum, sum_squares, counts };
        for value in finite() {
            let bucket = histogram.bucket(value);
            histogram.counts[bucket] += 1;
            histogram.count += 1;
            histogram.sum += value;
            histogram.sum_squares += value * value;
        }
        Some(histogram)
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The bucket of a value between `min` and `max`.
    fn bucket(&self, value: f64) -> usize {
        let buckets = self.counts.len();
        // Halves here too.
        let place = value / 2.0 - self.min / 2.0;
        let width = self.max / 2.0 - self.min / 2.0;
        if width > 0.0 { ((place / width * buckets as f64) as usize).min(buckets - 1) } else { 0 }
    }

    /// As an event file holds it.
    pub(crate) fn to_proto(&self) -> HistogramProto {
        let buckets = self.counts.len();
        // Halves, because the distance of two finite numbers may be none.
        let half_width = self.max / 2.0 / buckets as f64 - self.min / 2.0 / buckets as f64;
        let edge = |bucket| match bucket + 1 {
            last if last == buckets => self.max,
            right => 2.0 * (self.min / 2.0 + right as f64 * half_width),
        };
        HistogramProto {
            min: self.min,
            max: self.max,
            num: self.count as f64,
            sum: self.sum,
            sum_squares: self.sum_squares,
            bucket_limit: (0..buckets).map(edge).collect(),
            bucket: self.counts.iter().map(|&count| count as f64).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_between_their_edges() {
        // 0, 1, ..., 400: ten values a bucket of width 10, and the largest in the last one.
        let found = Histogram::of((0..=400).map(f64::from)).unwrap();
        let proto = found.to_proto();
        assert_eq!((proto.min, proto.max, proto.num), (0.0, 400.0, 401.0));
        assert_eq!((proto.sum, proto.sum_squares), (80_200.0, 21_413_400.0));
        assert_eq!(proto.bucket[..39], [10.0; 39]);
        assert_eq!(proto.bucket[39], 11.0);
        for (bucket, edge) in proto.bucket_limit.iter().enumerate() {
            assert!((edge - 10.0 * (bucket + 1) as f64).abs() < 1e-9, "{edge}");
        }
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        let values = [f64::NAN, 2.0, f64::INFINITY, -1.0, f64::NEG_INFINITY];
        let found = Histogram::of(values.into_iter()).unwrap();
        assert_eq!((found.count(), found.min, found.max, found.sum), (2, -1.0, 2.0, 1.0));
        assert_eq!((found.counts[0], found.counts[39]), (1, 1));
        assert_eq!(Histogram::of([f64::NAN].into_iter()), None);
        assert_eq!(Histogram::of(std::iter::empty()), None);
    }

    #[test]
    fn one_value_and_the_widest_range() {
        let found = Histogram::of([0.25; 3].into_iter()).unwrap().to_proto();
        assert_eq!((found.bucket_limit, found.bucket), (vec![0.25], vec![3.0]));
        let found = Histogram::of([f64::MIN, 0.0, f64::MAX].into_iter()).unwrap();
        assert_eq!((found.counts[0], found.counts[20], found.counts[39]), (1, 1, 1));
        assert!(found.to_proto().bucket_limit.iter().all(|edge| edge.is_finite()));
    }
}
