//! The way back through a layer of all towers: sums over the rows, the gradient of the product, Burn's products.

use burn::tensor::backend::Backend;
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*, std::FastDivmod};
use burn_cubecl::tensor::CubeTensor;

use super::block::{Steps, activate_backward, drop_some, leak, normalize, slope_of};
use super::dropout::{DropoutBits, bits};
use super::moments::packed;
use super::sums::{Sums, sums};
use super::tensor::{Rows, address, array, grid, plain, vector_size, zero};
use crate::backend::{LayerGrads, LayerInput, LayerSaved, LayerSpec};

/// What both passes of the way back read.
pub(super) struct Saved<R: CubeRuntime> {
    pub(super) grad: Rows<R>,
    pub(super) hidden: Rows<R>,
    /// `[4, K, O]`, or anything without batch norm.
    pub(super) moments: CubeTensor<R>,
    pub(super) slope: CubeTensor<R>,
    pub(super) spec: LayerSpec,
}

impl<R: CubeRuntime> Saved<R> {
    /// Towers, rows, outputs.
    pub(super) fn dims(&self) -> [usize; 3] {
        let shape = self.hidden.tensor.meta.shape();
        [shape[0], shape[1], shape[2]]
    }

    /// Largest vector for what is read, and for a tensor that is written.
    pub(super) fn vector(&self, out_stride: usize) -> usize {
        vector_size(&[self.hidden.width, self.hidden.stride, self.grad.stride, out_stride])
    }
}

/// See [`EsmmBackend::tower_layer_backward`](crate::EsmmBackend::tower_layer_backward).
pub(super) fn tower_layer_backward<R, B>(
    input: LayerInput<B>,
    saved: LayerSaved<B>,
    grad: CubeTensor<R>,
    spec: LayerSpec,
) -> LayerGrads<B>
where
    R: CubeRuntime,
    B: Backend<FloatTensorPrimitive = CubeTensor<R>>,
{
    let [gamma, beta, slope] = [input.gamma, input.beta, input.slope].map(plain);
    let moments = if spec.batch_norm {
        packed(&plain(saved.mean), &plain(saved.variance), &gamma, &beta, spec.epsilon as f32)
    } else {
        slope.clone()
    };
    let saved = Saved { grad: Rows::new(grad), hidden: Rows::new(saved.hidden), moments, slope, spec };
    let shared = input.input.meta.shape()[0] != input.weight.meta.shape()[0];
    let Sums { grad: sum, scaled, slope } = sums::<R, B>(&saved);
    let hidden_grad = hidden_grad(&saved, &sum, &scaled, shared);
    let [input, weight] = if shared {
        shared_product_backward::<R, B>(input.input, input.weight, hidden_grad)
    } else {
        let input_grad = B::float_matmul(hidden_grad.clone(), B::float_swap_dims(input.weight, 1, 2));
        [input_grad, B::float_matmul(B::float_swap_dims(input.input, 1, 2), hidden_grad)]
    };
    let [towers, _, outputs] = saved.dims();
    // The mean takes a bias away again, so in front of a batch norm its gradient is 0.
    let (bias, gamma, beta) = if spec.batch_norm {
        (zero(&sum, [towers, outputs]), scaled, sum)
    } else {
        let unused = zero(&sum, [1, 1]);
        (sum, unused.clone(), unused)
    };
    LayerGrads { input, weight, bias, gamma, beta, slope }
}

/// Gradients of input `[1, B, I]` and weight `[K, I, O]`, from that of the product with the towers side by side,
/// `[B, K * O]`.
fn shared_product_backward<R, B>(
    input: CubeTensor<R>,
    weight: CubeTensor<R>,
    grad: CubeTensor<R>,
) -> [CubeTensor<R>; 2]
where
    R: CubeRuntime,
    B: Backend<FloatTensorPrimitive = CubeTensor<R>>,
{
    let shape = weight.meta.shape();
    let [towers, inputs, outputs] = [shape[0], shape[1], shape[2]];
    let rows = grad.meta.shape()[0];
    let stacked = B::float_reshape(B::float_swap_dims(weight, 1, 2), [towers * outputs, inputs].into());
    let input_grad = B::float_matmul(grad.clone(), stacked);
    let by_tower = B::float_permute(B::float_reshape(grad, [rows, towers, outputs].into()), &[1, 0, 2]);
    let weight_grad = B::float_matmul(B::float_swap_dims(input, 1, 2), by_tower);
    [B::float_reshape(input_grad, [1, rows, inputs].into()), weight_grad]
}

/// Gradient of the product: `[K, B, O]`, or where towers share their input `[B, K * O]`.
fn hidden_grad<R: CubeRuntime>(
    saved: &Saved<R>,
    sum: &CubeTensor<R>,
    scaled: &CubeTensor<R>,
    shared: bool,
) -> CubeTensor<R> {
    if saved.spec.is_linear() && !shared {
        return saved.grad.tensor.clone();
    }
    let [towers, rows, outputs] = saved.dims();
    let like = &saved.grad.tensor;
    let out = if shared {
        Rows::empty(like, [rows, towers * outputs])
    } else {
        Rows::empty(like, [towers, rows, outputs])
    };
    let vector = saved.vector(out.stride);
    let units = towers * rows * outputs / vector;
    let (cubes, dim) = grid(&like.client, units);
    let tower_stride = if shared { outputs } else { rows * out.stride };
    // SAFETY: one unit for each vector of the gradient; the sums are `[K, O]`.
    unsafe {
        hidden_grad_kernel::launch_unchecked(
            &like.client,
            cubes,
            dim,
            address(&[like, &saved.hidden.tensor, &out.tensor]),
            vector,
            saved.grad.array(),
            saved.hidden.array(),
            array(&saved.moments),
            array(&saved.slope),
            array(sum),
            array(scaled),
            out.array(),
            bits(saved.spec.dropout),
            outputs / vector,
            rows,
            outputs / vector,
            towers * outputs / vector,
            saved.grad.stride / vector,
            saved.hidden.stride / vector,
            tower_stride / vector,
            out.stride / vector,
            (rows as f32).recip(),
            leak(saved.spec.activation),
            units,
            Steps::new(&saved.spec),
        );
    }
    out.tensor
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn hidden_grad_kernel<N: Size>(
    grads: &Array<Vector<f32, N>>,
    hidden: &Array<Vector<f32, N>>,
    moments: &Array<Vector<f32, N>>,
    slopes: &Array<f32>,
    sums: &Array<Vector<f32, N>>,
    scaled_sums: &Array<Vector<f32, N>>,
    out: &mut Array<Vector<f32, N>>,
    dropout: DropoutBits,
    width: FastDivmod<usize>,
    rows: FastDivmod<usize>,
    columns: usize,
    all_columns: usize,
    grad_stride: usize,
    hidden_stride: usize,
    tower_stride: usize,
    out_stride: usize,
    share: f32,
    leak: f32,
    units: usize,
    #[comptime] steps: Steps,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let (row, column) = width.div_mod(ABSOLUTE_POS);
    let (tower, batch_row) = rows.div_mod(row);
    let tower_column = tower * columns + column;
    let value = hidden[row * hidden_stride + column];
    let (standard, x) = normalize::<N>(value, moments, tower_column, all_columns, steps.batch_norm);
    let first = ABSOLUTE_POS * N::value();
    let kept = drop_some::<N>(grads[row * grad_stride + column], &dropout, first, steps.dropout);
    let slope = slope_of(slopes, tower, leak, steps.curve);
    let grad = activate_backward::<N>(x, kept, slope, steps.curve);
    let place = tower * tower_stride + batch_row * out_stride + column;
    if comptime!(steps.batch_norm) {
        let share = Vector::<f32, N>::new(share);
        let centred = grad - sums[tower_column] * share - standard * (scaled_sums[tower_column] * share);
        out[place] = centred * moments[all_columns + tower_column] * moments[2 * all_columns + tower_column];
    } else {
        out[place] = grad;
    }
}
