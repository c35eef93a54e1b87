//! Updates of whole weights, in one pass.

use std::mem::MaybeUninit;

use multiversion::multiversion;

use super::tasks;
use crate::backend::{WeightRule, WeightUpdate};

/// Values of a task.
const VALUES: usize = 1 << 13;

/// A weight, its gradient, and what the optimizer remembers of it, which changes in place.
pub(super) struct HostWeight<'a> {
    pub(super) weight: &'a [f32],
    pub(super) grad: &'a [f32],
    pub(super) moments: Vec<&'a mut [f32]>,
}

/// The next values of all weights.
///
/// # Panics
/// When the rule keeps another number of moments.
pub(super) fn update(weights: Vec<HostWeight<'_>>, update: &WeightUpdate) -> Vec<Vec<f32>> {
    let step = Step::new(update);
    let kept = update.rule.num_moments();
    let outs = weights.iter().map(|weight| Box::new_uninit_slice(weight.weight.len()));
    let mut outs: Vec<Box<[MaybeUninit<f32>]>> = outs.collect();
    let mut tasks = Vec::new();
    for (HostWeight { weight, grad, moments }, out) in weights.into_iter().zip(&mut outs) {
        assert_eq!(weight.len(), grad.len(), "values of a weight and of its gradient");
        let found = moments.len();
        assert_eq!(found, kept, "{:?} found {found} moments instead of {kept}", update.rule);
        let mut moments: Vec<_> = moments.into_iter().map(|moment| moment.chunks_mut(VALUES)).collect();
        let values = out.chunks_mut(VALUES).zip(weight.chunks(VALUES)).zip(grad.chunks(VALUES));
        for ((out, weight), grad) in values {
            let moments: Vec<&mut [f32]> = moments.iter_mut().filter_map(Iterator::next).collect();
            tasks.push((out, weight, grad, moments));
        }
    }
    tasks::each("update of weights", tasks, |(out, weight, grad, mut moments)| match &mut moments[..] {
        [] => step.sgd(weight, grad, out),
        [velocity] => momentum(step, weight, grad, velocity, out),
        [first, second, ..] => adam(step, weight, grad, first, second, out),
    });
    // SAFETY: the chunks are all of each weight, and each kind of step writes all of its chunk.
    outs.into_iter().map(|out| unsafe { out.assume_init() }.into_vec()).collect()
}

/// An update with its constants in f32.
#[derive(Debug, Clone, Copy)]
struct Step {
    rate: f32,
    l2: f32,
    /// What a decay leaves of a weight.
    keep: f32,
    beta_1: f32,
    beta_2: f32,
    take_1: f32,
    take_2: f32,
    epsilon: f32,
}

impl Step {
    fn new(update: &WeightUpdate) -> Self {
        let rate = update.learning_rate;
        let keep = 1.0 - update.learning_rate * update.decay;
        let (rate, beta_1, beta_2, epsilon) = match update.rule {
            WeightRule::Sgd { momentum } => (rate, momentum, 0.0, 0.0),
            WeightRule::Adam { beta_1, beta_2, epsilon } => {
                let steps = update.step as f64;
                let root = (1.0 - beta_2.powf(steps)).sqrt();
                (rate * root / (1.0 - beta_1.powf(steps)), beta_1, beta_2, epsilon * root)
            }
        };
        Self {
            rate: rate as f32,
            l2: update.l2 as f32,
            keep: keep as f32,
            beta_1: beta_1 as f32,
            beta_2: beta_2 as f32,
            take_1: (1.0 - beta_1) as f32,
            take_2: (1.0 - beta_2) as f32,
            epsilon: epsilon as f32,
        }
    }

    fn sgd(self, weight: &[f32], grad: &[f32], out: &mut [MaybeUninit<f32>]) {
        for ((out, w), g) in out.iter_mut().zip(weight).zip(grad) {
            out.write(w * self.keep - (g + self.l2 * w) * self.rate);
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+bmi2+fma", "x86_64+avx2+bmi2+fma"))]
fn momentum(step: Step, weight: &[f32], grad: &[f32], velocity: &mut [f32], out: &mut [MaybeUninit<f32>]) {
    for (((out, w), g), v) in out.iter_mut().zip(weight).zip(grad).zip(velocity) {
        *v = *v * step.beta_1 + (g + step.l2 * w);
        out.write(w * step.keep - *v * step.rate);
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+bmi2+fma", "x86_64+avx2+bmi2+fma"))]
fn adam(
    step: Step,
    weight: &[f32],
    grad: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    out: &mut [MaybeUninit<f32>],
) {
    let moments = first.iter_mut().zip(second);
    for (((out, w), g), (m, v)) in out.iter_mut().zip(weight).zip(grad).zip(moments) {
        let g = g + step.l2 * w;
        *m = *m * step.beta_1 + g * step.take_1;
        *v = *v * step.beta_2 + g * g * step.take_2;
        out.write(w * step.keep - *m * step.rate / (v.sqrt() + step.epsilon));
    }
}
