//! Sums over the rows of a batch in backward, the first pass over them: the gradients of what a column has in common.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::block::{
    Curve, Steps, activate, activate_backward, drop_some, leak, normalize, read_norm, slope_of,
};
use super::chunks::{Chunks, Layout, PASSES, UNITS, add_lines, rows_of_pass};
use super::dropout::{DropoutBits, bits};
use super::from_above::{FromAbove, above_at, grad_above, logit_grad};
use super::joined_sums::{Partial, join_from};
use super::logits::LogitsShape;
use super::saved::{BackwardAt, Saved, element_of, hidden_of};
use super::tensor::{OnCube, address, array, empty_plain};

/// Sums of a column, as in [`Partial`].
const KINDS: usize = 3;

/// The sums of a layer; below the logits, those for the gradients of their weights as well.
pub(super) fn chunk_sums<R: CubeRuntime>(saved: &Saved<R>) -> Partial<R> {
    let [towers, rows, outputs] = saved.dims();
    let chunks = match &saved.above {
        FromAbove::Logits(logits) => logits.chunks,
        FromAbove::Whole(_) => Chunks::new(rows),
    };
    let like = &saved.hidden.tensor;
    let sums = empty_plain(like, [KINDS, chunks.count, towers, outputs]);
    let vector = saved.vector(outputs);
    let columns = outputs / vector;
    let layout = chunks.layout(outputs);
    let (cubes, dim) = chunks.grid(layout, columns, towers);
    let above = saved.above.arguments(rows, vector);
    let (logit_sums, logits_at) = match &saved.above {
        FromAbove::Logits(logits) => (&logits.sums, logits.shape),
        FromAbove::Whole(_) => (&sums, LogitsShape { towers, width: outputs }),
    };
    // SAFETY: units beyond the columns or rows read and write nothing of them; the gradient is read at its distances.
    unsafe {
        chunk_sums_kernel::launch_unchecked(
            &like.client,
            cubes,
            dim,
            address(&[like, &above.whole, &above.logits]),
            vector,
            array(&above.whole),
            array(&above.logits),
            array(&above.weight),
            saved.hidden.array(),
            array(&saved.moments.mean),
            array(&saved.moments.variance),
            array(&saved.norm.gamma),
            array(&saved.norm.beta),
            array(&saved.slope),
            array(&sums),
            array(logit_sums),
            bits(saved.spec.dropout),
            columns,
            rows,
            above.tower_distance,
            above.row_distance,
            saved.hidden.stride / vector,
            chunks.rows,
            towers * columns,
            chunks.count * towers * columns,
            logits_at.columns(),
            logits_at.bias_place(),
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

/// The three sums over a chunk of rows, of which those are written that the layer has; below the logits, two for their
/// weights and biases, as [`LogitsShape`] lays them.
#[cube(launch_unchecked, address_type = "dynamic")]
fn chunk_sums_kernel<N: Size>(
    grads: &Array<Vector<f32, N>>,
    logit_grads: &Array<f32>,
    logit_weight: &Array<Vector<f32, N>>,
    hidden: &Array<Vector<f32, N>>,
    means: &Array<Vector<f32, N>>,
    variances: &Array<Vector<f32, N>>,
    gamma: &Array<Vector<f32, N>>,
    beta: &Array<Vector<f32, N>>,
    slopes: &Array<f32>,
    partial: &mut Array<Vector<f32, N>>,
    logit_sums: &mut Array<f32>,
    dropout: DropoutBits,
    columns: usize,
    rows: usize,
    tower_distance: usize,
    row_distance: usize,
    hidden_stride: usize,
    chunk_rows: usize,
    all_columns: usize,
    kind_size: usize,
    logit_columns: usize,
    logit_biases: usize,
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
    let mut sums = RowSums::<N> {
        grad: Vector::new(0.0f32),
        scaled: Vector::new(0.0f32),
        slope: Vector::new(0.0f32),
        logit_weight: Vector::new(0.0f32),
        logit_bias: 0.0f32,
    };
    if exists {
        let end = min(start + chunk_rows, rows);
        let slope = slope_of(slopes, tower, leak, steps.curve);
        let norm = read_norm::<N>(means, variances, gamma, beta, tower_column, epsilon, steps.batch_norm);
        let first = tower * tower_distance;
        let above =
            above_at::<N>(logit_weight, tower_column, column, first, row_distance, steps.below_logits);
        let first_row = tower * rows;
        let at = BackwardAt::<N> { above, norm, slope, first_row, column, columns, hidden_stride };
        #[unroll]
        for pass in 0..PASSES {
            let (from, to) = rows_of_pass(start, end, layout, pass);
            let count = comptime!(layout.at_once_in(pass));
            let step = comptime!(layout.lines as usize * count);
            for row in range_stepped(from + UNIT_POS_Y as usize, to, step) {
                add_rows::<N>(
                    &mut sums,
                    grads,
                    logit_grads,
                    hidden,
                    &at,
                    &dropout,
                    row,
                    layout,
                    count,
                    steps,
                );
            }
        }
    }
    let mut lines = SharedMemory::<Vector<f32, N>>::new(comptime!(UNITS as usize));
    let place = chunk * all_columns + tower_column;
    let writes = exists && UNIT_POS_Y == 0;
    let grad = sum_of_lines::<N>(&mut lines, sums.grad, layout);
    if writes {
        partial[place] = grad;
    }
    if comptime!(steps.batch_norm) {
        let scaled = sum_of_lines::<N>(&mut lines, sums.scaled, layout);
        if writes {
            partial[kind_size + place] = scaled;
        }
    }
    if comptime!(steps.curve == Curve::Prelu) {
        let slope = sum_of_lines::<N>(&mut lines, sums.slope, layout);
        if writes {
            partial[2 * kind_size + place] = slope;
        }
    }
    if comptime!(steps.below_logits) {
        let weight = sum_of_lines::<N>(&mut lines, sums.logit_weight, layout);
        let bias = sum_of_lines::<N>(&mut lines, Vector::new(sums.logit_bias), layout);
        if writes {
            let first = chunk * logit_columns + tower_column * N::value();
            #[unroll]
            for part in 0..N::value() {
                logit_sums[first + part] = weight[part];
            }
            if column == 0 {
                logit_sums[chunk * logit_columns + logit_biases + tower] = bias[0];
            }
        }
    }
}

/// Sums over rows of a unit.
#[derive(CubeType)]
struct RowSums<N: Size> {
    /// As in [`Partial`].
    grad: Vector<f32, N>,
    scaled: Vector<f32, N>,
    slope: Vector<f32, N>,
    /// Of what the layer returned times the gradient of the logits, and of that gradient.
    logit_weight: Vector<f32, N>,
    logit_bias: f32,
}

/// Adds `count` rows of a unit from `first` on: all are read, then computed, so that it waits for memory once. Below the
/// logits what the layer returned is computed again.
#[cube]
fn add_rows<N: Size>(
    sums: &mut RowSums<N>,
    grads: &Array<Vector<f32, N>>,
    logit_grads: &Array<f32>,
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
    let mut of_logits = Array::<f32>::new(count);
    #[unroll]
    for index in 0..count {
        let row = first + comptime!(index * lines);
        values[index] = hidden_of::<N>(hidden, at, row);
        from_above[index] = grad_above::<N>(grads, logit_grads, &at.above, row, steps.below_logits);
        if comptime!(steps.below_logits) {
            of_logits[index] = logit_grad::<N>(logit_grads, &at.above, row);
        }
    }
    #[unroll]
    for index in 0..count {
        let row = first + comptime!(index * lines);
        let (standard, x) = normalize::<N>(values[index], &at.norm, steps.batch_norm);
        let element = element_of::<N>(at, row);
        let kept = drop_some::<N>(from_above[index], dropout, element, steps.dropout);
        let grad = activate_backward::<N>(x, kept, at.slope, steps.curve);
        sums.grad += grad;
        if comptime!(steps.batch_norm) {
            sums.scaled += grad * standard;
        }
        if comptime!(steps.curve == Curve::Prelu) {
            sums.slope += kept * select_many(x.greater_than(zero), zero, x);
        }
        if comptime!(steps.below_logits) {
            let active = activate::<N>(x, at.slope, steps.curve);
            let returned = drop_some::<N>(active, dropout, element, steps.dropout);
            sums.logit_weight += returned * Vector::new(of_logits[index]);
            sums.logit_bias += of_logits[index];
        }
    }
}

/// The sum over the lines of a cube, for the first of them; all of its units must ask.
#[cube]
fn sum_of_lines<N: Size>(
    lines: &mut SharedMemory<Vector<f32, N>>,
    sum: Vector<f32, N>,
    #[comptime] layout: Layout,
) -> Vector<f32, N> {
    sync_cube();
    lines[UNIT_POS as usize] = sum;
    sync_cube();
    add_lines::<N>(lines, layout);
    lines[UNIT_POS_X as usize]
}
