//! Stages of the factors in shared memory, for units that multiply in f32: the rows (or columns) of a term side by side, in
//! quads, however the factor lies in the tensor.

use burn_cubecl::cubecl::{self, prelude::*};

use super::extent::Extent;
use super::factor::Wide;
use super::tile::{QUAD, Tile, Tiling, pitch};
use super::tile_cube::Place;

/// This unit's share of a stage of both factors, from the tensors: terms from `term` on, those of a batch from its base on.
#[cube]
pub(super) fn load_stages<L: Size, N: Size>(
    left: &Array<Vector<f32, L>>,
    right: &Array<Vector<f32, N>>,
    next_left: &mut Array<Vector<f32, Const<4>>>,
    next_right: &mut Array<Vector<f32, Const<4>>>,
    left_base: usize,
    right_base: usize,
    term: usize,
    end: usize,
    at: &Extent,
    place: &Place,
    #[comptime] tile: Tile,
    #[comptime] wide: Wide,
) {
    load::<L>(
        left,
        next_left,
        left_base,
        at.left.line,
        place.corner.row,
        at.rows,
        term,
        end,
        tile.rows,
        tile,
        comptime!(wide.left),
    );
    load::<N>(
        right,
        next_right,
        right_base,
        at.right.line,
        place.corner.column,
        at.columns,
        term,
        end,
        tile.columns,
        tile,
        comptime!(wide.right),
    );
}

/// This unit's share of both, to the `stage`th of the stages in shared memory.
#[cube]
pub(super) fn store_stages(
    next_left: &Array<Vector<f32, Const<4>>>,
    next_right: &Array<Vector<f32, Const<4>>>,
    left_stages: &mut SharedMemory<Vector<f32, Const<4>>>,
    right_stages: &mut SharedMemory<Vector<f32, Const<4>>>,
    stage: usize,
    #[comptime] tile: Tile,
    #[comptime] wide: Wide,
) {
    let left_stage = comptime!(tile.stage(tile.rows));
    let right_stage = comptime!(tile.stage(tile.columns));
    store(next_left, left_stages, stage * left_stage, tile.rows, tile, comptime!(wide.left));
    store(next_right, right_stages, stage * right_stage, tile.columns, tile, comptime!(wide.right));
}

/// A unit's share of a stage, from the tensor: 0 beyond the terms, the last ones again beyond the rows (or columns), whose
/// results are not written. Lines are `distance` apart.
#[cube]
fn load<N: Size>(
    values: &Array<Vector<f32, N>>,
    next: &mut Array<Vector<f32, Const<4>>>,
    base: usize,
    distance: usize,
    first: usize,
    len: usize,
    term: usize,
    end: usize,
    #[comptime] side: usize,
    #[comptime] tile: Tile,
    #[comptime] wide: bool,
) {
    let size = N::value().comptime();
    #[unroll]
    for load in 0..comptime!(tile.loads(side)) {
        let index = UNIT_POS as usize + comptime!(load * tile.units());
        let (quad, depth) = place_of(index, side, tile, wide);
        let from = first + quad * QUAD;
        let term = term + depth;
        let mut loaded = Vector::<f32, Const<4>>::new(0.0f32);
        let mut exists = term < end;
        if comptime!(!tile.all_load(load, side)) {
            exists = exists && index < comptime!(tile.quads(side));
        }
        if exists {
            if comptime!(wide) {
                let line = base + term * distance;
                #[unroll]
                for part in 0..comptime!(QUAD / size) {
                    let neighbour = min(from + comptime!(part * size), len - size);
                    let vector = values[line + neighbour / size];
                    #[unroll]
                    for lane in 0..size {
                        loaded[comptime!(part * size + lane)] = vector[lane];
                    }
                }
            } else {
                let place = base + term;
                #[unroll]
                for part in 0..QUAD {
                    let neighbour = min(from + part, len - 1);
                    let vector = values[place + neighbour * distance];
                    loaded[part] = vector[0];
                }
            }
        }
        next[load] = loaded;
    }
}

/// A unit's share of a stage, to shared memory.
#[cube]
#[allow(
    clippy::if_same_then_else,
    reason = "the first condition is known as the kernel is compiled and leaves no branch"
)]
fn store(
    next: &Array<Vector<f32, Const<4>>>,
    stages: &mut SharedMemory<Vector<f32, Const<4>>>,
    first: usize,
    #[comptime] side: usize,
    #[comptime] tile: Tile,
    #[comptime] wide: bool,
) {
    #[unroll]
    for load in 0..comptime!(tile.loads(side)) {
        let index = UNIT_POS as usize + comptime!(load * tile.units());
        let (quad, depth) = place_of(index, side, tile, wide);
        let place = first + depth * comptime!(pitch(side)) + quad;
        if comptime!(tile.all_load(load, side)) {
            stages[place] = next[load];
        } else if index < comptime!(tile.quads(side)) {
            stages[place] = next[load];
        }
    }
}

/// Quad and term of the `index`th load of a stage: neighbours in the tensor are loaded by neighbouring units.
#[cube]
fn place_of(
    index: usize,
    #[comptime] side: usize,
    #[comptime] tile: Tile,
    #[comptime] wide: bool,
) -> (usize, usize) {
    if comptime!(wide) {
        let quads = comptime!(side / QUAD);
        (index % quads, index / quads)
    } else {
        let depth = comptime!(tile.depth);
        (index / depth, index % depth)
    }
}
