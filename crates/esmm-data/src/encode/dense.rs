//! Dense values: what is fitted, and how a value becomes a number of the model.

use super::feature::{DenseTransform, Outside};
use crate::column::real::FINITE;

/// Mean and standard deviation of a stream of numbers (Welford 1962), in `f64`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    /// One more number.
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1.0;
        let before = value - self.mean;
        self.mean += before / self.count;
        self.squares += before * (value - self.mean);
    }

    /// The mean, 0 of no number.
    pub(crate) fn mean(&self) -> f64 {
        self.mean
    }

    /// The population standard deviation, 0 of no number.
    pub(crate) fn std(&self) -> f64 {
        (self.squares / self.count.max(1.0)).sqrt()
    }
}

/// A fitted dense feature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct DenseEncoder {
    /// What is done to the value.
    pub(crate) transform: DenseTransform,
    /// Stands for a missing value.
    pub(crate) missing: Option<f32>,
    /// Of the training rows, 0 unless standardized.
    pub(crate) mean: f64,
    /// Of the training rows, 0 unless standardized.
    pub(crate) std: f64,
}

/// A value that a dense feature does not take.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BadValue {
    /// It, ready to be shown.
    pub(crate) found: String,
    /// What is allowed.
    pub(crate) allowed: &'static str,
}

impl DenseEncoder {
    /// The value with a missing one replaced.
    pub(crate) fn fill(&self, value: Option<f64>) -> Result<f64, BadValue> {
        value.or(self.missing.map(f64::from)).ok_or_else(|| BadValue {
            found: "nothing".to_owned(),
            allowed: "a finite number (or let the feature's `missing` say what stands for it)",
        })
    }

    /// The nearest value that the transform takes; `None` where there is none.
    fn nearest(&self, value: f64) -> Option<f64> {
        match self.transform {
            DenseTransform::Log1p => Some(value.max(0.0)),
            DenseTransform::None | DenseTransform::Standardize | DenseTransform::PiecewiseLinear { .. } => {
                None
            }
        }
    }

    /// The value of a cell that `outside` applies to, with a missing one replaced, and whether something stood in for the
    /// cell.
    ///
    /// # Errors
    /// A missing value without a replacement, and a cell that is no number where `outside` does not make it missing.
    pub(crate) fn fill_within(
        &self,
        cell: Result<Option<f64>, String>,
        outside: Outside,
    ) -> Result<(f64, bool), BadValue> {
        match (cell, outside) {
            (Ok(value), _) => self.fill(value).map(|value| (value, false)),
            (Err(_), Outside::Missing) => self.fill(None).map(|value| (value, true)),
            (Err(found), Outside::Clip | Outside::Error) => Err(BadValue { found, allowed: FINITE }),
        }
    }

    /// The number that the model reads of a cell that `outside` applies to, and whether something stood in for the cell.
    ///
    /// # Errors
    /// A value that is not taken and for which nothing stands in.
    pub(crate) fn apply_within(
        &self,
        cell: Result<Option<f64>, String>,
        outside: Outside,
    ) -> Result<(f32, bool), BadValue> {
        let (value, refused) = match cell {
            Ok(value) => match self.apply(value) {
                Ok(number) => return Ok((number, false)),
                Err(refused) => (value, refused),
            },
            Err(found) => (None, BadValue { found, allowed: FINITE }),
        };
        match outside {
            Outside::Error => Err(refused),
            Outside::Clip => match value.and_then(|value| self.nearest(value)) {
                Some(nearest) => self.apply(Some(nearest)).map(|number| (number, true)).map_err(|_| refused),
                None => Err(refused),
            },
            Outside::Missing => self.apply(None).map(|number| (number, true)).map_err(|_| refused),
        }
    }

    /// The number that the model reads.
    pub(crate) fn apply(&self, value: Option<f64>) -> Result<f32, BadValue> {
        let value = self.fill(value)?;
        let bad = |allowed| BadValue { found: format!("`{value}`"), allowed };
        let number = match self.transform {
            // What is cut into pieces afterwards is the value itself.
            DenseTransform::None | DenseTransform::PiecewiseLinear { .. } => value,
            DenseTransform::Standardize if self.std > 0.0 => (value - self.mean) / self.std,
            DenseTransform::Standardize => value - self.mean,
            DenseTransform::Log1p if value < 0.0 => return Err(bad("a number from 0 on, for log1p")),
            DenseTransform::Log1p => value.ln_1p(),
        };
        match number as f32 {
            number if number.is_finite() => Ok(number),
            _ => Err(bad("a number that fits into 32 bits")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoder(transform: DenseTransform, mean: f64, std: f64) -> DenseEncoder {
        DenseEncoder { transform, missing: None, mean, std }
    }

    /// Mean 1e9 + 10, population variance 22.5 of 4, 7, 13, 16 (Chan, Golub and LeVeque 1983), far from zero.
    #[test]
    fn moments_are_stable() {
        let mut moments = Moments::default();
        [4.0, 7.0, 13.0, 16.0].into_iter().for_each(|value| moments.add(1e9 + value));
        assert_eq!(moments.mean(), 1e9 + 10.0);
        assert_eq!(moments.std(), 22.5_f64.sqrt());
        assert_eq!((Moments::default().mean(), Moments::default().std()), (0.0, 0.0));
    }

    #[test]
    fn transforms_do_what_they_say() {
        assert_eq!(encoder(DenseTransform::None, 3.0, 2.0).apply(Some(7.0)), Ok(7.0));
        assert_eq!(encoder(DenseTransform::Standardize, 3.0, 2.0).apply(Some(7.0)), Ok(2.0));
        assert_eq!(encoder(DenseTransform::Standardize, 3.0, 0.0).apply(Some(7.0)), Ok(4.0));
        assert_eq!(encoder(DenseTransform::Log1p, 0.0, 0.0).apply(Some(1.0)), Ok(2.0_f32.ln()));
        let filled = DenseEncoder { missing: Some(5.0), ..encoder(DenseTransform::Standardize, 3.0, 2.0) };
        assert_eq!(filled.apply(None), Ok(1.0));
        let bad = encoder(DenseTransform::None, 0.0, 0.0).apply(Some(1e300)).unwrap_err();
        assert!(bad.allowed.contains("32 bits"));
    }

    #[test]
    fn a_value_that_is_not_taken_is_clipped_missing_or_an_error() {
        let log = DenseEncoder { missing: Some(1.0), ..encoder(DenseTransform::Log1p, 0.0, 0.0) };
        let text = || Err("`abc`".to_owned());
        for (cell, outside, expected) in [
            (Ok(Some(-3.0)), Outside::Clip, Some((0.0, true))),
            (Ok(Some(-3.0)), Outside::Missing, Some((2.0_f32.ln(), true))),
            (Ok(Some(-3.0)), Outside::Error, None),
            (Ok(Some(1.0)), Outside::Error, Some((2.0_f32.ln(), false))),
            (Ok(None), Outside::Error, Some((2.0_f32.ln(), false))),
            (text(), Outside::Clip, None),
            (text(), Outside::Missing, Some((2.0_f32.ln(), true))),
            (text(), Outside::Error, None),
        ] {
            assert_eq!(log.apply_within(cell.clone(), outside).ok(), expected, "{cell:?} {outside:?}");
        }
        let plain = encoder(DenseTransform::None, 0.0, 0.0);
        assert!(plain.apply_within(Ok(Some(1e300)), Outside::Clip).is_err(), "nothing near it is of use");
    }
}
