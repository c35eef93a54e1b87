//! The matmuls of a layer by its shape alone: how long they are and how they are cut.

use super::tile::{Cut, Needs, Sizes, Tile, side_by_side};

/// Multiprocessors of a large GPU.
const MULTIPROCESSORS: usize = 132;
/// Cubes that a weight gradient should have: three for every two multiprocessors. Each is longer than a cube of the input's
/// gradient, which shares the launch, the multiprocessor with it and its speed; with one each the last of them would run on
/// alone.
const CUBES: usize = MULTIPROCESSORS * 3 / 2;
/// Rows of a piece below which tiles are made smaller rather than pieces shorter: each piece is as large as the gradient,
/// and is written and read again.
const SHORT: usize = 512;
/// Rows of a piece at least, where the batch has that many.
const SHORTEST: usize = 64;

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
    /// Pieces into which the batch is cut for the gradient of the weight, where a cube computes so many of its rows and
    /// columns: as few as make enough cubes, and a power of two, so that batches of the usual sizes leave no rows over.
    pub(super) fn pieces(self, rows: usize, columns: usize) -> usize {
        let tiles = self.towers * self.inputs.div_ceil(rows) * self.outputs.div_ceil(columns);
        let wanted = CUBES.div_ceil(tiles).next_power_of_two();
        let most = (self.rows / SHORTEST).max(1);
        wanted.min(1 << most.ilog2())
    }

    /// How both gradients are computed on a device that has room for some tiles; `None` where it has for too few.
    pub(super) fn backward(self, has_room: impl Fn(Needs) -> bool) -> Option<BackwardCuts> {
        let cut = |sizes, tiles: [Tile; 3]| {
            let tile = tiles.into_iter().find(|tile| has_room(Needs::of(&[*tile])))?;
            Some(Cut { sizes, tile })
        };
        let of_input = self.input_grad();
        let input = cut(of_input, Tile::candidates(of_input))?;
        let of_weight = self.weight_grad_uncut();
        let weight = cut(of_weight, Tile::candidates_for(of_weight, MULTIPROCESSORS))?;
        let [input, mut weight] = side_by_side([input, weight], &has_room);
        weight.sizes.pieces = self.pieces(weight.tile.rows, weight.tile.columns);
        Some(BackwardCuts { input, weight })
    }

    /// `grad x weight^T`, added over the towers where they read one input.
    pub(super) fn input_grad(self) -> Sizes {
        let Self { towers, inputs, outputs, rows, shared } = self;
        let (batches, sums) = if shared { (1, towers) } else { (towers, 1) };
        Sizes { batches, sums, rows, columns: inputs, terms: outputs, pieces: 1 }
    }

    /// `input^T x grad`, in so many pieces.
    pub(super) fn weight_grad(self, pieces: usize) -> Sizes {
        let Self { towers, inputs, outputs, rows, .. } = self;
        Sizes { batches: towers, sums: 1, rows: inputs, columns: outputs, terms: rows, pieces }
    }

    /// The same before it is known how many pieces there are, to choose the tile by: with as many as are not short.
    pub(super) fn weight_grad_uncut(self) -> Sizes {
        self.weight_grad((self.rows / SHORT).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::super::logits;
    use super::super::tile::{Needs, Tiling};
    use super::{CUBES, LayerShape, MULTIPROCESSORS, SHORT, SHORTEST};

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

    fn has_room(needs: Needs) -> bool {
        needs.shared_memory <= SHARED_MEMORY
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
    fn pieces_are_no_more_than_fill_the_gpu() {
        for rows in BATCHES {
            for layer in layers(rows) {
                let cuts = layer.backward(has_room).unwrap();
                let pieces = cuts.weight.sizes.pieces;
                let cubes = cuts.weight.cubes();
                assert!(pieces == 1 || cubes < 2 * CUBES, "{layer:?}: {cubes} cubes, {cuts:?}");
                let smallest = cuts.weight.tile.units() == 64;
                assert!(rows / pieces >= if smallest { SHORTEST } else { SHORT / 2 }, "{layer:?}: {cuts:?}");
            }
        }
    }

    #[test]
    fn a_small_batch_is_cut_into_few_pieces() {
        let layer = |rows| LayerShape { towers: 2, inputs: 10, outputs: 10, rows, shared: false };
        let pieces = |rows| layer(rows).backward(has_room).unwrap().weight.sizes.pieces;
        assert_eq!(pieces(1), 1);
        assert_eq!(pieces(2 * SHORTEST - 1), 1);
        assert_eq!(pieces(300), 4);
    }

    /// Both matmuls of one launch lie in the same shared memory.
    #[test]
    fn a_device_with_little_shared_memory_gets_small_tiles() {
        for room in [10 << 10, 16 << 10, 32 << 10] {
            for layer in layers(16384) {
                let cuts = layer.backward(|needs| needs.shared_memory <= room).unwrap();
                assert_eq!(cuts.weight.tile.units(), cuts.input.tile.units(), "{layer:?}");
                let both = Needs::of(&[cuts.weight.tile, cuts.input.tile]);
                assert!(both.shared_memory <= room, "{room} bytes: {cuts:?}");
            }
        }
    }
}
