//! Running statistics folded to a factor and a shift after a matmul, for inference: one launch a layer.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::tensor::{array, empty_like, grid, plain, vector_size};

/// Bias of the matmul, scale and shift of the batch norm, running mean and variance: all `[K, O]`.
pub(super) struct Folded<R: CubeRuntime> {
    pub(super) bias: CubeTensor<R>,
    pub(super) gamma: CubeTensor<R>,
    pub(super) beta: CubeTensor<R>,
    pub(super) mean: CubeTensor<R>,
    pub(super) variance: CubeTensor<R>,
}

/// `scale = gamma / sqrt(variance + epsilon)` and `shift = (bias - mean) * scale + beta`.
pub(super) fn fold_norm<R: CubeRuntime>(folded: Folded<R>, epsilon: f64) -> [CubeTensor<R>; 2] {
    let Folded { bias, gamma, beta, mean, variance } = folded;
    let [bias, gamma, beta, mean, variance] = [bias, gamma, beta, mean, variance].map(plain);
    let [scale, shift] = [empty_like(&gamma), empty_like(&gamma)];
    let vector = vector_size(&[gamma.meta.num_elements()]);
    let units = gamma.meta.num_elements() / vector;
    let (cubes, dim) = grid(&gamma.client, units);
    // SAFETY: one unit for each vector; all tensors are `[K, O]`, their elements one after the other.
    unsafe {
        fold_kernel::launch_unchecked(
            &gamma.client,
            cubes,
            dim,
            vector,
            array(&bias),
            array(&gamma),
            array(&beta),
            array(&mean),
            array(&variance),
            array(&scale),
            array(&shift),
            epsilon as f32,
            units,
        );
    }
    [scale, shift]
}

#[cube(launch_unchecked)]
fn fold_kernel<N: Size>(
    bias: &Array<Vector<f32, N>>,
    gamma: &Array<Vector<f32, N>>,
    beta: &Array<Vector<f32, N>>,
    mean: &Array<Vector<f32, N>>,
    variance: &Array<Vector<f32, N>>,
    scale: &mut Array<Vector<f32, N>>,
    shift: &mut Array<Vector<f32, N>>,
    epsilon: f32,
    units: usize,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let place = ABSOLUTE_POS;
    let factor = gamma[place] / (variance[place] + Vector::new(epsilon)).sqrt();
    scale[place] = factor;
    shift[place] = (bias[place] - mean[place]) * factor + beta[place];
}
