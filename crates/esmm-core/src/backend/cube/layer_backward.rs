//! A layer of all towers, backward: sums over the rows, the gradient of the matmul, two matmuls; then the pieces of all
//! layers' weight gradients are joined.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::block::{Steps, activate_backward, drop_some, leak, normalize, read_norm, slope_of};
use super::chunks::{Layout, whole_steps};
use super::dropout::{DropoutBits, bits};
use super::grouped_layer::Split;
use super::join::{Sum, join};
use super::largest::{Gradient, largest_in, write_largest};
use super::layer::Columns;
use super::logits::{LogitsShape, LogitsSums, is_logits, logits_backward};
use super::matmul::layer_matmul_backward;
use super::sums::{self, BackwardAt, Partial, chunk_sums, join_sums, slope_grad};
use super::tensor::{OnCube, Rows, address, array, empty_plain, plain, vector_size};
use crate::backend::{Layer, LayerSaved, LayerSpec, LayerWeights, Moments, Norm};
use crate::precision::Precision;

/// What both passes of backward read.
pub(super) struct Saved<R: CubeRuntime> {
    pub(super) grad: Rows<R>,
    pub(super) hidden: Rows<R>,
    /// Batch norm with its moments; anything without one.
    pub(super) norm: Norm<CubeTensor<R>>,
    pub(super) moments: Moments<CubeTensor<R>>,
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

/// Gradients of the weights of a layer, those of the matmul still in pieces.
#[expect(clippy::large_enum_variant, reason = "there are as many as layers, and none is kept")]
pub(super) enum WeightSums<R: CubeRuntime> {
    Hidden(Sum<R>, Columns<R>),
    /// Of what rows have of their own, and of what groups share.
    Grouped {
        own: Sum<R>,
        shared: Sum<R>,
        split: Split,
        columns: Columns<R>,
    },
    Logits(LogitsSums<R>),
}

/// The gradients of some layers, their pieces joined in one launch.
pub(super) fn join_weights<R: CubeRuntime>(layers: Vec<WeightSums<R>>) -> Vec<LayerWeights<CubeTensor<R>>> {
    /// What is put around the joined sums.
    enum Rest<R: CubeRuntime> {
        Columns(Columns<R>),
        Grouped(Split, Columns<R>),
        Logits(LogitsShape),
    }
    let mut sums = Vec::new();
    let mut rests = Vec::new();
    for layer in layers {
        match layer {
            WeightSums::Hidden(sum, columns) => {
                sums.push(sum);
                rests.push(Rest::Columns(columns));
            }
            WeightSums::Grouped { own, shared, split, columns } => {
                sums.extend([own, shared]);
                rests.push(Rest::Grouped(split, columns));
            }
            WeightSums::Logits(LogitsSums { sum, shape }) => {
                sums.push(sum);
                rests.push(Rest::Logits(shape));
            }
        }
    }
    let mut whole = join(sums).into_iter();
    let mut next = || match whole.next() {
        Some(sum) => sum,
        None => panic!("a sum got lost"),
    };
    let weights = rests.into_iter().map(|rest| match rest {
        Rest::Columns(columns) => columns.with_weight(next()),
        Rest::Grouped(split, columns) => {
            let own = next();
            columns.with_weight(split.join(own, next()))
        }
        Rest::Logits(shape) => shape.split(&next()),
    });
    weights.collect()
}

/// See [`Kernels::layer_backward`](crate::backend::Kernels::layer_backward).
pub(super) fn layer_backward<R: CubeRuntime, B: OnCube<R>>(
    layer: Layer<CubeTensor<R>>,
    saved: LayerSaved<CubeTensor<R>>,
    grad: CubeTensor<R>,
    spec: LayerSpec,
) -> (CubeTensor<R>, WeightSums<R>) {
    if is_logits(&layer, &spec) {
        let (input, sums) = logits_backward(layer, grad);
        return (input, WeightSums::Logits(sums));
    }
    let is_linear = spec.is_linear(&layer.weights);
    let (weight, columns) = Columns::split(layer.weights);
    let shared = layer.input.meta.shape()[0] != weight.meta.shape()[0];
    let (hidden, columns) = after_matmul_backward::<R, B>(columns, saved, grad, spec, is_linear, shared);
    let (input, weight) = layer_matmul_backward::<R, B>(layer.input, weight, hidden, spec.precision);
    (input, WeightSums::Hidden(weight, columns))
}

/// Gradients of the matmul and of what belongs to its columns. The first is `[K, B, O]`, or with the towers side by side
/// `[B, K * O]`; its largest magnitudes are found where the matmuls of the layer ask for them.
pub(super) fn after_matmul_backward<R: CubeRuntime, B: OnCube<R>>(
    columns: Columns<R>,
    saved: LayerSaved<CubeTensor<R>>,
    grad: CubeTensor<R>,
    spec: LayerSpec,
    is_linear: bool,
    side_by_side: bool,
) -> (Gradient<R>, Columns<R>) {
    let LayerSaved { hidden, moments } = saved;
    let bias = plain(columns.bias);
    let found = columns.norm.zip(moments);
    let steps = Steps::new(&spec, found.is_some());
    let (norm, moments) = match found {
        Some((norm, moments)) => (norm.map(plain), moments.map(plain)),
        // Something must stand for what a layer does not have.
        None => (
            Norm { gamma: bias.clone(), beta: bias.clone() },
            Moments { mean: bias.clone(), variance: bias.clone() },
        ),
    };
    let saved = Saved {
        grad: Rows::new(grad),
        hidden: Rows::new(hidden),
        norm,
        moments,
        slope: columns.slope.map_or(bias, plain),
        spec,
        steps,
    };
    let partial = chunk_sums(&saved);
    let slope = slope_grad::<R, B>(&saved, &partial);
    if is_linear && !side_by_side {
        let [towers, _, outputs] = saved.dims();
        let [bias, _] = sums::join(&partial, [towers, outputs], false);
        return (saved.grad.tensor.into(), Columns { bias, norm: None, slope });
    }
    let (hidden, Columns { bias, norm, .. }) = hidden_grad(&saved, &partial, side_by_side);
    (hidden, Columns { bias, norm, slope })
}

/// Gradients of the matmul, `[K, B, O]`, or with the towers side by side `[B, K * O]`, and of bias and batch norm, from
/// the sums of chunks.
fn hidden_grad<R: CubeRuntime>(
    saved: &Saved<R>,
    partial: &Partial<R>,
    side_by_side: bool,
) -> (Gradient<R>, Columns<R>) {
    let [towers, rows, outputs] = saved.dims();
    let like = &saved.grad.tensor;
    let out = if side_by_side {
        Rows::empty(like, [rows, towers * outputs])
    } else {
        Rows::empty(like, [towers, rows, outputs])
    };
    let of_columns = || empty_plain(like, [towers, outputs]);
    let bias = of_columns();
    let norm = saved.steps.batch_norm.then(|| Norm { gamma: of_columns(), beta: of_columns() });
    // Without batch norm the sum of the gradient is that of the bias.
    let (gamma, beta) = norm.as_ref().map_or((&bias, &bias), |norm| (&norm.gamma, &norm.beta));
    let vector = saved.vector(out.stride);
    let columns = outputs / vector;
    let layout = partial.chunks.layout(outputs);
    let (cubes, dim) = partial.chunks.grid(layout, columns, towers);
    let tower_stride = if side_by_side { outputs } else { rows * out.stride };
    let parts = columns.div_ceil(layout.lanes as usize) * partial.chunks.count * towers;
    let largest = (saved.spec.precision == Precision::F16).then(|| empty_plain(like, [parts]));
    // SAFETY: units beyond the columns or rows read and write nothing; what belongs to columns is `[K, O]`; there are as
    // many parts as cubes.
    unsafe {
        hidden_grad_kernel::launch_unchecked(
            &like.client,
            cubes,
            dim,
            address(&[like, &saved.hidden.tensor, &out.tensor]),
            vector,
            saved.grad.array(),
            saved.hidden.array(),
            array(&saved.moments.mean),
            array(&saved.moments.variance),
            array(&saved.norm.gamma),
            array(&saved.norm.beta),
            array(&saved.slope),
            array(&partial.sums),
            array(&bias),
            array(gamma),
            array(beta),
            out.array(),
            array(largest.as_ref().unwrap_or(&bias)),
            bits(saved.spec.dropout),
            rows,
            columns,
            towers * columns,
            saved.grad.stride / vector,
            saved.hidden.stride / vector,
            tower_stride / vector,
            out.stride / vector,
            partial.chunks.rows,
            partial.chunks.count,
            (rows as f32).recip(),
            leak(saved.spec.activation),
            saved.spec.epsilon as f32,
            largest.is_some(),
            layout,
            saved.steps,
        );
    }
    (Gradient::new(out.tensor, largest), Columns { bias, norm, slope: None })
}

/// A cube takes a chunk of rows, and joins the sums of all chunks for it; those of the first chunk write these. Each writes
/// the largest magnitude of what it wrote, if it is wanted.
#[cube(launch_unchecked, address_type = "dynamic")]
fn hidden_grad_kernel<N: Size>(
    grads: &mut Array<Vector<f32, N>>,
    hidden: &mut Array<Vector<f32, N>>,
    means: &Array<Vector<f32, N>>,
    variances: &Array<Vector<f32, N>>,
    gamma: &Array<Vector<f32, N>>,
    beta: &Array<Vector<f32, N>>,
    slopes: &Array<f32>,
    partial: &Array<Vector<f32, N>>,
    bias_grad: &mut Array<Vector<f32, N>>,
    gamma_grad: &mut Array<Vector<f32, N>>,
    beta_grad: &mut Array<Vector<f32, N>>,
    out: &mut Array<Vector<f32, N>>,
    largest: &mut Array<f32>,
    dropout: DropoutBits,
    rows: usize,
    columns: usize,
    all_columns: usize,
    grad_stride: usize,
    hidden_stride: usize,
    tower_stride: usize,
    out_stride: usize,
    chunk_rows: usize,
    chunks: usize,
    share: f32,
    leak: f32,
    epsilon: f32,
    #[comptime] with_largest: bool,
    #[comptime] layout: Layout,
    #[comptime] steps: Steps,
) {
    let column = (CUBE_POS_X * comptime!(layout.lanes) + UNIT_POS_X) as usize;
    let chunk = CUBE_POS_Y as usize;
    let tower = CUBE_POS_Z as usize;
    let tower_column = tower * columns + column;
    let exists = column < columns;
    let writes = exists && chunk == 0 && UNIT_POS_Y == 0;
    let sum = join_sums::<N>(partial, 0usize, tower_column, all_columns, exists, chunks, layout);
    let mut scaled = Vector::<f32, N>::new(0.0f32);
    if comptime!(steps.batch_norm) {
        scaled = join_sums::<N>(partial, 1usize, tower_column, all_columns, exists, chunks, layout);
    }
    if writes {
        if comptime!(steps.batch_norm) {
            // The mean takes a bias away again, so before a batch norm its gradient is 0.
            bias_grad[tower_column] = Vector::<f32, N>::new(0.0f32);
            gamma_grad[tower_column] = scaled;
            beta_grad[tower_column] = sum;
        } else {
            bias_grad[tower_column] = sum;
        }
    }
    let mut found = 0.0f32;
    if exists {
        let slope = slope_of(slopes, tower, leak, steps.curve);
        let norm = read_norm::<N>(means, variances, gamma, beta, tower_column, epsilon, steps.batch_norm);
        let at = BackwardAt::<N> { norm, slope, column, columns, grad_stride, hidden_stride };
        let part = Vector::<f32, N>::new(share);
        let centre = Centre::<N> { sum: sum * part, scaled: scaled * part };
        let start = chunk * chunk_rows;
        let end = min(start + chunk_rows, rows);
        let whole = whole_steps(start, end, layout);
        let line = UNIT_POS_Y as usize;
        for row in range_stepped(start + line, whole, comptime!(layout.rows())) {
            let place = tower * tower_stride + row * out_stride + column;
            let row = tower * rows + row;
            let count = comptime!(layout.at_once);
            found = hidden_grad_rows::<N>(
                grads,
                hidden,
                out,
                &at,
                &centre,
                &dropout,
                row,
                place,
                out_stride,
                found,
                layout,
                count,
                with_largest,
                steps,
            );
        }
        for row in range_stepped(whole + line, end, comptime!(layout.lines as usize)) {
            let place = tower * tower_stride + row * out_stride + column;
            let row = tower * rows + row;
            found = hidden_grad_rows::<N>(
                grads,
                hidden,
                out,
                &at,
                &centre,
                &dropout,
                row,
                place,
                out_stride,
                found,
                layout,
                1usize,
                with_largest,
                steps,
            );
        }
    }
    if comptime!(with_largest) {
        write_largest(found, largest);
    }
}

/// What batch norm takes away from the gradient of a column: means over the batch of the gradient, and of the same times
/// the standardized matmul.
#[derive(CubeType, Clone, Copy)]
struct Centre<N: Size> {
    sum: Vector<f32, N>,
    scaled: Vector<f32, N>,
}

/// `count` rows of a unit from `first` on, written from `place` on: all are read, then computed, then written, so that it
/// waits for memory once. Returns the largest magnitude of them and of what is known, if it is wanted.
/// `&mut` keeps this order: NVIDIA's compiler moves reads of what no one writes behind the writes.
#[cube]
fn hidden_grad_rows<N: Size>(
    grads: &mut Array<Vector<f32, N>>,
    hidden: &mut Array<Vector<f32, N>>,
    out: &mut Array<Vector<f32, N>>,
    at: &BackwardAt<N>,
    centre: &Centre<N>,
    dropout: &DropoutBits,
    first: usize,
    place: usize,
    out_stride: usize,
    known: f32,
    #[comptime] layout: Layout,
    #[comptime] count: usize,
    #[comptime] with_largest: bool,
    #[comptime] steps: Steps,
) -> f32 {
    let lines = comptime!(layout.lines as usize);
    let mut values = Array::<Vector<f32, N>>::new(count);
    let mut results = Array::<Vector<f32, N>>::new(count);
    #[unroll]
    for index in 0..count {
        let row = first + comptime!(index * lines);
        values[index] = hidden[row * at.hidden_stride + at.column];
        results[index] = grads[row * at.grad_stride + at.column];
    }
    #[unroll]
    for index in 0..count {
        let row = first + comptime!(index * lines);
        let (standard, x) = normalize::<N>(values[index], &at.norm, steps.batch_norm);
        let element = (row * at.columns + at.column) * N::value();
        let kept = drop_some::<N>(results[index], dropout, element, steps.dropout);
        let grad = activate_backward::<N>(x, kept, at.slope, steps.curve);
        if comptime!(steps.batch_norm) {
            let centred = grad - centre.sum - standard * centre.scaled;
            results[index] = centred * at.norm.inverse * at.norm.scale;
        } else {
            results[index] = grad;
        }
    }
    let mut largest = known;
    #[unroll]
    for index in 0..count {
        out[place + comptime!(index * lines) * out_stride] = results[index];
        if comptime!(with_largest) {
            largest = largest_in::<N>(results[index], largest);
        }
    }
    largest
}
