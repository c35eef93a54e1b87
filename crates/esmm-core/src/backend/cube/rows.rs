//! Updates of touched rows, in place: by a gradient for each row of a list, or by the sums of pieces that belong to runs of
//! sorted entries.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::pooled::{PieceSums, is_first, run_sum};
use super::row_wise::row_wise;
use super::rows_by_value::by_value;
use super::tensor::{Rows, owned};
use crate::backend::rows::bias_correction;
use crate::backend::{RowUpdate, TableRule, WithMoments};

/// What rows change by.
pub(super) struct Grads<R: CubeRuntime> {
    /// Rows of the table, each once, `[U]`; in runs the row of each sorted entry, `[N]`, and more after them.
    pub(super) rows: CubeTensor<R>,
    /// `[U, D]`; in runs `[T * N, D]`.
    pub(super) grads: Rows<R>,
    runs: Option<Runs>,
}

/// How runs lie.
#[derive(Debug, Clone, Copy)]
struct Runs {
    tables: usize,
    /// N.
    entries: usize,
    num_rows: usize,
}

/// What kernels know of [`Grads`].
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct Places {
    /// From one gradient to the next, in vectors.
    stride: usize,
    /// U, or N.
    count: usize,
    /// Rows of one copy of the table.
    num_rows: usize,
}

impl<R: CubeRuntime> Grads<R> {
    /// Of rows that stand in a list, each once.
    pub(super) fn listed(rows: CubeTensor<R>, grads: CubeTensor<R>) -> Self {
        Self { rows, grads: Rows::new(grads), runs: None }
    }

    /// Of runs of sorted entries.
    pub(super) fn runs(found: PieceSums<R>) -> Self {
        let PieceSums { sums, sorted, tables } = found;
        let runs = Runs { tables, entries: sorted.num_entries, num_rows: sorted.num_rows };
        Self { rows: sorted.rows, grads: sums, runs: Some(runs) }
    }

    /// Whether the gradients are sums of runs.
    pub(super) fn are_runs(&self) -> bool {
        self.runs.is_some()
    }

    /// Places that may have a row to change.
    pub(super) fn num_places(&self) -> usize {
        self.count() * self.runs.map_or(1, |runs| runs.tables)
    }

    /// U, or N.
    fn count(&self) -> usize {
        self.runs.map_or_else(|| self.rows.meta.shape()[0], |runs| runs.entries)
    }

    pub(super) fn places(&self, vector: usize) -> PlacesLaunch<R> {
        let num_rows = self.runs.map_or(0, |runs| runs.num_rows);
        PlacesLaunch::new(self.grads.stride / vector, self.count(), num_rows)
    }
}

/// Changes rows of a table and of its moments.
pub(super) fn update_rows<R: CubeRuntime>(
    state: WithMoments<CubeTensor<R>>,
    grads: Grads<R>,
    update: RowUpdate,
) -> WithMoments<CubeTensor<R>> {
    let state = state.map(owned);
    let rate = update.learning_rate as f32;
    let l2 = update.l2 as f32;
    match update.rule {
        TableRule::Sgd => {
            let [table] = exactly(&state, &update);
            let rates = RatesLaunch::new(rate, l2, 0.0, 0.0, 0.0);
            by_value([table; 3], &grads, rates, false);
        }
        TableRule::Adagrad { epsilon } => {
            let [table, sums] = exactly(&state, &update);
            let rates = RatesLaunch::new(rate, l2, epsilon as f32, 1.0, 1.0);
            row_wise([table, table, sums], &grads, rates, false);
        }
        TableRule::LazyAdam { beta_1, beta_2, epsilon } => {
            let rates = adam_rates(&update, [beta_1, beta_2, epsilon]);
            by_value(exactly(&state, &update), &grads, rates, true);
        }
        TableRule::RowWiseAdam { beta_1, beta_2, epsilon } => {
            let rates = adam_rates(&update, [beta_1, beta_2, epsilon]);
            row_wise(exactly(&state, &update), &grads, rates, true);
        }
    }
    state.map(|table| table.tensor)
}

/// Constants of a rule. What it does not need is 0.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct Rates {
    /// Learning rate, with the bias correction of Adam.
    pub(super) rate: f32,
    pub(super) l2: f32,
    pub(super) epsilon: f32,
    /// Share of a gradient in the first moment.
    pub(super) take_1: f32,
    /// Share of a square, or of the mean square of a row, in the second moment.
    pub(super) take_2: f32,
}

fn adam_rates<R: CubeRuntime>(update: &RowUpdate, [beta_1, beta_2, epsilon]: [f64; 3]) -> RatesLaunch<R> {
    RatesLaunch::new(
        (update.learning_rate * bias_correction(beta_1, beta_2, update.step)) as f32,
        update.l2 as f32,
        epsilon as f32,
        (1.0 - beta_1) as f32,
        (1.0 - beta_2) as f32,
    )
}

/// The table and its moments.
///
/// # Panics
/// When the rule keeps another number of moments.
fn exactly<'a, R: CubeRuntime, const N: usize>(
    state: &'a WithMoments<Rows<R>>,
    update: &RowUpdate,
) -> [&'a Rows<R>; N] {
    let tables: Vec<&Rows<R>> = std::iter::once(&state.tensor).chain(&state.moments).collect();
    let found = state.moments.len();
    tables
        .try_into()
        .unwrap_or_else(|_| panic!("{:?} found {found} moments instead of {}", update.rule, N - 1))
}

/// Whether the gradient at `place` belongs to a row: all of a list do, and the first one of each run.
#[cube]
pub(super) fn has_row(rows: &Array<i32>, place: usize, at: &Places, #[comptime] runs: bool) -> bool {
    let mut has = true;
    if comptime!(runs) {
        has = is_first(rows, place % at.count);
    }
    has
}

/// The row of the table that the gradient at `place` changes.
#[cube]
pub(super) fn row_of(rows: &Array<i32>, place: usize, at: &Places, #[comptime] runs: bool) -> usize {
    if comptime!(runs) {
        place / at.count * at.num_rows + usize::cast_from(rows[place % at.count])
    } else {
        usize::cast_from(rows[place])
    }
}

/// A vector of the gradient at `place`.
#[cube]
pub(super) fn grad_of<N: Size>(
    grads: &Array<Vector<f32, N>>,
    rows: &Array<i32>,
    place: usize,
    column: usize,
    at: &Places,
    #[comptime] runs: bool,
) -> Vector<f32, N> {
    if comptime!(runs) {
        let first = place / at.count * at.count * at.stride + column;
        run_sum::<N>(grads, rows, place % at.count, first, at.stride, at.count)
    } else {
        grads[place * at.stride + column]
    }
}
