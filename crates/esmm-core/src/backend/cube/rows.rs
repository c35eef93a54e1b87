//! Updates of touched rows, in place: by a gradient for each row of a list, or by the sums of pieces that belong to runs of
//! sorted entries.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*, std::FastDivmod};
use burn_cubecl::tensor::CubeTensor;

use super::pooled::{PieceSums, is_first, run_sum};
use super::tensor::{Rows, address, array, grid, grid_of, owned, vector_size};
use crate::backend::rows::bias_correction;
use crate::backend::{RowUpdate, TableRule, WithMoments};

/// Units that sum the squares of one row.
const LANES: u32 = 32;
/// Rows that one cube changes.
const ROWS_A_CUBE: u32 = 8;

/// What rows change by.
pub(super) struct Grads<R: CubeRuntime> {
    /// Rows of the table, each once, `[U]`; in runs the row of each sorted entry, `[N]`.
    rows: CubeTensor<R>,
    /// `[U, D]`; in runs `[T * N, D]`.
    grads: Rows<R>,
    runs: Option<Runs>,
}

/// How runs lie.
#[derive(Debug, Clone, Copy)]
struct Runs {
    tables: usize,
    num_rows: usize,
}

/// What kernels know of [`Grads`].
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Places {
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
        let PieceSums { sums, sorted, tables, num_rows, .. } = found;
        Self { rows: sorted.rows, grads: sums, runs: Some(Runs { tables, num_rows }) }
    }

    /// Places that may have a row to change.
    fn num_places(&self) -> usize {
        self.rows.meta.shape()[0] * self.runs.map_or(1, |runs| runs.tables)
    }

    fn places(&self, vector: usize) -> PlacesLaunch<R> {
        let num_rows = self.runs.map_or(0, |runs| runs.num_rows);
        PlacesLaunch::new(self.grads.stride / vector, self.rows.meta.shape()[0], num_rows)
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
            sgd(table, &grads, rate, l2);
        }
        TableRule::Adagrad { epsilon } => {
            let [table, sums] = exactly(&state, &update);
            let rates = RowWise { rate, l2, epsilon: epsilon as f32, take_1: 1.0, take_2: 1.0 };
            row_wise([table, table, sums], &grads, rates, false);
        }
        TableRule::LazyAdam { beta_1, beta_2, epsilon } => {
            let [table, first, second] = exactly(&state, &update);
            let rate = (update.learning_rate * bias_correction(beta_1, beta_2, update.step)) as f32;
            let take = [(1.0 - beta_1) as f32, (1.0 - beta_2) as f32];
            adam([table, first, second], &grads, [rate, l2, epsilon as f32], take);
        }
        TableRule::RowWiseAdam { beta_1, beta_2, epsilon } => {
            let [table, first, second] = exactly(&state, &update);
            let rates = RowWise {
                rate: (update.learning_rate * bias_correction(beta_1, beta_2, update.step)) as f32,
                l2,
                epsilon: epsilon as f32,
                take_1: (1.0 - beta_1) as f32,
                take_2: (1.0 - beta_2) as f32,
            };
            row_wise([table, first, second], &grads, rates, true);
        }
    }
    state.map(|table| table.tensor)
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
fn has_row(rows: &Array<i32>, place: usize, at: &Places, #[comptime] runs: bool) -> bool {
    let mut has = true;
    if comptime!(runs) {
        has = is_first(rows, place % at.count);
    }
    has
}

/// The row of the table that the gradient at `place` changes.
#[cube]
fn row_of(rows: &Array<i32>, place: usize, at: &Places, #[comptime] runs: bool) -> usize {
    if comptime!(runs) {
        place / at.count * at.num_rows + usize::cast_from(rows[place % at.count])
    } else {
        usize::cast_from(rows[place])
    }
}

/// A vector of the gradient at `place`.
#[cube]
fn grad_of<N: Size>(
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

fn sgd<R: CubeRuntime>(table: &Rows<R>, grads: &Grads<R>, rate: f32, l2: f32) {
    let vector = vector_size(&[table.width, table.stride, grads.grads.stride]);
    let units = grads.num_places() * table.width / vector;
    let (cubes, dim) = grid(&table.tensor.client, units);
    // SAFETY: the rows are rows of the table, each once, so no two units write to one place; units beyond the last element
    // do nothing.
    unsafe {
        sgd_kernel::launch_unchecked(
            &table.tensor.client,
            cubes,
            dim,
            address(&[&table.tensor, &grads.grads.tensor]),
            vector,
            table.array(),
            array(&grads.rows),
            grads.grads.array(),
            grads.places(vector),
            table.width / vector,
            table.stride / vector,
            rate,
            l2,
            units,
            grads.runs.is_some(),
        );
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn sgd_kernel<N: Size>(
    table: &mut Array<Vector<f32, N>>,
    rows: &Array<i32>,
    grads: &Array<Vector<f32, N>>,
    at: Places,
    width: FastDivmod<usize>,
    table_stride: usize,
    rate: f32,
    l2: f32,
    units: usize,
    #[comptime] runs: bool,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let (row, column) = width.div_mod(ABSOLUTE_POS);
    if has_row(rows, row, &at, runs) {
        let place = row_of(rows, row, &at, runs) * table_stride + column;
        let weight = table[place];
        let grad = grad_of::<N>(grads, rows, row, column, &at, runs) + Vector::new(l2) * weight;
        table[place] = weight - Vector::new(rate) * grad;
    }
}

fn adam<R: CubeRuntime>(
    [table, first, second]: [&Rows<R>; 3],
    grads: &Grads<R>,
    [rate, l2, epsilon]: [f32; 3],
    [take_1, take_2]: [f32; 2],
) {
    let strides = [table.stride, first.stride, second.stride, grads.grads.stride];
    let vector = vector_size(&[&[table.width][..], &strides].concat());
    let units = grads.num_places() * table.width / vector;
    let (cubes, dim) = grid(&table.tensor.client, units);
    // SAFETY: as for `sgd_kernel`; the moments have the shape of the table.
    unsafe {
        adam_kernel::launch_unchecked(
            &table.tensor.client,
            cubes,
            dim,
            address(&[&table.tensor, &first.tensor, &second.tensor, &grads.grads.tensor]),
            vector,
            table.array(),
            first.array(),
            second.array(),
            array(&grads.rows),
            grads.grads.array(),
            grads.places(vector),
            table.width / vector,
            table.stride / vector,
            first.stride / vector,
            second.stride / vector,
            rate,
            l2,
            epsilon,
            take_1,
            take_2,
            units,
            grads.runs.is_some(),
        );
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn adam_kernel<N: Size>(
    table: &mut Array<Vector<f32, N>>,
    first: &mut Array<Vector<f32, N>>,
    second: &mut Array<Vector<f32, N>>,
    rows: &Array<i32>,
    grads: &Array<Vector<f32, N>>,
    at: Places,
    width: FastDivmod<usize>,
    table_stride: usize,
    first_stride: usize,
    second_stride: usize,
    rate: f32,
    l2: f32,
    epsilon: f32,
    take_1: f32,
    take_2: f32,
    units: usize,
    #[comptime] runs: bool,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let (row, column) = width.div_mod(ABSOLUTE_POS);
    if has_row(rows, row, &at, runs) {
        let table_row = row_of(rows, row, &at, runs);
        let place = table_row * table_stride + column;
        let first_place = table_row * first_stride + column;
        let second_place = table_row * second_stride + column;
        let weight = table[place];
        let grad = grad_of::<N>(grads, rows, row, column, &at, runs) + Vector::new(l2) * weight;
        let old_mean = first[first_place];
        let old_square = second[second_place];
        let mean = old_mean + (grad - old_mean) * Vector::new(take_1);
        let square = old_square + (grad * grad - old_square) * Vector::new(take_2);
        first[first_place] = mean;
        second[second_place] = square;
        table[place] = weight - mean * Vector::new(rate) / (square.sqrt() + Vector::new(epsilon));
    }
}

/// Constants of a rule with one accumulator a row.
#[derive(Debug, Clone, Copy)]
struct RowWise {
    /// Learning rate, with the bias correction of Adam.
    rate: f32,
    l2: f32,
    epsilon: f32,
    /// Share of a gradient in the first moment.
    take_1: f32,
    /// Share of the mean square in the second moment.
    take_2: f32,
}

/// Rules with one accumulator a row: `tables` are the table, its first moment (for Adagrad, which reads none, the table
/// again) and the accumulators.
fn row_wise<R: CubeRuntime>(
    [table, first, sums]: [&Rows<R>; 3],
    grads: &Grads<R>,
    rates: RowWise,
    is_adam: bool,
) {
    let count = grads.num_places();
    let vector = vector_size(&[table.width, table.stride, first.stride, grads.grads.stride]);
    // SAFETY: as for `sgd_kernel`; `sums` has one value a row, `first` the shape of the table.
    unsafe {
        row_wise_kernel::launch_unchecked(
            &table.tensor.client,
            grid_of(count.div_ceil(ROWS_A_CUBE as usize)),
            CubeDim::new_2d(LANES, ROWS_A_CUBE),
            address(&[&table.tensor, &first.tensor, &sums.tensor, &grads.grads.tensor]),
            vector,
            table.array(),
            first.array(),
            sums.array(),
            array(&grads.rows),
            grads.grads.array(),
            grads.places(vector),
            table.width / vector,
            table.stride / vector,
            first.stride / vector,
            sums.stride,
            rates.rate,
            rates.l2,
            rates.epsilon,
            rates.take_1,
            rates.take_2,
            count,
            grads.runs.is_some(),
            is_adam,
        );
    }
}

/// A row of units for each row of the table: they share the sum of its squares, which is always added in one order.
#[cube(launch_unchecked, address_type = "dynamic")]
fn row_wise_kernel<N: Size>(
    table: &mut Array<Vector<f32, N>>,
    first: &mut Array<Vector<f32, N>>,
    sums: &mut Array<f32>,
    rows: &Array<i32>,
    grads: &Array<Vector<f32, N>>,
    at: Places,
    width: usize,
    table_stride: usize,
    first_stride: usize,
    sums_stride: usize,
    rate: f32,
    l2: f32,
    epsilon: f32,
    take_1: f32,
    take_2: f32,
    count: usize,
    #[comptime] runs: bool,
    #[comptime] is_adam: bool,
) {
    let mut squares = SharedMemory::<f32>::new((LANES * ROWS_A_CUBE) as usize);
    let lane = UNIT_POS_X as usize;
    let shared = (UNIT_POS_Y * LANES) as usize;
    let row = CUBE_POS * ROWS_A_CUBE as usize + UNIT_POS_Y as usize;
    let lanes = comptime!(LANES as usize);
    let mut exists = row < count;
    if exists {
        exists = has_row(rows, row, &at, runs);
    }
    let mut table_row = 0usize;
    let mut sum = Vector::<f32, N>::new(0.0f32);
    if exists {
        table_row = row_of(rows, row, &at, runs);
        for column in range_stepped(lane, width, lanes) {
            let weight = table[table_row * table_stride + column];
            let grad = grad_of::<N>(grads, rows, row, column, &at, runs) + Vector::new(l2) * weight;
            sum += grad * grad;
        }
    }
    let mut total = 0.0f32;
    #[unroll]
    for part in 0..N::value() {
        total += sum[part];
    }
    squares[shared + lane] = total;
    sync_cube();
    #[unroll]
    for halving in 0..5u32 {
        let half = comptime!((LANES >> (halving + 1)) as usize);
        if lane < half {
            let other = squares[shared + lane + half];
            squares[shared + lane] += other;
        }
        sync_cube();
    }
    if exists {
        // One unit reads and writes the accumulator of a row; the others take it from shared memory.
        if lane == 0 {
            let old = sums[table_row * sums_stride];
            let mean_square = squares[shared] / f32::cast_from(width * N::value());
            let total =
                if comptime!(is_adam) { old + (mean_square - old) * take_2 } else { old + mean_square };
            sums[table_row * sums_stride] = total;
            squares[shared] = total;
        }
    }
    sync_cube();
    if exists {
        let row_rate = Vector::<f32, N>::new(rate / (squares[shared].sqrt() + epsilon));
        for column in range_stepped(lane, width, lanes) {
            let place = table_row * table_stride + column;
            let weight = table[place];
            let grad = grad_of::<N>(grads, rows, row, column, &at, runs) + Vector::new(l2) * weight;
            if comptime!(is_adam) {
                let first_place = table_row * first_stride + column;
                let old = first[first_place];
                let mean = old + (grad - old) * Vector::new(take_1);
                first[first_place] = mean;
                table[place] = weight - row_rate * mean;
            } else {
                table[place] = weight - row_rate * grad;
            }
        }
    }
}
