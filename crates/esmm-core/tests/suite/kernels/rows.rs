//! Updates of touched rows: every rule against loops in f64 over whole tables, and the bits of what it must not touch;
//! every backend against the definition.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use esmm_core::EsmmBackend;
use esmm_core::backend::{Kernels, Reference, RowUpdate, TableRule, WithMoments};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Expected, near, on_all_backends};
use crate::common::{
    Auto, Plain, assert_near, flat, float, ints, primitive, random, tensor, uniform, values,
};

on_all_backends!(updates);

/// A table with its moments, and some of its rows with their gradients.
pub(super) struct RowsCase {
    height: usize,
    dim: usize,
    rows: Vec<usize>,
    update: RowUpdate,
    seed: u64,
}

impl RowsCase {
    pub(super) fn new(rng: &mut ChaCha8Rng, rule: TableRule, most: usize, dim: usize, l2: f64) -> Self {
        let height = rng.random_range(1..most);
        let mut rows: Vec<usize> = (0..height).collect();
        rows.shuffle(rng);
        rows.truncate(rng.random_range(1..=height));
        let update = RowUpdate { rule, step: 3, learning_rate: 0.01, l2 };
        Self { height, dim, rows, update, seed: rng.random::<u32>().into() }
    }

    pub(super) fn state<B: Backend>(&self) -> WithMoments<FloatTensor<B>> {
        let positive = |seed: u64, width: usize| {
            let values: Vec<f64> = uniform(seed, self.height * width).iter().map(|x| x.abs()).collect();
            primitive(tensor::<B, 2>(&values, [self.height, width]))
        };
        let widths = self.update.rule.widths(self.dim).into_iter().zip(self.seed + 1..);
        WithMoments {
            tensor: random::<B, 2>(self.seed, [self.height, self.dim]),
            moments: widths.map(|(width, seed)| positive(seed, width)).collect(),
        }
    }

    pub(super) fn run<B: Backend, K: Kernels<B>>(
        &self,
        state: WithMoments<FloatTensor<B>>,
    ) -> WithMoments<FloatTensor<B>> {
        let grads = random::<B, 2>(self.seed + 9, [self.rows.len(), self.dim]);
        K::update_rows(state, ints::<B>(&self.rows), grads, self.update)
    }
}

fn updates<B: EsmmBackend>() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let most = if B::QUEUES_WORK { 600 } else { 4000 };
    for rule in TableRule::ALL {
        for (index, dim) in [1, 16, 18, 35, 128].into_iter().enumerate() {
            for l2 in [0.0, 0.1] {
                let case = RowsCase::new(&mut rng, rule, most, dim, l2);
                let state = case.state::<B>();
                // Half of the time someone else holds the table: it must keep its values.
                let held = (index % 2 == 0).then(|| (state.tensor.clone(), flat::<B>(&state.tensor)));
                let found = case.run::<B, B::Kernels>(state);
                let expected = case.run::<Expected, Reference>(case.state::<Expected>());
                let what =
                    format!("{} of {} rows, D = {dim}, {:?}", case.rows.len(), case.height, case.update);
                near::<B>(&what, &found.tensor, &expected.tensor);
                assert_eq!(found.moments.len(), expected.moments.len());
                for (found, expected) in found.moments.iter().zip(&expected.moments) {
                    near::<B>(&what, found, expected);
                }
                if let Some((table, values)) = held {
                    assert_eq!(flat::<B>(&table), values, "{what}: a table that someone holds changed");
                }
            }
        }
    }
}

const HEIGHT: usize = 12;
const WIDTH: usize = 5;
/// Rows of each step: again and again, resting, once, never (4, 5, 11); one row, and every other one.
const STEPS: [&[usize]; 8] =
    [&[3, 0, 7], &[7], &[1, 3, 9, 2], &[0], &[10, 8, 6, 2, 0], &[3], &[9, 7, 0], &[6, 1]];
const NEVER: [usize; 3] = [4, 5, 11];

/// Table and moments in f64, a row at a time.
struct Expected64 {
    table: Vec<Vec<f64>>,
    first: Vec<Vec<f64>>,
    second: Vec<Vec<f64>>,
    sums: Vec<f64>,
}

impl Expected64 {
    /// The dense rule on all rows; a row without gradient is told by `None`.
    fn step(&mut self, grads: &[Option<Vec<f64>>], update: RowUpdate) {
        for (row, grad) in grads.iter().enumerate() {
            let Some(grad) = grad else { continue };
            let grad: Vec<f64> = grad.iter().zip(&self.table[row]).map(|(g, w)| g + update.l2 * w).collect();
            if let TableRule::Adagrad { .. } = update.rule {
                self.sums[row] += grad.iter().map(|g| g * g).sum::<f64>() / WIDTH as f64;
            }
            if let TableRule::RowWiseAdam { beta_2, .. } = update.rule {
                let mean = grad.iter().map(|g| g * g).sum::<f64>() / WIDTH as f64;
                self.sums[row] = beta_2 * self.sums[row] + (1.0 - beta_2) * mean;
            }
            for (column, g) in grad.into_iter().enumerate() {
                self.table[row][column] -= update.learning_rate * self.direction(row, column, g, update);
            }
        }
    }

    fn direction(&mut self, row: usize, column: usize, g: f64, update: RowUpdate) -> f64 {
        let steps = update.step as f64;
        match update.rule {
            TableRule::Sgd => g,
            TableRule::Adagrad { epsilon } => g / (self.sums[row].sqrt() + epsilon),
            TableRule::RowWiseAdam { beta_1, beta_2, epsilon } => {
                let m = &mut self.first[row][column];
                *m = beta_1 * *m + (1.0 - beta_1) * g;
                let correction = (1.0 - beta_2.powf(steps)).sqrt() / (1.0 - beta_1.powf(steps));
                correction * *m / (self.sums[row].sqrt() + epsilon)
            }
            // torch.optim.SparseAdam: epsilon goes to the root before the bias correction.
            TableRule::LazyAdam { beta_1, beta_2, epsilon } => {
                let m = &mut self.first[row][column];
                *m = beta_1 * *m + (1.0 - beta_1) * g;
                let v = &mut self.second[row][column];
                *v = beta_2 * *v + (1.0 - beta_2) * g * g;
                let correction = (1.0 - beta_2.powf(steps)).sqrt() / (1.0 - beta_1.powf(steps));
                correction * *m / (v.sqrt() + epsilon)
            }
        }
    }

    fn moments(&self, rule: TableRule) -> Vec<Vec<f64>> {
        match rule {
            TableRule::Sgd => vec![],
            TableRule::Adagrad { .. } => vec![self.sums.clone()],
            TableRule::LazyAdam { .. } => vec![self.first.concat(), self.second.concat()],
            TableRule::RowWiseAdam { .. } => vec![self.first.concat(), self.sums.clone()],
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

fn state(table: &[f64], rule: TableRule) -> (Tensor<Plain, 2>, Vec<Tensor<Plain, 2>>) {
    let zeros = |width| Tensor::zeros([HEIGHT, width], &Default::default());
    let zeros = rule.widths(WIDTH).into_iter().map(zeros).collect();
    (tensor(table, [HEIGHT, WIDTH]), zeros)
}

/// Runs all steps of a rule beside the f64 loops; after each the untouched rows must have their old bits.
fn run<K: Kernels<Plain>>(rule: TableRule, l2: f64) {
    let mut start = uniform(31, HEIGHT * WIDTH);
    // Values that adding a zero or rounding would change.
    start[NEVER[0] * WIDTH..][..WIDTH].copy_from_slice(&[-0.0, 1e-40, f64::INFINITY, -1e30, f64::NAN]);
    let (mut table, mut state) = state(&start, rule);
    let mut expected = Expected64 {
        table: start.chunks_exact(WIDTH).map(<[f64]>::to_vec).collect(),
        first: vec![vec![0.0; WIDTH]; HEIGHT],
        second: vec![vec![0.0; WIDTH]; HEIGHT],
        sums: vec![0.0; HEIGHT],
    };
    for (index, rows) in STEPS.into_iter().enumerate() {
        let update =
            RowUpdate { rule, step: index as u64 + 1, learning_rate: 0.05 / (1.0 + index as f64), l2 };
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
        (table, state) = step::<K>(table, state, rows, &grads, update);
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

fn step<K: Kernels<Plain>>(
    table: Tensor<Plain, 2>,
    moments: Vec<Tensor<Plain, 2>>,
    rows: &[usize],
    grads: &[f64],
    update: RowUpdate,
) -> (Tensor<Plain, 2>, Vec<Tensor<Plain, 2>>) {
    let state =
        WithMoments { tensor: primitive(table), moments: moments.into_iter().map(primitive).collect() };
    let grads = primitive(tensor::<Plain, 2>(grads, [rows.len(), WIDTH]));
    let state = K::update_rows(state, ints::<Plain>(rows), grads, update);
    (float(state.tensor), state.moments.into_iter().map(float).collect())
}

type PlainKernels = <Plain as EsmmBackend>::Kernels;

/// Every rule with an epsilon that shows.
fn rules() -> [TableRule; 4] {
    TableRule::ALL.map(|rule| match rule {
        TableRule::Sgd => rule,
        TableRule::Adagrad { .. } => TableRule::Adagrad { epsilon: 1e-3 },
        TableRule::LazyAdam { .. } => TableRule::LazyAdam { beta_1: 0.9, beta_2: 0.99, epsilon: 1e-3 },
        TableRule::RowWiseAdam { .. } => TableRule::RowWiseAdam { beta_1: 0.9, beta_2: 0.99, epsilon: 1e-3 },
    })
}

/// Definition and kernel, over many steps.
#[test]
fn rules_are_the_loops() {
    for rule in rules() {
        for l2 in [0.0, 0.1] {
            run::<Reference>(rule, l2);
            run::<PlainKernels>(rule, l2);
        }
    }
}

/// A closed form: the first step of Adam goes by the learning rate, whatever the gradient.
#[test]
fn the_first_step_of_adam_is_the_learning_rate() {
    let rule = TableRule::LazyAdam { beta_1: 0.9, beta_2: 0.999, epsilon: 0.0 };
    let steps = 1;
    let (table, moments) = state(&[0.0; HEIGHT * WIDTH], rule);
    let update = RowUpdate { rule, step: steps, learning_rate: 0.01, l2: 0.0 };
    let (table, _) = step::<PlainKernels>(table, moments, &[2], &[1e-3, -1e-3, 5.0, -5.0, 0.25], update);
    let expected = [-0.01, 0.01, -0.01, 0.01, -0.01];
    assert_near("row 2", &values(table)[2 * WIDTH..][..WIDTH], &expected, 0.0, 1e-5);
}

/// An optimizer may step for longer than an i32 counts; the bias correction is then 1.
#[test]
fn adam_counts_far() {
    let rule = TableRule::LazyAdam { beta_1: 0.9, beta_2: 0.999, epsilon: 0.0 };
    let steps = 1 << 32;
    let (table, moments) = state(&[0.0; HEIGHT * WIDTH], rule);
    let update = RowUpdate { rule, step: steps, learning_rate: 0.01, l2: 0.0 };
    let (table, _) = step::<PlainKernels>(table, moments, &[0], &[0.5; WIDTH], update);
    let expected = -0.01 * 0.1 / 0.001_f64.sqrt();
    assert_near("row 0", &values(table)[..WIDTH], &[expected; WIDTH], 0.0, 1e-5);
}

#[test]
fn the_autodiff_backend_updates_the_same() {
    let start = uniform(31, HEIGHT * WIDTH);
    let grads = uniform(40, 2 * WIDTH);
    let rule = TableRule::Adagrad { epsilon: 1e-3 };
    let update = RowUpdate { rule, step: 1, learning_rate: 0.1, l2: 0.01 };
    let (table, moments) = state(&start, rule);
    let (table, moments) = step::<PlainKernels>(table, moments, &[7, 2], &grads, update);

    let zeros = Tensor::<Auto, 2>::zeros([HEIGHT, 1], &Default::default());
    let state = WithMoments {
        tensor: primitive(tensor::<Auto, 2>(&start, [HEIGHT, WIDTH])),
        moments: vec![primitive(zeros)],
    };
    let grads = primitive(tensor::<Auto, 2>(&grads, [2, WIDTH]));
    let state = <<Auto as EsmmBackend>::Kernels as Kernels<Auto>>::update_rows(
        state,
        ints::<Auto>(&[7, 2]),
        grads,
        update,
    );
    assert_eq!(values(float::<Auto, 2>(state.tensor)), values(table));
    let [found, expected] = [values(float::<Auto, 2>(state.moments[0].clone())), values(moments[0].clone())];
    assert_eq!(found, expected);
}
