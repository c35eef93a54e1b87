//! Each operation alone: the CPU kernel against the definition, on burn-ndarray.
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
use burn::tensor::{Distribution, Tensor, TensorData};
use burn_ndarray::NdArray;
use divan::Bencher;
use esmm_core::backend::{
    FirstLayer, HostLine, InputBags, Kernels, Layer, LayerSpec, LayerWeights, Norm, PackedLines, Reference,
    RowUpdate, TableRule, WeightRule, WeightUpdate, WithGrad, WithMoments,
};
use esmm_core::{BatchBuilder, DropoutKey, EsmmBackend, Indices};
use esmm_train::data::loader::RowLabels;
use workload::{Workload, raw_batches};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type B = NdArray;
type Kernel = <B as EsmmBackend>::Kernels;

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

/// The rows that a batch touches, as a table, and its bags.
fn pooling(workload: &Workload) -> (FloatTensor<B>, InputBags<FloatTensor<B>, Indices<B>>) {
    let raw = raw_batches(workload, 1, 7).remove(0);
    let mut builder = BatchBuilder::new(&workload.schema());
    let host = raw.with_input(|input| builder.build(input)).unwrap_or_else(|error| panic!("{error}"));
    let touched = host.num_touched().unwrap_or_default();
    (random([touched, workload.dim]), host.to_device::<B>(&Default::default()).bags)
}

/// The first hidden layer of a workload, on an input that has been pooled.
fn pooled_layer(workload: &Workload) -> (Layer<FloatTensor<B>>, LayerSpec, FloatTensor<B>) {
    let inputs = workload.tables.len() * workload.dim + workload.dense;
    let outputs = workload.hidden[0];
    let weights = LayerWeights {
        weight: random([2, inputs, outputs]),
        bias: random([2, outputs]),
        norm: Some(Norm { gamma: random([2, outputs]), beta: random([2, outputs]) }),
        slope: None,
    };
    let layer = Layer { input: random([1, workload.batch, inputs]), weights };
    let dropout = DropoutKey { seed: 1, step: 2 }.layer(0, workload.dropout);
    let spec = LayerSpec { epsilon: 1e-5, activation: workload.activation, dropout, ..LayerSpec::LINEAR };
    (layer, spec, random([2, workload.batch, outputs]))
}

#[divan::bench_group]
mod layer {
    use super::{Bencher, Kernel, Kernels, LayerSpec, Reference, WORKLOADS, pooled_layer, workload_of};

    fn run<K: Kernels<super::B>>(bencher: Bencher<'_, '_>, name: &str) {
        let (layer, spec, _) = pooled_layer(&workload_of(name));
        bencher.bench_local(|| K::layer(layer.clone(), spec));
    }

    #[divan::bench(args = WORKLOADS)]
    fn kernel(bencher: Bencher<'_, '_>, name: &str) {
        run::<Kernel>(bencher, name);
    }

    #[divan::bench(args = WORKLOADS)]
    fn matmul_alone(bencher: Bencher<'_, '_>, name: &str) {
        let (mut layer, _, _) = pooled_layer(&workload_of(name));
        layer.weights.norm = None;
        bencher.bench_local(|| <Kernel as Kernels<super::B>>::layer(layer.clone(), LayerSpec::LINEAR));
    }

    #[divan::bench(args = WORKLOADS)]
    fn reference(bencher: Bencher<'_, '_>, name: &str) {
        run::<Reference>(bencher, name);
    }
}

#[divan::bench_group]
mod layer_backward {
    use super::{Bencher, Kernel, Kernels, Reference, WORKLOADS, pooled_layer, workload_of};

    fn run<K: Kernels<super::B>>(bencher: Bencher<'_, '_>, name: &str) {
        let (layer, spec, grad) = pooled_layer(&workload_of(name));
        let saved = K::layer(layer.clone(), spec).saved;
        bencher.bench_local(|| K::layer_backward(layer.clone(), saved.clone(), grad.clone(), spec));
    }

    #[divan::bench(args = WORKLOADS)]
    fn kernel(bencher: Bencher<'_, '_>, name: &str) {
        run::<Kernel>(bencher, name);
    }

    #[divan::bench(args = WORKLOADS)]
    fn reference(bencher: Bencher<'_, '_>, name: &str) {
        run::<Reference>(bencher, name);
    }
}

#[divan::bench_group]
mod first_layer_both_ways {
    use super::{
        Bencher, FirstLayer, Kernel, Kernels, Reference, WORKLOADS, pooled_layer, pooling, workload_of,
    };

    fn run<K: Kernels<super::B>>(bencher: Bencher<'_, '_>, name: &str) {
        let workload = workload_of(name);
        let (table, bags) = pooling(&workload);
        let (layer, spec, grad) = pooled_layer(&workload);
        let layer = FirstLayer { table, bags, weights: layer.weights };
        bencher.bench_local(|| {
            let (output, own) = K::first_layer(layer.clone(), spec);
            K::first_layer_backward(layer.clone(), output.saved, own, grad.clone(), spec)
        });
    }

    #[divan::bench(args = WORKLOADS)]
    fn kernel(bencher: Bencher<'_, '_>, name: &str) {
        run::<Kernel>(bencher, name);
    }

    #[divan::bench(args = WORKLOADS)]
    fn reference(bencher: Bencher<'_, '_>, name: &str) {
        run::<Reference>(bencher, name);
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
    use super::{Bencher, Kernel, Kernels, Reference, labelled};

    fn run<K: Kernels<super::B>>(bencher: Bencher<'_, '_>, rows: usize) {
        let (logits, reached, grad) = labelled(rows);
        bencher.bench_local(|| {
            let loss = K::funnel_loss(logits.clone(), reached.clone());
            (loss, K::funnel_loss_backward(logits.clone(), reached.clone(), grad.clone()))
        });
    }

    #[divan::bench(args = [2048, 4096])]
    fn kernel(bencher: Bencher<'_, '_>, rows: usize) {
        run::<Kernel>(bencher, rows);
    }

    #[divan::bench(args = [2048, 4096])]
    fn reference(bencher: Bencher<'_, '_>, rows: usize) {
        run::<Reference>(bencher, rows);
    }
}

/// A table of a million rows with the moments of Adam, and the rows that change.
fn updates(dim: usize) -> (WithMoments<FloatTensor<B>>, Indices<B>, FloatTensor<B>, RowUpdate) {
    let (height, touched) = (1_000_000, 8_000);
    let zeros = || Tensor::<B, 2>::zeros([height, dim], &Default::default()).into_primitive().tensor();
    let state = WithMoments { tensor: random([height, dim]), moments: vec![zeros(), zeros()] };
    let rows = (0..touched).map(|row| row * (height as u32 / touched)).collect();
    let rule = TableRule::LazyAdam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8 };
    let update = RowUpdate { rule, step: 5, learning_rate: 1e-3, l2: 0.0 };
    (state, Indices::new(rows, &Default::default()), random([touched as usize, dim]), update)
}

#[divan::bench_group]
mod update_rows {
    use super::{Bencher, Kernel, Kernels, Reference, updates};

    fn run<K: Kernels<super::B>>(bencher: Bencher<'_, '_>, dim: usize) {
        let (state, rows, grads, update) = updates(dim);
        super::in_place(bencher, state, |old| K::update_rows(old, rows.clone(), grads.clone(), update));
    }

    #[divan::bench(args = [16, 128])]
    fn kernel(bencher: Bencher<'_, '_>, dim: usize) {
        run::<Kernel>(bencher, dim);
    }

    #[divan::bench(args = [16, 128])]
    fn reference(bencher: Bencher<'_, '_>, dim: usize) {
        run::<Reference>(bencher, dim);
    }
}

/// The weights of the first layer of `aliccp` with the moments of Adam.
fn weights() -> (WithMoments<FloatTensor<B>>, FloatTensor<B>, WeightUpdate) {
    let shape = [2, 414, 360];
    let zeros = || Tensor::<B, 3>::zeros(shape, &Default::default()).into_primitive().tensor();
    let state = WithMoments { tensor: random(shape), moments: vec![zeros(), zeros()] };
    let rule = WeightRule::Adam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8 };
    (state, random(shape), WeightUpdate { rule, step: 5, learning_rate: 1e-3, l2: 0.0, decay: 0.0 })
}

#[divan::bench_group]
mod update_weights {
    use super::{Bencher, Kernel, Kernels, Reference, WithGrad, weights};

    fn run<K: Kernels<super::B>>(bencher: Bencher<'_, '_>) {
        let (state, grad, update) = weights();
        super::in_place(bencher, state, |old| {
            let weight = WithGrad { weight: old, grad: grad.clone() };
            K::update_weights(vec![weight], update).remove(0)
        });
    }

    #[divan::bench]
    fn kernel(bencher: Bencher<'_, '_>) {
        run::<Kernel>(bencher);
    }

    #[divan::bench]
    fn reference(bencher: Bencher<'_, '_>) {
        run::<Reference>(bencher);
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

/// What the host does of a batch of 16,384 rows for a device that finds its distinct rows, until it is uploaded: ids are
/// checked and laid out row by row, labels become cells, and all of it is copied into one piece. The first two happen in
/// threads of the loader, the third on the thread that trains.
#[divan::bench_group]
mod batch_for_a_device {
    use std::sync::Arc;

    use super::{
        BatchBuilder, Bencher, HostLine, PackedLines, RowLabels, WORKLOADS, Workload, raw_batches,
        workload_of,
    };

    const ROWS: usize = 16_384;
    const STAGES: usize = 2;
    /// Bytes: as CUDA asks for.
    const ALIGNMENT: usize = 256;

    fn large(name: &str) -> (Workload, super::workload::RawBatch) {
        let workload = Workload { batch: ROWS, ..workload_of(name) };
        let raw = raw_batches(&workload, 1, 7).remove(0);
        (workload, raw)
    }

    fn labels(depth: &[u8]) -> RowLabels {
        RowLabels { depth: depth.to_vec(), ..RowLabels::default() }
    }

    /// What is uploaded of a batch beside its labels.
    fn lines(workload: &Workload) -> Vec<HostLine> {
        let ids = vec![7; ROWS * workload.tables.len()];
        let dense = HostLine::Floats(vec![0.5; ROWS * workload.dense]);
        let ids = HostLine::Ints(Arc::new(ids));
        if workload.dense > 0 { vec![ids, dense] } else { vec![ids] }
    }

    fn pack(cells: Vec<f32>, mut lines: Vec<HostLine>) -> PackedLines {
        lines.push(HostLine::Matrix { values: cells, columns: STAGES });
        PackedLines::new(&lines, ALIGNMENT)
    }

    #[divan::bench(args = WORKLOADS)]
    fn check_and_lay_out(bencher: Bencher<'_, '_>, name: &str) {
        let (workload, raw) = large(name);
        let mut builder = BatchBuilder::new(&workload.schema()).leaving_rows();
        bencher.bench_local(|| raw.with_input(|input| builder.build(input)));
    }

    #[divan::bench(args = WORKLOADS)]
    fn cells_of_labels(bencher: Bencher<'_, '_>, name: &str) {
        let labels = labels(&large(name).1.depth);
        bencher.bench_local(|| labels.reached_cells(STAGES));
    }

    #[divan::bench(args = WORKLOADS)]
    fn copy_into_one_piece(bencher: Bencher<'_, '_>, name: &str) {
        let (workload, raw) = large(name);
        let cells = labels(&raw.depth).reached_cells(STAGES);
        let lines = lines(&workload);
        let inputs = bencher.with_inputs(|| (cells.clone(), lines.clone()));
        inputs.bench_local_values(|(cells, lines)| pack(cells, lines));
    }

    #[divan::bench(args = WORKLOADS)]
    fn all_of_it(bencher: Bencher<'_, '_>, name: &str) {
        let (workload, raw) = large(name);
        let mut builder = BatchBuilder::new(&workload.schema()).leaving_rows();
        let labels = labels(&raw.depth);
        let lines = lines(&workload);
        bencher.with_inputs(|| lines.clone()).bench_local_values(|lines| {
            let batch = raw.with_input(|input| builder.build(input));
            (batch, pack(labels.reached_cells(STAGES), lines))
        });
    }
}
