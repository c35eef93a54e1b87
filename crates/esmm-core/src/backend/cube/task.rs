//! A matmul that kernels of tiles are to compute, and what their launch needs.

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;

use super::chunks::Chunks;
use super::extent::ExtentLaunch;
use super::factor::{Factor, Wide};
use super::moments::ChunkMoments;
use super::tensor::{Rows, empty_plain, vector_size};
use super::tile::{Cut, Sizes, Tiling};

/// A matmul that is to be computed.
pub(super) struct Task<R: CubeRuntime, T> {
    pub(super) left: Factor<R>,
    pub(super) right: Factor<R>,
    pub(super) cut: Cut<T>,
}

/// A task with what its launch needs.
pub(super) struct Prepared<R: CubeRuntime, T> {
    pub(super) left: Factor<R>,
    pub(super) right: Factor<R>,
    pub(super) cut: Cut<T>,
    /// `[batches * pieces, rows, columns]`.
    pub(super) out: Rows<R>,
    pub(super) left_vector: usize,
    pub(super) right_vector: usize,
    pub(super) out_vector: usize,
}

impl<R: CubeRuntime, T: Tiling> Task<R, T> {
    pub(super) fn prepared(self) -> Prepared<R, T> {
        let Self { left, right, cut } = self;
        let Sizes { batches, rows, columns, terms, pieces, .. } = cut.sizes;
        let out = Rows::empty(&left.tensor, [batches * pieces, rows, columns]);
        Prepared {
            left_vector: cut.tile.vector(&left, rows, terms),
            right_vector: cut.tile.vector(&right, columns, terms),
            out_vector: vector_size(&[columns, out.stride]),
            left,
            right,
            cut,
            out,
        }
    }
}

impl<R: CubeRuntime, T: Tiling> Prepared<R, T> {
    pub(super) fn extent(&self) -> ExtentLaunch<R> {
        let Cut { sizes, tile } = self.cut;
        let Sizes { sums, rows, columns, terms, pieces, .. } = sizes;
        ExtentLaunch::new(
            self.left.lines(self.left_vector),
            self.right.lines(self.right_vector),
            self.out.stride / self.out_vector,
            rows,
            columns,
            terms,
            tile.length(terms, pieces),
            pieces,
            sums,
        )
    }

    pub(super) fn wide(&self) -> Wide {
        Wide { left: self.left.is_wide(), right: self.right.is_wide() }
    }

    pub(super) fn tensors(&self) -> [&CubeTensor<R>; 3] {
        [&self.left.tensor, &self.right.tensor, &self.out.tensor]
    }

    /// Room for the moments of the results: a chunk is the rows of a tile.
    pub(super) fn moments(&self) -> ChunkMoments<R> {
        let Cut { sizes, tile } = self.cut;
        let chunks = Chunks { rows: tile.rows(), count: sizes.rows.div_ceil(tile.rows()) };
        let shape = [2, chunks.count, sizes.batches, sizes.columns];
        ChunkMoments { partial: empty_plain(&self.out.tensor, shape), chunks }
    }
}

/// Units of a cube that computes either of two matmuls, and the cubes of each.
///
/// # Panics
/// When their tiles have different numbers of units.
pub(super) fn cubes_of_pair<T: Tiling>(cuts: [Cut<T>; 2]) -> (usize, [usize; 2]) {
    let [units, others] = cuts.map(|cut| cut.tile.units());
    assert_eq!(units, others, "tiles of one launch have one number of units");
    (units, cuts.map(Cut::cubes))
}
