//! A layer of all towers, backward: sums over the rows, the gradient of the matmul, two matmuls.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*, std::FastDivmod};
use burn_cubecl::tensor::CubeTensor;

use super::block::{Steps, activate_backward, drop_some, leak, normalize, slope_of};
use super::dropout::{DropoutBits, bits};
use super::layer::Columns;
use super::logits::{is_logits, logits_backward};
use super::moments::packed;
use super::product::layer_product_backward;
use super::sums::{Sums, sums};
use super::tensor::{OnCube, Rows, address, array, grid, plain, vector_size, zero};
use crate::backend::{Layer, LayerSaved, LayerSpec, Norm};

/// What both passes of backward read.
pub(super) struct Saved<R: CubeRuntime> {
    pub(super) grad: Rows<R>,
    pub(super) hidden: Rows<R>,
    /// `[4, K, O]`, or anything without batch norm.
    pub(super) moments: CubeTensor<R>,
    pub(super) slope: CubeTensor<R>,
    pub(super) spec: LayerSpec,
    pub(super) steps: Steps,
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

/// See [`Kernels::layer_backward`](crate::backend::Kernels::layer_backward).
pub(super) fn layer_backward<R: CubeRuntime, B: OnCube<R>>(
    layer: Layer<CubeTensor<R>>,
    saved: LayerSaved<CubeTensor<R>>,
    grad: CubeTensor<R>,
    spec: LayerSpec,
) -> Layer<CubeTensor<R>> {
    if is_logits(&layer, &spec) {
        return logits_backward(layer, grad);
    }
    let is_linear = spec.is_linear(&layer.weights);
    let (weight, columns) = Columns::split(layer.weights);
    let shared = layer.input.meta.shape()[0] != weight.meta.shape()[0];
    let (hidden, columns) = after_matmul_backward::<R, B>(columns, saved, grad, spec, is_linear, shared);
    let [input, weight] = layer_product_backward::<R, B>(layer.input, weight, hidden, spec.precision);
    Layer { input, weights: columns.with_weight(weight) }
}

/// Gradients of the matmul and of what belongs to its columns. The first is `[K, B, O]`, or with the towers side by side
/// `[B, K * O]`.
pub(super) fn after_matmul_backward<R: CubeRuntime, B: OnCube<R>>(
    columns: Columns<R>,
    saved: LayerSaved<CubeTensor<R>>,
    grad: CubeTensor<R>,
    spec: LayerSpec,
    is_linear: bool,
    side_by_side: bool,
) -> (CubeTensor<R>, Columns<R>) {
    let LayerSaved { hidden, moments } = saved;
    let norm = columns.norm.map(|norm| norm.map(plain)).zip(moments.map(|moments| moments.map(plain)));
    let packed = norm.as_ref().map(|(norm, moments)| {
        packed(&moments.mean, &moments.variance, &norm.gamma, &norm.beta, spec.epsilon as f32)
    });
    let steps = Steps::new(&spec, packed.is_some());
    let bias = plain(columns.bias);
    let saved = Saved {
        grad: Rows::new(grad),
        hidden: Rows::new(hidden),
        moments: packed.unwrap_or_else(|| bias.clone()),
        slope: columns.slope.map_or(bias, plain),
        spec,
        steps,
    };
    let Sums { grad: sum, scaled, slope } = sums::<R, B>(&saved);
    let hidden = match is_linear && !side_by_side {
        true => saved.grad.tensor.clone(),
        false => hidden_grad(&saved, &sum, &scaled, side_by_side),
    };
    let [towers, _, outputs] = saved.dims();
    // The mean takes a bias away again, so in front of a batch norm its gradient is 0.
    let (bias, norm) = if steps.batch_norm {
        (zero(&sum, [towers, outputs]), Some(Norm { gamma: scaled, beta: sum }))
    } else {
        (sum, None)
    };
    (hidden, Columns { bias, norm, slope })
}

/// Gradient of the matmul: `[K, B, O]`, or with the towers side by side `[B, K * O]`.
fn hidden_grad<R: CubeRuntime>(
    saved: &Saved<R>,
    sum: &CubeTensor<R>,
    scaled: &CubeTensor<R>,
    side_by_side: bool,
) -> CubeTensor<R> {
    let [towers, rows, outputs] = saved.dims();
    let like = &saved.grad.tensor;
    let out = if side_by_side {
        Rows::empty(like, [rows, towers * outputs])
    } else {
        Rows::empty(like, [towers, rows, outputs])
    };
    let vector = saved.vector(out.stride);
    let units = towers * rows * outputs / vector;
    let (cubes, dim) = grid(&like.client, units);
    let tower_stride = if side_by_side { outputs } else { rows * out.stride };
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
            saved.steps,
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
