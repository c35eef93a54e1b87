//! `EsmmBackend::update_rows` against plain f64 loops over whole tables, and the bits of what it must not touch.
#![cfg(feature = "ndarray")]
#![allow(clippy::unwrap_used)]

mod common;

use burn::tensor::Tensor;
use common::{Auto, Plain, assert_near, float, ints, primitive, tensor, uniform, values};
use esmm_core::EsmmBackend;
use esmm_core::backend::{RowRule, RowState, RowUpdate};

const HEIGHT: usize = 12;
const WIDTH: usize = 5;
/// Rows of each step: again and again, resting, once, never (4, 5, 11); one row, and every other one.
const STEPS: [&[usize]; 8] =
    [&[3, 0, 7], &[7], &[1, 3, 9, 2], &[0], &[10, 8, 6, 2, 0], &[3], &[9, 7, 0], &[6, 1]];
const NEVER: [usize; 3] = [4, 5, 11];

/// Table and moments in f64, a row at a time.
struct Expected {
    table: Vec<Vec<f64>>,
    first: Vec<Vec<f64>>,
    second: Vec<Vec<f64>>,
    sums: Vec<f64>,
}

impl Expected {
    /// The dense rule on all rows; a row without gradient is told by `None`.
    fn step(&mut self, grads: &[Option<Vec<f64>>], update: RowUpdate) {
        for (row, grad) in grads.iter().enumerate() {
            let Some(grad) = grad else { continue };
            let grad: Vec<f64> = grad.iter().zip(&self.table[row]).map(|(g, w)| g + update.l2 * w).collect();
            if let RowRule::RowWiseAdagrad { .. } = update.rule {
                self.sums[row] += grad.iter().map(|g| g * g).sum::<f64>() / WIDTH as f64;
            }
            if let RowRule::RowWiseAdam { beta_2, .. } = update.rule {
                let mean = grad.iter().map(|g| g * g).sum::<f64>() / WIDTH as f64;
                self.sums[row] = beta_2 * self.sums[row] + (1.0 - beta_2) * mean;
            }
            for (column, g) in grad.into_iter().enumerate() {
                self.table[row][column] -= update.learning_rate * self.direction(row, column, g, update.rule);
            }
        }
    }

    fn direction(&mut self, row: usize, column: usize, g: f64, rule: RowRule) -> f64 {
        match rule {
            RowRule::Sgd => g,
            RowRule::RowWiseAdagrad { epsilon } => g / (self.sums[row].sqrt() + epsilon),
            RowRule::RowWiseAdam { beta_1, beta_2, epsilon, step } => {
                let m = &mut self.first[row][column];
                *m = beta_1 * *m + (1.0 - beta_1) * g;
                let correction = (1.0 - beta_2.powf(step as f64)).sqrt() / (1.0 - beta_1.powf(step as f64));
                correction * *m / (self.sums[row].sqrt() + epsilon)
            }
            // torch.optim.SparseAdam: epsilon goes to the root before the bias correction.
            RowRule::LazyAdam { beta_1, beta_2, epsilon, step } => {
                let m = &mut self.first[row][column];
                *m = beta_1 * *m + (1.0 - beta_1) * g;
                let v = &mut self.second[row][column];
                *v = beta_2 * *v + (1.0 - beta_2) * g * g;
                let correction = (1.0 - beta_2.powf(step as f64)).sqrt() / (1.0 - beta_1.powf(step as f64));
                correction * *m / (v.sqrt() + epsilon)
            }
        }
    }

    fn moments(&self, rule: RowRule) -> Vec<Vec<f64>> {
        match rule {
            RowRule::Sgd => vec![],
            RowRule::RowWiseAdagrad { .. } => vec![self.sums.clone()],
            RowRule::LazyAdam { .. } => vec![self.first.concat(), self.second.concat()],
            RowRule::RowWiseAdam { .. } => vec![self.first.concat(), self.sums.clone()],
        }
    }
}

fn bits(tensor: &Tensor<Plain, 2>, rows: impl Iterator<Item = usize>) -> Vec<u32> {
    let [_, width] = tensor.dims();
    let values: Vec<f32> = tensor.to_data().to_vec().unwrap();
    rows.flat_map(|row| {
        values[row * width..][..width].iter().map(|value| value.to_bits()).collect::<Vec<_>>()
    })
    .collect()
}

fn state(table: &[f64], moments: &[[usize; 2]]) -> (Tensor<Plain, 2>, Vec<Tensor<Plain, 2>>) {
    let zeros = moments.iter().map(|&shape| Tensor::zeros(shape, &Default::default())).collect();
    (tensor(table, [HEIGHT, WIDTH]), zeros)
}

/// Runs all steps of a rule beside the f64 loops; after each the untouched rows must have their old bits.
fn run(rule: impl Fn(u64) -> RowRule, moments: &[[usize; 2]], l2: f64) {
    let mut start = uniform(31, HEIGHT * WIDTH);
    // Values that adding a zero or rounding would change.
    start[NEVER[0] * WIDTH..][..WIDTH].copy_from_slice(&[-0.0, 1e-40, f64::INFINITY, -1e30, f64::NAN]);
    let (mut table, mut state) = state(&start, moments);
    let mut expected = Expected {
        table: start.chunks_exact(WIDTH).map(<[f64]>::to_vec).collect(),
        first: vec![vec![0.0; WIDTH]; HEIGHT],
        second: vec![vec![0.0; WIDTH]; HEIGHT],
        sums: vec![0.0; HEIGHT],
    };
    for (index, rows) in STEPS.into_iter().enumerate() {
        let update =
            RowUpdate { rule: rule(index as u64 + 1), learning_rate: 0.05 / (1.0 + index as f64), l2 };
        let grads = uniform(40 + index as u64, rows.len() * WIDTH);
        let mut dense = vec![None; HEIGHT];
        for (&row, grad) in rows.iter().zip(grads.chunks_exact(WIDTH)) {
            dense[row] = Some(grad.to_vec());
        }
        expected.step(&dense, update);

        let untouched = || (0..HEIGHT).filter(|row| !rows.contains(row));
        let all = |table: &Tensor<Plain, 2>, state: &[Tensor<Plain, 2>]| -> Vec<_> {
            std::iter::once(table).chain(state).map(|tensor| bits(tensor, untouched())).collect()
        };
        let before = all(&table, &state);
        (table, state) = step(table, state, rows, &grads, update);
        assert_eq!(all(&table, &state), before, "{update:?}: untouched rows changed");

        let trained = |values: &[f64]| -> Vec<f64> {
            let width = values.len() / HEIGHT;
            (0..HEIGHT)
                .filter(|row| !NEVER.contains(row))
                .flat_map(|row| values[row * width..][..width].to_vec())
                .collect()
        };
        let near = |what: &str, found: Tensor<Plain, 2>, expected: &[f64]| {
            let what = format!("{what} after {update:?}");
            assert_near(&what, &trained(&values(found)), &trained(expected), 1e-6, 2e-6);
        };
        near("table", table.clone(), &expected.table.concat());
        assert_eq!(state.len(), expected.moments(update.rule).len());
        for (found, expected) in state.iter().zip(expected.moments(update.rule)) {
            near("moment", found.clone(), &expected);
        }
    }
}

fn step(
    table: Tensor<Plain, 2>,
    moments: Vec<Tensor<Plain, 2>>,
    rows: &[usize],
    grads: &[f64],
    update: RowUpdate,
) -> (Tensor<Plain, 2>, Vec<Tensor<Plain, 2>>) {
    let state =
        RowState::<Plain> { table: primitive(table), moments: moments.into_iter().map(primitive).collect() };
    let grads = primitive(tensor::<Plain, 2>(grads, [rows.len(), WIDTH]));
    let state = Plain::update_rows(state, ints::<Plain>(rows), grads, update);
    (float(state.table), state.moments.into_iter().map(float).collect())
}

#[test]
fn sgd_is_the_dense_one() {
    run(|_| RowRule::Sgd, &[], 0.0);
    run(|_| RowRule::Sgd, &[], 0.1);
}

#[test]
fn row_wise_adagrad() {
    let rule = |_| RowRule::RowWiseAdagrad { epsilon: 1e-3 };
    run(rule, &[[HEIGHT, 1]], 0.0);
    run(rule, &[[HEIGHT, 1]], 0.1);
}

#[test]
fn lazy_adam() {
    let rule = |step| RowRule::LazyAdam { beta_1: 0.9, beta_2: 0.99, epsilon: 1e-3, step };
    run(rule, &[[HEIGHT, WIDTH]; 2], 0.0);
    run(rule, &[[HEIGHT, WIDTH]; 2], 0.1);
}

#[test]
fn row_wise_adam() {
    let rule = |step| RowRule::RowWiseAdam { beta_1: 0.9, beta_2: 0.99, epsilon: 1e-3, step };
    run(rule, &[[HEIGHT, WIDTH], [HEIGHT, 1]], 0.0);
    run(rule, &[[HEIGHT, WIDTH], [HEIGHT, 1]], 0.1);
}

/// A closed form: the first step of Adam goes by the learning rate, whatever the gradient.
#[test]
fn the_first_step_of_adam_is_the_learning_rate() {
    let rule = RowRule::LazyAdam { beta_1: 0.9, beta_2: 0.999, epsilon: 0.0, step: 1 };
    let (table, moments) = state(&[0.0; HEIGHT * WIDTH], &[[HEIGHT, WIDTH]; 2]);
    let update = RowUpdate { rule, learning_rate: 0.01, l2: 0.0 };
    let (table, _) = step(table, moments, &[2], &[1e-3, -1e-3, 5.0, -5.0, 0.25], update);
    let expected = [-0.01, 0.01, -0.01, 0.01, -0.01];
    assert_near("row 2", &values(table)[2 * WIDTH..][..WIDTH], &expected, 0.0, 1e-5);
}

/// An optimizer may step for longer than an i32 counts; the bias correction is then 1.
#[test]
fn adam_counts_far() {
    let rule = RowRule::LazyAdam { beta_1: 0.9, beta_2: 0.999, epsilon: 0.0, step: 1 << 32 };
    let (table, moments) = state(&[0.0; HEIGHT * WIDTH], &[[HEIGHT, WIDTH]; 2]);
    let update = RowUpdate { rule, learning_rate: 0.01, l2: 0.0 };
    let (table, _) = step(table, moments, &[0], &[0.5; WIDTH], update);
    let expected = -0.01 * 0.1 / 0.001_f64.sqrt();
    assert_near("row 0", &values(table)[..WIDTH], &[expected; WIDTH], 0.0, 1e-5);
}

#[test]
fn the_autodiff_backend_updates_the_same() {
    let (start, grads) = (uniform(31, HEIGHT * WIDTH), uniform(40, 2 * WIDTH));
    let update = RowUpdate { rule: RowRule::RowWiseAdagrad { epsilon: 1e-3 }, learning_rate: 0.1, l2: 0.01 };
    let (table, moments) = state(&start, &[[HEIGHT, 1]]);
    let (table, moments) = step(table, moments, &[7, 2], &grads, update);

    let zeros = Tensor::<Auto, 2>::zeros([HEIGHT, 1], &Default::default());
    let state = RowState::<Auto> {
        table: primitive(tensor::<Auto, 2>(&start, [HEIGHT, WIDTH])),
        moments: vec![primitive(zeros)],
    };
    let grads = primitive(tensor::<Auto, 2>(&grads, [2, WIDTH]));
    let state = Auto::update_rows(state, ints::<Auto>(&[7, 2]), grads, update);
    assert_eq!(values(float::<Auto, 2>(state.table)), values(table));
    let [found, expected] = [values(float::<Auto, 2>(state.moments[0].clone())), values(moments[0].clone())];
    assert_eq!(found, expected);
}
