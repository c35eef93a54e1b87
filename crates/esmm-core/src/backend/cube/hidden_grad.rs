//! The gradient of a layer's matmul: the second pass over the rows backward, from the sums of the first (`sums.rs`).

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};

use super::block::{Steps, activate_backward, drop_some, leak, normalize, read_norm, slope_of};
use super::chunks::{Layout, PASSES, rows_of_pass};
use super::dropout::{DropoutBits, bits};
use super::from_above::{above_at, grad_above};
use super::joined_sums::{Partial, join_sums};
use super::largest::{Gradient, largest_in, write_largest};
use super::layer::Columns;
use super::saved::{BackwardAt, Saved, element_of, hidden_of};
use super::tensor::{Rows, address, array, empty_plain};
use crate::backend::Norm;
use crate::precision::Precision;

/// Gradients of the matmul, `[K, B, O]`, or with the towers side by side `[B, K * O]`, and of bias and batch norm, from
/// the sums of chunks.
pub(super) fn hidden_grad<R: CubeRuntime>(
    saved: &Saved<R>,
    partial: &Partial<R>,
    side_by_side: bool,
) -> (Gradient<R>, Columns<R>) {
    let [towers, rows, outputs] = saved.dims();
    let like = &saved.hidden.tensor;
    let out = if side_by_side {
        Rows::empty(like, [rows, towers * outputs])
    } else {
        Rows::empty(like, [towers, rows, outputs])
    };
    let of_columns = || empty_plain(like, [towers, outputs]);
    let bias = of_columns();
    let norm = saved.steps.batch_norm.then(|| Norm { gamma: of_columns(), beta: of_columns() });
    // Without batch norm the sum of the gradient is that of the bias.
    let (gamma, beta) = norm.as_ref().map_or((&bias, &bias), |norm| (&norm.gamma, &norm.beta));
    let vector = saved.vector(out.stride);
    let columns = outputs / vector;
    let layout = partial.chunks.layout(outputs);
    let (cubes, dim) = partial.chunks.grid(layout, columns, towers);
    let tower_stride = if side_by_side { outputs } else { rows * out.stride };
    let parts = columns.div_ceil(layout.lanes as usize) * partial.chunks.count * towers;
    let largest = (saved.spec.precision == Precision::F16).then(|| empty_plain(like, [parts]));
    let above = saved.above.arguments(rows, vector);
    // SAFETY: units beyond the columns or rows read and write nothing; the gradient is read at its distances; what belongs
    // to columns is `[K, O]`; there are as many parts as cubes.
    unsafe {
        hidden_grad_kernel::launch_unchecked(
            &like.client,
            cubes,
            dim,
            address(&[like, &above.whole, &above.logits, &out.tensor]),
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
            array(&partial.sums),
            array(&bias),
            array(gamma),
            array(beta),
            out.array(),
            array(largest.as_ref().unwrap_or(&bias)),
            bits(saved.spec.dropout),
            rows,
            columns,
            towers * columns,
            above.tower_distance,
            above.row_distance,
            saved.hidden.stride / vector,
            tower_stride / vector,
            out.stride / vector,
            partial.chunks.rows,
            partial.chunks.count,
            (rows as f32).recip(),
            leak(saved.spec.activation),
            saved.spec.epsilon as f32,
            largest.is_some(),
            layout,
            saved.steps,
        );
    }
    (Gradient::new(out.tensor, largest), Columns { bias, norm, slope: None })
}

/// A cube takes a chunk of rows, and joins the sums of all chunks for it; those of the first chunk write these. Each writes
/// the largest magnitude of what it wrote, if it is wanted.
#[cube(launch_unchecked, address_type = "dynamic")]
fn hidden_grad_kernel<N: Size>(
    grads: &mut Array<Vector<f32, N>>,
    logit_grads: &mut Array<f32>,
    logit_weight: &Array<Vector<f32, N>>,
    hidden: &mut Array<Vector<f32, N>>,
    means: &Array<Vector<f32, N>>,
    variances: &Array<Vector<f32, N>>,
    gamma: &Array<Vector<f32, N>>,
    beta: &Array<Vector<f32, N>>,
    slopes: &Array<f32>,
    partial: &Array<Vector<f32, N>>,
    bias_grad: &mut Array<Vector<f32, N>>,
    gamma_grad: &mut Array<Vector<f32, N>>,
    beta_grad: &mut Array<Vector<f32, N>>,
    out: &mut Array<Vector<f32, N>>,
    largest: &mut Array<f32>,
    dropout: DropoutBits,
    rows: usize,
    columns: usize,
    all_columns: usize,
    tower_distance: usize,
    row_distance: usize,
    hidden_stride: usize,
    tower_stride: usize,
    out_stride: usize,
    chunk_rows: usize,
    chunks: usize,
    share: f32,
    leak: f32,
    epsilon: f32,
    #[comptime] with_largest: bool,
    #[comptime] layout: Layout,
    #[comptime] steps: Steps,
) {
    let column = (CUBE_POS_X * comptime!(layout.lanes) + UNIT_POS_X) as usize;
    let chunk = CUBE_POS_Y as usize;
    let tower = CUBE_POS_Z as usize;
    let tower_column = tower * columns + column;
    let exists = column < columns;
    let writes = exists && chunk == 0 && UNIT_POS_Y == 0;
    let sum = join_sums::<N>(partial, 0usize, tower_column, all_columns, exists, chunks, layout);
    let mut scaled = Vector::<f32, N>::new(0.0f32);
    if comptime!(steps.batch_norm) {
        scaled = join_sums::<N>(partial, 1usize, tower_column, all_columns, exists, chunks, layout);
    }
    if writes {
        if comptime!(steps.batch_norm) {
            // The mean takes a bias away again, so before a batch norm its gradient is 0.
            bias_grad[tower_column] = Vector::<f32, N>::new(0.0f32);
            gamma_grad[tower_column] = scaled;
            beta_grad[tower_column] = sum;
        } else {
            bias_grad[tower_column] = sum;
        }
    }
    let mut found = 0.0f32;
    if exists {
        let slope = slope_of(slopes, tower, leak, steps.curve);
        let norm = read_norm::<N>(means, variances, gamma, beta, tower_column, epsilon, steps.batch_norm);
        let first = tower * tower_distance;
        let above =
            above_at::<N>(logit_weight, tower_column, column, first, row_distance, steps.below_logits);
        let first_row = tower * rows;
        let backward = BackwardAt::<N> { above, norm, slope, first_row, column, columns, hidden_stride };
        let part = Vector::<f32, N>::new(share);
        let at = HiddenGradAt::<N> {
            backward,
            mean: sum * part,
            scaled_mean: scaled * part,
            first_out: tower * tower_stride + column,
            out_stride,
        };
        let start = chunk * chunk_rows;
        let end = min(start + chunk_rows, rows);
        #[unroll]
        for pass in 0..PASSES {
            let (from, to) = rows_of_pass(start, end, layout, pass);
            let count = comptime!(layout.at_once_in(pass));
            let step = comptime!(layout.lines as usize * count);
            for row in range_stepped(from + UNIT_POS_Y as usize, to, step) {
                found = hidden_grad_rows::<N>(
                    grads,
                    logit_grads,
                    hidden,
                    out,
                    &at,
                    &dropout,
                    row,
                    found,
                    layout,
                    count,
                    with_largest,
                    steps,
                );
            }
        }
    }
    if comptime!(with_largest) {
        write_largest(found, largest);
    }
}

/// What the rows of a column have in common.
#[derive(CubeType, Clone, Copy)]
struct HiddenGradAt<N: Size> {
    backward: BackwardAt<N>,
    /// What batch norm takes away from the gradient: its mean over the batch, and that of the same times the standardized
    /// matmul.
    mean: Vector<f32, N>,
    scaled_mean: Vector<f32, N>,
    /// Where the first row of the tower is written.
    first_out: usize,
    out_stride: usize,
}

/// `count` rows of a unit from `first` on: all are read, then computed, then written, so that it waits for memory once.
/// Returns the largest magnitude of them and of what is known, if it is wanted.
/// `&mut` keeps this order: NVIDIA's compiler moves reads of what no one writes to after the writes.
#[cube]
fn hidden_grad_rows<N: Size>(
    grads: &mut Array<Vector<f32, N>>,
    logit_grads: &mut Array<f32>,
    hidden: &mut Array<Vector<f32, N>>,
    out: &mut Array<Vector<f32, N>>,
    at: &HiddenGradAt<N>,
    dropout: &DropoutBits,
    first: usize,
    known: f32,
    #[comptime] layout: Layout,
    #[comptime] count: usize,
    #[comptime] with_largest: bool,
    #[comptime] steps: Steps,
) -> f32 {
    let lines = comptime!(layout.lines as usize);
    let backward = at.backward;
    let mut values = Array::<Vector<f32, N>>::new(count);
    let mut results = Array::<Vector<f32, N>>::new(count);
    #[unroll]
    for index in 0..count {
        let row = first + comptime!(index * lines);
        values[index] = hidden_of::<N>(hidden, &backward, row);
        results[index] = grad_above::<N>(grads, logit_grads, &backward.above, row, steps.below_logits);
    }
    #[unroll]
    for index in 0..count {
        let row = first + comptime!(index * lines);
        let (standard, x) = normalize::<N>(values[index], &backward.norm, steps.batch_norm);
        let element = element_of::<N>(&backward, row);
        let kept = drop_some::<N>(results[index], dropout, element, steps.dropout);
        let grad = activate_backward::<N>(x, kept, backward.slope, steps.curve);
        if comptime!(steps.batch_norm) {
            let centred = grad - at.mean - standard * at.scaled_mean;
            results[index] = centred * backward.norm.inverse * backward.norm.scale;
        } else {
            results[index] = grad;
        }
    }
    let mut largest = known;
    #[unroll]
    for index in 0..count {
        let row = first + comptime!(index * lines);
        out[at.first_out + row * at.out_stride] = results[index];
        if comptime!(with_largest) {
            largest = largest_in::<N>(results[index], largest);
        }
    }
    largest
}
