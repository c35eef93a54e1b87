//! The gradient of a weight, `input^T x grad`: its k is the batch, far longer than its sides are wide, so one cube a tile
//! of the result would leave most of a GPU idle. The batch is cut into pieces by shape alone, one batched matmul computes
//! all of them, and `join.rs` adds them up.

use burn::tensor::Slice;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;

use super::join::{At, Pieces, Sum};
use super::layer_shape::LayerShape;
use super::matmul::launch;
use super::tensor::{OnCube, Rows, view};
use crate::precision::Precision;

/// Rows and columns that a cube of CubeK's matmuls computes, or more.
const TILE: usize = 128;

/// Matmuls of the pieces from tiles, `[K * P, I, O]`.
pub(super) fn in_pieces<R: CubeRuntime>(matmuls: CubeTensor<R>, layer: LayerShape, count: usize) -> Sum<R> {
    if count == 1 {
        return Sum::Whole(matmuls);
    }
    let LayerShape { towers, inputs, outputs, .. } = layer;
    let pieces = Rows::new(matmuls);
    let at = At {
        count,
        piece: inputs * pieces.stride,
        matrix: count * inputs * pieces.stride,
        row: pieces.stride,
        tail_matrix: 0,
        tail_row: 0,
    };
    Sum::Pieces(Pieces { pieces: pieces.tensor, tail: None, shape: [towers, inputs, outputs], at })
}

/// `input [1 or K, B, I]` and `grad [K, B, O]`, or where towers share their input `[B, K * O]`, to pieces of `[K, I, O]`: by
/// the matmuls of CubeK, the pieces as batches of one, and another for the rows that are left over.
pub(super) fn weight_grad<R: CubeRuntime, B: OnCube<R>>(
    input: CubeTensor<R>,
    grad: CubeTensor<R>,
    layer: LayerShape,
    precision: Precision,
) -> Sum<R> {
    let LayerShape { towers, inputs, outputs, rows, shared } = layer;
    let [input, grad] = [input, grad].map(Rows::new);
    let batches = if shared { 1 } else { towers };
    let count = layer.pieces(TILE, TILE);
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
        let turned = B::float_swap_dims(of_tail(&input), 1, 2);
        Rows::new(launch(turned, of_tail(&grad), precision))
    });
    let pieces = Rows::new(launch(B::float_swap_dims(cut(&input), 2, 3), cut(&grad), precision));
    // With shared inputs `[P, I, K * O]`, else `[K, P, I, O]`; the tail the same without P.
    let matrix = |stride: usize, count: usize| if shared { outputs } else { count * inputs * stride };
    let tail_row = tail.as_ref().map_or(0, |tail| tail.stride);
    let at = At {
        count,
        piece: inputs * pieces.stride,
        matrix: matrix(pieces.stride, count),
        row: pieces.stride,
        tail_matrix: if tail.is_some() { matrix(tail_row, 1) } else { 0 },
        tail_row,
    };
    let tail = tail.map(|tail| tail.tensor);
    Sum::Pieces(Pieces { pieces: pieces.tensor, tail, shape: [towers, inputs, outputs], at })
}
