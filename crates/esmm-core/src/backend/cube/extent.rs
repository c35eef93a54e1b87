//! What a kernel of tiles knows of its matmul: its sizes, where its factors and results lie, and what of it a cube computes.

use burn_cubecl::cubecl::{self, prelude::*};

use super::factor::Lines;

/// Sizes of a matmul and where its factors and results lie.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct Extent {
    pub(super) left: Lines,
    pub(super) right: Lines,
    /// From one row of results to the next, in vectors.
    pub(super) out_stride: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) terms: usize,
    /// Terms of a piece.
    pub(super) length: usize,
    pub(super) pieces: usize,
    pub(super) sums: usize,
}

/// Where the results of a cube begin.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Corner {
    pub(super) row: usize,
    pub(super) column: usize,
    /// Number of the matrix of results: batch and piece.
    pub(super) matrix: usize,
}

/// The terms that a cube sums.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Terms {
    pub(super) batch: usize,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// The corner of this cube in a grid like [`Sizes::grid`](super::tile::Sizes::grid), where each has so many results.
#[cube]
pub(super) fn corner_in_grid(#[comptime] rows: usize, #[comptime] columns: usize) -> Corner {
    Corner {
        row: CUBE_POS_Y as usize * rows,
        column: CUBE_POS_X as usize * columns,
        matrix: CUBE_POS_Z as usize,
    }
}

/// The corner of the `cube`th cube of such a grid.
#[cube]
pub(super) fn corner_of(
    cube: usize,
    at: &Extent,
    #[comptime] rows: usize,
    #[comptime] columns: usize,
) -> Corner {
    let across = at.columns.div_ceil(columns);
    let down = at.rows.div_ceil(rows);
    Corner { row: cube / across % down * rows, column: cube % across * columns, matrix: cube / across / down }
}

/// The terms of a matrix of results.
#[cube]
pub(super) fn terms_of(at: &Extent, matrix: usize) -> Terms {
    let piece = matrix % at.pieces;
    let start = min(piece * at.length, at.terms);
    Terms { batch: matrix / at.pieces, start, end: min(start + at.length, at.terms) }
}
