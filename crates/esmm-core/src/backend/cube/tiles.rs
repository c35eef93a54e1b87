//! Matmuls in f32 from tiles in shared memory, at any distances of rows and columns: what is transposed, shared by towers
//! or cut into pieces is read where it lies. One matmul a launch; two are in `tile_pair.rs`.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::block::{Curve, activate, leak, slope_of};
use super::epilogue::{Epilogue, Steps, of_columns};
use super::extent::{Extent, corner_in_grid};
use super::factor::Wide;
use super::moments::ChunkMoments;
use super::task::Task;
use super::tensor::{address, array};
use super::tile::{Tile, Tiling, UNIT};
use super::tile_cube::{column_of, multiply, place_in, write_results};
use super::tile_moments::tile_moments;

/// `[batches * pieces, rows, columns]`, and where the epilogue asks for them the moments of the results. An epilogue has
/// no place where the terms are cut into pieces.
pub(super) fn matmul<R: CubeRuntime>(
    task: Task<R, Tile>,
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
        matmul_kernel::launch_unchecked(
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
fn matmul_kernel<L: Size, N: Size, W: Size>(
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
    #[comptime] tile: Tile,
    #[comptime] wide: Wide,
    #[comptime] epilogue: Steps,
) {
    let mut left_stages = SharedMemory::<Vector<f32, Const<4>>>::new(comptime!(2 * tile.stage(tile.rows)));
    let mut right_stages =
        SharedMemory::<Vector<f32, Const<4>>>::new(comptime!(2 * tile.stage(tile.columns)));
    let place = place_in(corner_in_grid(tile.rows, tile.columns), tile);
    let mut results =
        multiply::<L, N>(left, right, &mut left_stages, &mut right_stages, &at, &place, tile, wide);

    let batch = place.corner.matrix / at.pieces;
    #[unroll]
    for side in 0..2usize {
        let column = column_of(&place, side, tile);
        if comptime!(epilogue.scale) {
            let scale = of_columns(scales, batch * at.columns, column, at.columns);
            #[unroll]
            for row in 0..UNIT {
                results[comptime!(2 * row + side)] *= scale;
            }
        }
        if comptime!(epilogue.shift) {
            let shift = of_columns(shifts, batch * at.columns, column, at.columns);
            #[unroll]
            for row in 0..UNIT {
                results[comptime!(2 * row + side)] += shift;
            }
        }
        if comptime!(epilogue.curve != Curve::Identity) {
            let slope = slope_of(slopes, batch, leak, epilogue.curve);
            #[unroll]
            for row in 0..UNIT {
                let index = comptime!(2 * row + side);
                results[index] = activate::<Const<4>>(results[index], slope, epilogue.curve);
            }
        }
    }
    if comptime!(epilogue.moments) {
        // Whose stages have room for it.
        if comptime!(tile.rows >= tile.columns) {
            tile_moments(&results, &mut left_stages, partial, &at, &place, batches, chunks, tile);
        } else {
            tile_moments(&results, &mut right_stages, partial, &at, &place, batches, chunks, tile);
        }
    }
    write_results::<W>(out, &results, &at, &place, tile);
}
