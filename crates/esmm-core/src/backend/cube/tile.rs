//! How a matmul is cut into tiles, one a cube.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::prelude::ComputeClient;

use super::factor::Factor;

/// Values that are loaded, stored and multiplied at once.
pub(super) const QUAD: usize = 4;
/// Results that a unit computes in each direction.
pub(super) const UNIT: usize = 2 * QUAD;
/// Cubes that fill a large GPU.
const CUBES: usize = 264;

/// What a cube computes: 64 or 128 rows and columns, `depth` terms at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Tile {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) depth: usize,
}

/// How many results there are, and how many terms each sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Matmuls side by side.
    pub(super) batches: usize,
    /// Matmuls that are added to one result.
    pub(super) sums: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) terms: usize,
    /// Pieces into which the terms are cut, each with a result of its own.
    pub(super) pieces: usize,
}

impl Sizes {
    /// Cubes across the columns, down the rows, and for all batches and pieces, where a cube computes so many rows and
    /// columns: what is launched.
    pub(super) fn grid(self, rows: usize, columns: usize) -> [usize; 3] {
        [self.columns.div_ceil(columns), self.rows.div_ceil(rows), self.batches * self.pieces]
    }
}

/// What a cube of some kernel computes.
pub(super) trait Tiling: Copy {
    /// Rows of results.
    fn rows(self) -> usize;

    /// Columns of results.
    fn columns(self) -> usize;

    /// Units of the cube.
    fn units(self) -> usize;

    /// The largest vector in which the kernel reads a factor of so many terms, and `width` rows or columns.
    fn vector<R: CubeRuntime>(self, factor: &Factor<R>, width: usize, terms: usize) -> usize;

    /// Terms of a piece, where so many are cut into pieces.
    fn length(self, terms: usize, pieces: usize) -> usize;
}

/// A matmul, and the tile in which it is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut<T = Tile> {
    pub(super) sizes: Sizes,
    pub(super) tile: T,
}

impl<T: Tiling> Cut<T> {
    /// See [`Sizes::grid`].
    pub(super) fn grid(self) -> [usize; 3] {
        self.sizes.grid(self.tile.rows(), self.tile.columns())
    }

    /// Cubes of the [`grid`](Self::grid).
    pub(super) fn cubes(self) -> usize {
        self.grid().into_iter().product()
    }
}

impl Cut {
    /// The same with at most as many units a cube: for one launch with a matmul of smaller tiles.
    fn with_units(mut self, most: usize) -> Self {
        if self.tile.units() > most {
            self.tile.rows = 64;
        }
        if self.tile.units() > most {
            self.tile.columns = 64;
        }
        self
    }
}

/// Two matmuls for one launch: their tiles have one number of units, and room in the same shared memory.
pub(super) fn side_by_side(cuts: [Cut; 2], has_room: impl Fn(Tile) -> bool) -> [Cut; 2] {
    let [first, second] = cuts.map(|cut| cut.tile.units());
    let most = first.min(second);
    let cuts = cuts.map(|cut| cut.with_units(most));
    let shallow = cuts.map(|cut| Cut { tile: Tile { depth: 8, ..cut.tile }, ..cut });
    let small = cuts.map(|cut| Cut { tile: Tile::SMALLEST, ..cut });
    let has_room = |cuts: &[Cut; 2]| has_room(cuts[0].tile.around(cuts[1].tile));
    [cuts, shallow].into_iter().find(has_room).unwrap_or(small)
}

impl Tile {
    const SMALLEST: Self = Self { rows: 64, columns: 64, depth: 8 };

    /// Tiles for a matmul, the best first: those that compute the least beyond its edges, smaller where there would be few
    /// cubes.
    ///
    /// 16 terms at a time, and 8 where that is too much shared memory; the smallest tile where that still is. Long sums that
    /// end in the first half of a stage of 16 take 8 as well: measured on an H200 with the first layer of the notebook,
    /// whose 514 terms are the one case where 8 was faster.
    pub(super) fn candidates(sizes: Sizes) -> [Self; 3] {
        Self::candidates_for(sizes, CUBES)
    }

    /// The same where fewer than so many cubes are few.
    pub(super) fn candidates_for(sizes: Sizes, cubes: usize) -> [Self; 3] {
        let side = |length: usize| {
            if length.next_multiple_of(64) < length.next_multiple_of(128) { 64 } else { 128 }
        };
        let [rows, columns] = [sizes.rows, sizes.columns].map(side);
        let ends_early = sizes.terms > 512 && (1..=8).contains(&(sizes.terms % 16));
        let depths = if ends_early { [8, 16] } else { [16, 8] };
        let [first, second] = depths.map(|depth| Self { rows, columns, depth }.for_few_cubes(sizes, cubes));
        [first, second, Self::SMALLEST]
    }

    fn for_few_cubes(self, sizes: Sizes, cubes: usize) -> Self {
        let mut tile = self;
        if (Cut { sizes, tile }).cubes() < cubes {
            tile.rows = 64;
        }
        if (Cut { sizes, tile }).cubes() < cubes {
            tile.columns = 64;
        }
        tile
    }

    /// The smallest tile that takes the shared memory of both.
    pub(super) fn around(self, other: Self) -> Self {
        Self {
            rows: self.rows.max(other.rows),
            columns: self.columns.max(other.columns),
            depth: self.depth.max(other.depth),
        }
    }

    /// Quads of a stage of a factor of so many rows or columns.
    pub(super) fn stage(self, side: usize) -> usize {
        self.depth * pitch(side)
    }

    /// Quads that a unit brings to a stage.
    pub(super) fn loads(self, side: usize) -> usize {
        side / QUAD * self.depth / self.units()
    }

    /// Bytes of shared memory.
    pub(super) fn shared_memory(self) -> usize {
        2 * (self.stage(self.rows) + self.stage(self.columns)) * QUAD * size_of::<f32>()
    }
}

impl Tiling for Tile {
    fn rows(self) -> usize {
        self.rows
    }

    fn columns(self) -> usize {
        self.columns
    }

    fn units(self) -> usize {
        self.rows / UNIT * self.columns / UNIT
    }

    fn vector<R: CubeRuntime>(self, factor: &Factor<R>, width: usize, _terms: usize) -> usize {
        factor.vector(width)
    }

    fn length(self, terms: usize, pieces: usize) -> usize {
        terms.div_ceil(pieces)
    }
}

/// Quads from one term of a stage to the next: one more than there are, so that units which store different terms of one
/// row meet different banks.
pub(super) const fn pitch(side: usize) -> usize {
    side / QUAD + 1
}

/// Whether this device has the shared memory and the units for a tile.
pub(super) fn fits<R: CubeRuntime>(client: &ComputeClient<R>, tile: Tile) -> bool {
    let hardware = &client.properties().hardware;
    tile.shared_memory() <= hardware.max_shared_memory_size
        && tile.units() <= hardware.max_units_per_cube as usize
}
