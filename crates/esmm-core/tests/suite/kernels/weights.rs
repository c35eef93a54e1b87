//! Updates of weights: every rule against loops in f64, definition and kernel; every backend against the definition.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use esmm_core::EsmmBackend;
use esmm_core::backend::{Kernels, Reference, WeightRule, WeightUpdate, WithGrad, WithMoments};

use super::{Expected, near, on_all_backends};
use crate::common::{Plain, assert_near, flat, float, primitive, random, tensor, uniform};

on_all_backends!(updates);

/// L2 and decay.
const PENALTIES: [(f64, f64); 3] = [(0.0, 0.0), (0.1, 0.0), (0.0, 0.2)];

/// Shapes of the weights of a step.
const SHAPES: [[usize; 3]; 4] = [[1, 1, 1], [2, 7, 12], [3, 5, 9], [1, 40, 128]];

/// The first `count` weights of a step.
fn weights<B: Backend>(count: usize, rule: WeightRule) -> Vec<WithGrad<FloatTensor<B>>> {
    let shapes = SHAPES.into_iter().zip((90..).step_by(10)).enumerate().take(count);
    let weight = |(index, (shape, seed))| WithGrad {
        weight: state::<B>(seed, shape, rule),
        // Gradients of matmuls come with their last dimensions swapped.
        grad: grad::<B>(seed, shape, index % 2 == 0),
    };
    shapes.map(weight).collect()
}

/// One weight alone, all at once, none.
fn updates<B: EsmmBackend>() {
    for rule in WeightRule::ALL {
        for (step, (l2, decay)) in [1, 20, 3].into_iter().zip(PENALTIES) {
            for count in [1, SHAPES.len(), 0] {
                let update = WeightUpdate { rule, step, learning_rate: 0.01, l2, decay };
                let found = B::Kernels::update_weights(weights::<B>(count, rule), update);
                let expected = <Reference as Kernels<Expected>>::update_weights(
                    weights::<Expected>(count, rule),
                    update,
                );
                assert_eq!((found.len(), expected.len()), (count, count));
                for ((found, expected), shape) in found.iter().zip(&expected).zip(SHAPES) {
                    let what = format!("{shape:?} of {count}, {update:?}");
                    near::<B>(&what, &found.tensor, &expected.tensor);
                    assert_eq!(found.moments.len(), rule.num_moments());
                    for (found, expected) in found.moments.iter().zip(&expected.moments) {
                        near::<B>(&what, found, expected);
                    }
                }
            }
        }
    }
}

fn state<B: Backend>(seed: u64, shape: [usize; 3], rule: WeightRule) -> WithMoments<FloatTensor<B>> {
    let moments = (1..=rule.num_moments() as u64).map(|number| {
        let values: Vec<f64> =
            uniform(seed + number, shape.iter().product()).iter().map(|value| value.abs()).collect();
        primitive(tensor::<B, 3>(&values, shape))
    });
    WithMoments { tensor: random::<B, 3>(seed, shape), moments: moments.collect() }
}

fn grad<B: Backend>(seed: u64, [first, rows, columns]: [usize; 3], swapped: bool) -> FloatTensor<B> {
    if swapped {
        let tensor = float::<B, 3>(random::<B, 3>(seed + 5, [first, columns, rows]));
        primitive(tensor.swap_dims(1, 2))
    } else {
        random::<B, 3>(seed + 5, [first, rows, columns])
    }
}

/// More than a task of the kernel takes (16384), and not a multiple of a vector.
const SHAPE: [usize; 2] = [130, 257];
const STEPS: u64 = 3;

/// A weight with its moments in f64.
struct Expected64 {
    weight: Vec<f64>,
    first: Vec<f64>,
    second: Vec<f64>,
}

impl Expected64 {
    fn step(&mut self, grads: &[f64], update: WeightUpdate) {
        let rate = update.learning_rate;
        for (index, grad) in grads.iter().enumerate() {
            let w = &mut self.weight[index];
            let m = &mut self.first[index];
            let v = &mut self.second[index];
            let g = grad + update.l2 * *w;
            *w *= 1.0 - rate * update.decay;
            match update.rule {
                WeightRule::Sgd { momentum } => {
                    *m = momentum * *m + g;
                    *w -= rate * *m;
                }
                // torch.optim.Adam: both moments are corrected, then epsilon is added to the root.
                WeightRule::Adam { beta_1, beta_2, epsilon } => {
                    *m = beta_1 * *m + (1.0 - beta_1) * g;
                    *v = beta_2 * *v + (1.0 - beta_2) * g * g;
                    let corrected = |moment: f64, beta: f64| moment / (1.0 - beta.powf(update.step as f64));
                    *w -= rate * corrected(*m, beta_1) / (corrected(*v, beta_2).sqrt() + epsilon);
                }
            }
        }
    }
}

/// Definition and kernel, over a few steps.
#[test]
fn rules_are_the_loops() {
    for rule in WeightRule::ALL {
        for (l2, decay) in PENALTIES {
            run::<Plain, Reference>(rule, l2, decay);
            run::<Plain, <Plain as EsmmBackend>::Kernels>(rule, l2, decay);
            #[cfg(feature = "flex")]
            run::<burn_flex::Flex, <burn_flex::Flex as EsmmBackend>::Kernels>(rule, l2, decay);
        }
    }
}

fn run<B: Backend, K: Kernels<B>>(rule: WeightRule, l2: f64, decay: f64) {
    let len = SHAPE[0] * SHAPE[1];
    let start = uniform(1, len);
    let zeros = || vec![0.0; len];
    let mut expected = Expected64 { weight: start.clone(), first: zeros(), second: zeros() };
    let moments = (0..rule.num_moments()).map(|_| primitive(tensor::<B, 2>(&zeros(), SHAPE)));
    let mut state =
        WithMoments { tensor: primitive(tensor::<B, 2>(&start, SHAPE)), moments: moments.collect() };
    for step in 1..=STEPS {
        let update = WeightUpdate { rule, step, learning_rate: 0.05 / step as f64, l2, decay };
        let grads = uniform(10 + step, len);
        expected.step(&grads, update);
        let grad = primitive(tensor::<B, 2>(&grads, SHAPE));
        state = K::update_weights(vec![WithGrad { weight: state, grad }], update).remove(0);
        assert_near(&format!("{update:?}"), &flat::<B>(&state.tensor), &expected.weight, 1e-6, 2e-6);
    }
    for (found, expected) in state.moments.iter().zip([&expected.first, &expected.second]) {
        assert_near("moment", &flat::<B>(found), expected, 1e-6, 2e-6);
    }
}
