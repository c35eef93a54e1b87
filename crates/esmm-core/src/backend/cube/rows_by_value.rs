//! Rules of a table that change each value by itself.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*, std::FastDivmod};

use super::rows::{Grads, Places, Rates, RatesLaunch, grad_of, has_row, row_of};
use super::tensor::{Rows, address, array, grid, vector_size};

/// SGD or Adam: `tables` are the table and its two moments (for SGD, which reads none, the table again).
pub(super) fn by_value<R: CubeRuntime>(
    [table, first, second]: [&Rows<R>; 3],
    grads: &Grads<R>,
    rates: RatesLaunch<R>,
    is_adam: bool,
) {
    let vector = vector_size(&[table.width, table.stride, first.stride, second.stride, grads.grads.stride]);
    let units = grads.num_places() * table.width / vector;
    let (cubes, dim) = grid(&table.tensor.client, units);
    // SAFETY: the rows are rows of the table, each once, so no two units write to one place; units beyond the last element
    // do nothing; moments have the shape of the table.
    unsafe {
        by_value_kernel::launch_unchecked(
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
            rates,
            units,
            grads.are_runs(),
            is_adam,
        );
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn by_value_kernel<N: Size>(
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
    rates: Rates,
    units: usize,
    #[comptime] runs: bool,
    #[comptime] is_adam: bool,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let (row, column) = width.div_mod(ABSOLUTE_POS);
    if has_row(rows, row, &at, runs) {
        let table_row = row_of(rows, row, &at, runs);
        let place = table_row * table_stride + column;
        let weight = table[place];
        let grad = grad_of::<N>(grads, rows, row, column, &at, runs) + Vector::new(rates.l2) * weight;
        if comptime!(is_adam) {
            let first_place = table_row * first_stride + column;
            let second_place = table_row * second_stride + column;
            let old_mean = first[first_place];
            let old_square = second[second_place];
            let mean = old_mean + (grad - old_mean) * Vector::new(rates.take_1);
            let square = old_square + (grad * grad - old_square) * Vector::new(rates.take_2);
            first[first_place] = mean;
            second[second_place] = square;
            table[place] =
                weight - mean * Vector::new(rates.rate) / (square.sqrt() + Vector::new(rates.epsilon));
        } else {
            table[place] = weight - Vector::new(rates.rate) * grad;
        }
    }
}
