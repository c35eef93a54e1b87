//! Which matmuls run on tensor cores in kernels of our own, and how these are cut.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::features::Plane;
use burn_cubecl::cubecl::ir::{ElemType, FloatKind, StorageType};
use burn_cubecl::cubecl::prelude::ComputeClient;

use super::factor::Factor;
use super::tile::{CUBES, QUAD, Sizes, Tiling};
use crate::precision::Precision;

/// Rows and columns of a fragment: what a plane multiplies at once.
pub(super) const FRAGMENT: usize = 16;
/// Units of a plane, as NVIDIA's GPUs have them.
pub(super) const PLANE: usize = 32;
/// Terms of a stage. Twice as many in 16 bits took up to 80 more registers, with which fewer cubes share a multiprocessor.
const DEPTH: usize = 32;
/// Bytes left free after each line of a stage, so that 8 lines of 16 bytes meet different banks.
const GAP: usize = 16;

/// A precision below f32: the dtype of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Rounding {
    Tf32,
    Bf16,
    F16,
}

/// What a cube computes, and how its planes share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TensorTile {
    /// Results of a cube.
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Results of a plane.
    pub(super) plane_rows: usize,
    pub(super) plane_columns: usize,
    /// Terms of a stage.
    pub(super) depth: usize,
    pub(super) rounding: Rounding,
}

impl Rounding {
    /// `None` for f32.
    pub(super) fn new(precision: Precision) -> Option<Self> {
        match precision {
            Precision::F32 => None,
            Precision::Tf32 => Some(Self::Tf32),
            Precision::Bf16 => Some(Self::Bf16),
            Precision::F16 => Some(Self::F16),
        }
    }

    fn kind(self) -> FloatKind {
        match self {
            Self::Tf32 => FloatKind::TF32,
            Self::Bf16 => FloatKind::BF16,
            Self::F16 => FloatKind::F16,
        }
    }

    /// Bytes of a value in shared memory.
    fn bytes(self) -> usize {
        match self {
            Self::Tf32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }

    /// Terms of a fragment.
    pub(super) fn fragment_terms(self) -> usize {
        match self {
            Self::Tf32 => 8,
            Self::Bf16 | Self::F16 => 16,
        }
    }

    /// Whether values beyond the largest one are rounded to it.
    pub(super) fn is_bounded(self) -> bool {
        match self {
            Self::Tf32 | Self::Bf16 => false,
            Self::F16 => true,
        }
    }
}

impl TensorTile {
    /// The tile of a matmul: one of the usual ones in f32.
    pub(super) fn new(sizes: Sizes, rounding: Rounding) -> Self {
        Self::of(sizes.usual_shape(CUBES), rounding)
    }

    /// Eight planes of 64 x 32 results, or where there are fewer results four or eight of 32 x 32.
    fn of([rows, columns]: [usize; 2], rounding: Rounding) -> Self {
        let plane_rows = if rows == 128 && columns == 128 { 64 } else { 32 };
        Self { rows, columns, plane_rows, plane_columns: 32, depth: DEPTH, rounding }
    }

    /// The tiles of two matmuls for one launch: they have one number of units.
    fn side_by_side(sizes: [Sizes; 2], rounding: Rounding) -> [Self; 2] {
        let tiles = sizes.map(|sizes| Self::new(sizes, rounding));
        let [units, others] = tiles.map(Self::units);
        if units == others { tiles } else { [Self::of([64; 2], rounding); 2] }
    }

    pub(super) fn planes(self) -> usize {
        self.rows / self.plane_rows * self.planes_wide()
    }

    /// Planes side by side.
    pub(super) fn planes_wide(self) -> usize {
        self.columns / self.plane_columns
    }

    /// Fragments of a plane, one below the other.
    pub(super) fn fragments_tall(self) -> usize {
        self.plane_rows / FRAGMENT
    }

    /// Fragments of a plane side by side.
    pub(super) fn fragments_wide(self) -> usize {
        self.plane_columns / FRAGMENT
    }

    /// Quads of a row of a plane: each is written by lanes of its own.
    pub(super) fn plane_quads(self) -> usize {
        self.plane_columns / QUAD
    }

    /// Quads of one line of a stage: neighbours in the tensor lie side by side here too, `side` of them where the tensor has
    /// those of one term together, else all terms of the stage.
    pub(super) fn line(self, side: usize, wide: bool) -> usize {
        if wide { side / QUAD } else { self.depth / QUAD }
    }

    /// Quads from one line of a stage to the next.
    pub(super) fn pitch(self, side: usize, wide: bool) -> usize {
        self.line(side, wide) + GAP / (QUAD * self.rounding.bytes())
    }

    /// Quads of a stage.
    pub(super) fn stage(self, side: usize, wide: bool) -> usize {
        let lines = if wide { self.depth } else { side };
        lines * self.pitch(side, wide)
    }

    /// Quads that a unit brings to a stage.
    pub(super) fn loads(self, side: usize) -> usize {
        side * self.depth / QUAD / self.units()
    }

    /// Quads from one row of results to the next, as they wait to be written.
    pub(super) fn result_pitch(self) -> usize {
        self.plane_quads() + 1
    }

    /// Quads of the results that wait to be written.
    pub(super) fn waiting(self) -> usize {
        self.planes() * FRAGMENT * self.result_pitch()
    }
}

impl Tiling for TensorTile {
    fn rows(self) -> usize {
        self.rows
    }

    fn columns(self) -> usize {
        self.columns
    }

    fn units(self) -> usize {
        self.planes() * PLANE
    }

    fn vector<R: CubeRuntime>(self, factor: &Factor<R>, width: usize, terms: usize) -> usize {
        factor.line_vector(width, terms)
    }

    /// Whole stages, so that pieces begin at whole vectors.
    fn length(self, terms: usize, pieces: usize) -> usize {
        terms.div_ceil(pieces).next_multiple_of(self.depth)
    }
}

/// Bytes of shared memory of a launch with these tiles, for the layouts that take the most.
fn shared_memory(tiles: &[TensorTile]) -> usize {
    let most = |of: &dyn Fn(TensorTile) -> usize| tiles.iter().map(|tile| of(*tile)).max().unwrap_or(0);
    let stages = |tile: TensorTile, side| {
        2 * tile.stage(side, true).max(tile.stage(side, false)) * QUAD * tile.rounding.bytes()
    };
    most(&|tile| stages(tile, tile.rows))
        + most(&|tile| stages(tile, tile.columns))
        + most(&|tile| tile.waiting() * QUAD * size_of::<f32>())
}

/// The tile of a matmul in this precision, where our kernel computes it: on devices with tensor cores for 16 x 16 results.
pub(super) fn tensor_tile<R: CubeRuntime>(
    client: &ComputeClient<R>,
    sizes: Sizes,
    precision: Precision,
) -> Option<TensorTile> {
    let tile = TensorTile::new(sizes, Rounding::new(precision)?);
    is_computed(client, &[tile]).then_some(tile)
}

/// The tiles of two matmuls in one launch, where our kernel computes both.
pub(super) fn tensor_tiles_of_pair<R: CubeRuntime>(
    client: &ComputeClient<R>,
    sizes: [Sizes; 2],
    precision: Precision,
) -> Option<[TensorTile; 2]> {
    let tiles = TensorTile::side_by_side(sizes, Rounding::new(precision)?);
    is_computed(client, &tiles).then_some(tiles)
}

/// Whether this device has the tensor cores and the room for a launch with these tiles.
fn is_computed<R: CubeRuntime>(client: &ComputeClient<R>, tiles: &[TensorTile]) -> bool {
    let properties = client.properties();
    let hardware = &properties.hardware;
    let has_fragments = |rounding: Rounding| {
        let factor = StorageType::from(ElemType::Float(rounding.kind()));
        let sum = StorageType::from(ElemType::Float(FloatKind::F32));
        let size = [FRAGMENT, FRAGMENT, rounding.fragment_terms()].map(|length| length as u32);
        properties.features.matmul.cmma.iter().any(|unit| {
            let types = unit.a_type == factor && unit.b_type == factor && unit.cd_type == sum;
            types && [unit.m, unit.n, unit.k] == size
        })
    };
    let planes = [hardware.plane_size_min, hardware.plane_size_max];
    let has_planes =
        planes.iter().all(|&size| size as usize == PLANE) && properties.features.plane.contains(Plane::Sync);
    let has_units = tiles.iter().all(|tile| tile.units() <= hardware.max_units_per_cube as usize);
    tiles.iter().all(|tile| has_fragments(tile.rounding))
        && has_planes
        && has_units
        && shared_memory(tiles) <= hardware.max_shared_memory_size
}

#[cfg(test)]
mod tests {
    use super::super::tile::{Sizes, Tiling};
    use super::{FRAGMENT, GAP, PLANE, QUAD, Rounding, TensorTile, shared_memory};

    const ROUNDINGS: [Rounding; 3] = [Rounding::Tf32, Rounding::Bf16, Rounding::F16];

    fn tiles() -> Vec<TensorTile> {
        let mut tiles = Vec::new();
        for rounding in ROUNDINGS {
            for rows in [40, 100, 100_000] {
                for columns in [1, 80, 360] {
                    let sizes = Sizes { batches: 2, sums: 1, rows, columns, terms: 414, pieces: 1 };
                    tiles.push(TensorTile::new(sizes, rounding));
                }
            }
        }
        tiles
    }

    #[test]
    fn planes_share_a_tile_and_units_a_stage() {
        for tile in tiles() {
            assert_eq!(tile.planes() * tile.plane_rows * tile.plane_columns, tile.rows * tile.columns);
            for side in [tile.rows, tile.columns] {
                assert_eq!(tile.loads(side) * tile.units() * QUAD, side * tile.depth, "{tile:?}");
            }
            assert_eq!(tile.depth % tile.rounding.fragment_terms(), 0, "{tile:?}");
        }
    }

    /// Tensor cores read fragments that begin at multiples of 32 bytes, and lines at multiples of 16.
    #[test]
    fn fragments_are_aligned() {
        for tile in tiles() {
            let bytes = QUAD * tile.rounding.bytes();
            for side in [tile.rows, tile.columns] {
                for wide in [false, true] {
                    let pitch = tile.pitch(side, wide) * bytes;
                    assert_eq!(pitch % 16, 0, "{tile:?}");
                    // Eight lines of 16 bytes at different banks.
                    assert_eq!(pitch / GAP % 2, 1, "{tile:?}");
                    let step = if wide { tile.rounding.fragment_terms() } else { FRAGMENT };
                    assert_eq!(step * pitch % 32, 0, "{tile:?}");
                    assert_eq!(tile.stage(side, wide) * bytes % 32, 0, "{tile:?}");
                }
            }
        }
    }

    /// Lanes write whole rows of a fragment, and what they leave for the moments fits where results wait.
    #[test]
    fn lanes_share_the_results() {
        for tile in tiles() {
            assert_eq!(PLANE % tile.plane_quads(), 0, "{tile:?}");
            assert_eq!(FRAGMENT * tile.plane_quads() % PLANE, 0, "{tile:?}");
            assert!(2 * tile.units() <= tile.waiting(), "{tile:?}");
            assert!(tile.columns / QUAD <= tile.units(), "{tile:?}");
        }
    }

    #[test]
    fn tiles_of_one_launch_have_one_number_of_units() {
        for one in tiles() {
            for rows in [40, 100_000] {
                let sizes = Sizes { batches: 2, sums: 1, rows, columns: 200, terms: 32, pieces: 8 };
                let other = Sizes { batches: 1, sums: 2, rows: one.rows, columns: one.columns, ..sizes };
                let tiles = TensorTile::side_by_side([sizes, other], one.rounding);
                assert_eq!(tiles[0].units(), tiles[1].units(), "{tiles:?}");
                let bytes = shared_memory(&tiles);
                assert!(bytes >= shared_memory(&tiles[..1]).max(shared_memory(&tiles[1..])), "{tiles:?}");
                assert!(2 * bytes <= 227 << 10, "{tiles:?}: {bytes} bytes");
            }
        }
    }

    #[test]
    fn two_cubes_fit_a_multiprocessor() {
        for tile in tiles() {
            let bytes = shared_memory(&[tile]);
            assert!(2 * bytes <= 227 << 10, "{tile:?}: {bytes} bytes");
        }
    }
}
