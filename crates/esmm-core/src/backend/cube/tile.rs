//! How a matmul is cut into tiles, one a cube.

use std::cmp::Reverse;

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::prelude::ComputeClient;

use super::factor::Factor;

/// Values that are loaded, stored and multiplied at once.
pub(super) const QUAD: usize = 4;
/// Results that a unit computes in each direction.
pub(super) const UNIT: usize = 2 * QUAD;
/// Cubes that fill a large GPU.
pub(super) const CUBES: usize = 264;
/// Rows and columns of the usual tiles, the largest first.
const USUAL: [[usize; 2]; 4] = [[128, 128], [64, 128], [128, 64], SMALLEST];
const SMALLEST: [usize; 2] = [64, 64];
/// Those of tiles for matmuls that end early in usual ones. One side is a multiple of 64 and the other of 32, for a plane
/// computes 64 x 32 results or 32 x 64.
///
/// A multiprocessor has four schedulers and room for 12 planes of these kernels, which are whole cubes of three or six: none
/// waits for another. Of seven, as 64 x 224 results take, one cube would be there, and a scheduler idle half the time.
const FITTING: [[usize; 2]; 4] = [[96, 128], [128, 96], [64, 96], [96, 64]];

/// What a cube computes: rows and columns of one of the shapes above, `depth` terms at a time.
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

    /// Cubes of the [`grid`](Self::grid).
    fn cubes(self, [rows, columns]: [usize; 2]) -> usize {
        self.grid(rows, columns).into_iter().product()
    }

    /// Results of each matrix that tiles of so many rows and columns compute, with those beyond its edges.
    fn computed(self, [rows, columns]: [usize; 2]) -> usize {
        self.rows.next_multiple_of(rows) * self.columns.next_multiple_of(columns)
    }

    /// Rows and columns of the usual tiles: those that compute no more than the smallest, and of these the largest of which
    /// there are enough cubes.
    pub(super) fn usual_shape(self, enough: usize) -> [usize; 2] {
        let least = self.computed(SMALLEST);
        let suits = |shape: &[usize; 2]| self.computed(*shape) == least && self.cubes(*shape) >= enough;
        USUAL.into_iter().find(suits).unwrap_or(SMALLEST)
    }

    /// Rows and columns of the tiles: the usual ones, or others that compute at least a sixteenth less. Of those half as many
    /// cubes are enough, for what they save is more than what a GPU that is not quite full loses.
    fn shape(self, enough: usize) -> [usize; 2] {
        let usual = self.usual_shape(enough);
        let closest = FITTING
            .into_iter()
            .filter(|shape| 2 * self.cubes(*shape) >= enough)
            .min_by_key(|shape| self.computed(*shape));
        match closest {
            Some(closest) if 16 * self.computed(closest) <= 15 * self.computed(usual) => closest,
            _ => usual,
        }
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
    /// The same in tiles of other sides.
    fn in_shape(self, [rows, columns]: [usize; 2]) -> Self {
        Self { tile: Tile { rows, columns, ..self.tile }, ..self }
    }

    /// What all tiles compute, with what is beyond the edges.
    fn work(self) -> usize {
        let Sizes { batches, sums, terms, .. } = self.sizes;
        batches * sums * terms * self.sizes.computed([self.tile.rows, self.tile.columns])
    }
}

/// Two matmuls for one launch: their tiles have one number of units, and room in the same shared memory.
pub(super) fn side_by_side(cuts: [Cut; 2], has_room: impl Fn(Needs) -> bool) -> [Cut; 2] {
    let cuts = with_equal_units(cuts);
    let shallow = cuts.map(|cut| Cut { tile: Tile { depth: 8, ..cut.tile }, ..cut });
    let small = cuts.map(|cut| Cut { tile: Tile::SMALLEST, ..cut });
    let has_room = |cuts: &[Cut; 2]| has_room(Needs::of(&cuts.map(|cut| cut.tile)));
    [cuts, shallow].into_iter().find(has_room).unwrap_or(small)
}

/// The same in tiles of one number of units. Where they differ no tile has more than it had: those that compute the least,
/// and of several such the largest.
fn with_equal_units(cuts: [Cut; 2]) -> [Cut; 2] {
    if cuts[0].tile.units() == cuts[1].tile.units() {
        return cuts;
    }
    let [first, second] = cuts.map(|cut| {
        let own = [cut.tile.rows, cut.tile.columns];
        let others = USUAL.into_iter().chain(FITTING).filter(move |shape| *shape != own);
        let all = [own].into_iter().chain(others).map(move |shape| cut.in_shape(shape));
        all.filter(move |other| other.tile.units() <= cut.tile.units())
    });
    let pairs = first.flat_map(|first| second.clone().map(move |second| [first, second]));
    let equal = pairs.filter(|[first, second]| first.tile.units() == second.tile.units());
    let best =
        equal.min_by_key(|[first, second]| (first.work() + second.work(), Reverse(first.tile.units())));
    best.unwrap_or_else(|| cuts.map(|cut| cut.in_shape(SMALLEST)))
}

impl Tile {
    const SMALLEST: Self = Self { rows: SMALLEST[0], columns: SMALLEST[1], depth: 8 };

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
    pub(super) fn candidates_for(sizes: Sizes, enough: usize) -> [Self; 3] {
        let [rows, columns] = sizes.shape(enough);
        let ends_early = sizes.terms > 512 && (1..=8).contains(&(sizes.terms % 16));
        let depths = if ends_early { [8, 16] } else { [16, 8] };
        let [first, second] = depths.map(|depth| Self { rows, columns, depth });
        [first, second, Self::SMALLEST]
    }

    /// Quads of a stage of a factor of so many rows or columns.
    pub(super) fn stage(self, side: usize) -> usize {
        self.depth * pitch(side)
    }

    /// Quads that are brought to a stage of a factor.
    pub(super) fn quads(self, side: usize) -> usize {
        side / QUAD * self.depth
    }

    /// Quads that a unit brings of them at most: where units do not divide them, some bring one less.
    pub(super) fn loads(self, side: usize) -> usize {
        self.quads(side).div_ceil(self.units())
    }

    /// Whether all units bring a quad with their `load`th.
    pub(super) fn all_load(self, load: usize, side: usize) -> bool {
        (load + 1) * self.units() <= self.quads(side)
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

/// What a launch needs of a device for each of its cubes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Needs {
    pub(super) units: usize,
    /// Bytes.
    pub(super) shared_memory: usize,
}

impl Needs {
    /// Of a launch with these tiles, which lie in the same shared memory.
    pub(super) fn of(tiles: &[Tile]) -> Self {
        let most = |of: fn(&Tile) -> usize| tiles.iter().map(of).max().unwrap_or(0);
        let quads = most(|tile| 2 * tile.stage(tile.rows)) + most(|tile| 2 * tile.stage(tile.columns));
        Self { units: most(|tile| tile.units()), shared_memory: quads * QUAD * size_of::<f32>() }
    }
}

/// Whether this device has room for such a launch.
pub(super) fn fits<R: CubeRuntime>(client: &ComputeClient<R>, needs: Needs) -> bool {
    let hardware = &client.properties().hardware;
    needs.shared_memory <= hardware.max_shared_memory_size
        && needs.units <= hardware.max_units_per_cube as usize
}

#[cfg(test)]
mod tests {
    use super::{CUBES, Cut, FITTING, QUAD, SMALLEST, Sizes, Tile, Tiling, UNIT, USUAL, side_by_side};

    fn shapes() -> impl Iterator<Item = [usize; 2]> + Clone {
        USUAL.into_iter().chain(FITTING)
    }

    fn sizes(rows: usize, columns: usize) -> Sizes {
        Sizes { batches: 2, sums: 1, rows, columns, terms: 80, pieces: 1 }
    }

    fn in_shape(sizes: Sizes, [rows, columns]: [usize; 2]) -> Cut {
        Cut { sizes, tile: Tile { rows, columns, depth: 16 } }
    }

    #[test]
    fn whole_planes_share_a_tile_and_all_units_a_stage() {
        for [rows, columns] in shapes() {
            for depth in [8, 16] {
                let tile = Tile { rows, columns, depth };
                assert_eq!(tile.units() * UNIT * UNIT, rows * columns, "{tile:?}");
                assert!(
                    rows % 64 == 0 && columns % 32 == 0 || rows % 32 == 0 && columns % 64 == 0,
                    "{tile:?}"
                );
                for side in [rows, columns] {
                    let loads = tile.loads(side);
                    assert!(loads * tile.units() >= tile.quads(side), "{tile:?}");
                    assert!((0..loads - 1).all(|load| tile.all_load(load, side)), "{tile:?}");
                    // Eight neighbouring terms of one row at different banks.
                    assert_eq!(tile.stage(side) / depth % 2, 1, "{tile:?}");
                }
            }
        }
    }

    /// What units leave for each other to find moments fits where the longer side had its stages.
    #[test]
    fn moments_have_room() {
        for [rows, columns] in shapes() {
            let tile = Tile { rows, columns, depth: 8 };
            assert!(rows / UNIT * columns / QUAD <= 2 * tile.stage(rows.max(columns)), "{tile:?}");
        }
    }

    #[test]
    fn each_shape_is_taken_where_it_computes_the_least() {
        for [rows, columns] in shapes() {
            // So many rows of tiles that a large GPU is full.
            let sizes = sizes(80 * rows, columns);
            let found = sizes.shape(CUBES);
            assert!(sizes.computed(found) <= sizes.computed([rows, columns]), "{sizes:?}: {found:?}");
        }
        assert_eq!(sizes(16384, 80).shape(CUBES), [128, 96]);
        assert_eq!(sizes(8192, 80).shape(CUBES), [64, 96]);
        assert_eq!(sizes(96, 16384).shape(CUBES), [96, 128]);
        assert_eq!(sizes(96, 8192).shape(CUBES), [96, 64]);
    }

    /// Nothing was measured on other tiles than the usual ones.
    #[test]
    fn a_matmul_that_ends_with_usual_tiles_has_them() {
        for rows in [1, 64, 100, 4096, 16384, 65536] {
            for columns in [1, 64, 128, 200, 360, 414, 514] {
                let sizes = sizes(rows, columns);
                assert_eq!(sizes.shape(CUBES), sizes.usual_shape(CUBES), "{sizes:?}");
            }
        }
        assert_eq!(sizes(65536, 128).shape(CUBES), [128, 128]);
        assert_eq!(sizes(16384, 128).shape(CUBES), [64, 128]);
        assert_eq!(sizes(16384, 64).shape(CUBES), [64, 64]);
        assert_eq!(sizes(65536, 64).shape(CUBES), [128, 64]);
        assert_eq!(sizes(100, 80).shape(CUBES), SMALLEST);
    }

    #[test]
    fn matmuls_of_one_launch_get_tiles_of_one_number_of_units() {
        for first in shapes() {
            for second in shapes() {
                let cuts = [in_shape(sizes(200, 80), first), in_shape(sizes(16384, 200), second)];
                let found = side_by_side(cuts, |_| true);
                assert_eq!(found[0].tile.units(), found[1].tile.units(), "{found:?}");
                for (cut, found) in cuts.iter().zip(found) {
                    assert!(found.tile.units() <= cut.tile.units(), "{cuts:?}: {found:?}");
                }
                if cuts[0].tile.units() == cuts[1].tile.units() {
                    assert_eq!(found, cuts);
                }
            }
        }
        let weight = Sizes { terms: 16384, ..sizes(200, 80) };
        let cuts = [in_shape(weight, [128, 96]), in_shape(sizes(16384, 200), [128, 128])];
        let found = side_by_side(cuts, |_| true).map(|cut| [cut.tile.rows, cut.tile.columns]);
        assert_eq!(found, [[128, 96], [96, 128]]);
    }
}
