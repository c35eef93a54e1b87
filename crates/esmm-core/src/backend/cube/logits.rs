//! The last layer, whose outputs are the logits, one a tower and nothing after it: too narrow for a matmul. Forward a dot
//! product a row; backward one pass over the input for its gradient and the sums of chunks of rows, then their join.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::moments::{Chunks, LANES, LINES, add_lines, join_grid};
use super::tensor::{Rows, address, array, empty_plain, plain, vector_size};
use crate::backend::{Layer, LayerOutput, LayerSaved, LayerSpec, LayerWeights};
use crate::precision::Precision;

/// Units that share a row of a dot product.
const SHARING: u32 = 8;
/// Rows of a cube.
const ROWS: u32 = 32;

/// Whether a layer is one of these: one output a tower, from an input of its own, computed in f32.
pub(super) fn is_logits<R: CubeRuntime>(layer: &Layer<CubeTensor<R>>, spec: &LayerSpec) -> bool {
    let shape = layer.input.meta.shape();
    let weight = layer.weights.weight.meta.shape();
    spec.is_linear(&layer.weights)
        && spec.precision == Precision::F32
        && weight[2] == 1
        && shape[0] == weight[0]
}

/// What both directions read.
struct Read<R: CubeRuntime> {
    input: Rows<R>,
    /// `[K, I]`.
    weight: CubeTensor<R>,
    towers: usize,
    rows: usize,
}

impl<R: CubeRuntime> Read<R> {
    fn new(input: CubeTensor<R>, weight: CubeTensor<R>) -> Self {
        let shape = input.meta.shape();
        let [towers, rows] = [shape[0], shape[1]];
        Self { input: Rows::new(input), weight: plain(weight), towers, rows }
    }
}

/// `[K, B, 1]`.
pub(super) fn logits<R: CubeRuntime>(layer: Layer<CubeTensor<R>>) -> LayerOutput<CubeTensor<R>> {
    let bias = plain(layer.weights.bias);
    let layer = Read::new(layer.input, layer.weights.weight);
    let out = empty_plain(&layer.input.tensor, [layer.towers, layer.rows, 1]);
    let vector = layer.input.vector();
    let cubes = CubeCount::Static((layer.rows as u32).div_ceil(ROWS), layer.towers as u32, 1);
    // SAFETY: units beyond the last row read and write nothing; the weight is `[K, I]`, the bias `[K]`.
    unsafe {
        logits_kernel::launch_unchecked(
            &out.client,
            cubes,
            CubeDim::new_2d(SHARING, ROWS),
            address(&[&layer.input.tensor]),
            vector,
            layer.input.array(),
            array(&layer.weight),
            array(&bias),
            array(&out),
            layer.rows,
            layer.input.width / vector,
            layer.input.stride / vector,
        );
    }
    let saved = LayerSaved { hidden: out.clone(), moments: None };
    LayerOutput { output: out, saved }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn logits_kernel<N: Size>(
    input: &Array<Vector<f32, N>>,
    weight: &Array<Vector<f32, N>>,
    bias: &Array<f32>,
    out: &mut Array<f32>,
    rows: usize,
    columns: usize,
    stride: usize,
) {
    let mut sums = SharedMemory::<Vector<f32, N>>::new(comptime!((SHARING * ROWS) as usize));
    let unit = UNIT_POS as usize;
    let row = (CUBE_POS_X * ROWS + UNIT_POS_Y) as usize;
    let tower = CUBE_POS_Y as usize;
    let mut sum = Vector::<f32, N>::new(0.0f32);
    if row < rows {
        let first = (tower * rows + row) * stride;
        for column in range_stepped(UNIT_POS_X as usize, columns, comptime!(SHARING as usize)) {
            sum += input[first + column] * weight[tower * columns + column];
        }
    }
    sums[unit] = sum;
    sync_cube();
    #[unroll]
    for halving in 0..3u32 {
        let half = comptime!(SHARING >> (halving + 1));
        if UNIT_POS_X < half {
            let other = sums[unit + comptime!(half as usize)];
            sums[unit] += other;
        }
        sync_cube();
    }
    if row < rows && UNIT_POS_X == 0 {
        let mut total = bias[tower];
        let parts = sums[unit];
        #[unroll]
        for part in 0..N::value() {
            total += parts[part];
        }
        out[tower * rows + row] = total;
    }
}

/// Gradients from that of the logits, `[K, B, 1]` at any strides.
pub(super) fn logits_backward<R: CubeRuntime>(
    layer: Layer<CubeTensor<R>>,
    grad: CubeTensor<R>,
) -> Layer<CubeTensor<R>> {
    let Layer { input, weights: LayerWeights { weight, .. } } = layer;
    let shape = weight.meta.shape().clone();
    let layer = Read::new(input, weight);
    let towers = layer.towers;
    let width = layer.input.width;
    let out = Rows::empty(&layer.input.tensor, [towers, layer.rows, width]);
    let chunks = Chunks::new(layer.rows);
    let columns = towers * (width + 1);
    let partial = empty_plain(&out.tensor, [chunks.count, columns]);
    let vector = vector_size(&[width, layer.input.stride, out.stride]);
    let strides = grad.meta.strides();
    let (cubes, dim) = chunks.grid(width / vector, towers);
    // SAFETY: units beyond the columns or rows read and write nothing of them; the gradient is read at its strides.
    unsafe {
        logits_backward_kernel::launch_unchecked(
            &out.tensor.client,
            cubes,
            dim,
            address(&[&layer.input.tensor, &out.tensor, &grad]),
            vector,
            layer.input.array(),
            array(&layer.weight),
            array(&grad),
            out.array(),
            array(&partial),
            layer.rows,
            width / vector,
            layer.input.stride / vector,
            out.stride / vector,
            strides[0],
            strides[1],
            chunks.rows,
            columns,
        );
    }
    let [of_weight, of_bias] =
        [empty_plain(&partial, [shape[0], shape[1], 1]), empty_plain(&partial, [towers, 1])];
    let (cubes, dim) = join_grid(columns, 1);
    // SAFETY: units beyond the columns read and write nothing; the first `K * I` of them belong to the weight.
    unsafe {
        join_logits_kernel::launch_unchecked(
            &partial.client,
            cubes,
            dim,
            array(&partial),
            array(&of_weight),
            array(&of_bias),
            chunks.count,
            towers * width,
            columns,
        );
    }
    let weights = LayerWeights { weight: of_weight, bias: of_bias, norm: None, slope: None };
    Layer { input: out.tensor, weights }
}

/// A unit a vector of the input and of its gradient, and sums over a chunk of rows: `[K, I]` of the weight, then `[K]` of
/// the bias.
#[cube(launch_unchecked, address_type = "dynamic")]
fn logits_backward_kernel<N: Size>(
    input: &Array<Vector<f32, N>>,
    weight: &Array<Vector<f32, N>>,
    grads: &Array<f32>,
    out: &mut Array<Vector<f32, N>>,
    partial: &mut Array<f32>,
    rows: usize,
    columns: usize,
    stride: usize,
    out_stride: usize,
    grad_tower: usize,
    grad_row: usize,
    chunk_rows: usize,
    all_columns: usize,
) {
    let mut sums = SharedMemory::<Vector<f32, N>>::new(comptime!((LANES * LINES) as usize));
    let mut bias_sums = SharedMemory::<Vector<f32, Const<1>>>::new(comptime!((LANES * LINES) as usize));
    let column = (CUBE_POS_X * LANES + UNIT_POS_X) as usize;
    let chunk = CUBE_POS_Y as usize;
    let tower = CUBE_POS_Z as usize;
    let unit = UNIT_POS as usize;
    let start = chunk * chunk_rows;
    let end = min(start + chunk_rows, rows);
    let exists = column < columns;
    let mut sum = Vector::<f32, N>::new(0.0f32);
    let mut bias_sum = 0.0f32;
    if exists {
        let factor = weight[tower * columns + column];
        for row in range_stepped(start + UNIT_POS_Y as usize, end, comptime!(LINES as usize)) {
            let grad = grads[tower * grad_tower + row * grad_row];
            let place = tower * rows + row;
            sum += input[place * stride + column] * Vector::new(grad);
            out[place * out_stride + column] = factor * Vector::new(grad);
            bias_sum += grad;
        }
    }
    sums[unit] = sum;
    bias_sums[unit] = Vector::new(bias_sum);
    sync_cube();
    add_lines::<N>(&mut sums);
    add_lines::<Const<1>>(&mut bias_sums);
    if exists && UNIT_POS_Y == 0 {
        let first = chunk * all_columns + (tower * columns + column) * N::value();
        let total = sums[unit];
        #[unroll]
        for part in 0..N::value() {
            partial[first + part] = total[part];
        }
        if column == 0 {
            let towers = CUBE_COUNT_Z as usize;
            let of_weights = towers * columns * N::value();
            partial[chunk * all_columns + of_weights + tower] = f32::cast_from(bias_sums[unit]);
        }
    }
}

/// Each line adds its share of the chunks in their order, then lines are added.
#[cube(launch_unchecked)]
fn join_logits_kernel(
    partial: &Array<f32>,
    weight: &mut Array<f32>,
    bias: &mut Array<f32>,
    chunks: usize,
    of_weight: usize,
    units: usize,
) {
    let mut sums = SharedMemory::<Vector<f32, Const<1>>>::new(comptime!((LANES * LINES) as usize));
    let unit = UNIT_POS as usize;
    let column = (CUBE_POS_X * LANES + UNIT_POS_X) as usize;
    let exists = column < units;
    let share = chunks.div_ceil(comptime!(LINES as usize));
    let start = min(UNIT_POS_Y as usize * share, chunks);
    let end = min(start + share, chunks);
    let mut sum = 0.0f32;
    if exists {
        for chunk in start..end {
            sum += partial[chunk * units + column];
        }
    }
    sums[unit] = Vector::new(sum);
    sync_cube();
    add_lines::<Const<1>>(&mut sums);
    if exists && UNIT_POS_Y == 0 {
        let total = f32::cast_from(sums[unit]);
        if column < of_weight {
            weight[column] = total;
        } else {
            bias[column - of_weight] = total;
        }
    }
}
