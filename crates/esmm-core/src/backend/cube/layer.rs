//! A layer of all towers in training: the matmul, its moments by chunks of rows, and a pass that joins them and does all that
//! follows.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*, std::FastDivmod};
use burn_cubecl::tensor::CubeTensor;

use super::block::{ColumnNorm, Steps, activate, column_norm, drop_some, leak, normalize, slope_of};
use super::chunks::{Chunks, Layout, PASSES, rows_of_pass};
use super::dropout::{DropoutBits, bits};
use super::logits::{is_logits, logits};
use super::matmul::{Matmul, layer_matmul};
use super::moments::{ChunkMoments, chunk_moments, join_moments};
use super::tensor::{Rows, address, array, empty_plain, grid, owned, plain, vector_size};
use crate::backend::{Layer, LayerOutput, LayerSaved, LayerSpec, LayerWeights, Moments, Norm, Running};

/// The weights of a layer but for those of the matmul, or their gradients: as in [`LayerWeights`].
pub(super) struct Columns<R: CubeRuntime> {
    pub(super) bias: CubeTensor<R>,
    pub(super) norm: Option<Norm<CubeTensor<R>>>,
    pub(super) slope: Option<CubeTensor<R>>,
}

impl<R: CubeRuntime> Columns<R> {
    /// The weights of the matmul, and the others.
    pub(super) fn split(weights: LayerWeights<CubeTensor<R>>) -> (CubeTensor<R>, Self) {
        let LayerWeights { weight, bias, norm, slope } = weights;
        (weight, Self { bias, norm, slope })
    }

    /// The inverse of [`split`](Self::split).
    pub(super) fn with_weight(self, weight: CubeTensor<R>) -> LayerWeights<CubeTensor<R>> {
        let Self { bias, norm, slope } = self;
        LayerWeights { weight, bias, norm, slope }
    }
}

/// See [`Kernels::layer`](crate::backend::Kernels::layer).
pub(super) fn layer<R: CubeRuntime>(
    layer: Layer<CubeTensor<R>>,
    running: Option<Running<CubeTensor<R>>>,
    spec: LayerSpec,
) -> (LayerOutput<CubeTensor<R>>, Option<Moments<CubeTensor<R>>>) {
    if is_logits(&layer, &spec) {
        return (logits(layer), None);
    }
    let is_linear = spec.is_linear(&layer.weights);
    let (weight, mut columns) = Columns::split(layer.weights);
    columns.bias = plain(columns.bias);
    let with_moments = columns.norm.is_some();
    let matmul = layer_matmul(layer.input, weight, Some(&columns.bias), spec.precision, with_moments);
    after_matmul(matmul, columns, running, spec, is_linear)
}

/// The rest of a layer, on its matmul `[K, B, O]`: with the running statistics after the step.
pub(super) fn after_matmul<R: CubeRuntime>(
    matmul: Matmul<R>,
    columns: Columns<R>,
    running: Option<Running<CubeTensor<R>>>,
    spec: LayerSpec,
    is_linear: bool,
) -> (LayerOutput<CubeTensor<R>>, Option<Moments<CubeTensor<R>>>) {
    let Matmul { tensor, biased, moments } = matmul;
    let matmul = Rows::new(tensor);
    let bias = plain(columns.bias);
    if is_linear {
        if !biased {
            add_bias(&matmul, &bias);
        }
        let saved = LayerSaved { hidden: matmul.tensor.clone(), moments: None };
        return (LayerOutput { output: matmul.tensor, saved }, None);
    }
    let norm = columns.norm.map(|norm| norm.map(plain));
    let finish = Finish {
        matmul: &matmul,
        bias: (!biased).then_some(&bias),
        norm: norm.as_ref(),
        slope: columns.slope.map(plain),
        running: norm.as_ref().and(running).map(in_place),
        spec,
    };
    let (output, moments) = finish.run(moments);
    let moved = finish.running.map(|running| running.old);
    (LayerOutput { output, saved: LayerSaved { hidden: matmul.tensor, moments } }, moved)
}

/// Running statistics that no one else holds, their elements one after the other.
fn in_place<R: CubeRuntime>(running: Running<CubeTensor<R>>) -> Running<CubeTensor<R>> {
    running.map(|old| plain(owned(old).tensor))
}

/// Adds the bias to the matmul, in place.
fn add_bias<R: CubeRuntime>(matmul: &Rows<R>, bias: &CubeTensor<R>) {
    let rows = matmul.tensor.meta.shape()[1];
    let vector = matmul.vector();
    let units = matmul.tensor.meta.num_elements() / vector;
    let (cubes, dim) = grid(&matmul.tensor.client, units);
    // SAFETY: one unit for each vector of the matmul; the bias is `[K, O]`.
    unsafe {
        add_bias_kernel::launch_unchecked(
            &matmul.tensor.client,
            cubes,
            dim,
            address(&[&matmul.tensor]),
            vector,
            matmul.array(),
            array(bias),
            matmul.width / vector,
            rows,
            matmul.width / vector,
            matmul.stride / vector,
            units,
        );
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn add_bias_kernel<N: Size>(
    matmul: &mut Array<Vector<f32, N>>,
    bias: &Array<Vector<f32, N>>,
    width: FastDivmod<usize>,
    rows: FastDivmod<usize>,
    columns: usize,
    stride: usize,
    units: usize,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let (row, column) = width.div_mod(ABSOLUTE_POS);
    matmul[row * stride + column] += bias[rows.div(row) * columns + column];
}

/// Batch norm, activation and dropout of a matmul.
struct Finish<'a, R: CubeRuntime> {
    matmul: &'a Rows<R>,
    /// Added to the matmul before, in place, if there is one.
    bias: Option<&'a CubeTensor<R>>,
    norm: Option<&'a Norm<CubeTensor<R>>>,
    slope: Option<CubeTensor<R>>,
    /// Moved in place.
    running: Option<Running<CubeTensor<R>>>,
    spec: LayerSpec,
}

impl<R: CubeRuntime> Finish<'_, R> {
    /// The output, and the moments that the batch norm used; `found` are those of chunks of the matmul, where it has them.
    fn run(&self, found: Option<ChunkMoments<R>>) -> (CubeTensor<R>, Option<Moments<CubeTensor<R>>>) {
        let matmul = self.matmul;
        let shape = matmul.tensor.meta.shape();
        let [towers, rows] = [shape[0], shape[1]];
        let chunks = Chunks::new(rows);
        let found = self.norm.map(|_| {
            let found = found.unwrap_or_else(|| chunk_moments(matmul, chunks));
            found.joined_for(chunks.cubes(matmul.width, towers), rows)
        });
        let out = Rows::empty(&matmul.tensor, [towers, rows, matmul.width]);
        let moments = self.norm.map(|_| {
            let of_columns = || empty_plain(&matmul.tensor, [towers, matmul.width]);
            Moments { mean: of_columns(), variance: of_columns() }
        });
        // Something must stand for what a layer does not have.
        let nothing = &matmul.tensor;
        let (mean, variance) =
            moments.as_ref().map_or((nothing, nothing), |moments| (&moments.mean, &moments.variance));
        let (gamma, beta) = self.norm.map_or((nothing, nothing), |norm| (&norm.gamma, &norm.beta));
        let joined = found.as_ref().map_or(chunks, |found| found.chunks);
        let running = self.running.as_ref();
        let (old_mean, old_variance) =
            running.map_or((nothing, nothing), |running| (&running.old.mean, &running.old.variance));
        let [keep, take_mean, take_variance] = running.map_or([0.0; 3], |running| {
            [running.keep, running.take_mean, running.take_variance].map(|share| share as f32)
        });
        let vector = vector_size(&[matmul.width, matmul.stride, out.stride]);
        let columns = matmul.width / vector;
        let layout = chunks.layout(matmul.width);
        let (cubes, dim) = chunks.grid(layout, columns, towers);
        // SAFETY: units beyond the columns or rows read and write nothing; bias, scale, shift and moments are `[K, O]`, the
        // slope is `[K]`.
        unsafe {
            finish_kernel::launch_unchecked(
                &matmul.tensor.client,
                cubes,
                dim,
                address(&[&matmul.tensor, &out.tensor]),
                vector,
                matmul.array(),
                array(self.bias.unwrap_or(nothing)),
                array(found.as_ref().map_or(nothing, |found| &found.partial)),
                array(gamma),
                array(beta),
                array(self.slope.as_ref().unwrap_or(nothing)),
                array(mean),
                array(variance),
                array(old_mean),
                array(old_variance),
                out.array(),
                bits(self.spec.dropout),
                rows,
                columns,
                towers * columns,
                matmul.stride / vector,
                out.stride / vector,
                chunks.rows,
                joined.rows,
                joined.count,
                leak(self.spec.activation),
                self.spec.epsilon as f32,
                keep,
                take_mean,
                take_variance,
                running.is_some(),
                self.bias.is_some(),
                layout,
                Steps::new(&self.spec, self.norm.is_some()),
            );
        }
        (out.tensor, moments)
    }
}

/// A cube takes a chunk of rows, and joins the moments of all chunks that the matmul was cut into; those of the first chunk
/// write them, and move the running statistics towards them.
#[cube(launch_unchecked, address_type = "dynamic")]
fn finish_kernel<N: Size>(
    matmul: &mut Array<Vector<f32, N>>,
    bias: &Array<Vector<f32, N>>,
    partial: &Array<Vector<f32, N>>,
    gamma: &Array<Vector<f32, N>>,
    beta: &Array<Vector<f32, N>>,
    slopes: &Array<f32>,
    means: &mut Array<Vector<f32, N>>,
    variances: &mut Array<Vector<f32, N>>,
    running_means: &mut Array<Vector<f32, N>>,
    running_variances: &mut Array<Vector<f32, N>>,
    out: &mut Array<Vector<f32, N>>,
    dropout: DropoutBits,
    rows: usize,
    columns: usize,
    all_columns: usize,
    stride: usize,
    out_stride: usize,
    chunk_rows: usize,
    joined_rows: usize,
    joined: usize,
    leak: f32,
    epsilon: f32,
    keep: f32,
    take_mean: f32,
    take_variance: f32,
    #[comptime] moves: bool,
    #[comptime] with_bias: bool,
    #[comptime] layout: Layout,
    #[comptime] steps: Steps,
) {
    let column = (CUBE_POS_X * comptime!(layout.lanes) + UNIT_POS_X) as usize;
    let chunk = CUBE_POS_Y as usize;
    let tower = CUBE_POS_Z as usize;
    let tower_column = tower * columns + column;
    let exists = column < columns;
    let mut mean = Vector::<f32, N>::new(0.0f32);
    let mut variance = Vector::<f32, N>::new(1.0f32);
    let mut scale = Vector::<f32, N>::new(1.0f32);
    let mut shift = Vector::<f32, N>::new(0.0f32);
    if comptime!(steps.batch_norm) {
        let (found_mean, found_variance) =
            join_moments::<N>(partial, tower_column, all_columns, exists, rows, joined_rows, joined, layout);
        mean = found_mean;
        variance = found_variance;
        if exists {
            if comptime!(with_bias) {
                mean += bias[tower_column];
            }
            scale = gamma[tower_column];
            shift = beta[tower_column];
            if chunk == 0 && UNIT_POS_Y == 0 {
                means[tower_column] = mean;
                variances[tower_column] = variance;
                if comptime!(moves) {
                    let kept = Vector::<f32, N>::new(keep);
                    running_means[tower_column] =
                        running_means[tower_column] * kept + mean * Vector::new(take_mean);
                    running_variances[tower_column] =
                        running_variances[tower_column] * kept + variance * Vector::new(take_variance);
                }
            }
        }
    }
    if exists {
        let mut added = Vector::<f32, N>::new(0.0f32);
        if comptime!(with_bias) {
            added = bias[tower_column];
        }
        let norm = column_norm::<N>(mean, variance, scale, shift, epsilon);
        let slope = slope_of(slopes, tower, leak, steps.curve);
        let at = FinishAt::<N> { bias: added, norm, slope, column, columns, stride, out_stride };
        let start = chunk * chunk_rows;
        let end = min(start + chunk_rows, rows);
        #[unroll]
        for pass in 0..PASSES {
            let (from, to) = rows_of_pass(start, end, layout, pass);
            let count = comptime!(layout.at_once_in(pass));
            let step = comptime!(layout.lines as usize * count);
            for row in range_stepped(from + UNIT_POS_Y as usize, to, step) {
                let row = tower * rows + row;
                finish_rows::<N>(matmul, out, &at, &dropout, row, layout, count, with_bias, steps);
            }
        }
    }
}

/// What the rows of a column have in common.
#[derive(CubeType, Clone, Copy)]
struct FinishAt<N: Size> {
    bias: Vector<f32, N>,
    norm: ColumnNorm<N>,
    slope: f32,
    column: usize,
    columns: usize,
    stride: usize,
    out_stride: usize,
}

/// `count` rows of a unit from `first` on: all are read, then computed, then written, so that it waits for memory once.
#[cube]
fn finish_rows<N: Size>(
    matmul: &mut Array<Vector<f32, N>>,
    out: &mut Array<Vector<f32, N>>,
    at: &FinishAt<N>,
    dropout: &DropoutBits,
    first: usize,
    #[comptime] layout: Layout,
    #[comptime] count: usize,
    #[comptime] with_bias: bool,
    #[comptime] steps: Steps,
) {
    let lines = comptime!(layout.lines as usize);
    let mut values = Array::<Vector<f32, N>>::new(count);
    #[unroll]
    for index in 0..count {
        let row = first + comptime!(index * lines);
        values[index] = matmul[row * at.stride + at.column];
    }
    #[unroll]
    for index in 0..count {
        let row = first + comptime!(index * lines);
        let mut hidden = values[index];
        if comptime!(with_bias) {
            hidden += at.bias;
            matmul[row * at.stride + at.column] = hidden;
        }
        let (_, x) = normalize::<N>(hidden, &at.norm, steps.batch_norm);
        let active = activate::<N>(x, at.slope, steps.curve);
        let element = (row * at.columns + at.column) * N::value();
        values[index] = drop_some::<N>(active, dropout, element, steps.dropout);
    }
    #[unroll]
    for index in 0..count {
        let row = first + comptime!(index * lines);
        out[row * at.out_stride + at.column] = values[index];
    }
}
