//! What computes an operation: its kernel, its definition, or both side by side.

use std::marker::PhantomData;

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, TensorMetadata};

use super::comparison::{
    TOLERANCE, is_on, same, same_all, same_output, same_pooled, same_update, same_weights, tolerance,
};
use super::operands::Operands;
use super::{
    Blend, FirstLayer, FirstLayerGrads, GroupedLayer, GroupedLayerGrads, Indices, InferenceLayer, InputBags,
    Kernels, Layer, LayerOutput, LayerSaved, LayerSpec, Moments, Norm, Pooled, Reference, RowUpdate, Running,
    TowersGrads, TowersOperands, TowersOutput, WeightUpdate, WithGrad, WithMoments, towers,
};

/// The kernels K where all operands are f32, which is all that they know; else the [`Reference`]. While
/// [`compare_kernels`](super::compare_kernels) is on, both on the same operands, in whatever runs on them: a test, or a
/// whole training.
///
/// # Panics
/// While it is on, where the results differ: the message names the operation and the result.
#[derive(Debug)]
pub struct Dispatched<K>(PhantomData<K>);

/// What the first layer kept, and whose it is.
#[derive(Debug, Clone)]
pub enum DispatchedSaved<K, R> {
    /// The kernel's.
    Kernel(K),
    /// The definition's.
    Definition(R),
}

/// What computes an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runs {
    Kernel,
    Definition,
    /// Both; the results of the kernel are returned.
    Both,
}

impl Runs {
    /// What computes an operation on these.
    fn on<B: Backend>(operands: &[&dyn Operands<FloatTensor<B>>]) -> Self {
        let mut are_f32 = true;
        for operands in operands {
            Operands::<FloatTensor<B>>::each(*operands, &mut |tensor| {
                are_f32 &= tensor.dtype() == DType::F32;
            });
        }
        if are_f32 { Self::on_f32() } else { Self::Definition }
    }

    fn on_f32() -> Self {
        if is_on() { Self::Both } else { Self::Kernel }
    }
}

/// Runs what is asked for; `compare` gets the operands, the results of the kernel and those of the definition.
fn run<O: Clone, T>(
    runs: Runs,
    operands: O,
    kernel: impl FnOnce(O) -> T,
    definition: impl FnOnce(O) -> T,
    compare: impl FnOnce(&O, &T, &T),
) -> T {
    match runs {
        Runs::Kernel => kernel(operands),
        Runs::Definition => definition(operands),
        Runs::Both => {
            let expected = definition(operands.clone());
            let found = kernel(operands.clone());
            compare(&operands, &found, &expected);
            found
        }
    }
}

impl<B: Backend, K: Kernels<B>> Kernels<B> for Dispatched<K> {
    type Saved = DispatchedSaved<K::Saved, <Reference as Kernels<B>>::Saved>;

    fn gather_rows(table: FloatTensor<B>, rows: Indices<B>) -> FloatTensor<B> {
        run(
            Runs::on::<B>(&[&table]),
            (table, rows),
            |(table, rows)| K::gather_rows(table, rows),
            |(table, rows)| <Reference as Kernels<B>>::gather_rows(table, rows),
            |_, found, expected| same::<B>("gather_rows", "rows", TOLERANCE, found, expected),
        )
    }

    fn first_layer(
        layer: FirstLayer<FloatTensor<B>, Indices<B>>,
        spec: LayerSpec,
    ) -> (LayerOutput<FloatTensor<B>>, Self::Saved) {
        let kernel = |layer| {
            let (output, own) = K::first_layer(layer, spec);
            (output, DispatchedSaved::Kernel(own))
        };
        let definition = |layer| {
            let (output, own) = <Reference as Kernels<B>>::first_layer(layer, spec);
            (output, DispatchedSaved::Definition(own))
        };
        run(Runs::on::<B>(&[&layer]), layer, kernel, definition, |_, (found, _), (expected, _)| {
            same_output::<B>("first_layer", spec, found, expected);
        })
    }

    /// The definition starts from what the kernel saved: near the kink of an activation rounding decides the slope.
    fn first_layer_backward(
        layer: FirstLayer<FloatTensor<B>, Indices<B>>,
        saved: LayerSaved<FloatTensor<B>>,
        own: Self::Saved,
        grad: FloatTensor<B>,
        spec: LayerSpec,
    ) -> FirstLayerGrads<FloatTensor<B>> {
        let own = match own {
            DispatchedSaved::Kernel(own) => own,
            DispatchedSaved::Definition(own) => {
                return <Reference as Kernels<B>>::first_layer_backward(layer, saved, own, grad, spec);
            }
        };
        let definition = |(layer, saved, grad): (FirstLayer<FloatTensor<B>, Indices<B>>, _, _)| {
            let (_, own) = <Reference as Kernels<B>>::first_layer(layer.clone(), spec);
            <Reference as Kernels<B>>::first_layer_backward(layer, saved, own, grad, spec)
        };
        run(
            Runs::on_f32(),
            (layer, saved, grad),
            |(layer, saved, grad)| K::first_layer_backward(layer, saved, own, grad, spec),
            definition,
            |_, found, expected| {
                let operation = "first_layer_backward";
                same::<B>(operation, "table", tolerance(spec), &found.table, &expected.table);
                same_weights::<B>(operation, spec, &found.weights, &expected.weights);
            },
        )
    }

    fn layer(layer: Layer<FloatTensor<B>>, spec: LayerSpec) -> LayerOutput<FloatTensor<B>> {
        run(
            Runs::on::<B>(&[&layer]),
            layer,
            |layer| K::layer(layer, spec),
            |layer| <Reference as Kernels<B>>::layer(layer, spec),
            |_, found, expected| same_output::<B>("layer", spec, found, expected),
        )
    }

    fn layer_backward(
        layer: Layer<FloatTensor<B>>,
        saved: LayerSaved<FloatTensor<B>>,
        grad: FloatTensor<B>,
        spec: LayerSpec,
    ) -> Layer<FloatTensor<B>> {
        run(
            Runs::on::<B>(&[&layer, &saved, &grad]),
            (layer, saved, grad),
            |(layer, saved, grad)| K::layer_backward(layer, saved, grad, spec),
            |(layer, saved, grad)| <Reference as Kernels<B>>::layer_backward(layer, saved, grad, spec),
            |_, found, expected| {
                same::<B>("layer_backward", "input", tolerance(spec), &found.input, &expected.input);
                same_weights::<B>("layer_backward", spec, &found.weights, &expected.weights);
            },
        )
    }

    fn grouped_layer(
        layer: GroupedLayer<FloatTensor<B>, Indices<B>>,
        spec: LayerSpec,
    ) -> LayerOutput<FloatTensor<B>> {
        run(
            Runs::on::<B>(&[&layer]),
            layer,
            |layer| K::grouped_layer(layer, spec),
            |layer| <Reference as Kernels<B>>::grouped_layer(layer, spec),
            |_, found, expected| same_output::<B>("grouped_layer", spec, found, expected),
        )
    }

    fn grouped_layer_backward(
        layer: GroupedLayer<FloatTensor<B>, Indices<B>>,
        saved: LayerSaved<FloatTensor<B>>,
        grad: FloatTensor<B>,
        spec: LayerSpec,
    ) -> GroupedLayerGrads<FloatTensor<B>> {
        run(
            Runs::on::<B>(&[&layer, &saved, &grad]),
            (layer, saved, grad),
            |(layer, saved, grad)| K::grouped_layer_backward(layer, saved, grad, spec),
            |(layer, saved, grad)| {
                <Reference as Kernels<B>>::grouped_layer_backward(layer, saved, grad, spec)
            },
            |_, found, expected| {
                let operation = "grouped_layer_backward";
                let tolerance = tolerance(spec);
                same::<B>(operation, "own input", tolerance, &found.own, &expected.own);
                same::<B>(operation, "shared input", tolerance, &found.shared, &expected.shared);
                same_weights::<B>(operation, spec, &found.weights, &expected.weights);
            },
        )
    }

    /// Layer by layer where a layer is compared or its definition runs.
    fn towers(
        towers: TowersOperands<FloatTensor<B>, Indices<B>>,
        running: Vec<Option<Running<FloatTensor<B>>>>,
        specs: &[LayerSpec],
    ) -> TowersOutput<FloatTensor<B>, Self::Saved> {
        if Runs::on::<B>(&[&towers, &running]) != Runs::Kernel {
            return towers::forward::<B, Self>(towers, running, specs);
        }
        let TowersOutput { layers, first, running } = K::towers(towers, running, specs);
        TowersOutput { layers, first: first.map(DispatchedSaved::Kernel), running }
    }

    /// Layer by layer where a layer is compared or its definition runs.
    fn towers_backward(
        towers: TowersOperands<FloatTensor<B>, Indices<B>>,
        saved: TowersOutput<FloatTensor<B>, Self::Saved>,
        grad: FloatTensor<B>,
        specs: &[LayerSpec],
    ) -> TowersGrads<FloatTensor<B>> {
        let TowersOutput { layers, first, running } = saved;
        let by_kernel = Runs::on::<B>(&[&towers, &grad]) == Runs::Kernel;
        let first = match first {
            None if by_kernel => {
                let saved = TowersOutput { layers, first: None, running };
                return K::towers_backward(towers, saved, grad, specs);
            }
            Some(DispatchedSaved::Kernel(own)) if by_kernel => {
                let saved = TowersOutput { layers, first: Some(own), running };
                return K::towers_backward(towers, saved, grad, specs);
            }
            other => other,
        };
        towers::backward::<B, Self>(towers, TowersOutput { layers, first, running }, grad, specs)
    }

    fn blend(blends: Vec<Blend<FloatTensor<B>>>) -> Vec<FloatTensor<B>> {
        run(
            Runs::on::<B>(&[&blends]),
            blends,
            K::blend,
            <Reference as Kernels<B>>::blend,
            |_, found, expected| same_all::<B>("blend", found, expected),
        )
    }

    fn fold_norm(
        bias: FloatTensor<B>,
        norm: Norm<FloatTensor<B>>,
        running: Moments<FloatTensor<B>>,
        epsilon: f64,
    ) -> [FloatTensor<B>; 2] {
        run(
            Runs::on::<B>(&[&bias, &norm, &running]),
            (bias, norm, running),
            |(bias, norm, running)| K::fold_norm(bias, norm, running, epsilon),
            |(bias, norm, running)| <Reference as Kernels<B>>::fold_norm(bias, norm, running, epsilon),
            |_, found, expected| same_all::<B>("fold_norm", found, expected),
        )
    }

    fn infer(
        table: FloatTensor<B>,
        bags: InputBags<FloatTensor<B>, Indices<B>>,
        layers: Vec<InferenceLayer<FloatTensor<B>>>,
    ) -> FloatTensor<B> {
        run(
            Runs::on::<B>(&[&table, &bags, &layers]),
            (table, bags, layers),
            |(table, bags, layers)| K::infer(table, bags, layers),
            |(table, bags, layers)| <Reference as Kernels<B>>::infer(table, bags, layers),
            |_, found, expected| same::<B>("infer", "logits", TOLERANCE, found, expected),
        )
    }

    fn funnel_logs(logits: FloatTensor<B>) -> [FloatTensor<B>; 2] {
        run(
            Runs::on::<B>(&[&logits]),
            logits,
            K::funnel_logs,
            <Reference as Kernels<B>>::funnel_logs,
            |_, found, expected| same_all::<B>("funnel_logs", found, expected),
        )
    }

    fn funnel_probs(logits: FloatTensor<B>) -> [FloatTensor<B>; 3] {
        run(
            Runs::on::<B>(&[&logits]),
            logits,
            K::funnel_probs,
            <Reference as Kernels<B>>::funnel_probs,
            |_, found, expected| same_all::<B>("funnel_probs", found, expected),
        )
    }

    fn funnel_loss(logits: FloatTensor<B>, reached: FloatTensor<B>) -> FloatTensor<B> {
        run(
            Runs::on::<B>(&[&logits, &reached]),
            (logits, reached),
            |(logits, reached)| K::funnel_loss(logits, reached),
            |(logits, reached)| <Reference as Kernels<B>>::funnel_loss(logits, reached),
            |_, found, expected| same::<B>("funnel_loss", "losses", TOLERANCE, found, expected),
        )
    }

    fn funnel_loss_backward(
        logits: FloatTensor<B>,
        reached: FloatTensor<B>,
        grad: FloatTensor<B>,
    ) -> FloatTensor<B> {
        run(
            Runs::on::<B>(&[&logits, &reached, &grad]),
            (logits, reached, grad),
            |(logits, reached, grad)| K::funnel_loss_backward(logits, reached, grad),
            |(logits, reached, grad)| <Reference as Kernels<B>>::funnel_loss_backward(logits, reached, grad),
            |_, found, expected| same::<B>("funnel_loss_backward", "logits", TOLERANCE, found, expected),
        )
    }

    fn update_rows(
        table: WithMoments<FloatTensor<B>>,
        rows: Indices<B>,
        grads: FloatTensor<B>,
        update: RowUpdate,
    ) -> WithMoments<FloatTensor<B>> {
        run(
            Runs::on::<B>(&[&table, &grads]),
            (table, rows, grads),
            |(table, rows, grads)| K::update_rows(table, rows, grads, update),
            |(table, rows, grads)| <Reference as Kernels<B>>::update_rows(table, rows, grads, update),
            |(before, _, _), found, expected| same_update::<B>("update_rows", before, found, expected),
        )
    }

    fn pool(table: FloatTensor<B>, bags: InputBags<FloatTensor<B>, Indices<B>>) -> Pooled<FloatTensor<B>> {
        run(
            Runs::on::<B>(&[&table, &bags]),
            (table, bags),
            |(table, bags)| K::pool(table, bags),
            |(table, bags)| <Reference as Kernels<B>>::pool(table, bags),
            |_, found, expected| same_pooled::<B>("pool", TOLERANCE, found, expected),
        )
    }

    fn row_grads(
        bags: InputBags<FloatTensor<B>, Indices<B>>,
        grads: Pooled<FloatTensor<B>>,
        num_rows: usize,
    ) -> FloatTensor<B> {
        run(
            Runs::on::<B>(&[&bags, &grads]),
            (bags, grads),
            |(bags, grads)| K::row_grads(bags, grads, num_rows),
            |(bags, grads)| <Reference as Kernels<B>>::row_grads(bags, grads, num_rows),
            |_, found, expected| same::<B>("row_grads", "rows", TOLERANCE, found, expected),
        )
    }

    fn update_pooled(
        table: WithMoments<FloatTensor<B>>,
        bags: InputBags<FloatTensor<B>, Indices<B>>,
        grads: Pooled<FloatTensor<B>>,
        update: RowUpdate,
    ) -> WithMoments<FloatTensor<B>> {
        run(
            Runs::on::<B>(&[&table, &bags, &grads]),
            (table, bags, grads),
            |(table, bags, grads)| K::update_pooled(table, bags, grads, update),
            |(table, bags, grads)| <Reference as Kernels<B>>::update_pooled(table, bags, grads, update),
            |(before, _, _), found, expected| same_update::<B>("update_pooled", before, found, expected),
        )
    }

    fn update_weights(
        weights: Vec<WithGrad<FloatTensor<B>>>,
        update: WeightUpdate,
    ) -> Vec<WithMoments<FloatTensor<B>>> {
        run(
            Runs::on::<B>(&[&weights]),
            weights,
            |weights| K::update_weights(weights, update),
            |weights| <Reference as Kernels<B>>::update_weights(weights, update),
            |before, found, expected| {
                assert_eq!(found.len(), expected.len(), "update_weights: number of weights");
                for ((before, found), expected) in before.iter().zip(found).zip(expected) {
                    same_update::<B>("update_weights", &before.weight, found, expected);
                }
            },
        )
    }
}

#[cfg(all(test, feature = "ndarray"))]
mod tests {
    use burn::tensor::Tensor;
    use burn_ndarray::NdArray;

    use super::*;
    use crate::backend::TableRule;
    use crate::backend::reference::float;

    type B = NdArray;
    type State = WithMoments<FloatTensor<B>>;

    fn matrix(values: [f32; 4]) -> FloatTensor<B> {
        let tensor = Tensor::<B, 1>::from_floats(values, &Default::default());
        tensor.reshape([2, 2]).into_primitive().tensor()
    }

    /// A step of SGD by the definition.
    fn step(state: State, learning_rate: f64) -> State {
        let rows = Indices::new(vec![1, 0], &Default::default());
        let update = RowUpdate { rule: TableRule::Sgd, step: 1, learning_rate, l2: 0.0 };
        <Reference as Kernels<B>>::update_rows(state, rows, matrix([1.0, -2.0, 3.0, 4.0]), update)
    }

    /// Runs a kernel whose steps are of another size than by its definition.
    fn stepped(runs: Runs, by_kernel: f64) -> State {
        let state = WithMoments { tensor: matrix([5.0, 6.0, 7.0, 8.0]), moments: vec![] };
        run(
            runs,
            state,
            |state| step(state, by_kernel),
            |state| step(state, 1e-3),
            |before, found, expected| same_update::<B>("update_rows", before, found, expected),
        )
    }

    fn values(state: State) -> Vec<f32> {
        float::<B, 2>(state.tensor).into_data().iter::<f32>().collect()
    }

    #[test]
    #[should_panic(expected = "update_rows: tensor 0 differs by")]
    fn a_wrong_kernel_is_told() {
        stepped(Runs::Both, -1e-3);
    }

    #[test]
    fn the_kernel_is_what_counts_but_for_other_dtypes() {
        let kernel = values(stepped(Runs::Kernel, -1e-3));
        let definition = values(stepped(Runs::Definition, -1e-3));
        assert_ne!(kernel, definition);
        assert_eq!(values(stepped(Runs::Both, 1.001e-3)), values(stepped(Runs::Kernel, 1.001e-3)));
        let doubles: FloatTensor<B> = Tensor::<B, 1>::from_data([1.0_f64], &Default::default())
            .cast(burn::tensor::FloatDType::F64)
            .into_primitive()
            .tensor();
        assert_eq!(Runs::on::<B>(&[&matrix([0.0; 4]), &doubles]), Runs::Definition);
        assert_ne!(Runs::on::<B>(&[&matrix([0.0; 4])]), Runs::Definition);
    }
}
