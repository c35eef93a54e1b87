//! Sums over the rows of a batch in backward: the gradients of what a column has in common.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::block::{Curve, Steps, activate_backward, drop_some, leak, normalize, slope_of};
use super::dropout::{DropoutBits, bits};
use super::layer_backward::Saved;
use super::moments::{Chunks, LANES, LINES, add_lines, join_grid};
use super::tensor::{OnCube, Rows, address, array, empty_plain};

/// Sums over the rows of a batch.
pub(super) struct Sums<R: CubeRuntime> {
    /// Of the gradient after dropout and activation, `[K, O]`.
    pub(super) grad: CubeTensor<R>,
    /// Of the same times the standardized product, `[K, O]`; without batch norm anything.
    pub(super) scaled: CubeTensor<R>,
    /// Gradient of the slope of a PReLU, `[K]`.
    pub(super) slope: Option<CubeTensor<R>>,
}

pub(super) fn sums<R: CubeRuntime, B: OnCube<R>>(saved: &Saved<R>) -> Sums<R> {
    let [towers, rows, outputs] = saved.dims();
    let (chunks, steps) = (Chunks::new(rows), saved.steps);
    let like = &saved.grad.tensor;
    let partial = empty_plain(like, [3, chunks.count, towers, outputs]);
    let vector = saved.vector(outputs);
    let columns = outputs / vector;
    let (cubes, dim) = chunks.grid(columns, towers);
    // SAFETY: units beyond the columns or rows read and write nothing of them.
    unsafe {
        chunk_sums_kernel::launch_unchecked(
            &like.client,
            cubes,
            dim,
            address(&[like, &saved.hidden.tensor]),
            vector,
            saved.grad.array(),
            saved.hidden.array(),
            array(&saved.moments),
            array(&saved.slope),
            array(&partial),
            bits(saved.spec.dropout),
            columns,
            rows,
            saved.grad.stride / vector,
            saved.hidden.stride / vector,
            chunks.rows,
            towers * columns,
            chunks.count * towers * columns,
            leak(saved.spec.activation),
            steps,
        );
    }
    let shape = [towers, outputs];
    let [grad, scaled] = join(&partial, chunks.count, shape, steps.batch_norm);
    let slope = match steps.curve {
        Curve::Prelu => {
            let [slopes, _] = join_from(&partial, 2, chunks.count, shape, false);
            Some(B::float_reshape(B::float_sum_dim(slopes, 1), [towers].into()))
        }
        Curve::Identity | Curve::Relu | Curve::Leaky => None,
    };
    Sums { grad, scaled, slope }
}

/// Sums over the rows of `values [B, O]`, `[O]`.
pub(super) fn column_sums<R: CubeRuntime>(values: Rows<R>) -> CubeTensor<R> {
    let shape = values.tensor.meta.shape();
    let (rows, width) = (shape[0], values.width);
    let chunks = Chunks::new(rows);
    let vector = values.vector();
    let partial = empty_plain(&values.tensor, [chunks.count, width]);
    let (cubes, dim) = chunks.grid(width / vector, 1);
    // SAFETY: units beyond the columns or rows read and write nothing of them.
    unsafe {
        chunk_values_kernel::launch_unchecked(
            &values.tensor.client,
            cubes,
            dim,
            address(&[&values.tensor]),
            vector,
            values.array(),
            array(&partial),
            width / vector,
            rows,
            values.stride / vector,
            chunks.rows,
        );
    }
    let [sums, _] = join(&partial, chunks.count, [width], false);
    sums
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn chunk_values_kernel<N: Size>(
    values: &Array<Vector<f32, N>>,
    partial: &mut Array<Vector<f32, N>>,
    columns: usize,
    rows: usize,
    stride: usize,
    chunk_rows: usize,
) {
    let mut sums = SharedMemory::<Vector<f32, N>>::new(comptime!((LANES * LINES) as usize));
    let column = (CUBE_POS_X * LANES + UNIT_POS_X) as usize;
    let chunk = CUBE_POS_Y as usize;
    let start = chunk * chunk_rows;
    let unit = UNIT_POS as usize;
    let mut sum = Vector::<f32, N>::new(0.0f32);
    if column < columns {
        let end = min(start + chunk_rows, rows);
        for row in range_stepped(start + UNIT_POS_Y as usize, end, comptime!(LINES as usize)) {
            sum += values[row * stride + column];
        }
    }
    sums[unit] = sum;
    sync_cube();
    add_lines::<N>(&mut sums);
    if column < columns && UNIT_POS_Y == 0 {
        partial[chunk * columns + column] = sums[unit];
    }
}

/// The three sums over a chunk of rows, of which those are written that the layer has.
#[cube(launch_unchecked, address_type = "dynamic")]
fn chunk_sums_kernel<N: Size>(
    grads: &Array<Vector<f32, N>>,
    hidden: &Array<Vector<f32, N>>,
    moments: &Array<Vector<f32, N>>,
    slopes: &Array<f32>,
    partial: &mut Array<Vector<f32, N>>,
    dropout: DropoutBits,
    columns: usize,
    rows: usize,
    grad_stride: usize,
    hidden_stride: usize,
    chunk_rows: usize,
    all_columns: usize,
    kind_size: usize,
    leak: f32,
    #[comptime] steps: Steps,
) {
    let mut sums = SharedMemory::<Vector<f32, N>>::new(comptime!((LANES * LINES) as usize));
    let column = (CUBE_POS_X * LANES + UNIT_POS_X) as usize;
    let chunk = CUBE_POS_Y as usize;
    let tower = CUBE_POS_Z as usize;
    let start = chunk * chunk_rows;
    let unit = UNIT_POS as usize;
    let tower_column = tower * columns + column;
    let exists = column < columns;
    let zero = Vector::<f32, N>::new(0.0f32);
    let mut sum = Vector::<f32, N>::new(0.0f32);
    let mut scaled = Vector::<f32, N>::new(0.0f32);
    let mut below = Vector::<f32, N>::new(0.0f32);
    if exists {
        let end = min(start + chunk_rows, rows);
        let slope = slope_of(slopes, tower, leak, steps.curve);
        for batch_row in range_stepped(start + UNIT_POS_Y as usize, end, comptime!(LINES as usize)) {
            let row = tower * rows + batch_row;
            let value = hidden[row * hidden_stride + column];
            let (standard, x) = normalize::<N>(value, moments, tower_column, all_columns, steps.batch_norm);
            let first = (row * columns + column) * N::value();
            let kept = drop_some::<N>(grads[row * grad_stride + column], &dropout, first, steps.dropout);
            let grad = activate_backward::<N>(x, kept, slope, steps.curve);
            sum += grad;
            if comptime!(steps.batch_norm) {
                scaled += grad * standard;
            }
            if comptime!(steps.curve == Curve::Prelu) {
                below += kept * select_many(x.greater_than(zero), zero, x);
            }
        }
    }
    let place = chunk * all_columns + tower_column;
    write_sum::<N>(&mut sums, sum, partial, place, exists, unit);
    if comptime!(steps.batch_norm) {
        write_sum::<N>(&mut sums, scaled, partial, kind_size + place, exists, unit);
    }
    if comptime!(steps.curve == Curve::Prelu) {
        write_sum::<N>(&mut sums, below, partial, 2 * kind_size + place, exists, unit);
    }
}

#[cube]
fn write_sum<N: Size>(
    shared: &mut SharedMemory<Vector<f32, N>>,
    sum: Vector<f32, N>,
    partial: &mut Array<Vector<f32, N>>,
    place: usize,
    exists: bool,
    unit: usize,
) {
    sync_cube();
    shared[unit] = sum;
    sync_cube();
    add_lines::<N>(shared);
    if exists && UNIT_POS_Y == 0 {
        partial[place] = shared[unit];
    }
}

/// Adds the chunks of one kind of sum.
fn join<R: CubeRuntime, const D: usize>(
    partial: &CubeTensor<R>,
    chunks: usize,
    shape: [usize; D],
    two: bool,
) -> [CubeTensor<R>; 2] {
    join_from(partial, 0, chunks, shape, two)
}

/// Sums of the chunks of one kind, and, if `two`, of the kind after it; else the first ones twice.
fn join_from<R: CubeRuntime, const D: usize>(
    partial: &CubeTensor<R>,
    kind: usize,
    chunks: usize,
    shape: [usize; D],
    two: bool,
) -> [CubeTensor<R>; 2] {
    let out = empty_plain(partial, shape);
    let next = if two { empty_plain(partial, shape) } else { out.clone() };
    let units = shape.iter().product::<usize>();
    let (cubes, dim) = join_grid(units, if two { 2 } else { 1 });
    // SAFETY: units beyond the columns read and write nothing.
    unsafe {
        join_sums_kernel::launch_unchecked(
            &partial.client,
            cubes,
            dim,
            array(partial),
            array(&out),
            array(&next),
            kind * chunks * units,
            chunks,
            units,
            two,
        );
    }
    [out, next]
}

/// Each line adds its share of the chunks in their order, then lines are added.
#[cube(launch_unchecked)]
fn join_sums_kernel(
    partial: &Array<f32>,
    out: &mut Array<f32>,
    next: &mut Array<f32>,
    first: usize,
    chunks: usize,
    units: usize,
    #[comptime] two: bool,
) {
    let mut sums = SharedMemory::<Vector<f32, Const<1>>>::new(comptime!((LANES * LINES) as usize));
    let unit = UNIT_POS as usize;
    let column = (CUBE_POS_X * LANES + UNIT_POS_X) as usize;
    let exists = column < units;
    let share = chunks.div_ceil(comptime!(LINES as usize));
    let start = min(UNIT_POS_Y as usize * share, chunks);
    let end = min(start + share, chunks);
    let kind = first + CUBE_POS_Y as usize * (chunks * units);
    let mut sum = 0.0f32;
    if exists {
        for chunk in start..end {
            sum += partial[kind + chunk * units + column];
        }
    }
    sums[unit] = Vector::new(sum);
    sync_cube();
    add_lines::<Const<1>>(&mut sums);
    if exists && UNIT_POS_Y == 0 {
        let total = f32::cast_from(sums[unit]);
        if comptime!(two) {
            if CUBE_POS_Y == 0 {
                out[column] = total;
            } else {
                next[column] = total;
            }
        } else {
            out[column] = total;
        }
    }
}
