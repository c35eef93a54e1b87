//! Sums over the rows of a batch in backward, the first pass over them: the gradients of what a column has in common.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::block::{
    ColumnNorm, Curve, Steps, activate_backward, drop_some, leak, normalize, read_norm, slope_of,
};
use super::chunks::{Chunks, LANES, LINES, Layout, PASSES, UNITS, add_lines, rows_of_pass};
use super::dropout::{DropoutBits, bits};
use super::tensor::{OnCube, Rows, address, array, empty_plain, vector_size};
use crate::backend::{LayerSpec, Moments, Norm};

/// What both passes of backward read.
pub(super) struct Saved<R: CubeRuntime> {
    pub(super) grad: Rows<R>,
    pub(super) hidden: Rows<R>,
    /// Batch norm with its moments; anything without one.
    pub(super) norm: Norm<CubeTensor<R>>,
    pub(super) moments: Moments<CubeTensor<R>>,
    pub(super) slope: CubeTensor<R>,
    pub(super) spec: LayerSpec,
    pub(super) steps: Steps,
}

impl<R: CubeRuntime> Saved<R> {
    /// Towers, rows, outputs.
    pub(super) fn dims(&self) -> [usize; 3] {
        let shape = self.hidden.tensor.meta.shape();
        [shape[0], shape[1], shape[2]]
    }

    /// Largest vector for what is read, and for a tensor that is written.
    pub(super) fn vector(&self, out_stride: usize) -> usize {
        vector_size(&[self.hidden.width, self.hidden.stride, self.grad.stride, out_stride])
    }
}

/// Sums of a column, as in [`Partial`].
const KINDS: usize = 3;

/// Sums over chunks of the rows of a batch.
pub(super) struct Partial<R: CubeRuntime> {
    /// `[3, chunks, K, O]`: of the gradient after dropout and activation; of the same times the standardized matmul, with
    /// batch norm; of what the slope of a PReLU gets, with one.
    pub(super) sums: CubeTensor<R>,
    pub(super) chunks: Chunks,
}

pub(super) fn chunk_sums<R: CubeRuntime>(saved: &Saved<R>) -> Partial<R> {
    let [towers, rows, outputs] = saved.dims();
    let chunks = Chunks::new(rows);
    let like = &saved.grad.tensor;
    let sums = empty_plain(like, [KINDS, chunks.count, towers, outputs]);
    let vector = saved.vector(outputs);
    let columns = outputs / vector;
    let layout = chunks.layout(outputs);
    let (cubes, dim) = chunks.grid(layout, columns, towers);
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
            array(&saved.moments.mean),
            array(&saved.moments.variance),
            array(&saved.norm.gamma),
            array(&saved.norm.beta),
            array(&saved.slope),
            array(&sums),
            bits(saved.spec.dropout),
            columns,
            rows,
            saved.grad.stride / vector,
            saved.hidden.stride / vector,
            chunks.rows,
            towers * columns,
            chunks.count * towers * columns,
            leak(saved.spec.activation),
            saved.spec.epsilon as f32,
            layout,
            saved.steps,
        );
    }
    Partial { sums, chunks }
}

/// Gradient of the slope of a PReLU, `[K]`; `None` for other activations.
pub(super) fn slope_grad<R: CubeRuntime, B: OnCube<R>>(
    saved: &Saved<R>,
    partial: &Partial<R>,
) -> Option<CubeTensor<R>> {
    let [towers, _, outputs] = saved.dims();
    match saved.steps.curve {
        Curve::Prelu => {
            let [slopes, _] = join_from(partial, 2, [towers, outputs], false);
            Some(B::float_reshape(B::float_sum_dim(slopes, 1), [towers].into()))
        }
        Curve::Identity | Curve::Relu | Curve::Leaky => None,
    }
}

/// The three sums over a chunk of rows, of which those are written that the layer has.
#[cube(launch_unchecked, address_type = "dynamic")]
fn chunk_sums_kernel<N: Size>(
    grads: &Array<Vector<f32, N>>,
    hidden: &Array<Vector<f32, N>>,
    means: &Array<Vector<f32, N>>,
    variances: &Array<Vector<f32, N>>,
    gamma: &Array<Vector<f32, N>>,
    beta: &Array<Vector<f32, N>>,
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
    epsilon: f32,
    #[comptime] layout: Layout,
    #[comptime] steps: Steps,
) {
    let column = (CUBE_POS_X * comptime!(layout.lanes) + UNIT_POS_X) as usize;
    let chunk = CUBE_POS_Y as usize;
    let tower = CUBE_POS_Z as usize;
    let start = chunk * chunk_rows;
    let tower_column = tower * columns + column;
    let exists = column < columns;
    let mut sums = Array::<Vector<f32, N>>::new(KINDS);
    #[unroll]
    for kind in 0..KINDS {
        sums[kind] = Vector::new(0.0f32);
    }
    if exists {
        let end = min(start + chunk_rows, rows);
        let slope = slope_of(slopes, tower, leak, steps.curve);
        let norm = read_norm::<N>(means, variances, gamma, beta, tower_column, epsilon, steps.batch_norm);
        let at = BackwardAt::<N> { norm, slope, column, columns, grad_stride, hidden_stride };
        #[unroll]
        for pass in 0..PASSES {
            let (from, to) = rows_of_pass(start, end, layout, pass);
            let count = comptime!(layout.at_once_in(pass));
            let step = comptime!(layout.lines as usize * count);
            for row in range_stepped(from + UNIT_POS_Y as usize, to, step) {
                let row = tower * rows + row;
                add_rows::<N>(&mut sums, grads, hidden, &at, &dropout, row, layout, count, steps);
            }
        }
    }
    let mut lines = SharedMemory::<Vector<f32, N>>::new(comptime!(UNITS as usize));
    let place = chunk * all_columns + tower_column;
    write_sum::<N>(&mut lines, sums[0], partial, place, exists, layout);
    if comptime!(steps.batch_norm) {
        write_sum::<N>(&mut lines, sums[1], partial, kind_size + place, exists, layout);
    }
    if comptime!(steps.curve == Curve::Prelu) {
        write_sum::<N>(&mut lines, sums[2], partial, 2 * kind_size + place, exists, layout);
    }
}

/// What the rows of a column have in common backward.
#[derive(CubeType, Clone, Copy)]
pub(super) struct BackwardAt<N: Size> {
    pub(super) norm: ColumnNorm<N>,
    pub(super) slope: f32,
    pub(super) column: usize,
    pub(super) columns: usize,
    pub(super) grad_stride: usize,
    pub(super) hidden_stride: usize,
}

/// Adds `count` rows of a unit from `first` on: all are read, then computed, so that it waits for memory once.
#[cube]
fn add_rows<N: Size>(
    sums: &mut Array<Vector<f32, N>>,
    grads: &Array<Vector<f32, N>>,
    hidden: &Array<Vector<f32, N>>,
    at: &BackwardAt<N>,
    dropout: &DropoutBits,
    first: usize,
    #[comptime] layout: Layout,
    #[comptime] count: usize,
    #[comptime] steps: Steps,
) {
    let lines = comptime!(layout.lines as usize);
    let zero = Vector::<f32, N>::new(0.0f32);
    let mut values = Array::<Vector<f32, N>>::new(count);
    let mut from_above = Array::<Vector<f32, N>>::new(count);
    #[unroll]
    for index in 0..count {
        let row = first + comptime!(index * lines);
        values[index] = hidden[row * at.hidden_stride + at.column];
        from_above[index] = grads[row * at.grad_stride + at.column];
    }
    #[unroll]
    for index in 0..count {
        let row = first + comptime!(index * lines);
        let (standard, x) = normalize::<N>(values[index], &at.norm, steps.batch_norm);
        let element = (row * at.columns + at.column) * N::value();
        let kept = drop_some::<N>(from_above[index], dropout, element, steps.dropout);
        let grad = activate_backward::<N>(x, kept, at.slope, steps.curve);
        sums[0] += grad;
        if comptime!(steps.batch_norm) {
            sums[1] += grad * standard;
        }
        if comptime!(steps.curve == Curve::Prelu) {
            sums[2] += kept * select_many(x.greater_than(zero), zero, x);
        }
    }
}

#[cube]
fn write_sum<N: Size>(
    lines: &mut SharedMemory<Vector<f32, N>>,
    sum: Vector<f32, N>,
    partial: &mut Array<Vector<f32, N>>,
    place: usize,
    exists: bool,
    #[comptime] layout: Layout,
) {
    let unit = UNIT_POS as usize;
    sync_cube();
    lines[unit] = sum;
    sync_cube();
    add_lines::<N>(lines, layout);
    if exists && UNIT_POS_Y == 0 {
        partial[place] = lines[unit];
    }
}

/// A grid for joining chunks: [`LANES`] columns a cube, the chunks cut among its [`LINES`] lines.
fn join_grid(columns: usize, kinds: u32) -> (CubeCount, CubeDim) {
    let across = columns.div_ceil(LANES as usize) as u32;
    (CubeCount::Static(across, kinds, 1), CubeDim::new_2d(LANES, LINES))
}

/// Sums of the chunks of the first kind, and, if `two`, of the second; else the first ones twice.
pub(super) fn join<R: CubeRuntime, const D: usize>(
    partial: &Partial<R>,
    shape: [usize; D],
    two: bool,
) -> [CubeTensor<R>; 2] {
    join_from(partial, 0, shape, two)
}

/// Sums of the chunks of one kind, and, if `two`, of the kind after it; else the first ones twice.
fn join_from<R: CubeRuntime, const D: usize>(
    partial: &Partial<R>,
    kind: usize,
    shape: [usize; D],
    two: bool,
) -> [CubeTensor<R>; 2] {
    let Partial { sums, chunks } = partial;
    let out = empty_plain(sums, shape);
    let next = if two { empty_plain(sums, shape) } else { out.clone() };
    let units = shape.iter().product::<usize>();
    let (cubes, dim) = join_grid(units, if two { 2 } else { 1 });
    // SAFETY: units beyond the columns read and write nothing.
    unsafe {
        join_sums_kernel::launch_unchecked(
            &sums.client,
            cubes,
            dim,
            array(sums),
            array(&out),
            array(&next),
            kind * chunks.count * units,
            chunks.count,
            units,
            two,
        );
    }
    [out, next]
}

/// A column of one kind of sum: each line of a cube adds its share of the chunks in their order, then lines are added.
/// Every cube that asks gets the same bits; all of its units must ask.
#[cube]
pub(super) fn join_sums<N: Size>(
    partial: &Array<Vector<f32, N>>,
    #[comptime] kind: usize,
    column: usize,
    columns: usize,
    exists: bool,
    chunks: usize,
    #[comptime] layout: Layout,
) -> Vector<f32, N> {
    let mut sums = SharedMemory::<Vector<f32, N>>::new(comptime!(UNITS as usize));
    let unit = UNIT_POS as usize;
    let share = chunks.div_ceil(comptime!(layout.lines as usize));
    let start = min(UNIT_POS_Y as usize * share, chunks);
    let end = min(start + share, chunks);
    let mut sum = Vector::<f32, N>::new(0.0f32);
    if exists {
        for chunk in start..end {
            sum += partial[(kind * chunks + chunk) * columns + column];
        }
    }
    sums[unit] = sum;
    sync_cube();
    add_lines::<N>(&mut sums, layout);
    sums[UNIT_POS_X as usize]
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
    let mut sums = SharedMemory::<Vector<f32, Const<1>>>::new(comptime!(UNITS as usize));
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
    add_lines::<Const<1>>(&mut sums, Layout::JOINING);
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
