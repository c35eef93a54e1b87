//! The matmuls of a layer by its shape alone: how long they are and how they are cut.

use super::tile::{Cut, Sizes, Tile, side_by_side};

/// Cubes that a weight gradient should have: two for each of the 132 multiprocessors of a large GPU.
const CUBES: usize = 264;
/// Rows and columns of a weight gradient that one cube computes at most.
const TILE: usize = 128;
/// Rows of a piece at least, where the batch has that many.
const SHORTEST: usize = 32;

/// What decides how the matmuls of a layer are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LayerShape {
    pub(super) towers: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    /// Rows of the batch.
    pub(super) rows: usize,
    /// Whether the towers read one input.
    pub(super) shared: bool,
}

/// How the two matmuls of a layer's backward are cut, for one launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BackwardCuts {
    pub(super) input: Cut,
    pub(super) weight: Cut,
}

impl LayerShape {
    /// Pieces into which the batch is cut for the gradient of the weight: a power of two, so that batches of the usual
    /// sizes leave no rows over.
    pub(super) fn pieces(self) -> usize {
        let tiles = self.towers * self.inputs.div_ceil(TILE) * self.outputs.div_ceil(TILE);
        let wanted = CUBES.div_ceil(tiles).next_power_of_two();
        let most = (self.rows / SHORTEST).max(1);
        wanted.min(1 << most.ilog2())
    }

    /// How both gradients are computed on a device that has room for some tiles; `None` where it has for too few.
    pub(super) fn backward(self, has_room: impl Fn(Tile) -> bool) -> Option<BackwardCuts> {
        let cut = |sizes| {
            let tile = Tile::candidates(sizes).into_iter().find(|tile| has_room(*tile))?;
            Some(Cut { sizes, tile })
        };
        let [input, weight] = side_by_side([cut(self.input_grad())?, cut(self.weight_grad())?]);
        Some(BackwardCuts { input, weight })
    }

    /// `grad x weight^T`, added over the towers where they read one input.
    pub(super) fn input_grad(self) -> Sizes {
        let Self { towers, inputs, outputs, rows, shared } = self;
        let (batches, sums) = if shared { (1, towers) } else { (towers, 1) };
        Sizes { batches, sums, rows, columns: inputs, terms: outputs, pieces: 1 }
    }

    /// `input^T x grad`, in pieces.
    pub(super) fn weight_grad(self) -> Sizes {
        let Self { towers, inputs, outputs, rows, .. } = self;
        let pieces = self.pieces();
        Sizes { batches: towers, sums: 1, rows: inputs, columns: outputs, terms: rows, pieces }
    }
}

#[cfg(test)]
mod tests {
    use super::super::logits;
    use super::super::tile::Tile;
    use super::{CUBES, LayerShape, SHORTEST};

    /// Multiprocessors of a large GPU.
    const MULTIPROCESSORS: usize = 132;
    /// Bytes of shared memory that CUDA grants a cube without being asked for more.
    const SHARED_MEMORY: usize = 48 << 10;
    const BATCHES: [usize; 4] = [4096, 8192, 16384, 65536];
    /// Widths of the benches' three models from the input to the last hidden layer; each has two towers.
    const MODELS: [&[usize]; 3] = [&[514, 128, 64], &[414, 360, 200, 80], &[96, 128, 64]];
    const TOWERS: usize = 2;

    fn layers(rows: usize) -> impl Iterator<Item = LayerShape> {
        MODELS.into_iter().flat_map(move |widths| {
            let pairs = widths.windows(2).enumerate();
            pairs.map(move |(index, width)| LayerShape {
                towers: TOWERS,
                inputs: width[0],
                outputs: width[1],
                rows,
                shared: index == 0,
            })
        })
    }

    fn has_room(tile: Tile) -> bool {
        tile.shared_memory() <= SHARED_MEMORY
    }

    /// The grids are those that are launched: the launch takes them from the same functions.
    #[test]
    fn every_weight_gradient_fills_a_large_gpu() {
        for rows in BATCHES {
            for layer in layers(rows) {
                let cuts = layer.backward(has_room).unwrap();
                let cubes = cuts.weight.cubes();
                assert!(cubes >= MULTIPROCESSORS, "{layer:?}: {cubes} cubes, {cuts:?}");
                assert_eq!(cuts.weight.tile.units(), cuts.input.tile.units(), "{layer:?}");
                assert_eq!(rows % cuts.weight.sizes.pieces, 0, "rows are left over: {layer:?}");
            }
            for widths in MODELS {
                let width = widths[widths.len() - 1];
                let cubes = logits::cubes_of_backward(TOWERS, rows, width);
                assert!(cubes >= MULTIPROCESSORS, "logits from {width} values, {rows} rows: {cubes} cubes");
            }
        }
    }

    #[test]
    fn pieces_are_no_more_than_fill_the_gpu_twice() {
        for rows in BATCHES {
            for layer in layers(rows) {
                let tiles = layer.towers * layer.inputs.div_ceil(128) * layer.outputs.div_ceil(128);
                assert!(layer.pieces() * tiles < 2 * (CUBES + tiles), "{layer:?}: {} pieces", layer.pieces());
            }
        }
    }

    #[test]
    fn a_small_batch_is_cut_into_few_pieces() {
        let pieces = |rows| LayerShape { towers: 2, inputs: 10, outputs: 10, rows, shared: false }.pieces();
        assert_eq!(pieces(1), 1);
        assert_eq!(pieces(2 * SHORTEST - 1), 1);
        assert_eq!(pieces(300), 8);
    }

    #[test]
    fn a_device_with_little_shared_memory_gets_small_tiles() {
        for layer in layers(16384) {
            let cuts = layer.backward(|tile| tile.shared_memory() <= 16 << 10).unwrap();
            assert_eq!(cuts.weight.tile.units(), cuts.input.tile.units(), "{layer:?}");
            assert!(cuts.weight.tile.shared_memory() <= 16 << 10, "{cuts:?}");
        }
    }
}
