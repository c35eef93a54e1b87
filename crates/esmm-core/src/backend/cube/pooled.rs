//! The first layer where groups of rows share features: pooled and multiplied once a group.

use std::sync::Arc;

use burn::tensor::Slice;
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*, std::FastDivmod};
use burn_cubecl::tensor::CubeTensor;

use super::bags::{Plan, bag_pool};
use super::bags_backward::bag_pool_backward;
use super::infer::apply_layers;
use super::layer::{Columns, behind_product};
use super::layer_backward::behind_product_backward;
use super::product::{Product, layer_product, layer_product_backward};
use super::sort_on_host;
use super::tensor::{OnCube, Rows, address, array, grid, vector_size};
use crate::backend::{
    BagPlan, GroupPlan, InferenceLayer, LayerOutput, LayerSpec, PooledGrads, PooledInput, PooledOutput,
    PooledSaved, SharedFeatures,
};
use crate::precision::Precision;

/// See [`EsmmBackend::pooled_layer`](crate::EsmmBackend::pooled_layer). Keeps what each row pooled, and what each group did.
pub(super) fn pooled_layer<R: CubeRuntime, B: OnCube<R>>(
    input: PooledInput<B>,
    groups: GroupPlan<B>,
    spec: LayerSpec,
) -> PooledOutput<B> {
    let PooledInput { table, plan, weight, bias, gamma, beta, slope } = input;
    let parts = Parts::pool(table, plan.own, &groups);
    let product = Product { tensor: parts.product::<B>(weight, spec.precision), biased: false };
    let columns = Columns { bias, gamma, beta, slope };
    let LayerOutput { output, saved } = behind_product::<R, B>(product, columns, spec);
    PooledOutput { output, saved: PooledSaved { pooled: vec![parts.own, parts.shared], layer: saved } }
}

/// See [`EsmmBackend::pooled_layer_backward`](crate::EsmmBackend::pooled_layer_backward).
///
/// # Panics
/// When `saved` is not what [`pooled_layer`] gave.
pub(super) fn pooled_layer_backward<R: CubeRuntime, B: OnCube<R>>(
    input: PooledInput<B>,
    groups: GroupPlan<B>,
    saved: PooledSaved<B>,
    grad: CubeTensor<R>,
    spec: LayerSpec,
) -> PooledGrads<B> {
    let PooledInput { table, plan, weight, bias, gamma, beta, slope } = input;
    let pooled: Result<[CubeTensor<R>; 2], _> = saved.pooled.try_into();
    let Ok([own, shared]) = pooled else { panic!("a layer with groups keeps two pooled inputs") };
    let shape = weight.meta.shape();
    let [towers, outputs] = [shape[0], shape[2]];
    let side_by_side = own.meta.shape()[0] != towers;
    let columns = Columns { bias, gamma, beta, slope };
    let (hidden, columns) = behind_product_backward::<R, B>(columns, saved.layer, grad, spec, side_by_side);
    let by_group = sums_by_group::<R, B>(hidden.clone(), &groups, [towers, outputs]);
    let [own_weight, shared_weight] = split_weight::<R, B>(weight, &groups.features, dim_of(&table));
    let [own_input, own_weight] = layer_product_backward::<R, B>(own, own_weight, hidden, spec.precision);
    let [shared_input, shared_weight] =
        layer_product_backward::<R, B>(shared, shared_weight, by_group, spec.precision);
    let dim = dim_of(&table);
    let rows = table.meta.shape()[0] / plan.own.tables;
    let own_rows = rows_backward::<R, B>(own_input, plan.own, rows);
    let shared_rows = rows_backward::<R, B>(shared_input, groups.bags, rows);
    PooledGrads {
        table: B::float_add(own_rows, shared_rows),
        weight: join_weight::<R, B>([own_weight, shared_weight], &groups.features, dim),
        bias: columns.bias,
        gamma: columns.gamma,
        beta: columns.beta,
        slope: columns.slope,
    }
}

/// See [`EsmmBackend::infer_pooled_logits`](crate::EsmmBackend::infer_pooled_logits).
pub(super) fn infer_pooled_logits<R: CubeRuntime, B: OnCube<R>>(
    table: CubeTensor<R>,
    own: BagPlan<B>,
    groups: GroupPlan<B>,
    layers: Vec<InferenceLayer<B>>,
) -> CubeTensor<R> {
    let parts = Parts::pool(table, own, &groups);
    apply_layers::<R, B, _>(parts, layers, |parts, weight| parts.product::<B>(weight, Precision::F32))
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
    fn pool<B: OnCube<R>>(table: CubeTensor<R>, own: BagPlan<B>, groups: &GroupPlan<B>) -> Self {
        Self {
            dim: dim_of(&table),
            own: bag_pool(table.clone(), Plan::new(own)),
            shared: bag_pool(table, Plan::new(groups.bags.clone())),
            of_rows: groups.of_rows.clone(),
            features: groups.features.clone(),
        }
    }

    /// `weight [K, I, O]` to `[K, B, O]`.
    fn product<B: OnCube<R>>(&self, weight: CubeTensor<R>, precision: Precision) -> CubeTensor<R> {
        let [own, shared] = split_weight::<R, B>(weight, &self.features, self.dim);
        let product = Rows::new(layer_product(self.own.clone(), own, None, precision).tensor);
        let of_groups = Rows::new(layer_product(self.shared.clone(), shared, None, precision).tensor);
        add_groups(&product, &of_groups, &self.of_rows);
        product.tensor
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

/// Puts the rows of two weights in the order of the input's columns.
fn join_weight<R: CubeRuntime, B: OnCube<R>>(
    weights: [CubeTensor<R>; 2],
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

/// Adds to each row of `product [K, B, O]` that of its group, `of_groups [K, G, O]`, in place.
fn add_groups<R: CubeRuntime>(product: &Rows<R>, of_groups: &Rows<R>, of_rows: &CubeTensor<R>) {
    let rows = product.tensor.meta.shape()[1];
    let vector = vector_size(&[product.width, product.stride, of_groups.stride]);
    let units = product.tensor.meta.num_elements() / vector;
    let (cubes, dim) = grid(&product.tensor.client, units);
    // SAFETY: one unit for each vector of the product; groups of rows were checked when the batch was built.
    unsafe {
        add_groups_kernel::launch_unchecked(
            &product.tensor.client,
            cubes,
            dim,
            address(&[&product.tensor, &of_groups.tensor]),
            vector,
            product.array(),
            of_groups.array(),
            array(of_rows),
            product.width / vector,
            rows,
            of_groups.tensor.meta.shape()[1],
            product.stride / vector,
            of_groups.stride / vector,
            units,
        );
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn add_groups_kernel<N: Size>(
    product: &mut Array<Vector<f32, N>>,
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
    product[row * stride + column] += of_groups[group * group_stride + column];
}

/// Sums over the rows of each group: `[K, B, O]` to `[K, G, O]`, or with the towers side by side `[B, K * O]` to
/// `[G, K * O]`. A group is a bag that all of its rows read.
fn sums_by_group<R: CubeRuntime, B: OnCube<R>>(
    grad: CubeTensor<R>,
    groups: &GroupPlan<B>,
    [towers, outputs]: [usize; 2],
) -> CubeTensor<R> {
    let side_by_side = grad.meta.num_dims() == 2;
    let (count, rows) = (groups.bags.rows, groups.of_rows.meta.shape()[0]);
    let order = groups.rows_by_group.clone();
    let order = order.unwrap_or_else(|| sort_on_host::<R, B>(&groups.of_rows, count));
    let tables = if side_by_side { 1 } else { towers };
    let plan = Plan { tables, rows, num_sparse: 1, slots: groups.of_rows.clone(), bags: None, dense: None };
    let sums = bag_pool_backward(grad, plan, order);
    if side_by_side { sums } else { B::float_reshape(sums, [towers, count, outputs].into()) }
}

/// Gradient of the pooled input to that of the table's rows.
fn rows_backward<R: CubeRuntime, B: OnCube<R>>(
    grad: CubeTensor<R>,
    plan: BagPlan<B>,
    num_rows: usize,
) -> CubeTensor<R> {
    let order = plan.order.clone().unwrap_or_else(|| sort_on_host::<R, B>(&plan.slots, num_rows));
    bag_pool_backward(grad, Plan::new(plan), order)
}
