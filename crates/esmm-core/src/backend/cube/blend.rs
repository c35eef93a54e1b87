//! Running statistics of batch norms: a step from the old towards the new.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*, std::FastDivmod};
use burn_cubecl::tensor::CubeTensor;

use super::tensor::{Rows, address, grid, owned, vector_size};

/// `old * keep + new * take`, in place where no one else holds `old`.
pub(super) fn blend<R: CubeRuntime>(
    old: CubeTensor<R>,
    new: CubeTensor<R>,
    [keep, take]: [f64; 2],
) -> CubeTensor<R> {
    let (old, new) = (owned(old), Rows::new(new));
    let vector = vector_size(&[old.width, old.stride, new.stride]);
    let units = old.tensor.meta.num_elements() / vector;
    let (cubes, dim) = grid(&old.tensor.client, units);
    // SAFETY: one unit for each vector of `old`; `new` has its shape.
    unsafe {
        blend_kernel::launch_unchecked(
            &old.tensor.client,
            cubes,
            dim,
            address(&[&old.tensor, &new.tensor]),
            vector,
            old.array(),
            new.array(),
            keep as f32,
            take as f32,
            old.width / vector,
            old.stride / vector,
            new.stride / vector,
            units,
        );
    }
    old.tensor
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn blend_kernel<N: Size>(
    old: &mut Array<Vector<f32, N>>,
    new: &Array<Vector<f32, N>>,
    keep: f32,
    take: f32,
    width: FastDivmod<usize>,
    stride: usize,
    new_stride: usize,
    units: usize,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let (row, column) = width.div_mod(ABSOLUTE_POS);
    let place = row * stride + column;
    old[place] = old[place] * Vector::new(keep) + new[row * new_stride + column] * Vector::new(take);
}
