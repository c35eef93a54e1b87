//! A logistic regression of what happened on one logit.

use serde::{Deserialize, Serialize};

/// Newton steps at most; a handful are needed.
const MOST_STEPS: usize = 100;
/// A slope that no useful score needs: the classes are told apart without error.
const STEEPEST: f64 = 1e4;

/// Platt's correction of one probability: `logit = slope * logit + intercept`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Platt {
    /// Above 0. Below 1 where probabilities were too extreme.
    pub slope: f64,
    /// Below 0 where probabilities were too high.
    pub intercept: f64,
}

impl Default for Platt {
    /// No change.
    fn default() -> Self {
        Self { slope: 1.0, intercept: 0.0 }
    }
}

/// What was fitted, and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlattFit {
    /// The correction.
    pub platt: Platt,
    /// Standard error of the slope.
    pub slope_error: f64,
    /// Standard error of the intercept.
    pub intercept_error: f64,
}

/// What is said of classes that are told apart: the slope would have no end.
const SEPARATED: &str = "tell all rows that reached the stage from all that did not, so that no finite correction is the best: \
    calibrate on more rows, and see whether a feature knows the label";
/// What is said where nothing happened, or everything.
const ONE_CLASS: &str =
    "are of rows that all reached the stage, or of rows that all did not: calibrate on more rows";
/// What is said of a score that all rows share.
const EQUAL: &str =
    "are the same in all rows, so the model tells none apart: train it anew, or calibrate on other rows";
/// What is said where the slope is below 0.
const REVERSED: &str = "are lower in rows that reached the stage than in those that did not: the model ranks these rows worse \
    than chance, which no calibration mends. Calibrate on more rows, see with `esmm evaluate` whether its AUC is above 0.5, \
    or train it anew";

/// A row: logit, whether it happened, weight.
pub(super) type Row = (f64, bool, f64);

impl Platt {
    /// The corrected logit.
    pub fn apply(&self, logit: f64) -> f64 {
        self.slope * logit + self.intercept
    }

    /// The most likely correction of rows, each with its logit, whether it happened, and its weight. Standard errors are
    /// those of the sandwich estimator, which holds for weights too.
    ///
    /// # Errors
    /// One class missing, equal logits everywhere, classes that are told apart without error, logits that are lower
    /// where it happened: why and what to do, in words that go after "the scores".
    pub(super) fn fit(rows: impl Iterator<Item = Row> + Clone) -> Result<PlattFit, &'static str> {
        let moments = Moments::of(rows.clone())?;
        // Around the mean and in units of the deviation the two parameters hardly depend on each other.
        let scaled = rows
            .map(|(logit, happened, weight)| ((logit - moments.mean) / moments.deviation, happened, weight));
        let mut point = [moments.deviation, moments.mean];
        let mut loss = Sums::of(scaled.clone(), point);
        for _ in 0..MOST_STEPS {
            let step = loss.newton().ok_or(SEPARATED)?;
            let size = step[0].abs() + step[1].abs();
            if size < 1e-7 * (1.0 + point[0].abs() + point[1].abs()) {
                // Newton's error is squared by each step: what is left after this one is rounding.
                let last = [point[0] - step[0], point[1] - step[1]];
                let sums = Sums::of(scaled, last);
                return moments.finish(last, &sums);
            }
            let mut share = 1.0;
            let (next, found) = loop {
                let next = [point[0] - share * step[0], point[1] - share * step[1]];
                let found = Sums::of(scaled.clone(), next);
                if found.loss <= loss.loss {
                    break (next, found);
                }
                share /= 2.0;
                if share < 1e-6 {
                    // No step is downhill: what is left is rounding.
                    return moments.finish(point, &loss);
                }
            };
            (point, loss) = (next, found);
            if point[0].abs() > STEEPEST {
                break;
            }
        }
        Err(SEPARATED)
    }
}

/// Mean and standard deviation of the logits.
struct Moments {
    mean: f64,
    deviation: f64,
}

impl Moments {
    fn of(rows: impl Iterator<Item = Row> + Clone) -> Result<Self, &'static str> {
        let (mut weight, mut sum, mut happened) = (0.0, 0.0, 0.0);
        for (logit, positive, own) in rows.clone() {
            weight += own;
            sum += own * logit;
            happened += if positive { own } else { 0.0 };
        }
        if happened <= 0.0 || happened >= weight {
            return Err(ONE_CLASS);
        }
        let mean = sum / weight;
        let squares: f64 = rows.map(|(logit, _, own)| own * (logit - mean).powi(2)).sum();
        let deviation = (squares / weight).sqrt();
        match deviation.is_finite() && deviation > 1e-9 * (1.0 + mean.abs()) {
            true => Ok(Self { mean, deviation }),
            false => Err(EQUAL),
        }
    }

    /// Back to the logits as they are: `slope = s / deviation`, `intercept = i - s mean / deviation`.
    fn finish(&self, point: [f64; 2], sums: &Sums) -> Result<PlattFit, &'static str> {
        let slope = point[0] / self.deviation;
        if slope <= 0.0 {
            return Err(REVERSED);
        }
        let ratio = self.mean / self.deviation;
        let intercept = point[1] - point[0] * ratio;
        let [[a, b], [_, c]] = sums.sandwich().ok_or(SEPARATED)?;
        let of_intercept = c - 2.0 * ratio * b + ratio * ratio * a;
        Ok(PlattFit {
            platt: Platt { slope, intercept },
            slope_error: a.max(0.0).sqrt() / self.deviation,
            intercept_error: of_intercept.max(0.0).sqrt(),
        })
    }
}

/// Loss, gradient, its spread, and second derivatives at a point.
struct Sums {
    loss: f64,
    gradient: [f64; 2],
    /// Sum of the gradients' outer products, upper half.
    spread: [f64; 3],
    /// Upper half.
    curvature: [f64; 3],
}

impl Sums {
    fn of(rows: impl Iterator<Item = Row>, point: [f64; 2]) -> Self {
        let mut sums = Self { loss: 0.0, gradient: [0.0; 2], spread: [0.0; 3], curvature: [0.0; 3] };
        for (x, happened, weight) in rows {
            let logit = point[0] * x + point[1];
            let [log_p, log_q] = [super::log_sigmoid(logit), super::log_sigmoid(-logit)];
            sums.loss -= weight * if happened { log_p } else { log_q };
            let [p, q] = [log_p.exp(), log_q.exp()];
            let error = weight * if happened { -q } else { p };
            sums.gradient[0] += error * x;
            sums.gradient[1] += error;
            let bend = weight * p * q;
            for (index, product) in [x * x, x, 1.0].into_iter().enumerate() {
                sums.curvature[index] += bend * product;
                sums.spread[index] += error * error * product;
            }
        }
        sums
    }

    fn inverse(&self) -> Option<[f64; 3]> {
        let [a, b, c] = self.curvature;
        let determinant = a * c - b * b;
        (determinant > 1e-12 * a * c && determinant.is_finite())
            .then(|| [c / determinant, -b / determinant, a / determinant])
    }

    fn newton(&self) -> Option<[f64; 2]> {
        let [a, b, c] = self.inverse()?;
        let [x, y] = self.gradient;
        Some([a * x + b * y, b * x + c * y])
    }

    /// Inverse of the second derivatives, times the spread, times the inverse.
    fn sandwich(&self) -> Option<[[f64; 2]; 2]> {
        let [a, b, c] = self.inverse()?;
        let [s, t, u] = self.spread;
        // Rows of the inverse times the spread.
        let [first, second] = [[a * s + b * t, a * t + b * u], [b * s + c * t, b * t + c * u]];
        Some([
            [first[0] * a + first[1] * b, first[0] * b + first[1] * c],
            [second[0] * a + second[1] * b, second[0] * b + second[1] * c],
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(rows: &[Row]) -> Result<PlattFit, &'static str> {
        Platt::fit(rows.iter().copied())
    }

    fn logit(p: f64) -> f64 {
        (p / (1.0 - p)).ln()
    }

    /// `count` rows of a logit, `happened` of them positive.
    fn rows(logit: f64, count: usize, happened: usize) -> Vec<Row> {
        (0..count).map(|row| (logit, row < happened, 1.0)).collect()
    }

    /// Two logits have two rates, and two parameters hit both: a closed form.
    #[test]
    fn two_logits_are_corrected_to_their_rates() {
        let all = [rows(-1.0, 40, 10), rows(2.0, 50, 30)].concat();
        let found = fit(&all).unwrap().platt;
        let slope = (logit(0.6) - logit(0.25)) / 3.0;
        assert!((found.slope - slope).abs() < 1e-10, "{found:?}");
        assert!((found.intercept - (logit(0.6) - 2.0 * slope)).abs() < 1e-10, "{found:?}");
        for (at, rate) in [(-1.0, 0.25), (2.0, 0.6)] {
            assert!((found.apply(at) - logit(rate)).abs() < 1e-10);
        }
    }

    /// With two logits the corrected ones are two independent rates: the variance of a rate's logit is 1 / (n p (1 - p)).
    #[test]
    fn standard_errors_have_their_closed_form() {
        let all = [rows(0.0, 4000, 1000), rows(1.0, 5000, 3000)].concat();
        let found = fit(&all).unwrap();
        let variance = |rows: f64, p: f64| 1.0 / (rows * p * (1.0 - p));
        let (at_0, at_1) = (variance(4000.0, 0.25), variance(5000.0, 0.6));
        assert!((found.intercept_error - at_0.sqrt()).abs() < 1e-9, "{found:?}");
        assert!((found.slope_error - (at_0 + at_1).sqrt()).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn weights_are_copies() {
        let once =
            [(-1.0, true, 3.0), (-1.0, false, 5.0), (0.5, true, 2.0), (2.0, true, 4.0), (2.0, false, 1.0)];
        let copies: Vec<Row> =
            once.iter().flat_map(|row| vec![(row.0, row.1, 1.0); row.2 as usize]).collect();
        let (found, expected) = (fit(&once).unwrap().platt, fit(&copies).unwrap().platt);
        assert!(
            (found.slope - expected.slope).abs() < 1e-9
                && (found.intercept - expected.intercept).abs() < 1e-9
        );
    }

    /// Labels of a known slope and intercept, in expectation: each row once for each class, weighted with its probability.
    #[test]
    fn the_truth_is_found_again() {
        let truth = Platt { slope: 0.6, intercept: -1.2 };
        let all: Vec<Row> = (-60..60)
            .flat_map(|step| {
                let at = f64::from(step) / 8.0 - 4.0;
                let p = 1.0 / (1.0 + (-truth.apply(at)).exp());
                [(at, true, p), (at, false, 1.0 - p)]
            })
            .collect();
        let found = fit(&all).unwrap().platt;
        assert!((found.slope - 0.6).abs() < 1e-8 && (found.intercept + 1.2).abs() < 1e-8, "{found:?}");
    }

    #[test]
    fn what_cannot_be_fitted_says_why() {
        assert_eq!(fit(&rows(1.0, 10, 0)), Err(ONE_CLASS));
        assert_eq!(fit(&rows(1.0, 10, 10)), Err(ONE_CLASS));
        assert_eq!(fit(&rows(1.0, 10, 5)), Err(EQUAL));
        let apart = [rows(-1.0, 10, 0), rows(1.0, 10, 10)].concat();
        assert_eq!(fit(&apart), Err(SEPARATED));
        let wrong = [rows(-1.0, 10, 8), rows(1.0, 10, 2)].concat();
        assert_eq!(fit(&wrong), Err(REVERSED));
    }
}
