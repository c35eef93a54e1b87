//! The gradient of a weight, `input^T x grad`: its k is the batch, far longer than its sides are wide, so one cube a tile
//! of the result would leave most of a GPU idle. The batch is cut into pieces by shape alone, one batched matmul computes
//! all of them, and a kernel adds them in their order: the same bits every time.

use burn::tensor::Slice;
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*, std::FastDivmod};
use burn_cubecl::tensor::CubeTensor;

use super::epilogue::Epilogue;
use super::factor::Factor;
use super::matmul::{launch, tile};
use super::tensor::{OnCube, Rows, address, empty_plain, grid, vector_size, view};
use super::tile::Sizes;
use super::tiles::matmul;
use crate::precision::Precision;

/// Cubes that a weight gradient should have: two for each of the 132 multiprocessors of a large GPU.
const CUBES: usize = 264;
/// Rows and columns of the result that one cube of the matmul computes.
const TILE: usize = 128;
/// Rows of a piece at least, where the batch has that many.
const SHORTEST: usize = 32;

/// Pieces of a batch of `rows` rows: a power of two, so that batches of the usual sizes leave no rows over.
pub(super) fn pieces(towers: usize, inputs: usize, outputs: usize, rows: usize) -> usize {
    let tiles = towers * inputs.div_ceil(TILE) * outputs.div_ceil(TILE);
    let wanted = CUBES.div_ceil(tiles).next_power_of_two();
    let most = (rows / SHORTEST).max(1);
    wanted.min(1 << most.ilog2())
}

/// Sums over the pieces of a batch, and over the rows that are left over.
struct Partial<R: CubeRuntime> {
    /// `[K, P, I, O]`, or with the towers side by side `[P, I, K * O]`.
    pieces: Rows<R>,
    /// The same of the rows after the last whole piece, without P.
    tail: Option<Rows<R>>,
    count: usize,
    side_by_side: bool,
}

/// `input [1 or K, B, I]` and `grad [K, B, O]`, or where towers share their input `[B, K * O]`, to `[K, I, O]`.
pub(super) fn weight_grad<R: CubeRuntime, B: OnCube<R>>(
    input: CubeTensor<R>,
    grad: CubeTensor<R>,
    towers: usize,
    precision: Precision,
) -> CubeTensor<R> {
    let input = Rows::new(input);
    let grad = Rows::new(grad);
    let rows = input.tensor.meta.shape()[1];
    let inputs = input.width;
    let side_by_side = grad.tensor.meta.num_dims() == 2;
    let outputs = if side_by_side { grad.width / towers } else { grad.width };
    let count = pieces(towers, inputs, outputs, rows);
    let sizes =
        Sizes { batches: towers, sums: 1, rows: inputs, columns: outputs, terms: rows, pieces: count };
    let partial = match tile(&input.tensor.client, sizes, precision) {
        Some(tile) => {
            let right = if side_by_side { Factor::side_by_side(&grad, towers) } else { Factor::right(&grad) };
            let sums = matmul(Factor::left(&input).turned(), right, &Epilogue::nothing(), sizes, tile);
            if count == 1 {
                return sums;
            }
            Partial { pieces: Rows::new(sums), tail: None, count, side_by_side: false }
        }
        None => Partial::batched::<B>(&input, &grad, count, precision),
    };
    partial.join(towers, inputs, outputs)
}

impl<R: CubeRuntime> Partial<R> {
    /// A matmul with the pieces as its batches, and another for the rows that are left over.
    fn batched<B: OnCube<R>>(input: &Rows<R>, grad: &Rows<R>, count: usize, precision: Precision) -> Self {
        let side_by_side = grad.tensor.meta.num_dims() == 2;
        let batches = if side_by_side { 1 } else { grad.tensor.meta.shape()[0] };
        let rows = input.tensor.meta.shape()[1];
        let length = rows / count;
        let cut = |factor: &Rows<R>| {
            let stride = factor.stride;
            let shape = [batches, count, length, factor.width];
            view(&factor.tensor, shape, [rows * stride, length * stride, stride, 1])
        };
        let tail = (count * length < rows).then(|| {
            let of_tail = |factor: &Rows<R>| {
                let shape = [batches, rows, factor.width];
                let whole = view(&factor.tensor, shape, [rows * factor.stride, factor.stride, 1]);
                B::float_slice(whole, &[Slice::full(), Slice::from(count * length..rows)])
            };
            let turned = B::float_swap_dims(of_tail(input), 1, 2);
            Rows::new(launch(turned, of_tail(grad), precision))
        });
        let pieces = Rows::new(launch(B::float_swap_dims(cut(input), 2, 3), cut(grad), precision));
        Self { pieces, tail, count, side_by_side }
    }

    /// The sums of the pieces in their order, then the tail.
    fn join(self, towers: usize, inputs: usize, outputs: usize) -> CubeTensor<R> {
        let pieces = &self.pieces;
        let out = Rows::new(empty_plain(&pieces.tensor, [towers, inputs, outputs]));
        let tail = self.tail.as_ref().unwrap_or(pieces);
        let vector = vector_size(&[outputs, pieces.stride, tail.stride, out.stride]);
        let tower_stride = |rows: &Rows<R>, count: usize| {
            if self.side_by_side { outputs } else { count * inputs * rows.stride }
        };
        let units = towers * inputs * outputs / vector;
        let client = pieces.tensor.client.clone();
        let (cubes, dim) = grid(&client, units);
        // SAFETY: one unit for each vector of the gradient, which reads that place of each piece and of the tail.
        unsafe {
            join_weight_grad_kernel::launch_unchecked(
                &client,
                cubes,
                dim,
                address(&[&pieces.tensor, &tail.tensor, &out.tensor]),
                vector,
                pieces.array(),
                tail.array(),
                out.array(),
                outputs / vector,
                inputs,
                tower_stride(pieces, self.count) / vector,
                inputs * pieces.stride / vector,
                pieces.stride / vector,
                tower_stride(tail, 1) / vector,
                tail.stride / vector,
                out.stride / vector,
                self.count,
                units,
                self.tail.is_some(),
            );
        }
        out.tensor
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn join_weight_grad_kernel<N: Size>(
    pieces: &Array<Vector<f32, N>>,
    tail: &Array<Vector<f32, N>>,
    out: &mut Array<Vector<f32, N>>,
    width: FastDivmod<usize>,
    inputs: FastDivmod<usize>,
    tower_stride: usize,
    piece_stride: usize,
    stride: usize,
    tail_tower_stride: usize,
    tail_stride: usize,
    out_stride: usize,
    count: usize,
    units: usize,
    #[comptime] has_tail: bool,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let (row, column) = width.div_mod(ABSOLUTE_POS);
    let (tower, input) = inputs.div_mod(row);
    let place = tower * tower_stride + input * stride + column;
    let mut sum = pieces[place];
    for piece in 1..count {
        sum += pieces[place + piece * piece_stride];
    }
    if comptime!(has_tail) {
        sum += tail[tower * tail_tower_stride + input * tail_stride + column];
    }
    out[row * out_stride + column] = sum;
}

#[cfg(test)]
mod tests {
    use super::{CUBES, SHORTEST, TILE, pieces};

    /// Layers of the benches' three models and their widths: towers, inputs, outputs.
    const LAYERS: [[usize; 3]; 9] = [
        [2, 514, 128],
        [2, 128, 64],
        [2, 64, 1],
        [2, 414, 360],
        [2, 360, 200],
        [2, 200, 80],
        [2, 80, 1],
        [2, 96, 128],
        [2, 128, 64],
    ];

    #[test]
    fn every_weight_gradient_fills_a_large_gpu() {
        for [towers, inputs, outputs] in LAYERS {
            for rows in [4096, 16384, 65536] {
                let tiles = towers * inputs.div_ceil(TILE) * outputs.div_ceil(TILE);
                let count = pieces(towers, inputs, outputs, rows);
                assert!(
                    count * tiles >= 132,
                    "{inputs} x {outputs}, {rows} rows: {count} pieces of {tiles} tiles"
                );
                assert!(count * tiles < 2 * (CUBES + tiles), "{inputs} x {outputs}: {count} pieces");
                assert_eq!(rows % count, 0, "rows are left over");
            }
        }
    }

    #[test]
    fn a_small_batch_is_cut_into_few_pieces() {
        assert_eq!(pieces(2, 10, 10, 1), 1);
        assert_eq!(pieces(2, 10, 10, 2 * SHORTEST - 1), 1);
        assert_eq!(pieces(2, 10, 10, 300), 8);
    }
}
