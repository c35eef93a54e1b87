//! Four neighbours of a row, read and written in vectors of any size.

use burn_cubecl::cubecl::{self, prelude::*};

use super::tile::QUAD;

/// Four values of a row from `from` on, 0 from `end` on. The row begins at vector `row` of the tensor.
#[cube]
pub(super) fn read<N: Size>(
    values: &Array<Vector<f32, N>>,
    row: usize,
    from: usize,
    end: usize,
) -> Vector<f32, Const<4>> {
    let size = N::value().comptime();
    let mut found = Vector::<f32, Const<4>>::new(0.0f32);
    #[unroll]
    for part in 0..comptime!(QUAD / size) {
        let place = from + comptime!(part * size);
        if place < end {
            let vector = values[row + place / size];
            #[unroll]
            for lane in 0..size {
                found[comptime!(part * size + lane)] = vector[lane];
            }
        }
    }
    found
}

/// Four values to a row from `from` on, but for those from `end` on. The row begins at vector `row` of the tensor.
#[cube]
pub(super) fn write<N: Size>(
    out: &mut Array<Vector<f32, N>>,
    values: Vector<f32, Const<4>>,
    row: usize,
    from: usize,
    end: usize,
) {
    let size = N::value().comptime();
    #[unroll]
    for part in 0..comptime!(QUAD / size) {
        let place = from + comptime!(part * size);
        if place < end {
            let mut vector = Vector::<f32, N>::empty();
            #[unroll]
            for lane in 0..size {
                vector[lane] = values[comptime!(part * size + lane)];
            }
            out[row + place / size] = vector;
        }
    }
}
