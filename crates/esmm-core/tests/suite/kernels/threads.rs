//! The same bits at any number of threads.

use burn::tensor::ops::FloatTensor;
use esmm_core::Activation;
use esmm_core::EsmmBackend;
use esmm_core::backend::{Kernels, LayerWeights, TableRule};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::first_layer::{Entries, FirstLayerCase};
use super::funnel::FunnelCase;
use super::rows::RowsCase;
use super::{infer, layer, on_cpu_backends};
use crate::common::flat;

on_cpu_backends!(thread_counts);

fn of_weights<B: EsmmBackend>(grads: LayerWeights<FloatTensor<B>>) -> Vec<FloatTensor<B>> {
    let mut all = Vec::new();
    grads.map(|grad| all.push(grad));
    all
}

/// Every operation on more rows than a task takes.
fn run<B: EsmmBackend>() -> Vec<Vec<f64>> {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let mut results = Vec::new();
    for rows in [600, 1300] {
        for (entries, with_groups) in [(Entries::Single, false), (Entries::Bags, true)] {
            let case = FirstLayerCase::new(&mut rng, rows, entries, with_groups);
            let operands = case.operands::<B>();
            let (output, own) = B::Kernels::first_layer(operands.clone(), case.spec());
            results.push(output.output.clone());
            let grad = output.output;
            let grads = B::Kernels::first_layer_backward(operands, output.saved, own, grad, case.spec());
            results.push(grads.table);
            results.extend(of_weights::<B>(grads.weights));
            let [towers, _, width] = case.sizes();
            let layers = infer::layers::<B>(40, towers, &[width, 20, 1], Activation::Relu);
            results.push(B::Kernels::infer(case.table::<B>(), case.bags::<B>(), layers));
        }
        for case in layer::cases(&[rows]).into_iter().step_by(5) {
            let output = B::Kernels::layer(case.operands::<B>(), case.spec);
            results.push(output.output);
            let grads =
                B::Kernels::layer_backward(case.operands::<B>(), output.saved, case.grad::<B>(), case.spec);
            results.push(grads.input);
            results.extend(of_weights::<B>(grads.weights));
        }
        let case = FunnelCase::new(&mut rng, rows, 2, 3.0);
        results.push(B::Kernels::funnel_loss(case.logits::<B>(), case.reached::<B>()));
        let grad = case.grad::<B>();
        results.push(B::Kernels::funnel_loss_backward(case.logits::<B>(), case.reached::<B>(), grad));
        for rule in TableRule::ALL {
            let case = RowsCase::new(&mut rng, rule, 4000, 24, 0.1);
            let state = case.run::<B, B::Kernels>(case.state::<B>());
            results.push(state.tensor);
            results.extend(state.moments);
        }
    }
    results.iter().map(flat::<B>).collect()
}

fn thread_counts<B: EsmmBackend>() {
    let at = |threads: usize| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run::<B>)
    };
    let one = at(1);
    for threads in [3, 5] {
        for (index, (one, many)) in one.iter().zip(at(threads)).enumerate() {
            let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            assert!(bits(one) == bits(&many), "result {index} depends on the number of threads");
        }
    }
}
