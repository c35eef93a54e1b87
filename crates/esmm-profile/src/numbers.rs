//! The distribution of a column's numbers.

/// Share of a numbering that some of the rows may lack: ids of few rows are in no row of a sample.
const GAPS: f64 = 0.01;

/// Moments and quantiles of some finite numbers.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Numbers {
    /// How many.
    pub(crate) count: usize,
    /// Whether all are whole.
    pub(crate) whole: bool,
    /// The smallest.
    pub(crate) min: f64,
    /// The largest.
    pub(crate) max: f64,
    /// The middle one.
    pub(crate) median: f64,
    /// Third standardized moment, 0 when all are alike.
    pub(crate) skewness: f64,
    /// Fourth standardized moment less 3, 0 when all are alike.
    pub(crate) excess: f64,
}

impl Numbers {
    /// Of some numbers.
    pub(crate) fn of(mut numbers: Vec<f64>) -> Self {
        if numbers.is_empty() {
            return Self::default();
        }
        let count = numbers.len();
        let mean = numbers.iter().sum::<f64>() / count as f64;
        let moment = |power: i32| numbers.iter().map(|x| (x - mean).powi(power)).sum::<f64>() / count as f64;
        let variance = moment(2);
        let third = moment(3);
        let fourth = moment(4);
        let spread = variance > f64::EPSILON * mean * mean;
        let (skewness, excess) = match spread {
            true => (third / variance.powf(1.5), fourth / (variance * variance) - 3.0),
            false => (0.0, 0.0),
        };
        let whole = numbers.iter().all(|number| number.fract() == 0.0);
        let min = numbers.iter().copied().fold(f64::INFINITY, f64::min);
        let max = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (_, &mut median, _) = numbers.select_nth_unstable_by(count / 2, f64::total_cmp);
        Self { count, whole, min, max, median, skewness, excess }
    }

    /// Whether hardly any whole number from 0 or 1 to the largest is not among them, which are `distinct` different ones.
    pub(crate) fn has_no_gap(&self, distinct: usize) -> bool {
        let all = self.max - self.min + 1.0;
        self.whole && (0.0..=1.0).contains(&self.min) && distinct as f64 >= all * (1.0 - GAPS)
    }

    /// Whether they count up without a gap: so many distinct whole numbers between the smallest and the largest.
    pub(crate) fn is_numbering(&self, distinct: usize) -> bool {
        self.whole && self.count == distinct && self.max - self.min + 1.0 == distinct as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 0, 0, 0, 4: mean 1, moments 3, 6, 21, by hand.
    #[test]
    fn moments_of_four_numbers() {
        let numbers = Numbers::of(vec![4.0, 0.0, 0.0, 0.0]);
        assert!((numbers.skewness - 6.0 / 3.0_f64.powf(1.5)).abs() < 1e-12);
        assert!((numbers.excess - (21.0 / 9.0 - 3.0)).abs() < 1e-12);
        assert_eq!((numbers.min, numbers.max, numbers.median, numbers.whole), (0.0, 4.0, 0.0, true));
        assert_eq!(Numbers::of(vec![2.5; 3]).skewness, 0.0);
        assert!(Numbers::of(vec![7.0, 5.0, 6.0]).is_numbering(3));
        assert!(Numbers::of(vec![1.0, 2.0, 2.0, 3.0]).has_no_gap(3));
        assert!(!Numbers::of(vec![2.0, 3.0, 4.0]).has_no_gap(3));
        assert!(!Numbers::of(vec![0.0, 1.0, 3.0]).has_no_gap(3));
        let sampled =
            |step: i32| Numbers::of((1..=1000).filter(|id| id % step != 0).map(f64::from).collect());
        assert!(sampled(150).has_no_gap(994), "6 of 1000 ids are in no row");
        assert!(!sampled(50).has_no_gap(980));
    }
}
