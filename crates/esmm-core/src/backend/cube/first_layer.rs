//! The first layer: pooling and a layer. Where groups of rows share features, these are pooled and multiplied once a
//! group.

use std::sync::Arc;

use burn::tensor::Slice;
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*, std::FastDivmod};
use burn_cubecl::tensor::CubeTensor;

use super::bags::{CubeBags, bag_pool, on_device};
use super::bags_backward::bag_pool_backward;
use super::infer::{apply, apply_layers, rest_of, whole_layer};
use super::join::{Sum, join};
use super::layer::{Columns, after_matmul, layer};
use super::layer_backward::{WeightSums, after_matmul_backward, layer_backward};
use super::matmul::{Matmul, layer_matmul, layer_matmul_backward};
use super::tensor::{OnCube, Rows, address, array, grid, ints, order, vector_size};
use crate::backend::{
    Bags, FirstLayer, GroupBags, Indices, InferenceLayer, InputBags, Layer, LayerOutput, LayerSaved,
    LayerSpec, Moments, Running, SharedFeatures,
};
use crate::precision::Precision;

/// What the first layer keeps for backward on a device.
#[derive(Debug, Clone)]
pub struct CubeSaved<R: CubeRuntime> {
    /// What rows pooled, `[T, B, own columns]`.
    own: CubeTensor<R>,
    /// What groups pooled, `[T, G, shared columns]`.
    shared: Option<CubeTensor<R>>,
}

/// What the first layer leaves in training: its output, what its backward reads, and running statistics where they moved.
type Trained<R> = (LayerOutput<CubeTensor<R>>, CubeSaved<R>, Option<Moments<CubeTensor<R>>>);

/// See [`Kernels::first_layer`](crate::backend::Kernels::first_layer).
pub(super) fn first_layer<R: CubeRuntime, B: OnCube<R>>(
    operands: FirstLayer<CubeTensor<R>, Indices<B>>,
    running: Option<Running<CubeTensor<R>>>,
    spec: LayerSpec,
) -> Trained<R> {
    let FirstLayer { table, bags: InputBags { own, groups }, weights } = operands;
    let Some(groups) = groups else {
        let own = bag_pool(table, on_device::<R, B>(own));
        let (output, moved) = layer(Layer { input: own.clone(), weights }, running, spec);
        return (output, CubeSaved { own, shared: None }, moved);
    };
    let is_linear = spec.is_linear(&weights);
    let parts = Parts::pool::<B>(table, own, &groups);
    let (weight, columns) = Columns::split(weights);
    let tensor = parts.matmul::<B>(weight, spec.precision);
    let matmul = Matmul { tensor, biased: false, moments: None };
    let (output, moved) = after_matmul(matmul, columns, running, spec, is_linear);
    (output, CubeSaved { own: parts.own, shared: Some(parts.shared) }, moved)
}

/// See [`Kernels::first_layer_backward`](crate::backend::Kernels::first_layer_backward).
///
/// # Panics
/// When `kept` is that of a layer without groups and this one has some.
pub(super) fn first_layer_backward<R: CubeRuntime, B: OnCube<R>>(
    operands: FirstLayer<CubeTensor<R>, Indices<B>>,
    saved: LayerSaved<CubeTensor<R>>,
    kept: CubeSaved<R>,
    grad: CubeTensor<R>,
    spec: LayerSpec,
) -> (CubeTensor<R>, WeightSums<R>) {
    let FirstLayer { table, bags: InputBags { own: own_bags, groups }, weights } = operands;
    let dim = dim_of(&table);
    let rows = table.meta.shape()[0] / own_bags.tables;
    let Some(groups) = groups else {
        let layer = Layer { input: kept.own, weights };
        let (input, weights) = layer_backward::<R, B>(layer, saved, grad, spec);
        return (rows_backward::<R, B>(input, own_bags, rows), weights);
    };
    let Some(shared) = kept.shared else { panic!("a layer with groups kept what no group pooled") };
    let is_linear = spec.is_linear(&weights);
    let (weight, columns) = Columns::split(weights);
    let shape = weight.meta.shape();
    let [towers, outputs] = [shape[0], shape[2]];
    let side_by_side = kept.own.meta.shape()[0] != towers;
    let (hidden, columns) =
        after_matmul_backward::<R, B>(columns, saved, grad, spec, is_linear, side_by_side);
    let by_group = sums_by_group::<R, B>(hidden.tensor.clone(), &groups, [towers, outputs]);
    let [own_weight, shared_weight] = split_weight::<R, B>(weight, &groups.features, dim);
    let (own_input, own_weight) = layer_matmul_backward::<R, B>(kept.own, own_weight, hidden, spec.precision);
    let (shared_input, shared_weight) =
        layer_matmul_backward::<R, B>(shared, shared_weight, by_group, spec.precision);
    let own_rows = rows_backward::<R, B>(own_input, own_bags, rows);
    let shared_rows = rows_backward::<R, B>(shared_input, groups.bags, rows);
    let weight = join_weight::<R, B>(join(vec![own_weight, shared_weight]), &groups.features, dim);
    (B::float_add(own_rows, shared_rows), WeightSums::Hidden(Sum::Whole(weight), columns))
}

/// See [`Kernels::infer`](crate::backend::Kernels::infer).
pub(super) fn infer<R: CubeRuntime, B: OnCube<R>>(
    table: CubeTensor<R>,
    bags: InputBags<CubeTensor<R>, Indices<B>>,
    layers: Vec<InferenceLayer<CubeTensor<R>>>,
) -> CubeTensor<R> {
    let InputBags { own, groups } = bags;
    let Some(groups) = groups else {
        return apply_layers::<R, B, _>(bag_pool(table, on_device::<R, B>(own)), layers, whole_layer);
    };
    let parts = Parts::pool::<B>(table, own, &groups);
    apply_layers::<R, B, _>(parts, layers, |parts, layer| {
        let matmul = parts.matmul::<B>(layer.weight.clone(), Precision::F32);
        apply(matmul, rest_of(layer))
    })
}

/// What the first layer reads.
struct Parts<R: CubeRuntime> {
    /// What rows have of their own, `[T, B, own columns]`.
    own: CubeTensor<R>,
    /// What groups share, `[T, G, shared columns]`.
    shared: CubeTensor<R>,
    /// Group of each row, `[B]`.
    of_rows: CubeTensor<R>,
    features: Arc<SharedFeatures>,
    dim: usize,
}

impl<R: CubeRuntime> Parts<R> {
    fn pool<B: OnCube<R>>(
        table: CubeTensor<R>,
        own: Bags<CubeTensor<R>, Indices<B>>,
        groups: &GroupBags<CubeTensor<R>, Indices<B>>,
    ) -> Self {
        Self {
            dim: dim_of(&table),
            own: bag_pool(table.clone(), on_device::<R, B>(own)),
            shared: bag_pool(table, on_device::<R, B>(groups.bags.clone())),
            of_rows: ints(&groups.of_rows),
            features: groups.features.clone(),
        }
    }

    /// `weight [K, I, O]` to `[K, B, O]`.
    fn matmul<B: OnCube<R>>(&self, weight: CubeTensor<R>, precision: Precision) -> CubeTensor<R> {
        let [own, shared] = split_weight::<R, B>(weight, &self.features, self.dim);
        let matmul = Rows::new(layer_matmul(self.own.clone(), own, None, precision, false).tensor);
        let of_groups = Rows::new(layer_matmul(self.shared.clone(), shared, None, precision, false).tensor);
        add_groups(&matmul, &of_groups, &self.of_rows);
        matmul.tensor
    }
}

fn dim_of<R: CubeRuntime>(table: &CubeTensor<R>) -> usize {
    table.meta.shape()[1]
}

/// Rows of the weight `[K, I, O]` that own columns of the input meet, and those that shared ones do.
fn split_weight<R: CubeRuntime, B: OnCube<R>>(
    weight: CubeTensor<R>,
    features: &SharedFeatures,
    dim: usize,
) -> [CubeTensor<R>; 2] {
    [false, true].map(|shared| {
        let columns = features.columns(shared, dim).into_iter();
        let parts = columns.map(|columns| rows_of::<R, B>(&weight, columns.start, columns.end));
        B::float_cat(parts.collect(), 1)
    })
}

/// Puts the rows of two weights, own and shared ones, in the order of the input's columns.
fn join_weight<R: CubeRuntime, B: OnCube<R>>(
    weights: Vec<CubeTensor<R>>,
    features: &SharedFeatures,
    dim: usize,
) -> CubeTensor<R> {
    let mut parts: Vec<(usize, CubeTensor<R>)> = Vec::new();
    for (weight, shared) in weights.iter().zip([false, true]) {
        let mut start = 0;
        for columns in features.columns(shared, dim) {
            let end = start + columns.len();
            parts.push((columns.start, rows_of::<R, B>(weight, start, end)));
            start = end;
        }
    }
    parts.sort_unstable_by_key(|(column, _)| *column);
    B::float_cat(parts.into_iter().map(|(_, part)| part).collect(), 1)
}

fn rows_of<R: CubeRuntime, B: OnCube<R>>(weight: &CubeTensor<R>, start: usize, end: usize) -> CubeTensor<R> {
    B::float_slice(weight.clone(), &[Slice::full(), Slice::from(start..end)])
}

/// Adds to each row of `matmul [K, B, O]` that of its group, `of_groups [K, G, O]`, in place.
fn add_groups<R: CubeRuntime>(matmul: &Rows<R>, of_groups: &Rows<R>, of_rows: &CubeTensor<R>) {
    let rows = matmul.tensor.meta.shape()[1];
    let vector = vector_size(&[matmul.width, matmul.stride, of_groups.stride]);
    let units = matmul.tensor.meta.num_elements() / vector;
    let (cubes, dim) = grid(&matmul.tensor.client, units);
    // SAFETY: one unit for each vector of the matmul; groups of rows were checked when the batch was built.
    unsafe {
        add_groups_kernel::launch_unchecked(
            &matmul.tensor.client,
            cubes,
            dim,
            address(&[&matmul.tensor, &of_groups.tensor]),
            vector,
            matmul.array(),
            of_groups.array(),
            array(of_rows),
            matmul.width / vector,
            rows,
            of_groups.tensor.meta.shape()[1],
            matmul.stride / vector,
            of_groups.stride / vector,
            units,
        );
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn add_groups_kernel<N: Size>(
    matmul: &mut Array<Vector<f32, N>>,
    of_groups: &Array<Vector<f32, N>>,
    of_rows: &Array<i32>,
    width: FastDivmod<usize>,
    rows: FastDivmod<usize>,
    groups: usize,
    stride: usize,
    group_stride: usize,
    units: usize,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let (row, column) = width.div_mod(ABSOLUTE_POS);
    let (tower, batch_row) = rows.div_mod(row);
    let group = tower * groups + usize::cast_from(of_rows[batch_row]);
    matmul[row * stride + column] += of_groups[group * group_stride + column];
}

/// Sums over the rows of each group: `[K, B, O]` to `[K, G, O]`, or with the towers side by side `[B, K * O]` to
/// `[G, K * O]`. A group is a bag that all of its rows read.
fn sums_by_group<R: CubeRuntime, B: OnCube<R>>(
    grad: CubeTensor<R>,
    groups: &GroupBags<CubeTensor<R>, Indices<B>>,
    [towers, outputs]: [usize; 2],
) -> CubeTensor<R> {
    let side_by_side = grad.meta.num_dims() == 2;
    let count = groups.bags.rows;
    let rows = groups.of_rows.len();
    let order = order::<R, B>(&groups.of_rows, count);
    let tables = if side_by_side { 1 } else { towers };
    let slots = ints(&groups.of_rows);
    let plan = CubeBags { tables, rows, num_sparse: 1, slots, weighted: None, dense: None, bins: None };
    let sums = bag_pool_backward(grad, plan, order);
    if side_by_side { sums } else { B::float_reshape(sums, [towers, count, outputs].into()) }
}

/// Gradient of the pooled input to that of the table's rows.
fn rows_backward<R: CubeRuntime, B: OnCube<R>>(
    grad: CubeTensor<R>,
    bags: Bags<CubeTensor<R>, Indices<B>>,
    num_rows: usize,
) -> CubeTensor<R> {
    let order = order::<R, B>(&bags.slots, num_rows);
    bag_pool_backward(grad, on_device::<R, B>(bags), order)
}
