//! `EsmmBackend::update_weights` against plain f64 loops, kernel and reference body.
#![cfg(any(feature = "ndarray", feature = "flex"))]
#![allow(clippy::unwrap_used)]

mod common;

use burn::tensor::ops::FloatTensor;
use common::random::{flat, on_cpu_backends};
use common::{assert_near, primitive, tensor, uniform};
use esmm_core::EsmmBackend;
use esmm_core::backend::{WeightRule, WeightState, WeightUpdate, reference};

on_cpu_backends!(rules_are_the_loops);

/// More than a task of the kernel takes (16384), and not a multiple of a vector.
const SHAPE: [usize; 2] = [130, 257];
const STEPS: u64 = 3;

/// A weight with its moments in f64.
struct Expected {
    weight: Vec<f64>,
    first: Vec<f64>,
    second: Vec<f64>,
}

impl Expected {
    fn step(&mut self, grads: &[f64], update: WeightUpdate) {
        let rate = update.learning_rate;
        for (index, grad) in grads.iter().enumerate() {
            let (w, m, v) = (&mut self.weight[index], &mut self.first[index], &mut self.second[index]);
            let g = grad + update.l2 * *w;
            *w *= 1.0 - rate * update.decay;
            match update.rule {
                WeightRule::Sgd { momentum } => {
                    *m = momentum * *m + g;
                    *w -= rate * *m;
                }
                // torch.optim.Adam: both moments are corrected, then epsilon is added to the root.
                WeightRule::Adam { beta_1, beta_2, epsilon, step } => {
                    *m = beta_1 * *m + (1.0 - beta_1) * g;
                    *v = beta_2 * *v + (1.0 - beta_2) * g * g;
                    let corrected = |moment: f64, beta: f64| moment / (1.0 - beta.powf(step as f64));
                    *w -= rate * corrected(*m, beta_1) / (corrected(*v, beta_2).sqrt() + epsilon);
                }
            }
        }
    }
}

fn rules_are_the_loops<B: EsmmBackend>() {
    type Operation<B> = fn(WeightState<B>, FloatTensor<B>, WeightUpdate) -> WeightState<B>;
    let adam = |step| WeightRule::Adam { beta_1: 0.9, beta_2: 0.99, epsilon: 1e-3, step };
    let sgd = |momentum| move |_| WeightRule::Sgd { momentum };
    let rules: [&dyn Fn(u64) -> WeightRule; 3] = [&adam, &sgd(0.0), &sgd(0.8)];
    for rule in rules {
        for (l2, decay) in [(0.0, 0.0), (0.1, 0.0), (0.0, 0.2)] {
            for operation in [B::update_weights, reference::update_weights::<B> as Operation<B>] {
                run::<B>(rule, l2, decay, operation);
            }
        }
    }
}

fn run<B: EsmmBackend>(
    rule: &dyn Fn(u64) -> WeightRule,
    l2: f64,
    decay: f64,
    operation: fn(WeightState<B>, FloatTensor<B>, WeightUpdate) -> WeightState<B>,
) {
    let len = SHAPE[0] * SHAPE[1];
    let start = uniform(1, len);
    let zeros = || vec![0.0; len];
    let mut expected = Expected { weight: start.clone(), first: zeros(), second: zeros() };
    let moments = (0..rule(1).num_moments()).map(|_| primitive(tensor::<B, 2>(&zeros(), SHAPE)));
    let mut state =
        WeightState { weight: primitive(tensor::<B, 2>(&start, SHAPE)), moments: moments.collect() };
    for step in 1..=STEPS {
        let update = WeightUpdate { rule: rule(step), learning_rate: 0.05 / step as f64, l2, decay };
        let grads = uniform(10 + step, len);
        expected.step(&grads, update);
        state = operation(state, primitive(tensor::<B, 2>(&grads, SHAPE)), update);
        assert_near(&format!("{update:?}"), &flat::<B>(&state.weight), &expected.weight, 1e-6, 2e-6);
    }
    for (found, expected) in state.moments.iter().zip([&expected.first, &expected.second]) {
        assert_near("moment", &flat::<B>(found), expected, 1e-6, 2e-6);
    }
}
