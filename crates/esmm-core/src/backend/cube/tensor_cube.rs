//! What a cube of a matmul on tensor cores does: it computes a tile of `rows x columns` results, a plane a part of it in
//! fragments of 16 x 16. While a stage is multiplied, the next one is on its way in registers: two stages in shared
//! memory, one barrier each.

use burn_cubecl::cubecl::{self, cmma, prelude::*};

use super::extent::{Corner, Extent, terms_of};
use super::factor::Wide;
use super::tensor_cores::{FRAGMENT, PLANE, TensorTile};
use super::tensor_stage::{fragment_of, load, store};

/// A factor that is multiplied by a power of two before it is rounded; what is written is divided by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Scaled {
    Neither,
    Left,
    Right,
}

/// Which results a plane computes.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Place {
    pub(super) corner: Corner,
    /// Of the plane, in the tile.
    pub(super) row: usize,
    pub(super) column: usize,
}

/// The place of this plane in the tile at a corner.
#[cube]
pub(super) fn place_in(corner: Corner, #[comptime] tile: TensorTile) -> Place {
    let plane = UNIT_POS as usize / PLANE;
    let planes_wide = comptime!(tile.planes_wide());
    Place {
        corner,
        row: plane / planes_wide * comptime!(tile.plane_rows),
        column: plane % planes_wide * comptime!(tile.plane_columns),
    }
}

/// The results of this plane, fragments of a row side by side.
#[cube]
pub(super) fn multiply<E: Float, L: Size, N: Size>(
    left: &Array<Vector<f32, L>>,
    right: &Array<Vector<f32, N>>,
    left_stages: &mut SharedMemory<Vector<E, Const<4>>>,
    right_stages: &mut SharedMemory<Vector<E, Const<4>>>,
    at: &Extent,
    place: &Place,
    factor: f32,
    #[comptime] tile: TensorTile,
    #[comptime] wide: Wide,
    #[comptime] scaled: Scaled,
) -> Sequence<cmma::Matrix<f32>> {
    let left_stage = comptime!(tile.stage(tile.rows, wide.left));
    let right_stage = comptime!(tile.stage(tile.columns, wide.right));
    let terms = terms_of(at, place.corner.matrix);
    let steps_each = (terms.end - terms.start).div_ceil(comptime!(tile.depth));
    let steps = steps_each * at.sums;
    let left_batch = terms.batch * at.left.batch;
    let right_batch = terms.batch * at.right.batch;

    let mut results = Sequence::<cmma::Matrix<f32>>::new();
    #[unroll]
    for _ in 0..comptime!(tile.fragments_tall() * tile.fragments_wide()) {
        results.push(cmma::Matrix::<f32>::from_value(
            cmma::MatrixIdent::Accumulator,
            FRAGMENT,
            FRAGMENT,
            comptime!(tile.rounding.fragment_terms()),
            cmma::MatrixLayout::Undefined,
            0.0f32,
        ));
    }
    let mut next_left = Array::<Vector<f32, Const<4>>>::new(comptime!(tile.loads(tile.rows)));
    let mut next_right = Array::<Vector<f32, Const<4>>>::new(comptime!(tile.loads(tile.columns)));

    // One step more than stages: the first one only loads.
    for step in 0..steps + 1 {
        if step < steps {
            let sum = step / steps_each;
            let term = terms.start + step % steps_each * comptime!(tile.depth);
            load::<L>(
                left,
                &mut next_left,
                left_batch + sum * at.left.sum,
                at.left.line,
                place.corner.row,
                at.rows,
                term,
                terms.end,
                tile.rows,
                tile,
                comptime!(wide.left),
            );
            load::<N>(
                right,
                &mut next_right,
                right_batch + sum * at.right.sum,
                at.right.line,
                place.corner.column,
                at.columns,
                term,
                terms.end,
                tile.columns,
                tile,
                comptime!(wide.right),
            );
        }
        if step > 0 {
            let stage = (step - 1) % 2;
            multiply_stage::<E>(
                left_stages,
                right_stages,
                &results,
                stage * left_stage,
                stage * right_stage,
                place,
                tile,
                wide,
            );
        }
        if step < steps {
            let stage = step % 2;
            store::<E>(
                &next_left,
                left_stages,
                stage * left_stage,
                factor,
                tile.rows,
                tile,
                comptime!(wide.left),
                comptime!(scaled == Scaled::Left),
            );
            store::<E>(
                &next_right,
                right_stages,
                stage * right_stage,
                factor,
                tile.columns,
                tile,
                comptime!(wide.right),
                comptime!(scaled == Scaled::Right),
            );
        }
        sync_cube();
    }
    results
}

/// Adds the matmul of a stage to the results of a plane.
#[cube]
fn multiply_stage<E: Float>(
    left: &SharedMemory<Vector<E, Const<4>>>,
    right: &SharedMemory<Vector<E, Const<4>>>,
    results: &Sequence<cmma::Matrix<f32>>,
    left_first: usize,
    right_first: usize,
    place: &Place,
    #[comptime] tile: TensorTile,
    #[comptime] wide: Wide,
) {
    let terms = comptime!(tile.rounding.fragment_terms());
    let fragments = comptime!(tile.fragments_wide());
    #[unroll]
    for part in 0..comptime!(tile.depth / terms) {
        let mut columns = Sequence::<cmma::Matrix<E>>::new();
        #[unroll]
        for fragment in 0..fragments {
            columns.push(fragment_of::<E>(
                right,
                right_first,
                place.column + comptime!(fragment * FRAGMENT),
                comptime!(part * terms),
                tile.columns,
                cmma::MatrixIdent::B,
                tile,
                comptime!(wide.right),
            ));
        }
        #[unroll]
        for fragment_row in 0..comptime!(tile.fragments_tall()) {
            let rows = fragment_of::<E>(
                left,
                left_first,
                place.row + comptime!(fragment_row * FRAGMENT),
                comptime!(part * terms),
                tile.rows,
                cmma::MatrixIdent::A,
                tile,
                comptime!(wide.left),
            );
            #[unroll]
            for fragment in 0..fragments {
                let result = results.index(comptime!(fragment_row * fragments + fragment));
                cmma::execute::<E, E, f32, f32>(&rows, columns.index(fragment), result, result);
            }
        }
    }
}
