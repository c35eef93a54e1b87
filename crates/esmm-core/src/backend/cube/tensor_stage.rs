//! Stages of the factors in shared memory, for tensor cores: a stage lies as the factor lies in the tensor, terms or rows
//! side by side, for fragments are read either way.

use burn_cubecl::cubecl::{self, cmma, prelude::*};

use super::quads;
use super::rounding::bounded;
use super::tensor_cores::{FRAGMENT, TensorTile};
use super::tile::{QUAD, Tiling};

/// A unit's share of a stage, from the tensor: 0 beyond the rows (or columns) and the terms. A line is what neighbours in
/// memory belong to.
#[cube]
pub(super) fn load<N: Size>(
    values: &Array<Vector<f32, N>>,
    next: &mut Array<Vector<f32, Const<4>>>,
    base: usize,
    line_distance: usize,
    first: usize,
    len: usize,
    term: usize,
    end: usize,
    #[comptime] side: usize,
    #[comptime] tile: TensorTile,
    #[comptime] wide: bool,
) {
    let unit = UNIT_POS as usize;
    let quads = comptime!(tile.line(side, wide));
    #[unroll]
    for load in 0..comptime!(tile.loads(side)) {
        let index = unit + comptime!(load * tile.units());
        let quad = index % quads * QUAD;
        let line = index / quads;
        let (line, line_end, from, from_end) = if comptime!(wide) {
            (term + line, end, first + quad, len)
        } else {
            (first + line, len, term + quad, end)
        };
        let mut loaded = Vector::<f32, Const<4>>::new(0.0f32);
        if line < line_end {
            loaded = quads::read::<N>(values, base + line * line_distance, from, from_end);
        }
        next[load] = loaded;
    }
}

/// A unit's share of a stage, times `factor` if it is scaled and rounded, to shared memory.
#[cube]
pub(super) fn store<E: Float>(
    next: &Array<Vector<f32, Const<4>>>,
    stages: &mut SharedMemory<Vector<E, Const<4>>>,
    stage: usize,
    factor: f32,
    #[comptime] side: usize,
    #[comptime] tile: TensorTile,
    #[comptime] wide: bool,
    #[comptime] scaled: bool,
) {
    let unit = UNIT_POS as usize;
    let quads = comptime!(tile.line(side, wide));
    #[unroll]
    for load in 0..comptime!(tile.loads(side)) {
        let index = unit + comptime!(load * tile.units());
        let mut value = next[load];
        if comptime!(scaled) {
            value *= Vector::<f32, Const<4>>::new(factor);
        }
        if comptime!(tile.rounding.is_bounded()) {
            value = bounded::<Const<4>>(value);
        }
        let place = stage + index / quads * comptime!(tile.pitch(side, wide)) + index % quads;
        stages[place] = Vector::<E, Const<4>>::cast_from(value);
    }
}

/// A fragment of a stage: 16 rows (or columns) from `across` on, terms from `term` on.
#[cube]
pub(super) fn fragment_of<E: Float>(
    stages: &SharedMemory<Vector<E, Const<4>>>,
    first: usize,
    across: usize,
    #[comptime] term: usize,
    #[comptime] side: usize,
    #[comptime] ident: cmma::MatrixIdent,
    #[comptime] tile: TensorTile,
    #[comptime] wide: bool,
) -> cmma::Matrix<E> {
    let pitch = comptime!(tile.pitch(side, wide));
    let place = if comptime!(wide) {
        first + comptime!(term * pitch) + across / QUAD
    } else {
        first + across * pitch + comptime!(term / QUAD)
    };
    // SAFETY: it is loaded before it is read.
    let fragment = unsafe {
        cmma::Matrix::<E>::uninitialized(
            ident,
            FRAGMENT,
            FRAGMENT,
            comptime!(tile.rounding.fragment_terms()),
            comptime!(layout(ident, wide)),
        )
    };
    let lines = stages.slice(place, place + comptime!(FRAGMENT * pitch));
    cmma::load(&fragment, &lines, comptime!((pitch * QUAD) as u32));
    fragment
}

/// How a fragment lies in a stage: rows of the left factor and terms of the right one are rows of a fragment.
fn layout(ident: cmma::MatrixIdent, wide: bool) -> cmma::MatrixLayout {
    let lines_are_rows = (ident == cmma::MatrixIdent::B) == wide;
    if lines_are_rows { cmma::MatrixLayout::RowMajor } else { cmma::MatrixLayout::ColMajor }
}
