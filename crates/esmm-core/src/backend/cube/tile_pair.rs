//! Two matmuls in f32 in one launch, for they do not wait for each other: the cubes of one fill the multiprocessors that the
//! other leaves idle.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::extent::{Extent, corner_of};
use super::factor::Wide;
use super::task::{Task, cubes_of_pair};
use super::tensor::{address, array, grid_of};
use super::tile::Tile;
use super::tile_cube::{multiply, place_in, write_results};

/// Two matmuls in one launch: `[batches * pieces, rows, columns]` of each. The cubes of the first begin first.
///
/// # Panics
/// When their tiles have different numbers of units.
pub(super) fn pair<R: CubeRuntime>(tasks: [Task<R, Tile>; 2]) -> [CubeTensor<R>; 2] {
    let [first, second] = tasks.map(Task::prepared);
    let cuts = [first.cut, second.cut];
    let (units, [first_cubes, second_cubes]) = cubes_of_pair(cuts);
    let all = [first.tensors(), second.tensors()].concat();
    // SAFETY: as for `matmul_kernel`; cubes beyond those of both do nothing.
    unsafe {
        pair_kernel::launch_unchecked(
            &first.out.tensor.client,
            grid_of(first_cubes + second_cubes),
            CubeDim::new_1d(units as u32),
            address(&all),
            first.left_vector,
            first.right_vector,
            first.out_vector,
            second.left_vector,
            second.right_vector,
            second.out_vector,
            array(&first.left.tensor),
            array(&first.right.tensor),
            first.out.array(),
            array(&second.left.tensor),
            array(&second.right.tensor),
            second.out.array(),
            first.extent(),
            second.extent(),
            first_cubes,
            first_cubes + second_cubes,
            cuts.map(|cut| cut.tile),
            [first.wide(), second.wide()],
        );
    }
    [first.out.tensor, second.out.tensor]
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn pair_kernel<L: Size, N: Size, W: Size, M: Size, O: Size, X: Size>(
    left: &Array<Vector<f32, L>>,
    right: &Array<Vector<f32, N>>,
    out: &mut Array<Vector<f32, W>>,
    other_left: &Array<Vector<f32, M>>,
    other_right: &Array<Vector<f32, O>>,
    other_out: &mut Array<Vector<f32, X>>,
    at: Extent,
    other_at: Extent,
    first_cubes: usize,
    cubes: usize,
    #[comptime] tiles: [Tile; 2],
    #[comptime] wide: [Wide; 2],
) {
    let mut left_stages = SharedMemory::<Vector<f32, Const<4>>>::new(comptime!(usize::max(
        2 * tiles[0].stage(tiles[0].rows),
        2 * tiles[1].stage(tiles[1].rows)
    )));
    let mut right_stages = SharedMemory::<Vector<f32, Const<4>>>::new(comptime!(usize::max(
        2 * tiles[0].stage(tiles[0].columns),
        2 * tiles[1].stage(tiles[1].columns)
    )));
    let cube = CUBE_POS;
    if cube < first_cubes {
        one_of_two::<L, N, W>(
            left,
            right,
            out,
            &mut left_stages,
            &mut right_stages,
            &at,
            cube,
            comptime!(tiles[0]),
            comptime!(wide[0]),
        );
    } else if cube < cubes {
        one_of_two::<M, O, X>(
            other_left,
            other_right,
            other_out,
            &mut left_stages,
            &mut right_stages,
            &other_at,
            cube - first_cubes,
            comptime!(tiles[1]),
            comptime!(wide[1]),
        );
    }
}

/// The tile of a matmul that its `cube`th cube computes.
#[cube]
fn one_of_two<L: Size, N: Size, W: Size>(
    left: &Array<Vector<f32, L>>,
    right: &Array<Vector<f32, N>>,
    out: &mut Array<Vector<f32, W>>,
    left_stages: &mut SharedMemory<Vector<f32, Const<4>>>,
    right_stages: &mut SharedMemory<Vector<f32, Const<4>>>,
    at: &Extent,
    cube: usize,
    #[comptime] tile: Tile,
    #[comptime] wide: Wide,
) {
    let place = place_in(corner_of(cube, at, tile.rows, tile.columns), tile);
    let results = multiply::<L, N>(left, right, left_stages, right_stages, at, &place, tile, wide);
    write_results::<W>(out, &results, at, &place, tile);
}
