//! Updates of touched rows.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{IndexingUpdateOp, Int, Tensor};

use super::{float, ints, primitive};
use crate::backend::rows::bias_correction;
use crate::backend::{Indices, RowUpdate, TableRule, WithMoments};

pub(super) fn update<B: Backend>(
    state: WithMoments<FloatTensor<B>>,
    rows: &Indices<B>,
    grads: FloatTensor<B>,
    update: RowUpdate,
) -> WithMoments<FloatTensor<B>> {
    let (table, rows) = (float::<B, 2>(state.tensor), ints::<B>(rows.tensor()));
    let mut grads = float::<B, 2>(grads);
    if update.l2 != 0.0 {
        grads = grads + table.clone().select(0, rows.clone()) * update.l2;
    }
    let mut moments: Vec<Tensor<B, 2>> = state.moments.into_iter().map(float).collect();
    let step = match update.rule {
        TableRule::Sgd => {
            let [] = exactly(&mut moments, update);
            grads * update.learning_rate
        }
        TableRule::Adagrad { epsilon } => {
            let [sums] = exactly(&mut moments, update);
            let squares = mean_squares(&grads);
            let accumulated = change_rows(sums, &rows, |_| squares);
            grads * update.learning_rate / (accumulated.sqrt() + epsilon)
        }
        TableRule::LazyAdam { beta_1, beta_2, epsilon } => {
            let [first, second] = exactly(&mut moments, update);
            let rate = update.learning_rate * bias_correction(beta_1, beta_2, update.step);
            let squares = grads.clone().powi_scalar(2);
            let mean = change_rows(first, &rows, |old| (grads - old) * (1.0 - beta_1));
            let square = change_rows(second, &rows, |old| (squares - old) * (1.0 - beta_2));
            mean * rate / (square.sqrt() + epsilon)
        }
        TableRule::RowWiseAdam { beta_1, beta_2, epsilon } => {
            let [first, second] = exactly(&mut moments, update);
            let rate = update.learning_rate * bias_correction(beta_1, beta_2, update.step);
            let squares = mean_squares(&grads);
            let mean = change_rows(first, &rows, |old| (grads - old) * (1.0 - beta_1));
            let square = change_rows(second, &rows, |old| (squares - old) * (1.0 - beta_2));
            mean * rate / (square.sqrt() + epsilon)
        }
    };
    let table = table.select_assign(0, rows, step.neg(), IndexingUpdateOp::Add);
    WithMoments { tensor: primitive(table), moments: moments.into_iter().map(primitive).collect() }
}

/// The moments of a rule.
///
/// # Panics
/// When the rule keeps another number of them.
fn exactly<B: Backend, const N: usize>(
    moments: &mut [Tensor<B, 2>],
    update: RowUpdate,
) -> &mut [Tensor<B, 2>; N] {
    let found = moments.len();
    moments.try_into().unwrap_or_else(|_| panic!("{:?} found {found} moments instead of {N}", update.rule))
}

/// Mean of the squares of each row, `[U, D]` to `[U, 1]`.
fn mean_squares<B: Backend>(grads: &Tensor<B, 2>) -> Tensor<B, 2> {
    grads.clone().powi_scalar(2).mean_dim(1)
}

/// Adds `change(old rows)` to the rows of `table` and returns the new rows.
fn change_rows<B: Backend>(
    table: &mut Tensor<B, 2>,
    rows: &Tensor<B, 1, Int>,
    change: impl FnOnce(Tensor<B, 2>) -> Tensor<B, 2>,
) -> Tensor<B, 2> {
    let old = table.clone().select(0, rows.clone());
    let delta = change(old.clone());
    let empty = Tensor::zeros([1, 1], &table.device());
    let owned = std::mem::replace(table, empty);
    *table = owned.select_assign(0, rows.clone(), delta.clone(), IndexingUpdateOp::Add);
    old + delta
}
