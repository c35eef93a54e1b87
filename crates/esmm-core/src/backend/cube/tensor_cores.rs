//! Which matmuls run on tensor cores in kernels of our own, and how these are cut.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::features::Plane;
use burn_cubecl::cubecl::ir::{ElemType, FloatKind, StorageType};
use burn_cubecl::cubecl::prelude::ComputeClient;

use super::tile::{QUAD, Sizes, Tile};
use crate::precision::Precision;

/// Rows and columns of a fragment: what a plane multiplies at once.
pub(super) const FRAGMENT: usize = 16;
/// Units of a plane, as NVIDIA's GPUs have them.
pub(super) const PLANE: usize = 32;
/// Terms of a stage.
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
    /// The tile of a matmul: as wide as that of an f32 one.
    pub(super) fn new(sizes: Sizes, rounding: Rounding) -> Self {
        let [Tile { rows, columns, .. }, ..] = Tile::candidates(sizes);
        // Eight planes of 64 x 32 results, or where there are fewer results four or eight of 32 x 32.
        let plane_rows = if rows == 128 && columns == 128 { 64 } else { 32 };
        Self { rows, columns, plane_rows, plane_columns: 32, depth: DEPTH, rounding }
    }

    pub(super) fn planes(self) -> usize {
        self.rows / self.plane_rows * (self.columns / self.plane_columns)
    }

    pub(super) fn units(self) -> usize {
        self.planes() * PLANE
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
        self.plane_columns / QUAD + 1
    }

    /// Bytes of shared memory, for the layout that takes the most.
    fn shared_memory(self) -> usize {
        let largest = |side| self.stage(side, true).max(self.stage(side, false));
        let stages = 2 * (largest(self.rows) + largest(self.columns)) * QUAD * self.rounding.bytes();
        stages + self.planes() * FRAGMENT * self.result_pitch() * QUAD * size_of::<f32>()
    }
}

/// The tile of a matmul in this precision, where our kernel computes it: on devices with tensor cores for 16 x 16 results.
pub(super) fn tensor_tile<R: CubeRuntime>(
    client: &ComputeClient<R>,
    sizes: Sizes,
    precision: Precision,
) -> Option<TensorTile> {
    let tile = TensorTile::new(sizes, Rounding::new(precision)?);
    let properties = client.properties();
    let hardware = &properties.hardware;
    let factor = StorageType::from(ElemType::Float(tile.rounding.kind()));
    let sum = StorageType::from(ElemType::Float(FloatKind::F32));
    let size = [FRAGMENT, FRAGMENT, tile.rounding.fragment_terms()].map(|length| length as u32);
    let has_fragments = properties.features.matmul.cmma.iter().any(|unit| {
        let types = unit.a_type == factor && unit.b_type == factor && unit.cd_type == sum;
        types && [unit.m, unit.n, unit.k] == size
    });
    let planes = [hardware.plane_size_min, hardware.plane_size_max];
    let has_planes =
        planes.iter().all(|&size| size as usize == PLANE) && properties.features.plane.contains(Plane::Sync);
    let has_room = tile.shared_memory() <= hardware.max_shared_memory_size
        && tile.units() <= hardware.max_units_per_cube as usize;
    (has_fragments && has_planes && has_room).then_some(tile)
}

#[cfg(test)]
mod tests {
    use super::super::tile::Sizes;
    use super::{FRAGMENT, GAP, QUAD, Rounding, TensorTile};

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

    #[test]
    fn two_cubes_fit_a_multiprocessor() {
        for tile in tiles() {
            assert!(2 * tile.shared_memory() <= 227 << 10, "{tile:?}: {} bytes", tile.shared_memory());
        }
    }
}
