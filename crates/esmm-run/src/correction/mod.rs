//! What is done to the probabilities of a trained model after its training: Platt's correction of each stage.
//!
//! With `P_k` the probability of reaching stage k (pCTR, pCTCVR) and `z_k = ln(P_k / (1 - P_k))`, the corrected probability
//! is `sigmoid(a_k z_k + b_k)`: J. Platt, Probabilistic Outputs for Support Vector Machines, in Advances in Large Margin
//! Classifiers, 2000. `a_k > 0`, so a stage ranks as before. What is conditional (pCVR) follows as the quotient of two
//! stages; where a later stage would come out likelier than the one before, it is held below it.
//!
//! This is the one place where a correction is computed: scoring, evaluation and the engine that ranks call
//! [`Correction::apply`]. [`CalibrationRecord`] is what a run directory holds of it.

mod fit;
mod measured;
mod platt;
mod record;

pub use fit::{LabelledLogits, fit};
pub use measured::{Interval, TaskChange};
pub use platt::{Platt, PlattFit};
pub use record::{CalibrationRecord, StageCorrection};

/// The largest conditional probability after a correction: `1 - 1e-6`.
pub const MOST_CONDITIONAL: f64 = 1.0 - 1e-6;

/// A correction of all stages.
///
/// # Examples
/// ```
/// use esmm_run::correction::{CorrectedRow, Correction, Platt};
///
/// // Odds of a click halved, those of click and conversion as they are.
/// let halved = Platt { slope: 1.0, intercept: -(2.0_f64.ln()) };
/// let correction = Correction { stages: vec![halved, Platt::default()] };
/// let mut row = CorrectedRow::default();
/// // pCTR 1/2, pCVR 1/2: pCTCVR 1/4.
/// correction.apply(&[0.0, 0.0], &mut row);
/// assert!((row.reach(0) - 1.0 / 3.0).abs() < 1e-12);
/// assert!((row.reach(1) - 0.25).abs() < 1e-12);
/// assert!((row.conditional(1) - 0.75).abs() < 1e-12); // the quotient
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Correction {
    /// One a stage.
    pub stages: Vec<Platt>,
}

/// The probabilities of one row, as logarithms.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CorrectedRow {
    /// `ln P_k` of each stage.
    pub log_reach: Vec<f64>,
    /// `ln(1 - P_k)` of each stage.
    pub log_not_reach: Vec<f64>,
}

impl CorrectedRow {
    /// `P_k`, stages counted from 0.
    ///
    /// # Panics
    /// When there is no such stage.
    pub fn reach(&self, stage: usize) -> f64 {
        self.log_reach[stage].exp()
    }

    /// The probability of a stage given the one before; of the first that of reaching it.
    ///
    /// # Panics
    /// When there is no such stage.
    pub fn conditional(&self, stage: usize) -> f64 {
        self.log_conditional(stage).exp()
    }

    /// The logit of [`conditional`](Self::conditional).
    ///
    /// # Panics
    /// When there is no such stage.
    pub fn conditional_logit(&self, stage: usize) -> f64 {
        match stage {
            0 => self.log_reach[0] - self.log_not_reach[0],
            _ => {
                let log = self.log_conditional(stage);
                log - log_of_rest(log)
            }
        }
    }

    fn log_conditional(&self, stage: usize) -> f64 {
        match stage {
            0 => self.log_reach[0],
            _ => self.log_reach[stage] - self.log_reach[stage - 1],
        }
    }

    /// The probabilities as a model has them: `ln P_k = ln P_(k-1) + ln sigmoid(l_k)`, in f64.
    pub(crate) fn of_model(&mut self, conditional: &[f32]) {
        self.of_models(conditional, conditional.len());
    }

    /// The same of several models: the logits of the first, then those of the next. Their `P_k` are averaged.
    fn of_models(&mut self, logits: &[f32], stages: usize) {
        self.log_reach.clear();
        self.log_not_reach.clear();
        if logits.len() == stages {
            for (log, rest) in logs_of_model(logits) {
                self.log_reach.push(log);
                self.log_not_reach.push(rest);
            }
            return;
        }
        // Sums of probabilities at first, in the memory that a row has already.
        self.log_reach.resize(stages, 0.0);
        self.log_not_reach.resize(stages, 0.0);
        for logits in logits.chunks_exact(stages) {
            for (stage, (log, rest)) in logs_of_model(logits).enumerate() {
                self.log_reach[stage] += log.exp();
                self.log_not_reach[stage] += rest.exp();
            }
        }
        let models = (logits.len() / stages) as f64;
        for sum in self.log_reach.iter_mut().chain(&mut self.log_not_reach) {
            *sum = (*sum / models).ln();
        }
    }
}

/// `ln P_k` and `ln(1 - P_k)` of each stage, of one model's conditional logits.
fn logs_of_model(conditional: &[f32]) -> impl Iterator<Item = (f64, f64)> + '_ {
    let mut log = 0.0;
    conditional.iter().map(|logit| f64::from(*logit)).enumerate().map(move |(stage, logit)| {
        log += log_sigmoid(logit);
        let rest = if stage == 0 { log_sigmoid(-logit) } else { log_of_rest(log) };
        (log, rest)
    })
}

impl Correction {
    /// The corrected probabilities of a row, of which the model has the conditional logits, one a stage. Of several models
    /// whose probabilities are averaged: the logits of the first, then those of the next.
    ///
    /// # Panics
    /// When there are not as many logits as stages, or as stages of all models.
    pub fn apply(&self, conditional: &[f32], row: &mut CorrectedRow) {
        let (logits, stages) = (conditional.len(), self.stages.len());
        let fits = logits > 0 && logits.is_multiple_of(stages);
        assert!(fits, "{logits} logits for the correction of {stages} stages");
        row.of_models(conditional, stages);
        for (stage, platt) in self.stages.iter().enumerate() {
            let logit = platt.apply(row.log_reach[stage] - row.log_not_reach[stage]);
            let mut log = log_sigmoid(logit);
            let mut rest = log_sigmoid(-logit);
            if stage > 0 {
                let most = row.log_reach[stage - 1] + MOST_CONDITIONAL.ln();
                if log > most {
                    log = most;
                    rest = log_of_rest(most);
                }
            }
            row.log_reach[stage] = log;
            row.log_not_reach[stage] = rest;
        }
    }
}

/// `ln sigmoid(x)`, without overflow.
fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

/// `ln(1 - exp(x))` for x below 0.
fn log_of_rest(x: f64) -> f64 {
    match x < -std::f64::consts::LN_2 {
        true => (-x.exp()).ln_1p(),
        false => (-x.exp_m1()).ln(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(correction: &Correction, logits: &[f32]) -> CorrectedRow {
        let mut row = CorrectedRow::default();
        correction.apply(logits, &mut row);
        row
    }

    #[test]
    fn no_change_is_no_change() {
        let correction = Correction { stages: vec![Platt::default(); 3] };
        for logits in [[0.5, -1.0, 2.0], [-8.0, -7.0, 0.0], [30.0, 20.0, -20.0]] {
            let found = row(&correction, &logits);
            let mut expected = CorrectedRow::default();
            expected.of_model(&logits);
            for stage in 0..3 {
                let relative = found.reach(stage) / expected.reach(stage) - 1.0;
                assert!(relative.abs() < 1e-5, "{logits:?}, stage {stage}: {relative}");
                if logits[stage] < 13.0 {
                    let logit = found.conditional_logit(stage) - f64::from(logits[stage]);
                    assert!(logit.abs() < 1e-6, "{logits:?}, stage {stage}: {logit}");
                }
            }
        }
    }

    /// Over any rows and stages: probabilities that are finite, a later stage never likelier, quotients below 1.
    #[test]
    fn later_stages_stay_below_earlier_ones() {
        let correction = Correction {
            stages: [(0.3, -2.0), (1.7, 1.5), (0.2, 4.0)]
                .map(|(slope, intercept)| Platt { slope, intercept })
                .to_vec(),
        };
        let mut held = 0;
        for step in 0..1000 {
            let logit = |factor: usize| ((step * factor) % 199) as f32 / 4.0 - 25.0;
            let found = row(&correction, &[logit(7), logit(31), logit(57)]);
            for stage in 0..3 {
                assert!(
                    found.log_reach[stage].is_finite() && found.log_not_reach[stage].is_finite(),
                    "{found:?}"
                );
                let both = found.reach(stage) + found.log_not_reach[stage].exp();
                assert!((both - 1.0).abs() < 1e-12, "{both}");
                if stage > 0 {
                    assert!(found.conditional(stage) <= MOST_CONDITIONAL + 1e-12, "{found:?}");
                    assert!(found.conditional_logit(stage).is_finite());
                    held += usize::from(found.conditional(stage) > 0.999_998);
                    let product = found.reach(stage - 1) * found.conditional(stage);
                    assert!((product - found.reach(stage)).abs() <= 1e-12, "{found:?}");
                }
            }
        }
        assert!(held > 0, "the bound was never needed");
    }

    /// Two models of which one reaches 1/2 and 3/8, the other 1/4 and 1/8: 3/8 and 1/4.
    #[test]
    fn several_models_are_averaged_first() {
        let ln3 = 3.0_f32.ln();
        let correction = Correction { stages: vec![Platt::default(); 2] };
        let found = row(&correction, &[0.0, ln3, -ln3, 0.0]);
        assert!((found.reach(0) - 0.375).abs() < 1e-7 && (found.reach(1) - 0.25).abs() < 1e-7, "{found:?}");
        assert!((found.conditional(1) - 2.0 / 3.0).abs() < 1e-7, "{found:?}");
        let doubled =
            Correction { stages: vec![Platt { slope: 1.0, intercept: 2.0_f64.ln() }, Platt::default()] };
        // Odds of 3/5 doubled: 6/5.
        assert!((row(&doubled, &[0.0, ln3, -ln3, 0.0]).reach(0) - 6.0 / 11.0).abs() < 1e-7);
    }

    #[test]
    #[should_panic(expected = "1 logits for the correction of 2 stages")]
    fn lengths_must_agree() {
        row(&Correction { stages: vec![Platt::default(); 2] }, &[0.0]);
    }
}
