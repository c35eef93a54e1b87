//! Updates of touched rows.

use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{IndexingUpdateOp, Int, Tensor};

use super::{float, ints, primitive};
use crate::backend::{RowRule, RowState, RowUpdate};

/// See [`EsmmBackend::update_rows`](crate::EsmmBackend::update_rows).
pub fn update_rows<B: Backend>(
    state: RowState<B>,
    rows: IntTensor<B>,
    grads: FloatTensor<B>,
    update: RowUpdate,
) -> RowState<B> {
    let (table, rows) = (float::<B, 2>(state.table), ints::<B>(rows));
    let mut grads = float::<B, 2>(grads);
    if update.l2 != 0.0 {
        grads = grads + table.clone().select(0, rows.clone()) * update.l2;
    }
    let mut moments: Vec<Tensor<B, 2>> = state.moments.into_iter().map(float).collect();
    let step = match update.rule {
        RowRule::Sgd => grads * update.learning_rate,
        RowRule::RowWiseAdagrad { epsilon } => {
            let accumulated = add_rows(&mut moments[0], &rows, |_| grads.clone().powi_scalar(2).mean_dim(1));
            grads * update.learning_rate / (accumulated.sqrt() + epsilon)
        }
        RowRule::LazyAdam { beta_1, beta_2, epsilon, step }
        | RowRule::RowWiseAdam { beta_1, beta_2, epsilon, step } => {
            let towards =
                |target: Tensor<B, 2>, beta: f64| move |old: Tensor<B, 2>| (target - old) * (1.0 - beta);
            let first = add_rows(&mut moments[0], &rows, towards(grads.clone(), beta_1));
            let squares = grads.powi_scalar(2);
            let squares = match update.rule {
                RowRule::RowWiseAdam { .. } => squares.mean_dim(1),
                _ => squares,
            };
            let second = add_rows(&mut moments[1], &rows, towards(squares, beta_2));
            let steps = step as f64;
            let rate = update.learning_rate * (1.0 - beta_2.powf(steps)).sqrt() / (1.0 - beta_1.powf(steps));
            first * rate / (second.sqrt() + epsilon)
        }
    };
    let table = table.select_assign(0, rows, step.neg(), IndexingUpdateOp::Add);
    RowState { table: primitive(table), moments: moments.into_iter().map(primitive).collect() }
}

/// Adds `change(old rows)` to the rows of `table` and gives the new rows.
fn add_rows<B: Backend>(
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
