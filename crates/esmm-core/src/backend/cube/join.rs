//! Sums that were computed in pieces, added up: those of all layers in one launch.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::chunks::{LANES, LINES, Layout, add_lines};
use super::tensor::{address, array, empty_plain, grid_of, vector_size};

/// Tensors of a sum: its pieces, what they left over, the sum.
const TENSORS: usize = 3;
/// What a kernel knows of where a sum's pieces lie: as in [`At`], then the number of units.
const FACTS: usize = 9;

/// A sum that is still in pieces, or whole.
#[expect(clippy::large_enum_variant, reason = "there are as many as layers, and none is kept")]
pub(super) enum Sum<R: CubeRuntime> {
    Whole(CubeTensor<R>),
    Pieces(Pieces<R>),
}

/// The pieces of a sum.
pub(super) struct Pieces<R: CubeRuntime> {
    pub(super) pieces: CubeTensor<R>,
    /// A last summand, of what the pieces left over.
    pub(super) tail: Option<CubeTensor<R>>,
    /// Shape of the sum.
    pub(super) shape: [usize; 3],
    pub(super) at: At,
}

/// Where the pieces of a sum of shape `[K, I, O]` lie, in values.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    /// Number of pieces.
    pub(super) count: usize,
    /// From one piece to the next.
    pub(super) piece: usize,
    /// From one of the K matrices to the next, and from one of their rows to the next.
    pub(super) matrix: usize,
    pub(super) row: usize,
    /// The same in the tail.
    pub(super) tail_matrix: usize,
    pub(super) tail_row: usize,
}

impl<R: CubeRuntime> Pieces<R> {
    fn vector(&self) -> usize {
        let At { piece, matrix, row, tail_matrix, tail_row, .. } = self.at;
        vector_size(&[self.shape[2], piece, matrix, row, tail_matrix, tail_row])
    }

    fn units(&self, vector: usize) -> usize {
        self.shape.iter().product::<usize>() / vector
    }

    fn facts(&self, vector: usize) -> [usize; FACTS] {
        let At { count, piece, matrix, row, tail_matrix, tail_row } = self.at;
        let distances = [piece, matrix, row, tail_matrix, tail_row].map(|distance| distance / vector);
        let [piece, matrix, row, tail_matrix, tail_row] = distances;
        let width = self.shape[2] / vector;
        [count, piece, matrix, row, tail_matrix, tail_row, width, self.shape[1], self.units(vector)]
    }
}

/// Each sum, whole: its pieces are added in an order that depends on their number alone. One launch for as many as a kernel
/// of the device can bind.
pub(super) fn join<R: CubeRuntime>(sums: Vec<Sum<R>>) -> Vec<CubeTensor<R>> {
    let mut in_pieces = Vec::new();
    let whole = sums.into_iter().map(|sum| match sum {
        Sum::Whole(tensor) => tensor,
        Sum::Pieces(pieces) => {
            let out = empty_plain(&pieces.pieces, pieces.shape);
            in_pieces.push((pieces, out.clone()));
            out
        }
    });
    let whole: Vec<CubeTensor<R>> = whole.collect();
    if let Some((first, _)) = in_pieces.first() {
        let client = first.pieces.client.clone();
        let bindings = client.properties().hardware.max_bindings as usize;
        // One binding is for the scalars.
        let at_once = (bindings.saturating_sub(1) / TENSORS).max(1);
        in_pieces.chunks(at_once).for_each(|sums| launch(&client, sums));
    }
    whole
}

/// One sum, whole.
pub(super) fn join_one<R: CubeRuntime>(sum: Sum<R>) -> CubeTensor<R> {
    match join(vec![sum]).pop() {
        Some(whole) => whole,
        None => panic!("a sum got lost"),
    }
}

fn launch<R: CubeRuntime>(client: &ComputeClient<R>, sums: &[(Pieces<R>, CubeTensor<R>)]) {
    let vectors: Vec<usize> = sums.iter().map(|(sum, _)| sum.vector()).collect();
    let vector = vector_size(&vectors);
    let mut tensors: Vec<&CubeTensor<R>> = Vec::new();
    for (sum, out) in sums {
        tensors.extend([&sum.pieces, sum.tail.as_ref().unwrap_or(&sum.pieces), out]);
    }
    let mut arrays = SequenceArg::new();
    tensors.iter().for_each(|tensor| arrays.push(array(tensor)));
    let mut facts = SequenceArg::new();
    sums.iter().flat_map(|(sum, _)| sum.facts(vector)).for_each(|fact| facts.push(fact));
    let cubes = sums.iter().map(|(sum, _)| sum.units(vector).div_ceil(LANES as usize)).sum();
    let tails: Vec<bool> = sums.iter().map(|(sum, _)| sum.tail.is_some()).collect();
    // SAFETY: a column of units for each vector of a sum, which reads that place of each piece and of the tail; units beyond
    // the last one read and write nothing.
    unsafe {
        join_kernel::launch_unchecked(
            client,
            grid_of(cubes),
            CubeDim::new_2d(LANES, LINES),
            address(&tensors),
            vector,
            arrays,
            facts,
            tails,
        );
    }
}

/// Cubes are dealt to the sums in their order.
#[allow(clippy::needless_range_loop, reason = "CubeCL unrolls loops over ranges alone")]
#[cube(launch_unchecked, address_type = "dynamic")]
fn join_kernel<N: Size>(
    arrays: &mut Sequence<Array<Vector<f32, N>>>,
    facts: &Sequence<usize>,
    #[comptime] tails: Vec<bool>,
) {
    let mut lines = SharedMemory::<Vector<f32, N>>::new(comptime!((LANES * LINES) as usize));
    let cube = CUBE_POS;
    let mut first = 0usize;
    let sums = comptime!(tails.len());
    #[unroll]
    for sum in 0..sums {
        let units = facts[comptime!(sum * FACTS + FACTS - 1)];
        let next = first + units.div_ceil(comptime!(LANES as usize));
        if cube >= first && cube < next {
            join_cube::<N>(arrays, facts, &mut lines, cube - first, units, sum, comptime!(tails[sum]));
        }
        first = next;
    }
}

/// Each line of a cube adds its share of the pieces in their order, then lines are added, then the tail.
#[cube]
fn join_cube<N: Size>(
    arrays: &mut Sequence<Array<Vector<f32, N>>>,
    facts: &Sequence<usize>,
    lines: &mut SharedMemory<Vector<f32, N>>,
    cube: usize,
    units: usize,
    #[comptime] sum: usize,
    #[comptime] has_tail: bool,
) {
    let count = facts[comptime!(sum * FACTS)];
    let piece_distance = facts[comptime!(sum * FACTS + 1)];
    let matrix_distance = facts[comptime!(sum * FACTS + 2)];
    let row_distance = facts[comptime!(sum * FACTS + 3)];
    let width = facts[comptime!(sum * FACTS + 6)];
    let rows = facts[comptime!(sum * FACTS + 7)];
    let unit = cube * comptime!(LANES as usize) + UNIT_POS_X as usize;
    let exists = unit < units;
    let column = unit % width;
    let row = unit / width % rows;
    let matrix = unit / width / rows;
    let place = matrix * matrix_distance + row * row_distance + column;
    let share = count.div_ceil(comptime!(LINES as usize));
    let start = min(UNIT_POS_Y as usize * share, count);
    let end = min(start + share, count);
    let mut total = Vector::<f32, N>::new(0.0f32);
    if exists {
        let pieces = arrays.index(comptime!(sum * TENSORS));
        for piece in start..end {
            total += pieces[place + piece * piece_distance];
        }
    }
    lines[UNIT_POS as usize] = total;
    sync_cube();
    add_lines::<N>(lines, Layout::JOINING);
    if exists && UNIT_POS_Y == 0 {
        let mut whole = lines[UNIT_POS as usize];
        if comptime!(has_tail) {
            let tail_matrix = facts[comptime!(sum * FACTS + 4)];
            let tail_row = facts[comptime!(sum * FACTS + 5)];
            let tail = arrays.index(comptime!(sum * TENSORS + 1));
            whole += tail[matrix * tail_matrix + row * tail_row + column];
        }
        let out = arrays.index_mut(comptime!(sum * TENSORS + 2));
        out[unit] = whole;
    }
}
