//! The last layer, whose outputs are the logits, one a tower and nothing after it: too narrow for a matmul. Forward a dot
//! product a row; backward its sums over chunks of rows are taken by the pass over the layer below (`sums.rs`), and `join.rs`
//! adds them up.

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::chunks::Chunks;
use super::join::{At, Pieces, Sum};
use super::tensor::{Rows, address, array, empty_plain, plain};
use crate::backend::{Layer, LayerOutput, LayerSaved, LayerSpec, LayerWeights};
use crate::precision::Precision;

/// Units that share a row of a dot product.
const SHARING: u32 = 8;
/// Rows of a cube.
const ROWS: u32 = 32;

/// Cubes that the passes over the rows backward should have: two for each of the 132 multiprocessors of a large GPU.
const CUBES: usize = 264;
/// Rows of a chunk at least.
const SHORTEST: usize = 32;

/// How backward cuts the rows: the last hidden layer is narrow, so a cube takes few of them.
fn backward_chunks(towers: usize, rows: usize) -> Chunks {
    Chunks::cut(rows, SHORTEST, CUBES.div_ceil(towers))
}

/// Cubes of each pass backward, where its rows are read in the widest vectors.
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

/// `[K, B, 1]`.
pub(super) fn logits<R: CubeRuntime>(layer: Layer<CubeTensor<R>>) -> LayerOutput<CubeTensor<R>> {
    let LayerWeights { weight, bias, .. } = layer.weights;
    let shape = layer.input.meta.shape();
    let [towers, rows] = [shape[0], shape[1]];
    let input = Rows::new(layer.input);
    let weight = plain(weight);
    let bias = plain(bias);
    let out = empty_plain(&input.tensor, [towers, rows, 1]);
    let vector = input.vector();
    let cubes = CubeCount::Static((rows as u32).div_ceil(ROWS), towers as u32, 1);
    // SAFETY: units beyond the last row read and write nothing; the weight is `[K, I]`, the bias `[K]`.
    unsafe {
        logits_kernel::launch_unchecked(
            &out.client,
            cubes,
            CubeDim::new_2d(SHARING, ROWS),
            address(&[&input.tensor]),
            vector,
            input.array(),
            array(&weight),
            array(&bias),
            array(&out),
            rows,
            input.width / vector,
            input.stride / vector,
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
    pub(super) towers: usize,
    pub(super) width: usize,
}

impl LogitsShape {
    /// From the weights to the biases, in values: devices bind memory at multiples of 256 bytes.
    pub(super) fn bias_place(self) -> usize {
        (self.towers * self.width).next_multiple_of(64)
    }

    /// Values of all sums. They are whole vectors: what lies between weights and biases, and after these, is not used.
    pub(super) fn columns(self) -> usize {
        (self.bias_place() + self.towers).next_multiple_of(4)
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

/// The layer backward, but for a pass over its rows. The gradient of its input is of rank one: that of the logits times the
/// weight. So it is not stored, and the layer below, whose rows are those of the input, sums for the weights as well.
pub(super) struct LogitsGrad<R: CubeRuntime> {
    /// `[K, B, I]`.
    pub(super) input: CubeTensor<R>,
    /// `[K, I]`.
    pub(super) weight: CubeTensor<R>,
    /// Of the logits, `[K, B, 1]` at any strides.
    pub(super) grad: CubeTensor<R>,
    /// For the sums of each chunk of rows, as in [`LogitsSums`]: [`chunk_sums`](super::sums::chunk_sums) writes them.
    pub(super) sums: CubeTensor<R>,
    pub(super) chunks: Chunks,
    pub(super) shape: LogitsShape,
}

/// Gradients from that of the logits: of the input, and sums for the weights, which the pass over the layer below fills.
pub(super) fn logits_backward<R: CubeRuntime>(
    layer: Layer<CubeTensor<R>>,
    grad: CubeTensor<R>,
) -> (LogitsGrad<R>, LogitsSums<R>) {
    let Layer { input, weights: LayerWeights { weight, .. } } = layer;
    let dims = input.meta.shape();
    let shape = LogitsShape { towers: dims[0], width: dims[2] };
    let chunks = backward_chunks(shape.towers, dims[1]);
    let columns = shape.columns();
    let sums = empty_plain(&input, [chunks.count, columns]);
    let at = At { count: chunks.count, piece: columns, matrix: 0, row: 0, tail_matrix: 0, tail_row: 0 };
    let pieces = Pieces { pieces: sums.clone(), tail: None, shape: [1, 1, columns], at };
    let grad = LogitsGrad { input, weight: plain(weight), grad, sums, chunks, shape };
    (grad, LogitsSums { sum: Sum::Pieces(pieces), shape })
}
