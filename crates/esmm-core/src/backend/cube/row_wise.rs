//! Rules of a table that keep one accumulator a row: its values are changed together.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};

use super::rows::{Grads, Places, Rates, RatesLaunch, grad_of, has_row, row_of};
use super::tensor::{Rows, address, array, grid_of, vector_size};

/// Units that sum the squares of one row.
const LANES: u32 = 32;
/// Rows that one cube changes.
const ROWS_A_CUBE: u32 = 8;

/// Rules with one accumulator a row: `tables` are the table, its first moment (for Adagrad, which reads none, the table
/// again) and the accumulators.
pub(super) fn row_wise<R: CubeRuntime>(
    [table, first, sums]: [&Rows<R>; 3],
    grads: &Grads<R>,
    rates: RatesLaunch<R>,
    is_adam: bool,
) {
    let count = grads.num_places();
    let vector = vector_size(&[table.width, table.stride, first.stride, grads.grads.stride]);
    // SAFETY: as for the rules by value; `sums` has one value a row, `first` the shape of the table.
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
            rates,
            count,
            grads.are_runs(),
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
    rates: Rates,
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
            let grad = grad_of::<N>(grads, rows, row, column, &at, runs) + Vector::new(rates.l2) * weight;
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
                if comptime!(is_adam) { old + (mean_square - old) * rates.take_2 } else { old + mean_square };
            sums[table_row * sums_stride] = total;
            squares[shared] = total;
        }
    }
    sync_cube();
    if exists {
        let row_rate = Vector::<f32, N>::new(rates.rate / (squares[shared].sqrt() + rates.epsilon));
        for column in range_stepped(lane, width, lanes) {
            let place = table_row * table_stride + column;
            let weight = table[place];
            let grad = grad_of::<N>(grads, rows, row, column, &at, runs) + Vector::new(rates.l2) * weight;
            if comptime!(is_adam) {
                let first_place = table_row * first_stride + column;
                let old = first[first_place];
                let mean = old + (grad - old) * Vector::new(rates.take_1);
                first[first_place] = mean;
                table[place] = weight - row_rate * mean;
            } else {
                table[place] = weight - row_rate * grad;
            }
        }
    }
}
