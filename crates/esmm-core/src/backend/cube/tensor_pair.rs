//! Two matmuls on tensor cores in one launch, as `tile_pair.rs` has them in f32; a factor whose values are too small for its
//! dtype is scaled.

use burn::tensor::{bf16, f16};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::epilogue::Steps;
use super::extent::{Extent, corner_of};
use super::factor::Wide;
use super::largest::join_largest;
use super::rounding::{exponent, inverse_exponent, power_of_two};
use super::task::{Task, cubes_of_pair};
use super::tensor::{address, array, grid_of};
use super::tensor_cores::{Rounding, TensorTile};
use super::tensor_cube::{Scaled, multiply, place_in};
use super::tensor_results::{OfColumns, write_results};

/// Two matmuls in one launch: `[batches * pieces, rows, columns]` of each. The cubes of the first begin first. `largest` are
/// the largest magnitudes of the factors that are `scaled`, where there are some.
///
/// # Panics
/// When their tiles have different numbers of units, or round to different dtypes.
pub(super) fn pair<R: CubeRuntime>(
    tasks: [Task<R, TensorTile>; 2],
    scaled: [Scaled; 2],
    largest: Option<&CubeTensor<R>>,
) -> [CubeTensor<R>; 2] {
    let [rounding, other] = [&tasks[0], &tasks[1]].map(|task| task.cut.tile.rounding);
    assert_eq!(rounding, other, "matmuls of one launch are computed in one precision");
    match rounding {
        Rounding::Tf32 => pair_in::<R, tf32>(tasks, scaled, largest),
        Rounding::Bf16 => pair_in::<R, bf16>(tasks, scaled, largest),
        Rounding::F16 => pair_in::<R, f16>(tasks, scaled, largest),
    }
}

fn pair_in<R: CubeRuntime, E: Float>(
    tasks: [Task<R, TensorTile>; 2],
    scaled: [Scaled; 2],
    largest: Option<&CubeTensor<R>>,
) -> [CubeTensor<R>; 2] {
    let [first, second] = tasks.map(Task::prepared);
    let cuts = [first.cut, second.cut];
    let (units, [first_cubes, second_cubes]) = cubes_of_pair(cuts);
    let all = [first.tensors(), second.tensors()].concat();
    // SAFETY: as for `tensor_matmul_kernel`; cubes beyond those of both do nothing.
    unsafe {
        tensor_pair_kernel::launch_unchecked::<E, R>(
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
            array(largest.unwrap_or(&first.left.tensor)),
            first.extent(),
            second.extent(),
            first_cubes,
            first_cubes + second_cubes,
            largest.map_or(0, |largest| largest.meta.num_elements()),
            cuts.map(|cut| cut.tile),
            [first.wide(), second.wide()],
            scaled,
        );
    }
    [first.out.tensor, second.out.tensor]
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn tensor_pair_kernel<E: Float, L: Size, N: Size, W: Size, M: Size, O: Size, X: Size>(
    left: &Array<Vector<f32, L>>,
    right: &Array<Vector<f32, N>>,
    out: &mut Array<Vector<f32, W>>,
    other_left: &Array<Vector<f32, M>>,
    other_right: &Array<Vector<f32, O>>,
    other_out: &mut Array<Vector<f32, X>>,
    largest: &Array<f32>,
    at: Extent,
    other_at: Extent,
    first_cubes: usize,
    cubes: usize,
    parts: usize,
    #[comptime] tiles: [TensorTile; 2],
    #[comptime] wide: [Wide; 2],
    #[comptime] scaled: [Scaled; 2],
) {
    let mut left_stages = SharedMemory::<Vector<E, Const<4>>>::new_aligned(
        comptime!(usize::max(
            2 * tiles[0].stage(tiles[0].rows, wide[0].left),
            2 * tiles[1].stage(tiles[1].rows, wide[1].left)
        )),
        128usize,
    );
    let mut right_stages = SharedMemory::<Vector<E, Const<4>>>::new_aligned(
        comptime!(usize::max(
            2 * tiles[0].stage(tiles[0].columns, wide[0].right),
            2 * tiles[1].stage(tiles[1].columns, wide[1].right)
        )),
        128usize,
    );
    let mut waiting = SharedMemory::<Vector<f32, Const<4>>>::new_aligned(
        comptime!(usize::max(tiles[0].waiting(), tiles[1].waiting())),
        128usize,
    );
    let mut factor = 1.0f32;
    let mut inverse = 1.0f32;
    if comptime!(scaled[0] != Scaled::Neither || scaled[1] != Scaled::Neither) {
        let of_factor = exponent(join_largest(largest, parts));
        factor = power_of_two(of_factor);
        inverse = power_of_two(inverse_exponent(of_factor));
    }
    let cube = CUBE_POS;
    if cube < first_cubes {
        one_of_two::<E, L, N, W>(
            left,
            right,
            out,
            &mut left_stages,
            &mut right_stages,
            &mut waiting,
            &at,
            cube,
            factor,
            inverse,
            comptime!(tiles[0]),
            comptime!(wide[0]),
            comptime!(scaled[0]),
        );
    } else if cube < cubes {
        one_of_two::<E, M, O, X>(
            other_left,
            other_right,
            other_out,
            &mut left_stages,
            &mut right_stages,
            &mut waiting,
            &other_at,
            cube - first_cubes,
            factor,
            inverse,
            comptime!(tiles[1]),
            comptime!(wide[1]),
            comptime!(scaled[1]),
        );
    }
}

/// The tile of a matmul that its `cube`th cube computes.
#[cube]
fn one_of_two<E: Float, L: Size, N: Size, W: Size>(
    left: &Array<Vector<f32, L>>,
    right: &Array<Vector<f32, N>>,
    out: &mut Array<Vector<f32, W>>,
    left_stages: &mut SharedMemory<Vector<E, Const<4>>>,
    right_stages: &mut SharedMemory<Vector<E, Const<4>>>,
    waiting: &mut SharedMemory<Vector<f32, Const<4>>>,
    at: &Extent,
    cube: usize,
    factor: f32,
    inverse: f32,
    #[comptime] tile: TensorTile,
    #[comptime] wide: Wide,
    #[comptime] scaled: Scaled,
) {
    let place = place_in(corner_of(cube, at, tile.rows, tile.columns), tile);
    let results =
        multiply::<E, L, N>(left, right, left_stages, right_stages, at, &place, factor, tile, wide, scaled);
    let of_lane = OfColumns {
        scale: Vector::<f32, Const<4>>::new(inverse),
        shift: Vector::<f32, Const<4>>::new(0.0f32),
        slope: 1.0f32,
    };
    write_results::<W>(
        out,
        &results,
        waiting,
        &of_lane,
        at,
        &place,
        tile,
        comptime!(scaled != Scaled::Neither),
        comptime!(Steps::NONE),
    );
}
