//! The learning rate as a pure function of the step, so that a resumed training needs no state but the step.

use burn::lr_scheduler::LrScheduler;
use burn::tensor::backend::Backend;
use esmm_run::config::Decay;

/// Learning rate over the steps of a training.
///
/// # Examples
/// ```
/// use esmm_train::config::Decay;
/// use esmm_train::optimizer::Schedule;
///
/// let schedule = Schedule {
///     base: 0.1,
///     warmup_steps: 10,
///     decay: Decay::Linear,
///     final_factor: 0.5,
///     total_steps: 110,
///     step: 0,
/// };
/// assert_eq!(schedule.at(5), 0.05);
/// assert_eq!(schedule.at(10), 0.1);
/// assert!((schedule.at(110) - 0.05).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Learning rate after the warm-up.
    pub base: f64,
    /// Steps of linear warm-up from `base / warmup_steps`.
    pub warmup_steps: u64,
    /// What follows.
    pub decay: Decay,
    /// Share of `base` at the last step, in `(0, 1]` for the exponential decay, `[0, 1]` otherwise.
    pub final_factor: f64,
    /// Steps of the whole training.
    pub total_steps: u64,
    /// Steps done so far.
    pub step: u64,
}

impl Schedule {
    /// The learning rate of step `step`, from 1.
    pub fn at(&self, step: u64) -> f64 {
        if step <= self.warmup_steps {
            return self.base * step as f64 / self.warmup_steps as f64;
        }
        let done = step - self.warmup_steps;
        let span = self.total_steps.saturating_sub(self.warmup_steps);
        let progress = (done as f64 / span.max(1) as f64).min(1.0);
        let factor = match self.decay {
            Decay::Constant => 1.0,
            Decay::Linear => 1.0 + (self.final_factor - 1.0) * progress,
            Decay::Cosine => {
                let share = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
                self.final_factor + (1.0 - self.final_factor) * share
            }
            Decay::Exponential => self.final_factor.powf(progress),
        };
        self.base * factor
    }
}

impl LrScheduler for Schedule {
    type Record<B: Backend> = usize;

    fn step(&mut self) -> f64 {
        self.step += 1;
        self.at(self.step)
    }

    fn to_record<B: Backend>(&self) -> usize {
        self.step as usize
    }

    fn load_record<B: Backend>(mut self, record: usize) -> Self {
        self.step = record as u64;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(decay: Decay) -> Vec<f64> {
        let mut schedule =
            Schedule { base: 0.1, warmup_steps: 2, decay, final_factor: 0.25, total_steps: 6, step: 0 };
        (0..7).map(|_| LrScheduler::step(&mut schedule)).collect()
    }

    #[test]
    fn shapes_are_the_closed_forms() {
        let close = |rates: Vec<f64>, expected: [f64; 7]| {
            for (rate, expected) in rates.iter().zip(expected) {
                assert!((rate - expected).abs() < 1e-12, "{rates:?}");
            }
        };
        close(rates(Decay::Constant), [0.05, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]);
        close(rates(Decay::Linear), [0.05, 0.1, 0.08125, 0.0625, 0.04375, 0.025, 0.025]);
        let half = 0.25_f64.sqrt();
        let quarter = half.sqrt();
        close(rates(Decay::Exponential), [0.05, 0.1, 0.1 * quarter, 0.05, 0.05 * quarter, 0.025, 0.025]);
        assert!((rates(Decay::Cosine)[3] - 0.0625).abs() < 1e-12);
    }
}
