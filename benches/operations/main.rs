//! Each operation of `EsmmBackend` alone: the CPU kernel against the reference body, on burn-ndarray.
//!
//! ```sh
//! cargo bench --bench operations [-- FILTER]
//! ```

#[path = "../workload/mod.rs"]
#[allow(
    clippy::expect_used,
    dead_code,
    unused_imports,
    reason = "a bench ends where it fails, and this one uses a part"
)]
mod workload;

use burn::tensor::ops::FloatTensor;
use burn::tensor::{Distribution, Int, Tensor, TensorData};
use burn_ndarray::NdArray;
use divan::Bencher;
use esmm_core::backend::{
    BagPlan, InputPlan, LayerInput, LayerSpec, PooledInput, RowRule, RowState, RowUpdate, WeightRule,
    WeightState, WeightUpdate, reference,
};
use esmm_core::{BatchBuilder, DropoutKey, EsmmBackend, Lookup};
use workload::{Workload, raw_batches};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type B = NdArray;

/// The workloads by name: what divan prints.
const WORKLOADS: [&str; 3] = ["notebook", "aliccp", "bigtable"];

fn main() {
    divan::main();
}

fn workload_of(name: &str) -> Workload {
    Workload::all().into_iter().find(|workload| workload.name == name).unwrap_or_else(Workload::notebook)
}

/// Measures an operation that takes its state and gives it back.
fn in_place<S>(bencher: Bencher<'_, '_>, state: S, operation: impl Fn(S) -> S) {
    let mut state = Some(state);
    bencher.bench_local(|| state = state.take().map(&operation));
}

fn random<const D: usize>(shape: [usize; D]) -> FloatTensor<B> {
    let tensor = Tensor::<B, D>::random(shape, Distribution::Uniform(-1.0, 1.0), &Default::default());
    tensor.into_primitive().tensor()
}

/// The rows that a batch touches, as a table, and its plan.
fn pooling(workload: &Workload) -> (FloatTensor<B>, BagPlan<B>, usize) {
    let raw = raw_batches(workload, 1, 7).remove(0);
    let mut builder = BatchBuilder::new(&workload.schema());
    let host = raw.with_input(|input| builder.build(input)).unwrap_or_else(|error| panic!("{error}"));
    let touched = host.num_touched().unwrap_or_default();
    let batch = host.to_device::<B>(&Default::default());
    let (Lookup::Touched { slots, .. } | Lookup::Rows(slots)) = batch.lookup;
    let plan = BagPlan {
        tables: 1,
        rows: batch.rows,
        num_sparse: batch.num_sparse,
        slots: slots.into_primitive(),
        order: None,
        bags: None,
        dense: batch.dense.map(|dense| dense.into_primitive().tensor()),
    };
    (random([touched, workload.dim]), plan, touched)
}

#[divan::bench_group]
mod bag_pool {
    use super::{B, Bencher, EsmmBackend, WORKLOADS, pooling, workload_of};

    #[divan::bench(args = WORKLOADS)]
    fn kernel(bencher: Bencher<'_, '_>, name: &str) {
        let (table, plan, _) = pooling(&workload_of(name));
        bencher.bench_local(|| B::bag_pool(table.clone(), plan.clone()));
    }

    #[divan::bench(args = WORKLOADS)]
    fn reference(bencher: Bencher<'_, '_>, name: &str) {
        let (table, plan, _) = pooling(&workload_of(name));
        bencher.bench_local(|| super::reference::bag_pool::<B>(table.clone(), plan.clone()));
    }
}

#[divan::bench_group]
mod bag_pool_backward {
    use super::{B, Bencher, EsmmBackend, WORKLOADS, pooling, workload_of};

    #[divan::bench(args = WORKLOADS)]
    fn kernel(bencher: Bencher<'_, '_>, name: &str) {
        let (table, plan, touched) = pooling(&workload_of(name));
        let grad = B::bag_pool(table, plan.clone());
        bencher.bench_local(|| B::bag_pool_backward(grad.clone(), plan.clone(), touched));
    }

    #[divan::bench(args = WORKLOADS)]
    fn reference(bencher: Bencher<'_, '_>, name: &str) {
        let (table, plan, touched) = pooling(&workload_of(name));
        let grad = B::bag_pool(table, plan.clone());
        bencher.bench_local(|| super::reference::bag_pool_backward::<B>(grad.clone(), plan.clone(), touched));
    }
}

/// The first hidden layer of a workload.
fn first_layer(workload: &Workload) -> (LayerInput<B>, LayerSpec, FloatTensor<B>) {
    let inputs = workload.tables.len() * workload.dim + workload.dense;
    let outputs = workload.hidden[0];
    let input = LayerInput {
        input: random([1, workload.batch, inputs]),
        weight: random([2, inputs, outputs]),
        bias: random([2, outputs]),
        gamma: random([2, outputs]),
        beta: random([2, outputs]),
        slope: random([1]),
    };
    let dropout = DropoutKey { seed: 1, step: 2 }.layer(0, workload.dropout);
    let activation = workload.activation;
    let spec = LayerSpec { batch_norm: true, epsilon: 1e-5, activation, dropout, ..LayerSpec::LINEAR };
    (input, spec, random([2, workload.batch, outputs]))
}

#[divan::bench_group]
mod tower_layer {
    use super::{B, Bencher, EsmmBackend, LayerSpec, WORKLOADS, first_layer, workload_of};

    #[divan::bench(args = WORKLOADS)]
    fn kernel(bencher: Bencher<'_, '_>, name: &str) {
        let (input, spec, _) = first_layer(&workload_of(name));
        bencher.bench_local(|| B::tower_layer(input.clone(), spec));
    }

    #[divan::bench(args = WORKLOADS)]
    fn product_alone(bencher: Bencher<'_, '_>, name: &str) {
        let (input, _, _) = first_layer(&workload_of(name));
        bencher.bench_local(|| B::tower_layer(input.clone(), LayerSpec::LINEAR));
    }

    #[divan::bench(args = WORKLOADS)]
    fn reference(bencher: Bencher<'_, '_>, name: &str) {
        let (input, spec, _) = first_layer(&workload_of(name));
        bencher.bench_local(|| super::reference::tower_layer::<B>(input.clone(), spec));
    }
}

#[divan::bench_group]
mod tower_layer_backward {
    use super::{B, Bencher, EsmmBackend, WORKLOADS, first_layer, workload_of};

    #[divan::bench(args = WORKLOADS)]
    fn kernel(bencher: Bencher<'_, '_>, name: &str) {
        let (input, spec, grad) = first_layer(&workload_of(name));
        let saved = B::tower_layer(input.clone(), spec).saved;
        bencher.bench_local(|| B::tower_layer_backward(input.clone(), saved.clone(), grad.clone(), spec));
    }

    #[divan::bench(args = WORKLOADS)]
    fn reference(bencher: Bencher<'_, '_>, name: &str) {
        let (input, spec, grad) = first_layer(&workload_of(name));
        let saved = B::tower_layer(input.clone(), spec).saved;
        bencher.bench_local(|| {
            super::reference::tower_layer_backward::<B>(input.clone(), saved.clone(), grad.clone(), spec)
        });
    }
}

/// The first layer of a workload on the rows that a batch touches, and the gradient of its output.
fn pooled_layer_of(workload: &Workload) -> (PooledInput<B>, LayerSpec, FloatTensor<B>) {
    let (table, own, _) = pooling(workload);
    let (LayerInput { weight, bias, gamma, beta, slope, .. }, spec, grad) = first_layer(workload);
    let plan = InputPlan { own, groups: None };
    (PooledInput { table, plan, weight, bias, gamma, beta, slope }, spec, grad)
}

#[divan::bench_group]
mod pooled_layer_both_ways {
    use super::{B, Bencher, EsmmBackend, WORKLOADS, pooled_layer_of, workload_of};

    #[divan::bench(args = WORKLOADS)]
    fn kernel(bencher: Bencher<'_, '_>, name: &str) {
        let (input, spec, grad) = pooled_layer_of(&workload_of(name));
        bencher.bench_local(|| {
            let saved = B::pooled_layer(input.clone(), spec).saved;
            B::pooled_layer_backward(input.clone(), saved, grad.clone(), spec)
        });
    }

    /// The kernels of `bag_pool` and `tower_layer` one after the other: every row is multiplied.
    #[divan::bench(args = WORKLOADS)]
    fn in_two_operations(bencher: Bencher<'_, '_>, name: &str) {
        let (input, spec, grad) = pooled_layer_of(&workload_of(name));
        bencher.bench_local(|| {
            let saved = super::reference::pooled_layer::<B>(input.clone(), spec).saved;
            super::reference::pooled_layer_backward::<B>(input.clone(), saved, grad.clone(), spec)
        });
    }
}

fn labelled(rows: usize) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let labels: Vec<f32> =
        (0..rows).flat_map(|row| [f32::from(row % 25 == 0), f32::from(row % 500 == 0)]).collect();
    let labels = Tensor::<B, 2>::from_data(TensorData::new(labels, [rows, 2]), &Default::default());
    (random([rows, 2]), labels.into_primitive().tensor(), random([2]))
}

#[divan::bench_group]
mod funnel_loss_both_ways {
    use super::{B, Bencher, EsmmBackend, labelled};

    #[divan::bench(args = [2048, 4096])]
    fn kernel(bencher: Bencher<'_, '_>, rows: usize) {
        let (logits, reached, grad) = labelled(rows);
        bencher.bench_local(|| {
            let loss = B::funnel_loss(logits.clone(), reached.clone());
            (loss, B::funnel_loss_backward(logits.clone(), reached.clone(), grad.clone()))
        });
    }

    #[divan::bench(args = [2048, 4096])]
    fn reference(bencher: Bencher<'_, '_>, rows: usize) {
        let (logits, reached, grad) = labelled(rows);
        bencher.bench_local(|| {
            let loss = super::reference::funnel_loss::<B>(logits.clone(), reached.clone());
            let grad =
                super::reference::funnel_loss_backward::<B>(logits.clone(), reached.clone(), grad.clone());
            (loss, grad)
        });
    }
}

/// A table of a million rows with the moments of Adam, and the rows that change.
fn updates(dim: usize) -> (RowState<B>, Tensor<B, 1, Int>, FloatTensor<B>, RowUpdate) {
    let (height, touched) = (1_000_000, 8_000);
    let zeros = || Tensor::<B, 2>::zeros([height, dim], &Default::default()).into_primitive().tensor();
    let state = RowState { table: random([height, dim]), moments: vec![zeros(), zeros()] };
    let rows = Tensor::arange(0..touched, &Default::default()) * (height as i64 / touched);
    let rule = RowRule::LazyAdam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, step: 5 };
    let update = RowUpdate { rule, learning_rate: 1e-3, l2: 0.0 };
    (state, rows, random([touched as usize, dim]), update)
}

#[divan::bench_group]
mod update_rows {
    use super::{B, Bencher, EsmmBackend, updates};

    #[divan::bench(args = [16, 128])]
    fn kernel(bencher: Bencher<'_, '_>, dim: usize) {
        let (state, rows, grads, update) = updates(dim);
        super::in_place(bencher, state, |old| {
            B::update_rows(old, rows.clone().into_primitive(), grads.clone(), update)
        });
    }

    #[divan::bench(args = [16, 128])]
    fn reference(bencher: Bencher<'_, '_>, dim: usize) {
        let (state, rows, grads, update) = updates(dim);
        super::in_place(bencher, state, |old| {
            super::reference::update_rows::<B>(old, rows.clone().into_primitive(), grads.clone(), update)
        });
    }
}

/// The weights of the first layer of `aliccp` with the moments of Adam.
fn weights() -> (WeightState<B>, FloatTensor<B>, WeightUpdate) {
    let shape = [2, 414, 360];
    let zeros = || Tensor::<B, 3>::zeros(shape, &Default::default()).into_primitive().tensor();
    let state = WeightState { weight: random(shape), moments: vec![zeros(), zeros()] };
    let rule = WeightRule::Adam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, step: 5 };
    (state, random(shape), WeightUpdate { rule, learning_rate: 1e-3, l2: 0.0, decay: 0.0 })
}

#[divan::bench_group]
mod update_weights {
    use super::{B, Bencher, EsmmBackend, weights};

    #[divan::bench]
    fn kernel(bencher: Bencher<'_, '_>) {
        let (state, grad, update) = weights();
        super::in_place(bencher, state, |old| B::update_weights(old, grad.clone(), update));
    }

    #[divan::bench]
    fn reference(bencher: Bencher<'_, '_>) {
        let (state, grad, update) = weights();
        super::in_place(bencher, state, |old| {
            super::reference::update_weights::<B>(old, grad.clone(), update)
        });
    }
}

#[divan::bench(args = WORKLOADS)]
fn build_batch(bencher: Bencher<'_, '_>, name: &str) {
    let workload = workload_of(name);
    let raw = raw_batches(&workload, 1, 7).remove(0);
    let mut builder = BatchBuilder::new(&workload.schema());
    bencher.bench_local(|| {
        raw.with_input(|input| builder.build(input)).unwrap_or_else(|error| panic!("{error}"))
    });
}
