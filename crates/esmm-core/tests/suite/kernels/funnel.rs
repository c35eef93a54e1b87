//! The funnel's loss, its gradient, logarithms and probabilities.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use esmm_core::EsmmBackend;
use esmm_core::backend::{Kernels, Reference};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Expected, batch_rows, near, on_all_backends, tolerance};
use crate::common::{assert_near, flat, primitive, random, tensor, uniform};

on_all_backends!(losses);

/// Logits up to a scale, and how far rows came.
pub(super) struct FunnelCase {
    rows: usize,
    stages: usize,
    logits: Vec<f64>,
    reached: Vec<f64>,
    seed: u64,
}

impl FunnelCase {
    pub(super) fn new(rng: &mut ChaCha8Rng, rows: usize, stages: usize, scale: f64) -> Self {
        let logits = uniform(rng.random(), rows * stages).into_iter().map(|x| f64::from((x * scale) as f32));
        let logits = logits.collect();
        let depths: Vec<usize> = (0..rows).map(|_| rng.random_range(0..=stages)).collect();
        let reached =
            depths.iter().flat_map(|&depth| (0..stages).map(move |k| f64::from(u8::from(k < depth))));
        Self { rows, stages, logits, reached: reached.collect(), seed: rng.random() }
    }

    /// As the towers return them: transposed.
    pub(super) fn logits<B: Backend>(&self) -> FloatTensor<B> {
        let at = |k: usize, row: usize| self.logits[row * self.stages + k];
        let stacked: Vec<f64> =
            (0..self.stages).flat_map(|k| (0..self.rows).map(move |row| at(k, row))).collect();
        primitive(tensor::<B, 2>(&stacked, [self.stages, self.rows]).transpose())
    }

    pub(super) fn reached<B: Backend>(&self) -> FloatTensor<B> {
        primitive(tensor::<B, 2>(&self.reached, [self.rows, self.stages]))
    }

    pub(super) fn grad<B: Backend>(&self) -> FloatTensor<B> {
        random::<B, 1>(self.seed, [self.stages])
    }
}

fn losses<B: EsmmBackend>() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    // Logarithms and probabilities of a device, beside those of a CPU.
    let (logs, smallest, probs) = if B::QUEUES_WORK { (1e-6, 1e-30, 1e-4) } else { (1e-9, 1e-44, 2e-5) };
    // Also what one cube of a GPU sums in steps of several rows, and more than it takes.
    for &rows in batch_rows::<B>().iter().chain(&[2100, 4097]) {
        for (stages, scale) in [(2, 1.0), (2, 20.0), (3, 4.0), (5, 90.0)] {
            let case = FunnelCase::new(&mut rng, rows, stages, scale);
            let what = format!("{rows} rows, {stages} stages, logits to {scale}");
            type R = Reference;
            let logits = case.logits::<B>();
            let expected_logits = case.logits::<Expected>();
            let found = B::Kernels::funnel_logs(logits.clone());
            let expected = <R as Kernels<Expected>>::funnel_logs(expected_logits.clone());
            for (found, expected) in found.iter().zip(&expected) {
                let found = flat::<B>(found);
                let expected = flat::<Expected>(expected);
                assert_near(&format!("{what}, logs"), &found, &expected, logs, tolerance::<B>());
            }
            let found = B::Kernels::funnel_probs(logits.clone());
            let expected = <R as Kernels<Expected>>::funnel_probs(expected_logits.clone());
            for (found, expected) in found.iter().zip(&expected) {
                // At 90 the logarithm that the definition takes back has no more than five digits after the point;
                // below 1e-38 the steps of f32 are 1.4e-45.
                let found = flat::<B>(found);
                let expected = flat::<Expected>(expected);
                assert_near(&format!("{what}, probs"), &found, &expected, smallest, probs);
            }
            let reached = case.reached::<B>();
            let expected_reached = case.reached::<Expected>();
            let found = B::Kernels::funnel_loss(logits.clone(), reached.clone());
            let expected =
                <R as Kernels<Expected>>::funnel_loss(expected_logits.clone(), expected_reached.clone());
            assert_near(&what, &flat::<B>(&found), &flat::<Expected>(&expected), 0.0, tolerance::<B>());
            let found = B::Kernels::funnel_loss_backward(logits, reached, case.grad::<B>());
            let expected = <R as Kernels<Expected>>::funnel_loss_backward(
                expected_logits,
                expected_reached,
                case.grad::<Expected>(),
            );
            near::<B>(&format!("{what}, backward"), &found, &expected);
        }
    }
}
