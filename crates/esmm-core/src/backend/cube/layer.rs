//! A layer of all towers in training: the product, then two passes over it.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*, std::FastDivmod};
use burn_cubecl::tensor::CubeTensor;

use super::block::{Steps, activate, drop_some, leak, normalize, slope_of};
use super::dropout::{DropoutBits, bits};
use super::logits::{is_logits, logits};
use super::moments::moments;
use super::product::{Product, layer_product};
use super::tensor::{OnCube, Rows, address, array, grid, plain, vector_size};
use crate::backend::{LayerInput, LayerOutput, LayerSaved, LayerSpec};

/// What a layer knows of its outputs: as in [`LayerInput`].
pub(super) struct Columns<R: CubeRuntime> {
    pub(super) bias: CubeTensor<R>,
    pub(super) gamma: CubeTensor<R>,
    pub(super) beta: CubeTensor<R>,
    pub(super) slope: CubeTensor<R>,
}

/// See [`EsmmBackend::tower_layer`](crate::EsmmBackend::tower_layer).
pub(super) fn tower_layer<R: CubeRuntime, B: OnCube<R>>(
    input: LayerInput<B>,
    spec: LayerSpec,
) -> LayerOutput<B> {
    if is_logits::<R, B>(&input, &spec) {
        return logits::<R, B>(input);
    }
    let LayerInput { input, weight, bias, gamma, beta, slope } = input;
    let bias = plain(bias);
    let product = layer_product(input, weight, Some(&bias), spec.precision);
    behind_product(product, Columns { bias, gamma, beta, slope }, spec)
}

/// The rest of a layer, on its product `[K, B, O]`.
pub(super) fn behind_product<R: CubeRuntime, B: OnCube<R>>(
    product: Product<R>,
    columns: Columns<R>,
    spec: LayerSpec,
) -> LayerOutput<B> {
    let biased = product.biased;
    let product = Rows::new(product.tensor);
    let Columns { bias, gamma, beta, slope } = columns;
    let [bias, gamma, beta, slope] = [bias, gamma, beta, slope].map(plain);
    if spec.is_linear() {
        if !biased {
            add_bias(&product, &bias);
        }
        let saved = LayerSaved { hidden: product.tensor.clone(), mean: bias.clone(), variance: bias };
        return LayerOutput { output: product.tensor, saved };
    }
    let (moments, mean, variance) = if spec.batch_norm {
        let moments = moments(&product, (!biased).then_some(&bias), &gamma, &beta, spec.epsilon as f32);
        (moments.packed, moments.mean, moments.variance)
    } else {
        (bias.clone(), bias.clone(), bias.clone())
    };
    let output = finish(&product, (!biased).then_some(&bias), &moments, &slope, spec);
    LayerOutput { output, saved: LayerSaved { hidden: product.tensor, mean, variance } }
}

/// Adds the bias to the product, in place.
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
            Steps::new(&spec),
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
