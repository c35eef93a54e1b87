//! The last layer, whose outputs are the logits, one a tower and nothing after it: too narrow for a matmul. Forward a dot
//! product a row; backward one pass over the input for its gradient and the sums of chunks of rows, which `join.rs` adds up.

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::chunks::{Chunks, Layout, PASSES, UNITS, add_lines, rows_of_pass};
use super::join::{At, Pieces, Sum};
use super::tensor::{Rows, address, array, empty_plain, plain, vector_size};
use crate::backend::{Layer, LayerOutput, LayerSaved, LayerSpec, LayerWeights};
use crate::precision::Precision;

/// Units that share a row of a dot product.
const SHARING: u32 = 8;
/// Rows of a cube.
const ROWS: u32 = 32;

/// Cubes that backward should have: two for each of the 132 multiprocessors of a large GPU.
const CUBES: usize = 264;
/// Rows of a chunk at least.
const SHORTEST: usize = 32;

/// How backward cuts the rows: the layer is narrow, so a cube takes few of them.
fn backward_chunks(towers: usize, rows: usize) -> Chunks {
    Chunks::cut(rows, SHORTEST, CUBES.div_ceil(towers))
}

/// Cubes of backward, where its rows are read in the widest vectors.
#[cfg(test)]
pub(super) fn cubes_of_backward(towers: usize, rows: usize, width: usize) -> usize {
    backward_chunks(towers, rows).cubes(width, towers)
}

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

/// Gradients of the weights, in one tensor: `[K, I]` of the weight, then from a place on that memory can be bound at `[K]` of
/// the bias.
pub(super) struct LogitsSums<R: CubeRuntime> {
    pub(super) sum: Sum<R>,
    pub(super) shape: LogitsShape,
}

/// How the sums lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogitsShape {
    towers: usize,
    width: usize,
}

impl LogitsShape {
    /// From the weights to the biases, in values: devices bind memory at multiples of 256 bytes.
    fn bias_place(self) -> usize {
        (self.towers * self.width).next_multiple_of(64)
    }

    /// The gradients in the joined tensor.
    pub(super) fn split<R: CubeRuntime>(self, joined: &CubeTensor<R>) -> LayerWeights<CubeTensor<R>> {
        let Self { towers, width } = self;
        let total = joined.meta.num_elements();
        let part = |first: usize, shape: Shape| {
            let bytes = |values: usize| (values * size_of::<f32>()) as u64;
            let end = first + shape.num_elements();
            let handle = joined.handle.clone().offset_start(bytes(first)).offset_end(bytes(total - end));
            CubeTensor::new_contiguous(
                joined.client.clone(),
                joined.device.clone(),
                shape,
                handle,
                DType::F32,
            )
        };
        LayerWeights {
            weight: part(0, Shape::from([towers, width, 1])),
            bias: part(self.bias_place(), Shape::from([towers, 1])),
            norm: None,
            slope: None,
        }
    }
}

/// Gradients from that of the logits, `[K, B, 1]` at any strides: of the input, and sums for the weights.
pub(super) fn logits_backward<R: CubeRuntime>(
    layer: Layer<CubeTensor<R>>,
    grad: CubeTensor<R>,
) -> (CubeTensor<R>, LogitsSums<R>) {
    let Layer { input, weights: LayerWeights { weight, .. } } = layer;
    let layer = Read::new(input, weight);
    let towers = layer.towers;
    let width = layer.input.width;
    let out = Rows::empty(&layer.input.tensor, [towers, layer.rows, width]);
    let chunks = backward_chunks(towers, layer.rows);
    let shape = LogitsShape { towers, width };
    let bias_place = shape.bias_place();
    // Whole vectors: what lies between weights and biases, and after these, is not used.
    let columns = (bias_place + towers).next_multiple_of(4);
    let partial = empty_plain(&out.tensor, [chunks.count, columns]);
    let vector = vector_size(&[width, layer.input.stride, out.stride]);
    let strides = grad.meta.strides();
    let layout = chunks.layout(width);
    let (cubes, dim) = chunks.grid(layout, width / vector, towers);
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
            bias_place,
            columns,
            layout,
        );
    }
    let at = At { count: chunks.count, piece: columns, matrix: 0, row: 0, tail_matrix: 0, tail_row: 0 };
    let sum = Sum::Pieces(Pieces { pieces: partial, tail: None, shape: [1, 1, columns], at });
    (out.tensor, LogitsSums { sum, shape })
}

/// A unit a vector of the input and of its gradient, and sums over a chunk of rows, as in [`LogitsSums`].
#[cube(launch_unchecked, address_type = "dynamic")]
fn logits_backward_kernel<N: Size>(
    input: &mut Array<Vector<f32, N>>,
    weight: &Array<Vector<f32, N>>,
    grads: &mut Array<f32>,
    out: &mut Array<Vector<f32, N>>,
    partial: &mut Array<f32>,
    rows: usize,
    columns: usize,
    stride: usize,
    out_stride: usize,
    grad_tower: usize,
    grad_row: usize,
    chunk_rows: usize,
    bias_place: usize,
    all_columns: usize,
    #[comptime] layout: Layout,
) {
    let mut sums = SharedMemory::<Vector<f32, N>>::new(comptime!(UNITS as usize));
    let mut bias_sums = SharedMemory::<Vector<f32, Const<1>>>::new(comptime!(UNITS as usize));
    let column = (CUBE_POS_X * comptime!(layout.lanes) + UNIT_POS_X) as usize;
    let chunk = CUBE_POS_Y as usize;
    let tower = CUBE_POS_Z as usize;
    let unit = UNIT_POS as usize;
    let start = chunk * chunk_rows;
    let end = min(start + chunk_rows, rows);
    let exists = column < columns;
    let mut found = Array::<Vector<f32, N>>::new(1usize);
    let mut bias_found = Array::<f32>::new(1usize);
    found[0] = Vector::new(0.0f32);
    bias_found[0] = 0.0f32;
    if exists {
        let factor = weight[tower * columns + column];
        let at = BackwardAt::<N> { factor, column, stride, out_stride, grad_row };
        #[unroll]
        for pass in 0..PASSES {
            let (from, to) = rows_of_pass(start, end, layout, pass);
            let count = comptime!(layout.at_once_in(pass));
            let step = comptime!(layout.lines as usize * count);
            for row in range_stepped(from + UNIT_POS_Y as usize, to, step) {
                let grad = tower * grad_tower + row * grad_row;
                let row = tower * rows + row;
                backward_rows::<N>(
                    &mut found,
                    &mut bias_found,
                    input,
                    grads,
                    out,
                    &at,
                    row,
                    grad,
                    layout,
                    count,
                );
            }
        }
    }
    sums[unit] = found[0];
    bias_sums[unit] = Vector::new(bias_found[0]);
    sync_cube();
    add_lines::<N>(&mut sums, layout);
    add_lines::<Const<1>>(&mut bias_sums, layout);
    if exists && UNIT_POS_Y == 0 {
        let first = chunk * all_columns + (tower * columns + column) * N::value();
        let total = sums[unit];
        #[unroll]
        for part in 0..N::value() {
            partial[first + part] = total[part];
        }
        if column == 0 {
            partial[chunk * all_columns + bias_place + tower] = f32::cast_from(bias_sums[unit]);
        }
    }
}

/// What the rows of a column have in common.
#[derive(CubeType, Clone, Copy)]
struct BackwardAt<N: Size> {
    factor: Vector<f32, N>,
    column: usize,
    stride: usize,
    out_stride: usize,
    grad_row: usize,
}

/// `count` rows of a unit from `first` on, their gradients from `first_grad` on: all are read, then added, then written, so
/// that it waits for memory once.
/// `&mut` keeps this order: NVIDIA's compiler moves reads of what no one writes behind the writes.
#[cube]
fn backward_rows<N: Size>(
    sum: &mut Array<Vector<f32, N>>,
    bias_sum: &mut Array<f32>,
    input: &mut Array<Vector<f32, N>>,
    grads: &mut Array<f32>,
    out: &mut Array<Vector<f32, N>>,
    at: &BackwardAt<N>,
    first: usize,
    first_grad: usize,
    #[comptime] layout: Layout,
    #[comptime] count: usize,
) {
    let lines = comptime!(layout.lines as usize);
    let mut values = Array::<Vector<f32, N>>::new(count);
    let mut row_grads = Array::<f32>::new(count);
    #[unroll]
    for index in 0..count {
        values[index] = input[(first + comptime!(index * lines)) * at.stride + at.column];
        row_grads[index] = grads[first_grad + comptime!(index * lines) * at.grad_row];
    }
    #[unroll]
    for index in 0..count {
        let grad = row_grads[index];
        sum[0] += values[index] * Vector::new(grad);
        bias_sum[0] += grad;
    }
    #[unroll]
    for index in 0..count {
        let place = (first + comptime!(index * lines)) * at.out_stride + at.column;
        out[place] = at.factor * Vector::new(row_grads[index]);
    }
}
