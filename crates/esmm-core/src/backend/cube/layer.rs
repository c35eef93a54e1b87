//! A layer of all towers in training: the matmul, then two passes over it.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*, std::FastDivmod};
use burn_cubecl::tensor::CubeTensor;

use super::block::{Steps, activate, drop_some, leak, normalize, slope_of};
use super::dropout::{DropoutBits, bits};
use super::logits::{is_logits, logits};
use super::moments::moments;
use super::product::{Product, layer_product};
use super::tensor::{Rows, address, array, grid, plain, vector_size};
use crate::backend::{Layer, LayerOutput, LayerSaved, LayerSpec, LayerWeights, Moments, Norm};

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
    spec: LayerSpec,
) -> LayerOutput<CubeTensor<R>> {
    if is_logits(&layer, &spec) {
        return logits(layer);
    }
    let is_linear = spec.is_linear(&layer.weights);
    let (weight, mut columns) = Columns::split(layer.weights);
    columns.bias = plain(columns.bias);
    let product = layer_product(layer.input, weight, Some(&columns.bias), spec.precision);
    after_matmul(product, columns, spec, is_linear)
}

/// The rest of a layer, on its matmul `[K, B, O]`.
pub(super) fn after_matmul<R: CubeRuntime>(
    product: Product<R>,
    columns: Columns<R>,
    spec: LayerSpec,
    is_linear: bool,
) -> LayerOutput<CubeTensor<R>> {
    let biased = product.biased;
    let product = Rows::new(product.tensor);
    let bias = plain(columns.bias);
    if is_linear {
        if !biased {
            add_bias(&product, &bias);
        }
        let saved = LayerSaved { hidden: product.tensor.clone(), moments: None };
        return LayerOutput { output: product.tensor, saved };
    }
    let missing = (!biased).then_some(&bias);
    let norm = columns.norm.map(|norm| norm.map(plain));
    let found = norm.map(|norm| moments(&product, missing, &norm.gamma, &norm.beta, spec.epsilon as f32));
    let steps = Steps::new(&spec, found.is_some());
    let slope = columns.slope.map(plain);
    let packed = found.as_ref().map_or(&bias, |found| &found.packed);
    let output = finish(&product, missing, packed, slope.as_ref().unwrap_or(&bias), spec, steps);
    let moments = found.map(|found| Moments { mean: found.mean, variance: found.variance });
    LayerOutput { output, saved: LayerSaved { hidden: product.tensor, moments } }
}

/// Adds the bias to the matmul, in place.
fn add_bias<R: CubeRuntime>(product: &Rows<R>, bias: &CubeTensor<R>) {
    let rows = product.tensor.meta.shape()[1];
    let vector = product.vector();
    let units = product.tensor.meta.num_elements() / vector;
    let (cubes, dim) = grid(&product.tensor.client, units);
    // SAFETY: one unit for each vector of the product; the bias is `[K, O]`.
    unsafe {
        add_bias_kernel::launch_unchecked(
            &product.tensor.client,
            cubes,
            dim,
            address(&[&product.tensor]),
            vector,
            product.array(),
            array(bias),
            product.width / vector,
            rows,
            product.width / vector,
            product.stride / vector,
            units,
        );
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn add_bias_kernel<N: Size>(
    product: &mut Array<Vector<f32, N>>,
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
    product[row * stride + column] += bias[rows.div(row) * columns + column];
}

/// What batch norm, activation and dropout make of the product. Adds the bias to it before, in place, if there is one.
fn finish<R: CubeRuntime>(
    product: &Rows<R>,
    bias: Option<&CubeTensor<R>>,
    moments: &CubeTensor<R>,
    slope: &CubeTensor<R>,
    spec: LayerSpec,
    steps: Steps,
) -> CubeTensor<R> {
    let shape = product.tensor.meta.shape();
    let [towers, rows] = [shape[0], shape[1]];
    let out = Rows::empty(&product.tensor, [towers, rows, product.width]);
    let vector = vector_size(&[product.width, product.stride, out.stride]);
    let units = product.tensor.meta.num_elements() / vector;
    let (cubes, dim) = grid(&product.tensor.client, units);
    // SAFETY: one unit for each vector of the product; bias, moments and slope are `[K, O]`, `[4, K, O]` and `[K]`.
    unsafe {
        finish_kernel::launch_unchecked(
            &product.tensor.client,
            cubes,
            dim,
            address(&[&product.tensor, &out.tensor]),
            vector,
            product.array(),
            array(bias.unwrap_or(moments)),
            array(moments),
            array(slope),
            out.array(),
            bits(spec.dropout),
            product.width / vector,
            rows,
            product.width / vector,
            towers * product.width / vector,
            product.stride / vector,
            out.stride / vector,
            leak(spec.activation),
            units,
            bias.is_some(),
            steps,
        );
    }
    out.tensor
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn finish_kernel<N: Size>(
    product: &mut Array<Vector<f32, N>>,
    bias: &Array<Vector<f32, N>>,
    moments: &Array<Vector<f32, N>>,
    slopes: &Array<f32>,
    out: &mut Array<Vector<f32, N>>,
    dropout: DropoutBits,
    width: FastDivmod<usize>,
    rows: FastDivmod<usize>,
    columns: usize,
    all_columns: usize,
    stride: usize,
    out_stride: usize,
    leak: f32,
    units: usize,
    #[comptime] with_bias: bool,
    #[comptime] steps: Steps,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let (row, column) = width.div_mod(ABSOLUTE_POS);
    let tower = rows.div(row);
    let tower_column = tower * columns + column;
    let mut hidden = product[row * stride + column];
    if comptime!(with_bias) {
        hidden += bias[tower_column];
        product[row * stride + column] = hidden;
    }
    let (_, x) = normalize::<N>(hidden, moments, tower_column, all_columns, steps.batch_norm);
    let slope = slope_of(slopes, tower, leak, steps.curve);
    let active = activate::<N>(x, slope, steps.curve);
    let first = ABSOLUTE_POS * N::value();
    out[row * out_stride + column] = drop_some::<N>(active, &dropout, first, steps.dropout);
}
