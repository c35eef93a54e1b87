//! Matmuls on tensor cores, of f32 factors that are rounded on their way to shared memory: no copy of them in a smaller
//! dtype is ever written. Sums are f32. One matmul a launch; two are in `tensor_pair.rs`.

use burn::tensor::{bf16, f16};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::block::{Curve, leak, slope_of};
use super::epilogue::{Epilogue, Steps, of_columns};
use super::extent::{Extent, corner_in_grid};
use super::factor::Wide;
use super::moments::ChunkMoments;
use super::task::Task;
use super::tensor::{address, array};
use super::tensor_cores::{Rounding, TensorTile};
use super::tensor_cube::{Scaled, multiply, place_in};
use super::tensor_moments::write_moments;
use super::tensor_results::{OfColumns, lane_column, write_results};
use super::tile::Tiling;

/// `[batches * pieces, rows, columns]`, and where the epilogue asks for them the moments of the results. An epilogue has
/// no place where the terms are cut into pieces.
pub(super) fn matmul<R: CubeRuntime>(
    task: Task<R, TensorTile>,
    epilogue: &Epilogue<R>,
) -> (CubeTensor<R>, Option<ChunkMoments<R>>) {
    match task.cut.tile.rounding {
        Rounding::Tf32 => matmul_in::<R, tf32>(task, epilogue),
        Rounding::Bf16 => matmul_in::<R, bf16>(task, epilogue),
        Rounding::F16 => matmul_in::<R, f16>(task, epilogue),
    }
}

fn matmul_in<R: CubeRuntime, E: Float>(
    task: Task<R, TensorTile>,
    epilogue: &Epilogue<R>,
) -> (CubeTensor<R>, Option<ChunkMoments<R>>) {
    let task = task.prepared();
    let tile = task.cut.tile;
    let [left, right, out] = task.tensors();
    let moments = epilogue.with_moments.then(|| task.moments());
    let [across, down, deep] = task.cut.grid().map(|count| count as u32);
    // SAFETY: units read nothing beyond the rows, columns and terms of the factors and write nothing beyond the results; of
    // moments there are as many chunks as rows of tiles.
    unsafe {
        tensor_matmul_kernel::launch_unchecked::<E, R>(
            &out.client,
            CubeCount::Static(across, down, deep),
            CubeDim::new_1d(tile.units() as u32),
            address(&task.tensors()),
            task.left_vector,
            task.right_vector,
            task.out_vector,
            array(left),
            array(right),
            array(epilogue.scale.as_ref().unwrap_or(right)),
            array(epilogue.shift.as_ref().unwrap_or(right)),
            array(epilogue.slope.as_ref().unwrap_or(right)),
            array(out),
            array(moments.as_ref().map_or(out, |moments| &moments.partial)),
            task.extent(),
            leak(epilogue.activation),
            task.cut.sizes.batches,
            moments.as_ref().map_or(0, |moments| moments.chunks.count),
            tile,
            task.wide(),
            epilogue.steps(),
        );
    }
    (task.out.tensor, moments)
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn tensor_matmul_kernel<E: Float, L: Size, N: Size, W: Size>(
    left: &Array<Vector<f32, L>>,
    right: &Array<Vector<f32, N>>,
    scales: &Array<f32>,
    shifts: &Array<f32>,
    slopes: &Array<f32>,
    out: &mut Array<Vector<f32, W>>,
    partial: &mut Array<f32>,
    at: Extent,
    leak: f32,
    batches: usize,
    chunks: usize,
    #[comptime] tile: TensorTile,
    #[comptime] wide: Wide,
    #[comptime] epilogue: Steps,
) {
    let mut left_stages = SharedMemory::<Vector<E, Const<4>>>::new_aligned(
        comptime!(2 * tile.stage(tile.rows, wide.left)),
        128usize,
    );
    let mut right_stages = SharedMemory::<Vector<E, Const<4>>>::new_aligned(
        comptime!(2 * tile.stage(tile.columns, wide.right)),
        128usize,
    );
    let mut waiting = SharedMemory::<Vector<f32, Const<4>>>::new_aligned(comptime!(tile.waiting()), 128usize);
    let place = place_in(corner_in_grid(tile.rows, tile.columns), tile);
    let results = multiply::<E, L, N>(
        left,
        right,
        &mut left_stages,
        &mut right_stages,
        &at,
        &place,
        1.0f32,
        tile,
        wide,
        Scaled::Neither,
    );

    let batch = place.corner.matrix / at.pieces;
    let column = lane_column(&place, tile);
    let mut scale = Vector::<f32, Const<4>>::new(1.0f32);
    let mut shift = Vector::<f32, Const<4>>::new(0.0f32);
    if comptime!(epilogue.scale) {
        scale = of_columns(scales, batch * at.columns, column, at.columns);
    }
    if comptime!(epilogue.shift) {
        shift = of_columns(shifts, batch * at.columns, column, at.columns);
    }
    let mut slope = 1.0f32;
    if comptime!(epilogue.curve != Curve::Identity) {
        slope = slope_of(slopes, batch, leak, epilogue.curve);
    }
    let of_lane = OfColumns { scale, shift, slope };
    let lane_sums =
        write_results::<W>(out, &results, &mut waiting, &of_lane, &at, &place, tile, false, epilogue);
    if comptime!(epilogue.moments) {
        write_moments(&lane_sums, &mut waiting, partial, &at, &place, batches, chunks, tile);
    }
}
